"""An evening that version 1.0 was stopped in the middle of goes on: nobody twice, nobody lost.

tests/data/version_1_0.json says how it was made. It is loaded into a file with version 1.0's tables, or into the
emulator, and its keys into Redis, with the time that they had left.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from notifications.domain.schedule import ONE_DAY, latest_slot
from notifications.domain.told_once import split_told_hashes, told_hash
from tests.faults.everywhere import EverywhereStage, mailbox_of
from tests.faults.stage import MAX_TICKS, FaultStage
from tests.support.jobs import Finished
from tests.support.worlds import Doc, FirestoreWorld, SqliteWorld, talk

DATA = json.loads((Path(__file__).parents[1] / "data" / "version_1_0.json").read_text(encoding="utf-8"))
NOW, DAY, TODAY, YESTERDAY = datetime.fromisoformat(DATA["now"]), date(2026, 5, 4), "2026-05-04", "2026-05-03"
SLOT = datetime(2026, 5, 4, 18, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ENDED = ("earlier", "a-sent", "b-skipped", "c-no-devices", "d-legacy")  # by version 1.0
BEGUN = ("f-pending", "g-accepted", "h-unsent")  # by version 1.0: the recap is stored
BOTH = {"t1", "t2"}
LEFT = {
    **dict.fromkeys(("e-provider", "i-in-llm", "k-unreached"), BOTH),
    "j-long": {f"t{n:02}" for n in range(10)},
    "x-yesterday-sent": BOTH,  # what ended or came in after version 1.0's slot, it has told
    "y-yesterday-skipped": BOTH,
    "z-yesterday-missed": {"y1", *BOTH},
}
CALLS = {
    **dict.fromkeys(LEFT, 1),
    "j-long": 5,
}  # four parts, whose question is not version 1.0's any more, and the join
STORED = (("a-sent", YESTERDAY), ("d-legacy", TODAY))
NOT_STORED = "UTC; which conversations it used is not stored"


def shifted(value: Any, left: datetime) -> Any:
    """The recorded value, with version 1.0 stopped at that instant of the real clock."""
    if isinstance(value, list):
        return [shifted(one, left) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"at"}:
        return datetime.fromisoformat(value["at"])
    if value.keys() == {"left"}:
        return left + timedelta(seconds=value["left"])
    return {key: shifted(one, left) for key, one in value.items()}


def text(doc: Doc) -> str:
    """As version 1.0 wrote it into its file."""
    return json.dumps(doc, default=datetime.isoformat, ensure_ascii=False, separators=(",", ":"))


def micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


def fill_file(folder: Path, users: dict[str, Doc]) -> None:
    folder.mkdir()
    (folder / "created").write_text(SLOT.isoformat())  # no sample users
    db = sqlite3.connect(folder / "recap.sqlite3")
    db.executescript("\n".join(DATA["schema"]))
    for uid, held in users.items():
        user, since = held["user"], 2 if YESTERDAY in held["recap_deliveries"] else 0.5
        at = micros(SLOT - since * ONE_DAY)
        row = (uid, user["daily_summary_hour_local"], user["time_zone"], 1, text(user), at, at)
        db.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        for key, one in held["fcm_tokens"].items():
            db.execute("INSERT INTO devices VALUES (?, ?, ?)", (uid, key, text(one)))
        for key, one in held["conversations"].items():
            created = micros(one["created_at"])
            db.execute("INSERT INTO conversations VALUES (?, ?, ?, ?)", (uid, created, key, text(one)))
        for day, one in held["recap_deliveries"].items():
            db.execute("INSERT INTO ledgers (uid, date, doc) VALUES (?, ?, ?)", (uid, day, text(one)))
        for key, one in held["daily_summaries"].items():
            db.execute("INSERT INTO summaries VALUES (?, ?, ?, ?)", (uid, one["date"], key, text(one)))
        for path, one in held["recap_parts"].items():
            ends = micros(one["expire_at"])
            db.execute("INSERT INTO parts VALUES (?, ?, ?, ?, ?)", (uid, *path.split("/"), text(one), ends))
    db.commit()
    db.close()


def fill_emulator(world: FirestoreWorld, users: dict[str, Doc]) -> None:
    batch = world.db.batch()
    for uid, held in users.items():
        user = world.db.collection("users").document(uid)
        batch.set(user, held["user"])
        for name in ("fcm_tokens", "conversations", "recap_deliveries", "daily_summaries"):
            for key, one in held[name].items():
                batch.set(user.collection(name).document(key), one)
        for path, one in held["recap_parts"].items():
            day, key = path.split("/")
            batch.set(user.collection("recap_deliveries").document(day).collection("recap_parts").document(key), one)
    batch.commit()


def fill_redis(client: Redis, left: datetime, keys: str) -> None:
    """`keys`: kept, emptied, or shards: those have other names in a version that came later."""
    for key, held in {} if keys == "emptied" else DATA["redis"].items():
        value = dict(held["value"])
        if value.get("u"):
            value["u"] += int(left.timestamp() * 1000)
        name = key.replace(":cohort:v2:", ":cohort:v1:") if keys == "shards" else key
        client.set(name, json.dumps(value, separators=(",", ":")), px=held["pttl"])


class Upgraded:
    """What version 1.0 left, and today's version over it."""

    def __init__(self, staged: FaultStage, keys: str, fields_of: Callable[[str], Doc] = lambda _: {}) -> None:
        """`fields_of`: by uid, what the app has set in the user's document since."""
        self.staged, self.stage = staged, staged.stage
        self.left = datetime.now(UTC)
        self.users: dict[str, Doc] = shifted(DATA["users"], self.left)
        for uid, held in self.users.items():
            held["user"] |= fields_of(uid)
        self.stage.settings |= {"RECAP_MAX_PROMPT_TOKENS": "1000"}  # as version 1.0 had it
        with staged.redis() as client:
            fill_redis(client, self.left, keys)
        for uid, held in self.users.items():
            user = held["user"]
            staged.slots[uid] = latest_slot(user["time_zone"], user["daily_summary_hour_local"], NOW)
        if isinstance(self.stage.world, FirestoreWorld):
            fill_emulator(self.stage.world, self.users)
            self.first = self.run()
        else:
            folder = self.stage.folder / "version-1-0"
            fill_file(folder, self.users)
            self.stage.settings["RECAP_DATA_DIR"] = str(folder)
            self.first = self.run()  # the job is the first that opens that file
            self.stage.world.close()
            self.stage.world = SqliteWorld(folder)

    def run(self, now: datetime = NOW, *arguments: str) -> Finished:
        finished = self.stage.run("--now", now.isoformat(), *arguments)
        assert finished.code == 0, finished.err
        return finished

    def settle(self) -> None:
        """Run until every ledger is final, each time as if what version 1.0 held had lapsed."""
        for n in range(1, MAX_TICKS):
            self.staged.age()
            self.run(NOW + n * MINUTE)
            if all(self.ledger(uid).get("state") in ("sent", "skipped") for uid in self.users):
                return
        raise AssertionError({uid: self.ledger(uid).get("state") for uid in self.users})

    def ledger(self, uid: str, days: int = 0) -> Doc:
        return self.stage.world.ledgers(uid).get((DAY + days * ONE_DAY).isoformat(), {})

    def told(self, uid: str, days: int = 0) -> set[str]:
        """The ids of the conversations that a ledger has told."""
        hashes = split_told_hashes(self.ledger(uid, days)["told"])
        known = ["late", "after", *self.users[uid]["conversations"]]
        found = {key for key in known if told_hash(uid, key) in hashes}
        assert len(found) == len(hashes)
        return found

    def audit(self, day: date) -> dict[str, int]:
        later = (NOW + 2 * ONE_DAY).isoformat()
        counts: dict[str, int] = self.stage.run("--now", later, "audit", "--date", str(day), "--json").accounts[
            "counts"
        ]
        return counts


def check_texts(upgraded: Upgraded) -> None:
    """One stored text each; those of version 1.0 as it left them, and read as any other."""
    for uid, held in upgraded.users.items():
        summaries = upgraded.stage.world.summaries(uid)
        days = Counter(doc["date"] for doc in summaries.values())
        assert days == Counter(
            {TODAY: int(uid != "b-skipped"), YESTERDAY: int(uid in ("a-sent", "x-yesterday-sent"))}
        ), uid
        assert {key: summaries[key]["overview"] for key in held["daily_summaries"]} == {
            key: doc["overview"] for key, doc in held["daily_summaries"].items()
        }
    now, stage = NOW.isoformat(), upgraded.stage
    asked = [(doc, stage.start("--now", now, what, doc[0], doc[1])) for doc in STORED for what in ("show", "why")]
    for (uid, day), process in asked:
        [doc] = [doc for doc in upgraded.users[uid]["daily_summaries"].values() if doc["date"] == day]
        finished = stage.end(process)
        said = " ".join(finished.out.split())
        assert (finished.code, (doc["overview"] in said) != (NOT_STORED in said)) == (0, True), said
        assert "for a recap" not in said  # as if it were still to be made


def check_ledgers(upgraded: Upgraded) -> None:
    for uid in ENDED:
        assert upgraded.ledger(uid) == upgraded.users[uid]["recap_deliveries"][TODAY], uid
    for uid in BEGUN:
        now, then = upgraded.ledger(uid), upgraded.users[uid]["recap_deliveries"][TODAY]
        assert (now["state"], "told" in now, set(now["devices"].values())) == ("sent", False, {"accepted"})
        assert [now[name] for name in ("body", "seq", "summary_id")] == [then["body"], then["seq"], TODAY]
    for uid, told in LEFT.items():
        assert (upgraded.ledger(uid)["state"], upgraded.told(uid)) == ("sent", told), uid


def check_pushes(upgraded: Upgraded) -> None:
    """One for each device; the user whose push version 1.0 could not report any more got the same one again."""
    fcm, before = upgraded.stage.fcm, DATA["accepted"]
    links = {message["token"]: message["data"]["navigate_to"] for message in fcm.messages}
    for token in ("token-f-pending-1", "token-g-accepted-0", "token-h-unsent-0"):
        assert links[token] == f"/daily-summary/{TODAY}"
    times = Counter({token: one["times"] for token, one in before.items()}) + Counter(fcm.accepted)
    tokens = [one["token"] for held in upgraded.users.values() for one in held["fcm_tokens"].values()]
    untold = {f"token-{uid}-0" for uid in ("b-skipped", "d-legacy")}
    twice = {"token-g-accepted-0", "token-a-sent-0", "token-x-yesterday-sent-0"}  # the others' first is yesterday's
    assert times == {token: 1 + (token in twice) for token in tokens if token not in untold}
    assert fcm.phones["token-g-accepted-0"].visible == before["token-g-accepted-0"]["visible"]
    assert not fcm.phones["token-x-yesterday-sent-0"].visible.keys() & before["token-x-yesterday-sent-0"]["visible"]


def check_accounts(upgraded: Upgraded) -> None:
    today = {"due": 15, "sent": 12, "no_devices": 1, "skipped": 2, "stored": 14, "allowed_repeats": 2}
    assert upgraded.audit(DAY) == today
    assert upgraded.audit(DAY - ONE_DAY) == {"due": 4, "sent": 2, "skipped": 1, "missed": 1, "stored": 2}
    assert dict(upgraded.stage.llm.calls) == CALLS


def check_tomorrow(upgraded: Upgraded) -> None:
    """Nothing that version 1.0 has told, or had passed over before its window's end; the rest."""
    put = upgraded.stage.world.put_talk
    for uid, held in upgraded.users.items():
        slot = upgraded.staged.slots[uid].at
        if "tlive" in held["conversations"]:
            put(uid, "tlive", talk(uid, slot - 30 * MINUTE, status="completed"))
        put(uid, "late", talk(uid, slot - 150 * MINUTE))
        put(uid, "after", talk(uid, slot + 60 * MINUTE))
    finished = upgraded.run(NOW + ONE_DAY).event("tick.finished")
    assert (finished["sent"], finished["no_devices"]) == (len(upgraded.users) - 1, 1)
    assert finished["pushes"] == len(upgraded.users)
    for uid in upgraded.users:
        expected = {"after"} if uid in (*ENDED, *BEGUN) else {"tlive", "late", "after"}
        if uid == "d-legacy":  # all before the app's own recap is told, and nothing after it
            expected = {"t2", "tlive", "after"}
        if uid == "j-long":
            expected = {"late", "after"}
        assert upgraded.told(uid, 1) == expected, uid


@pytest.mark.parametrize(
    ("world", "keys"),
    [
        pytest.param("sqlite", "kept", marks=pytest.mark.short),
        pytest.param("firestore", "shards", marks=pytest.mark.short),
        ("sqlite", "shards"),
        ("sqlite", "emptied"),
        ("firestore", "kept"),
    ],
    indirect=["world"],
)
def test_an_evening_of_version_1_0_goes_on(staged: FaultStage, keys: str) -> None:
    upgraded = Upgraded(staged, keys)
    if keys != "emptied":  # whom version 1.0 still holds is left alone, whatever its shards are called
        for uid in ("g-accepted", "h-unsent", "i-in-llm", "j-long"):
            assert upgraded.ledger(uid) == upgraded.users[uid]["recap_deliveries"].get(TODAY, {}), uid
    upgraded.settle()
    check_texts(upgraded)
    check_ledgers(upgraded)
    check_pushes(upgraded)

    check_accounts(upgraded)
    check_tomorrow(upgraded)
    assert upgraded.audit(DAY + ONE_DAY) == {"due": 15, "sent": 14, "no_devices": 1, "stored": 15}
    if isinstance(upgraded.stage.world, SqliteWorld):
        indexes = upgraded.stage.world.db.execute("PRAGMA index_list(conversations)")
        assert "conversations_by_id" in [row[1] for row in indexes]


@pytest.mark.parametrize("world", [pytest.param("sqlite", marks=pytest.mark.short), "firestore"], indirect=True)
def test_what_version_1_0_left_open_is_delivered_by_the_new_channels_too(everywhere: EverywhereStage) -> None:
    """Of a recap that version 1.0 stored, which has no hash, title and body; of a later one the whole text."""
    upgraded = Upgraded(everywhere, "kept", lambda uid: {"recap_email": mailbox_of(uid)})
    upgraded.settle()
    check_texts(upgraded)
    check_ledgers(upgraded)
    check_pushes(upgraded)
    delivered = everywhere.delivered()
    for channel in ("hook", "mail"):
        assert {uid: times for (name, uid), times in delivered.items() if name == channel} == dict.fromkeys(
            (*BEGUN, *LEFT), 1
        )
    everywhere.check_texts(without=BEGUN)
    for uid in (*BEGUN, *LEFT):
        accepted = len(upgraded.users[uid]["fcm_tokens"]) + 2
        assert list(upgraded.ledger(uid)["devices"].values()) == ["accepted"] * accepted, uid
