"""A seeded chaos run: random users, processes and faults; at the end the accounts of every user are proven.

python -m tests.faults.chaos --seconds 600 --seed 7 [--store firestore]
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from notifications.domain.claim import ClaimState, sweep_key
from notifications.domain.schedule import ONE_DAY
from notifications.domain.told_once import split_told_hashes, told_hash
from tests.faults.stage import MAX_TICKS, SCALED, FaultStage
from tests.support.jobs import Stage
from tests.support.servers import RedisServer, redis_binaries, shared_emulator, stop_shared_emulator
from tests.support.shifted import ShiftedRedis
from tests.support.web import FakeFCM, FakeLLM, completion, fcm_error, llm_error
from tests.support.worlds import FirestoreWorld, SqliteWorld, World, talk

ZONES = (
    "UTC",
    "Europe/Paris",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/New_York",
    "Pacific/Auckland",
    "Africa/Lagos",
)
ROUND_SECONDS = 15.0
SETTINGS = SCALED | {"RECAP_CONCURRENCY": "6", "RECAP_USER_LEASE_SECONDS": "20", "RECAP_REDIS_TIMEOUT_SECONDS": "0.5"}
SETTINGS["RECAP_SWEEP_SECONDS"] = "1"


@dataclass
class Struck:
    """The faults that struck, and so what each account may show."""

    stops: int = 0  # kills, freezes and terminations of a process
    forgets: int = 0  # Redis flushed or restarted
    llm: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)  # answers of FCM that were lost
    moved: Counter[str] = field(default_factory=Counter)  # changes of a user's zone
    jumps: int = 0  # of Redis' clock
    late: dict[str, list[str]] = field(default_factory=dict)  # conversations that came in after the slot
    broken: int = 0  # processes that could print nothing

    def pushes_allowed(self, token: str) -> int:
        """One, one more for each lost answer, and one for each process that may have died after FCM accepted."""
        return 1 + self.cuts[token] + self.stops

    def calls_allowed(self, uid: str) -> int:
        """One, and one for each failed call and each run that may have died or lost its claim in between."""
        return 1 + self.llm[uid] + self.stops + self.forgets + 2 * self.jumps


class Chaos:
    """One round over fresh users; raises AssertionError with the account that does not add up."""

    def __init__(self, dice: random.Random, world: World, elsewhere: World, folder: Path) -> None:
        self.dice = dice
        self.struck = Struck()
        self.llm, self.fcm = FakeLLM(), FakeFCM()
        self.redis = RedisServer(folder / "redis", "--appendfsync", "always", binary=dice.choice(redis_binaries()))
        self.stage = Stage(world, self.redis, self.llm, self.fcm, folder, settings=dict(SETTINGS))
        self.faults = FaultStage(self.stage)
        self.other = FaultStage(Stage(elsewhere, self.redis, self.llm, self.fcm, folder / "elsewhere"))
        self.clock = ShiftedRedis(self.redis.port)
        for one in (self.faults, self.other):  # two environments on one Redis
            one.stage.settings |= SETTINGS | {"REDIS_URL": self.clock.url}
        self.calm = False
        self.llm.script, self.fcm.script, self.fcm.after = self._llm, self._fcm, self._fcm_after

    async def _llm(self, who: str) -> web.Response | None:
        roll = 1.0 if self.calm else self.dice.random()
        if roll > 0.2:
            return None
        self.struck.llm[who] += 1
        if roll < 0.05:
            raise ConnectionResetError
        return llm_error(503, "overloaded", **{"Retry-After": "0"}) if roll < 0.19 else completion("not a recap")

    async def _fcm(self, token: str) -> web.Response | None:
        roll = 1.0 if self.calm else self.dice.random()
        if roll > 0.2:
            return None
        if roll < 0.03:  # an FCM that is no FCM
            return web.Response(text="<html>Sign in</html>", content_type="text/html")
        if roll < 0.05:
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/sign-in"})
        busy = roll < 0.15
        return fcm_error(503, "UNAVAILABLE") if busy else fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": "1"})

    async def _fcm_after(self, token: str) -> web.Response | None:
        if not self.calm and self.dice.random() < 0.03:
            self.struck.cuts[token] += 1
            raise ConnectionResetError
        return None

    def round(self, seconds: float) -> None:
        for faults, names, most in ((self.faults, "user", 30), (self.other, "other", 8)):
            for n in range(self.dice.randint(3, most)):
                zone, devices = self.dice.choice(ZONES), self.dice.randint(1, 3)
                faults.slots[f"{names}-{n}"] = faults.stage.add_user(f"{names}-{n}", zone=zone, devices=devices)
            faults.complete_other_shards()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._something()
        for faults in (self.faults, self.other):
            for process in list(faults.stage.running):
                process.send_signal(signal.SIGCONT)
                faults.stage.end(process)
        self.calm, self.clock.shift = True, 0
        for faults in (self.faults, self.other):
            faults.complete_other_shards()
            faults.run_until_settled()
            self._sweep_up(faults)
            for uid in faults.slots:
                self.prove(faults, uid)
        for uid in self.struck.late:
            self.prove_told(uid)

    def _something(self) -> None:
        faults = self.other if self.dice.random() < 0.25 else self.faults
        running = faults.stage.running
        deeds: dict[str, float] = {"start": 4 if len(running) < 3 else 0, "rest": 3, "kill": 1, "freeze": 1, "term": 1}
        deeds |= {"restart": 0.4, "flush": 0.3, "reap": 2, "move": 0.7, "late": 0.7, "jump": 0.5}
        deed = self.dice.choices(list(deeds), list(deeds.values()))[0]
        process = self.dice.choice(running) if running else None
        if deed == "start":
            broken = self.dice.random() < 0.3
            self.struck.broken += broken
            faults.stage.start_without_a_terminal() if broken else faults.stage.start()
        elif deed == "move":
            uid = self.dice.choice(list(faults.slots))
            self.struck.moved[uid] += 1
            faults.stage.world.update_user(uid, {"time_zone": self.dice.choice(ZONES)})
        elif deed == "late":
            self._comes_late(self.dice.choice(list(self.faults.slots)))
        elif deed == "jump":
            self.struck.jumps += 1
            self.clock.shift = self.dice.choice([0, 0, -86_400, -3_600, 3_600, 7_200, 86_400])
        elif deed == "restart":
            self.struck.forgets += 1
            self.redis.kill(self.dice.choice([signal.SIGKILL, signal.SIGTERM]))
            self.redis.start()
        elif deed == "flush":
            self.struck.forgets += 1
            self.redis.ask("FLUSHALL")
            self.faults.complete_other_shards()
            self.other.complete_other_shards()
        elif deed == "reap":
            for one in [one for one in running if one.poll() is not None]:
                faults.stage.end(one)
        elif process is not None and process.poll() is None and deed in ("kill", "freeze", "term"):
            self.struck.stops += 1
            how = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "term": signal.SIGTERM}[deed]
            process.send_signal(how)
            if deed == "freeze":
                time.sleep(self.dice.uniform(0.1, 9))  # the fault itself: shorter and longer than stale
                process.send_signal(signal.SIGCONT)
        else:
            time.sleep(self.dice.uniform(0.02, 0.4))

    def _comes_late(self, uid: str) -> None:
        """An upload of what was recorded before the slot, with what the day's recap may or may not have seen."""
        keys = self.struck.late.setdefault(uid, [])
        keys.append(f"late-{len(keys)}")
        begun = self.faults.slots[uid].at - timedelta(hours=self.dice.uniform(0.5, 20))
        self.stage.world.put_talk(uid, keys[-1], talk(uid, begun))

    def _sweep_up(self, faults: FaultStage) -> None:
        """Runs until no ledger is open: whoever moved away is in no cohort, and found by the sweep alone."""
        for _ in range(MAX_TICKS):
            ledgers = [one for uid in faults.slots for one in faults.stage.world.ledgers(uid).values()]
            if not any(ledger["state"] in ("sending", "pending") for ledger in ledgers):
                return
            faults.age()
            with faults.redis() as client:
                client.delete(sweep_key(faults.stage.world.environment))
            finished = faults.stage.run()
            assert finished.code in (0, 4, 5), finished.err
        raise AssertionError("a delivery stays open")

    def prove_told(self, uid: str) -> None:
        """The next day's recap tells what came late: each conversation is in one of the two."""
        if self.struck.moved[uid]:
            return
        slot, world = self.faults.slots[uid], self.stage.world
        days = [(slot.recap_date + n * ONE_DAY).isoformat() for n in (0, 1)]
        tomorrow = (slot.at + timedelta(hours=24, minutes=5)).isoformat()
        for _ in range(MAX_TICKS):
            finished = self.stage.run("--user", uid, "--now", tomorrow)
            assert finished.code in (0, 4, 5), finished.err
            if world.ledgers(uid).get(days[1], {}).get("state") in ("sent", "skipped"):
                break
        told = Counter(one for day in days for one in split_told_hashes(world.ledgers(uid)[day].get("told", "")))
        expected = dict.fromkeys((told_hash(uid, key) for key in ("t1", "t2", *self.struck.late[uid])), 1)
        assert told == expected, (uid, world.ledgers(uid), self.struck)

    def prove_moved(self, world: World, uid: str) -> None:
        """Whoever changed zones has one ledger a date, each ended, and no push beyond what each of them allows."""
        ledgers, struck = world.ledgers(uid), self.struck
        story: Any = (uid, ledgers, struck)
        assert {one["state"] for one in ledgers.values()} <= {"sent", "skipped", "dead", "gave_up"}, story
        bodies = {one["collapse_id"]: one.get("body") for one in ledgers.values()}
        for device in world.tokens(uid).values():
            token = device["token"]
            phone = self.fcm.phones.get(token)
            assert self.fcm.accepted[token] <= max(1, len(ledgers)) * struck.pushes_allowed(token), (token, story)
            if phone is not None:
                assert all(bodies[tag] == body for tag, body in phone.visible.items()), story
            for one in ledgers.values():
                if one["state"] == "sent" and one.get("devices"):
                    assert phone is not None, story
                    assert one["collapse_id"] in phone.visible, story

    def prove(self, faults: FaultStage, uid: str) -> None:
        """One ledger, ended; one stored text; every push with it; one notification seen on each phone."""
        world = faults.stage.world
        if self.struck.moved[uid]:
            self.prove_moved(world, uid)
            return
        ledger, struck = faults.ledger(uid), self.struck
        record = faults.stage.record(uid, faults.slots[uid])
        story: Any = (uid, ledger, record, struck)
        ends = {"sent": ClaimState.SENT, "dead": ClaimState.DEAD, "gave_up": ClaimState.DEAD}
        assert record.state is ends.get(ledger.get("state", "")), story
        if ledger["state"] == "dead":
            assert ledger["failures"] >= 3 or ledger["crashes"] >= 4, story
            assert world.summaries(uid) == {}, story
            return
        if ledger["state"] == "gave_up":
            assert ledger["tries"] >= 3 or ledger["outcome"] in ("crashes", "failures", "undelivered"), story
        [summary] = world.summaries(uid).values()
        assert (summary["id"], bool(ledger["body"])) == (ledger["summary_id"], True), story
        if summary["checks"].get("verified"):
            assert summary["overview"].startswith(ledger["body"]), story
        for device in world.tokens(uid).values():
            token = device["token"]
            phone = self.fcm.phones.get(token)
            if ledger["state"] == "sent":
                assert phone is not None, story
            if phone is not None:
                assert phone.visible == {ledger["collapse_id"]: ledger["body"]}, story
                assert set(phone.bodies) == {ledger["body"]}, story
            assert self.fcm.accepted[token] <= struck.pushes_allowed(token), (token, story)
        assert self.llm.calls[uid] <= struck.calls_allowed(uid), story

    def close(self) -> None:
        for faults in (self.faults, self.other):
            faults.stage.stop_all()
            faults.stop()
        self.clock.stop()
        self.redis.kill()
        self.llm.stop()
        self.fcm.stop()


def run(seconds: float, seed: int, store: str, folder: Path) -> str:
    """Rounds until the time is over. Raises AssertionError, with the seed and the round in front."""
    ends = time.monotonic() + seconds
    rounds = users = 0
    total = Counter[str]()
    while time.monotonic() < ends:
        rounds += 1
        place = folder / f"round-{rounds}"
        place.mkdir(parents=True)
        host = shared_emulator(folder / "emulator") if store == "firestore" else None
        world: World = FirestoreWorld(host) if host else SqliteWorld(place / "data")
        elsewhere: World = FirestoreWorld(host) if host else SqliteWorld(place / "elsewhere" / "data")
        dice = random.Random(f"{seed}-{rounds}")  # noqa: S311 - dice, no secrets
        chaos = Chaos(dice, world, elsewhere, place)
        try:
            chaos.round(min(ROUND_SECONDS, max(3.0, ends - time.monotonic())))
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}, round {rounds}: {failure}") from failure
        finally:
            chaos.close()
            world.close()
            elsewhere.close()
        users += len(chaos.faults.slots) + len(chaos.other.slots)
        total += Counter(stops=chaos.struck.stops, forgets=chaos.struck.forgets)
        total += Counter(moves=chaos.struck.moved.total(), broken_terminals=chaos.struck.broken)
        total += Counter(clock_jumps=chaos.struck.jumps, late_conversations=sum(map(len, chaos.struck.late.values())))
        total += Counter(llm_failures=chaos.struck.llm.total(), lost_answers=chaos.struck.cuts.total())
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(total.items()))
    return f"seed {seed}: {rounds} rounds, {users} users, {told}; every account proven."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--store", choices=["sqlite", "firestore"], default="sqlite")
    asked = parser.parse_args()
    print(f"chaos for {asked.seconds:g} s on {asked.store}, seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="recap-chaos-") as folder:
        try:
            print(run(asked.seconds, asked.seed, asked.store, Path(folder)))
        finally:
            stop_shared_emulator(Path(folder) / "emulator")


if __name__ == "__main__":
    main()
