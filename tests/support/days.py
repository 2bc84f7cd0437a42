"""Every way in which one user's day can stand when a run, or a command, comes to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from notifications.domain.claim import skipped_key, sweep_key, user_key
from notifications.domain.model import Device
from notifications.domain.schedule import ONE_DAY
from notifications.domain.shards import key_of
from notifications.domain.told_once import told_hash
from notifications.testing import ENVIRONMENT
from tests.support.evening import EIGHT, Evening
from tests.support.worlds import Doc, talk

Way = Callable[[Evening], None]
DAY = "2026-05-01"
MINUTE = timedelta(minutes=1)


def ledger(state: str, sent_minutes: float | None = None, **fields: Any) -> Way:
    """The day's own; its sender's time in minutes from now."""

    def put(evening: Evening) -> None:
        doc: Doc = {
            "date": DAY,
            "state": state,
            "seq": 1,
            "tries": 1,
            "by": "another",
            "title": "T",
            "body": "B",
            "collapse_id": "c" * 32,
            "summary_id": "s",
            "window_start": EIGHT - ONE_DAY,
            "window_end": EIGHT,
            "told": "",
        }
        if sent_minutes is not None:
            doc["sending_at"] = evening.now + sent_minutes * MINUTE
        evening.world.put_ledger("ann", DAY, doc | fields)

    return put


def open_for(due_minutes: float, state: str = "pending", **fields: Any) -> Way:
    """A ledger whose only target was tried and is due in so many minutes."""

    def put(evening: Evening) -> None:
        kept = {"tries": 1, "due": evening.now + due_minutes * MINUTE, "code": "cut"}
        ledger(state, sent_minutes=-3, targets={Device("ann-0", None).id: kept}, **fields)(evening)

    return put


def claim(state: str, minutes: float = 0, **letters: Any) -> Way:
    """The record under the user's key: its lease or wait in minutes from now."""

    def put(evening: Evening) -> None:
        until = evening.redis.ms + int(minutes * 60_000)
        record = {"s": state, "t": "another", "u": until} | letters
        put_key(evening, user_key("ann", evening.slots["ann"].recap_date), json.dumps(record))

    return put


def put_key(evening: Evening, key: str, value: Any) -> None:
    ends = int((evening.slots["ann"].at + timedelta(hours=3)).timestamp() * 1000)
    evening.redis.values[key] = (value, ends)


def foreign(value: Any) -> Way:
    return lambda evening: put_key(evening, user_key("ann", evening.slots["ann"].recap_date), value)


def nothing(evening: Evening) -> None:
    """As it is."""


def at(hours: float, *ways: Way) -> Way:
    def put(evening: Evening) -> None:
        evening.now += timedelta(hours=hours)
        for way in ways:
            way(evening)

    return put


LEDGERS: dict[str, Way] = {
    "none": nothing,
    "fresh sender": ledger("sending", sent_minutes=-1),
    "stale sender": ledger("sending", sent_minutes=-3),
    "sender ahead": ledger("sending", sent_minutes=30),
    "third sender": ledger("sending", sent_minutes=-3, tries=3),
    "pending": ledger("pending", sent_minutes=-3),
    "pending thrice": ledger("pending", sent_minutes=-3, tries=3),
    "pending by nobody": ledger("pending"),
    "target not due": open_for(7),
    "target not due until late": open_for(29),
    "due by a clock ahead": open_for(200),
    "stale sender, target not due": open_for(7, "sending"),
    "third sender, target not due": open_for(7, tries=3),
    "partly sent thrice": open_for(-1, tries=3, devices={"another": "accepted"}),
    "partly sent, not due": open_for(29, devices={"another": "accepted"}),
    "open resend": ledger("sending", sent_minutes=-3, outcome="resend", seq=2),
    "fresh resend": ledger("sending", sent_minutes=0, outcome="resend", seq=2),
    "sent": ledger("sent"),
    "skipped": ledger("skipped", outcome="no_content"),
    "missed": ledger("missed", outcome="closed"),
    "dead": ledger("dead", outcome="failures"),
    "gave up": ledger("gave_up", outcome="pushes"),
    "unreadable": ledger("odd"),
    "no sender": ledger("sending", tries=-1),
}
OPEN = ("none", "fresh sender", "third sender", "pending", "partly sent, not due", "open resend")
CLAIMS: dict[str, Way] = {
    "absent": nothing,
    "held": claim("claimed", 11),
    "held shortly": claim("claimed", 0.5),
    "lapsed": claim("claimed", -1),
    "lapsed twice": claim("claimed", -1, c=1),
    "lapsed thrice": claim("claimed", -1, c=2),
    "lapsed for good": claim("claimed", -1, c=3),
    "lapsed, failed": claim("claimed", -1, c=3, f=3),
    "lease of another clock": claim("claimed", 40),
    "idle": claim("idle", -1, f=1, r="refusal"),
    "waits": claim("idle", 5, r="provider_503"),
    "waits long": claim("idle", 29),
    "wait of another clock": claim("idle", 90),
    "narrow": claim("idle", -1, c=2),
    "sent": claim("sent"),
    "skipped": claim("skipped"),
    "missed": claim("missed"),
    "dead of failures": claim("dead", f=3),
    "dead of crashes": claim("dead", c=4),
    "text": foreign("theirs"),
    "hash": foreign({"a": "hash"}),
}


def shard_key_of(evening: Evening) -> str:
    slot = evening.slots["ann"]
    return key_of("ann", slot.at, slot.hour, ENVIRONMENT, evening.limits.shards)


def shard(state: str, minutes: float = 0, **letters: Any) -> Way:
    def put(evening: Evening) -> None:
        record = {"s": state, "t": "another", "u": evening.redis.ms + int(minutes * 60_000)} | letters
        put_key(evening, shard_key_of(evening), json.dumps(record))

    return put


def skipped_in_its_shard(evening: Evening) -> None:
    shard("idle", -1, r="open")(evening)
    key = skipped_key(shard_key_of(evening))
    put_key(evening, key, frozenset({"ann"}))


def sweep(state: str, minutes: float) -> Way:
    def put(evening: Evening) -> None:
        at = evening.redis.ms + int(minutes * 60_000)
        ends = at + int(evening.limits.sweep_seconds * 1000)
        evening.redis.values[sweep_key(ENVIRONMENT)] = (json.dumps({"s": state, "t": "t", "u": at}), ends)

    return put


def odd_sweep(evening: Evening) -> None:
    evening.redis.values[sweep_key(ENVIRONMENT)] = ("odd", None)


SHARDS: dict[str, Way] = {
    "due": shard("idle", -1),
    "waits": shard("idle", 4),
    "held": shard("claimed", 2),
    "lapsed": shard("claimed", -1, c=9),
    "complete": shard("complete"),
    "text": lambda evening: put_key(evening, shard_key_of(evening), "theirs"),
    "hash": lambda evening: put_key(evening, shard_key_of(evening), {"a": "hash"}),
    "skipped": skipped_in_its_shard,
    "swept": sweep("complete", -1),
    "swept, complete": lambda evening: (shard("complete")(evening), sweep("complete", -1)(evening))[0],
    "odd sweep": odd_sweep,
}


def user(**changes: Any) -> Way:
    return lambda evening: evening.world.update_user("ann", changes)


USERS: dict[str, Way] = {
    "switched off": user(daily_summary_enabled=False),
    "bad zone": user(time_zone="mars"),
    "bad zone, off": user(time_zone="mars", daily_summary_enabled=False),
    "no hour": user(daily_summary_hour_local=None),
    "bad language": user(language=7),
    "erased": lambda evening: evening.world.delete_user("ann"),
    "moved west": user(time_zone="Etc/GMT+1"),
    "moved east": user(time_zone="Etc/GMT-1"),
    "moved far": user(time_zone="Pacific/Kiritimati"),
    "another hour": user(daily_summary_hour_local=19),
    "tomorrow's hour": user(daily_summary_hour_local=9),
}


def around(days: int, state: str, **fields: Any) -> Way:
    """A ledger so many days from this one, with the window of its day."""

    def put(evening: Evening) -> None:
        end = EIGHT + days * ONE_DAY
        day = (evening.slots["ann"].recap_date + days * ONE_DAY).isoformat()
        doc = {"date": day, "state": state, "seq": 1, "window_start": end - ONE_DAY, "window_end": end, "told": ""}
        kept = {name: value for name, value in (doc | fields).items() if value is not None}
        evening.world.put_ledger("ann", day, kept)

    return put


def conversations(*docs: Doc) -> Way:
    def put(evening: Evening) -> None:
        evening.world.documents.below.pop(("ann", "conversations"), None)
        for number, doc in enumerate(docs):
            evening.world.put_talk("ann", f"t{number}", doc)

    return put


def summary(day: str, **fields: Any) -> Way:
    return lambda evening: evening.world.put_summary("ann", "app", {"date": day, "headline": "H"} | fields)


def told_before(evening: Evening) -> None:
    around(-1, "sent", told=told_hash("ann", "t0"))(evening)


def without_devices(evening: Evening) -> None:
    evening.world.documents.below.pop(("ann", "fcm_tokens"), None)


def younger(evening: Evening) -> None:
    kept = evening.world.documents.users["ann"]
    kept.created = kept.updated = EIGHT + 10 * timedelta(seconds=1)


HOUR_BEFORE = EIGHT - timedelta(hours=1)
DAYS: dict[str, Way] = {
    "as usual": nothing,
    "no conversation": conversations(),
    "malformed": conversations(talk("ann", HOUR_BEFORE) | {"structured": 7, "transcript_segments": 8}),
    "malformed beside": conversations(talk("ann", HOUR_BEFORE), talk("ann", HOUR_BEFORE) | {"structured": 7}),
    "encrypted": conversations(
        talk("ann", HOUR_BEFORE, structured={}, data_protection_level="enhanced", transcript_segments="ciphertext")
    ),
    "under way": conversations(talk("ann", HOUR_BEFORE, status="in_progress")),
    "discarded": conversations(talk("ann", HOUR_BEFORE, discarded=True)),
    "title alone": conversations(talk("ann", HOUR_BEFORE, structured={"title": "A talk"})),
    "few words": conversations(talk("ann", HOUR_BEFORE, structured={"title": "A talk", "overview": "Hello there."})),
    "after the slot": conversations(talk("ann", EIGHT + timedelta(seconds=1))),
    "told before": told_before,
    "no ledger around told": around(-1, "sent", told=None),
    "later day": around(1, "sent"),
    "later day skipped": around(1, "skipped"),
    "inverted": around(1, "sent", told=None),
    "inverted by a lost day": around(2, "skipped", told=None),
    "lost before": around(-1, "missed", window_start=None, window_end=None, told=None),
    "open before": around(-1, "pending"),
    "unreadable before": around(-1, "odd"),
    "the app's summary": summary(DAY),
    "the app's summary, dated": summary(DAY, created_at="2026-05-01T19:00:00"),
    "the app's of the day before": summary("2026-04-30", created_at="2026-05-01T19:30:00"),
    "no device": without_devices,
    "younger": younger,
}


def without_fallback(evening: Evening) -> None:
    evening.has_fallback = False


def without_llm(evening: Evening) -> None:
    evening.summarizer = None  # type: ignore[assignment]


JOBS: dict[str, Way] = {"usual": nothing, "without fallback": without_fallback, "without an LLM": without_llm}
