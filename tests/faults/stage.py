"""A stage behind proxies: strikes, ages, settles, and compares what is left at the end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from aiohttp import web
from redis import Redis

from notifications.adapters.claims.redis import verb_script
from notifications.adapters.stores.documents import moment
from notifications.domain import claim
from notifications.domain.claim import Verb
from notifications.domain.schedule import Slot, cohorts_between, tzdata_version
from tests.faults.director import Deed, Director, When
from tests.faults.proxies import Http2Proxy, Proxy
from tests.support.jobs import Finished, Job, Stage, complete_other_shards
from tests.support.servers import wait_for
from tests.support.worlds import FirestoreWorld

# So that a thawed run gives up no call by itself, however long it was frozen; its claim is gone by other means.
PATIENT = {
    "RECAP_USER_DEADLINE_SECONDS": "200",
    "RECAP_STORE_TIMEOUT_SECONDS": "200",
    "RECAP_SENDING_STALE_SECONDS": "210",
    "RECAP_USER_LEASE_SECONDS": "610",
}
# So that a slow run sends no message of its own accord: one renewal would move every number after it.
QUIET = {"RECAP_SHARD_LEASE_SECONDS": "600", "RECAP_SHARD_RENEW_SECONDS": "190"}
PATIENCE_SECONDS = 150  # three of its store's time-outs
# All numbers of the protocol scaled down together, but not below what a stalled machine takes for one push.
# Lease > deadline + push + 2 x store; stale > push + store. Writing has 70 % of the deadline: a call that does not end
# within it on a slow machine is made again.
SCALED = {
    "RECAP_USER_DEADLINE_SECONDS": "8.5",
    "RECAP_USER_LEASE_SECONDS": "20",
    "RECAP_PUSH_DEADLINE_SECONDS": "3",
    "RECAP_STORE_TIMEOUT_SECONDS": "4",
    "RECAP_SENDING_STALE_SECONDS": "7.2",
    "RECAP_SHARD_LEASE_SECONDS": "12",
    "RECAP_SHARD_RENEW_SECONDS": "3",
    "RECAP_SHARD_RETRY_MIN_SECONDS": "0.2",
    "RECAP_SHARD_RETRY_MAX_SECONDS": "6",
    "RECAP_ITEM_RETRY_SECONDS": "0.2",
    "RECAP_PROVIDER_RETRY_SECONDS": "0.2",
    "RECAP_PUSH_RETRY_SECONDS": "0.2",
    "RECAP_REFUSED_RETRY_SECONDS": "0.2",
    "RECAP_WATCHDOG_SECONDS": "300",  # up: a thawed process is otherwise killed by it, which is right
    "RECAP_CONCURRENCY": "1",
    "RECAP_START_GAP_SECONDS": "0.001",
}
MAX_TICKS = 20


class FaultStage:
    """A stage behind proxies, with a director, and one shard to serve."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.director = Director()
        self.proxies = [Proxy("redis", stage.redis.port, self.director)]
        stage.settings |= SCALED
        if isinstance(stage.world, FirestoreWorld):
            self.proxies.append(Http2Proxy("firestore", int(stage.world.host.rpartition(":")[2]), self.director))
        stage.llm.script, stage.fcm.script, stage.fcm.after = self._llm, self._fcm, self._fcm_after
        stage.llm.look_script = self._look
        self.llm_rule: Callable[[str], Awaitable[web.Response | None]] | None = None
        self.fcm_rule: Callable[[str], Awaitable[web.Response | None]] | None = None
        self._pushing: dict[str, int] = {}
        self.slots: dict[str, Slot] = {}
        self.under_test: dict[str, str] = {}  # settings of the run that is struck, and of no other

    async def _llm(self, who: str) -> web.Response | None:
        index = await self.director.message(f"llm {who}")
        answer = await self.llm_rule(who) if self.llm_rule else None
        await self.director.answer(index)
        return answer

    async def _look(self, who: str) -> web.Response | None:
        await self.director.answer(await self.director.message(f"look {who}"))
        return None

    async def _fcm(self, token: str) -> web.Response | None:
        self._pushing[token] = await self.director.message(f"fcm {token}")
        return await self.fcm_rule(token) if self.fcm_rule else None

    async def _fcm_after(self, token: str) -> web.Response | None:
        await self.director.answer(self._pushing.pop(token))
        return None

    def behind_proxies(self) -> dict[str, str]:
        env = {"REDIS_URL": f"redis://127.0.0.1:{self.proxies[0].port}/0"}
        if len(self.proxies) > 1:
            env["FIRESTORE_EMULATOR_HOST"] = f"127.0.0.1:{self.proxies[1].port}"
        return env

    def redis(self) -> Redis:
        return Redis(port=self.stage.redis.port)

    def learn_scripts(self) -> None:
        """Redis learns the scripts, so that from now on each verb is one message."""
        with self.redis() as client:
            for source, _ in map(verb_script, Verb):
                client.script_load(source)

    def settle_in_real_time(self, seconds: float = 60) -> None:
        """As `run_until_settled`, but nothing ages: an open delivery is taken only once it is stale."""
        deadline = time.monotonic() + seconds
        while self.open_shards():
            assert time.monotonic() < deadline, "not settled"
            finished = self.stage.run()
            assert finished.code in (0, 4, 5), finished.err
            wait_for(self._due_again, "due shard")

    def add_users(self, *uids: str, devices: int = 1, **changes: Any) -> None:
        """Users of one cohort. Every other shard counts as complete, so that each message matters."""
        for uid in uids:
            self.slots[uid] = self.stage.add_user(uid, devices=devices, **changes)
        self.complete_other_shards()

    def anew(self, *uids: str) -> None:
        """The same servers, these users, and nothing done yet."""
        self.wait_for_locks()
        with self.redis() as client:
            client.flushall()
        for uid, slot in self.slots.items():
            for key in self.stage.world.summaries(uid):
                self.stage.world.delete_summary(uid, key)
            self.stage.world.delete_ledger(uid, slot.recap_date.isoformat())
        for counted in (self.stage.llm.calls, self.stage.fcm.asked, self.stage.fcm.accepted, self.stage.fcm.phones):
            counted.clear()
        self.slots.clear()
        self.add_users(*uids)

    def complete_other_shards(self) -> None:
        hours = {self.stage.world.user(uid)["daily_summary_hour_local"] for uid in self.slots}  # type: ignore[index]
        at = {slot.at for slot in self.slots.values()}
        with self.redis() as client:
            complete_other_shards(client, self.stage.world.environment, at, hours)

    def complete_other_shards_of_nobody(self) -> None:
        """Every due shard counts as served."""
        with self.redis() as client:
            complete_other_shards(client, self.stage.world.environment, set(), set())

    def start(self, *arguments: str) -> Job:
        process = self.stage.start(*arguments, **self.behind_proxies(), **self.under_test)
        self.director.process = process
        return process

    def count(self) -> list[str]:
        """The messages of one whole run without a fault; from here on each run under test sends the same."""
        self.under_test = self.under_test | QUIET
        self.director.aim(None, "after", "kill")
        finished = self.stage.end(self.start())
        assert finished.code == 0, finished.err
        return list(self.director.trace)

    def strike(self, at: int | str, when: When = "after", deed: Deed = "kill", *arguments: str, nth: int = 0) -> Job:
        """Start a run and wait until it was struck (a sweep's run may end without reaching that number)."""
        self.director.aim(at, when, deed, nth)
        process = self.start(*arguments)
        wait_for(lambda: self.director.struck.is_set() or process.poll() is not None, "strike", 60)
        assert isinstance(at, int) or self.director.struck.is_set(), self.stage.end(process).err
        return process

    def thaw(self, process: Job) -> Finished:
        process.send_signal(signal.SIGCONT)
        self.director.thawed.set()
        finished = self.stage.end(
            process, PATIENCE_SECONDS
        )  # it may have hung up on a server that still deals with its message
        wait_for(lambda: not self.stage.llm.busy and not self.stage.fcm.busy, "end of the held message")
        return finished

    def age(self, by: timedelta = timedelta(minutes=12), *, sent: bool = False) -> None:
        """Let time pass for what was left behind: leases, due times (of targets too) and `sending_at` move back."""
        self.wait_for_locks()
        with self.redis() as client:
            for key in client.scan_iter("*"):
                if client.type(key) != b"string":
                    continue
                record = claim.parse(client.get(key))
                if record.state in (claim.ClaimState.CLAIMED, claim.ClaimState.IDLE):
                    u = max(0, record.until - int(by.total_seconds() * 1000))
                    aged = {"s": record.state, "t": record.token, "u": u, "f": record.failures, "c": record.crashes}
                    client.set(key, json.dumps(aged), keepttl=True)
        for uid in self.slots:
            for day, ledger in self.stage.world.ledgers(uid).items():
                if ledger["state"] in ("sending", "pending") and "sending_at" in ledger:
                    older = ledger | {"sending_at": ledger["sending_at"] - by}
                    targets = ledger.get("targets", {}).items()
                    due = {name: kept | {"due": moment(kept["due"]) - by} for name, kept in targets}  # type: ignore[operator]
                    self.stage.world.put_ledger(uid, day, older | ({"targets": due} if due else {}))
                if sent and ledger["state"] == "sent":
                    self.stage.world.put_ledger(uid, day, ledger | {"sent_at": ledger["sent_at"] - by})

    def wait_for_locks(self) -> None:
        """A stopped run's transaction holds its locks until Firestore drops it, after a minute: done here at once.

        Its commit is answered alike after a roll-back and after that minute.
        """
        for proxy in self.proxies:
            if isinstance(proxy, Http2Proxy) and isinstance(self.stage.world, FirestoreWorld):
                while proxy.transactions:
                    self.stage.world.roll_back(proxy.transactions.pop())
        for uid in self.slots:
            wait_for(partial(self._writable, uid), "end of a dead transaction", 120)

    def _writable(self, uid: str) -> bool:
        from google.api_core.exceptions import Aborted

        user = self.stage.world.user(uid)
        try:
            for day, ledger in self.stage.world.ledgers(uid).items():
                self.stage.world.put_ledger(uid, day, ledger)
            self.stage.world.update_user(uid, {"time_zone": (user or {}).get("time_zone")})
        except Aborted:
            return False
        return True

    def _due_again(self) -> bool:
        """Whether no shard of ours rests: the next run has something to do, or nothing at all."""
        with self.redis() as client:
            seconds, micros = client.time()
            now = seconds * 1000 + micros // 1000
            records = [claim.parse(client.get(key)) for key in client.scan_iter("daily_summary:*")]
        return not any(record.state is claim.ClaimState.IDLE and record.until > now for record in records)

    def open_shards(self) -> bool:
        """Whether a run would still find something to do for our users' shard."""
        at = {slot.at for slot in self.slots.values()}
        now = datetime.now(UTC)
        with self.redis() as client:
            for cohort in cohorts_between(now - timedelta(hours=3), now):
                key = claim.shard_key(cohort.slot, cohort.hour, tzdata_version(), self.stage.world.environment, 0, 1)
                if cohort.slot in at and claim.parse(client.get(key)).state is not claim.ClaimState.COMPLETE:
                    return True
        return False

    def run_until_settled(self, *, aging: bool = True) -> int:
        """Run until every shard is complete; the number of ticks that it took."""
        self.director.at = self.director.named = None
        finished = None
        for ticks in range(1, MAX_TICKS + 1):
            if aging:
                self.age()
            finished = self.stage.run()
            assert finished.code in (0, 4, 5), finished.err
            if not self.open_shards():
                return ticks
        raise AssertionError(f"not settled after {MAX_TICKS} ticks: {finished and finished.err}")

    # --- what is compared at the end ---------------------------------------------

    def ledger(self, uid: str) -> dict[str, Any]:
        ledgers = self.stage.world.ledgers(uid)
        assert list(ledgers) in ([], [self.slots[uid].recap_date.isoformat()])
        return next(iter(ledgers.values()), {})

    def pushes(self) -> dict[str, int]:
        return dict(self.stage.fcm.accepted)

    def check_delivered(
        self, *, twice: frozenset[str] = frozenset(), llm: dict[str, int] | None = None, point: object = None
    ) -> None:
        """Every user: one stored text, one visible push, ledger and claim sent; these tokens pushed twice."""
        world, fcm = self.stage.world, self.stage.fcm
        tokens = {one["token"]: uid for uid in self.slots for one in world.tokens(uid).values()}
        assert (point, self.pushes()) == (point, {token: 2 if token in twice else 1 for token in tokens})
        for token, uid in tokens.items():
            phone = fcm.phones[token]
            ledger = self.ledger(uid)
            assert (ledger["state"], self.stage.record(uid, self.slots[uid]).state) == ("sent", claim.ClaimState.SENT)
            assert phone.visible == {ledger["collapse_id"]: ledger["body"]}
            assert set(phone.bodies) == {ledger["body"]}
            [summary] = world.summaries(uid).values()
            assert summary["overview"].startswith(ledger["body"][:40].rstrip("…"))
        expected = dict.fromkeys(self.slots, 1) | (llm or {})
        assert (point, dict(self.stage.llm.calls)) == (point, expected)

    def stop(self) -> None:
        self.director.thawed.set()
        for proxy in self.proxies:
            proxy.stop()


def closing(faults: FaultStage) -> dict[str, str]:
    """Settings under which our slot has just passed its catch-up."""
    late = (datetime.now(UTC) - next(iter(faults.slots.values())).at).total_seconds()
    return {"RECAP_CATCH_UP_SECONDS": str(late - 1), "RECAP_GRACE_SECONDS": "3600"}


def key_of(faults: FaultStage, uid: str) -> str:
    return claim.user_key(uid, faults.slots[uid].recap_date)


def killed(faults: FaultStage, at: int | str, when: Any = "after", *arguments: str, nth: int = 0) -> None:
    process = faults.strike(at, when, "kill", *arguments, nth=nth)
    process.wait()
    faults.stage.end(process)


def make_old(staged: FaultStage, *uids: str) -> None:
    staged.age()
    for uid in uids:
        day, ledger = staged.slots[uid].recap_date.isoformat(), staged.ledger(uid)
        older = ledger | {"sending_at": ledger["sending_at"] - timedelta(minutes=12)}
        staged.stage.world.put_ledger(uid, day, older)
    sweep_is_due(staged)


def record(faults: FaultStage, uid: str) -> claim.Record:
    return faults.stage.record(uid, faults.slots[uid])


def sweep_is_due(staged: FaultStage) -> None:
    with staged.redis() as client:
        client.delete(claim.sweep_key(staged.stage.world.environment))
