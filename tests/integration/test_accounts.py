"""The accounts add up: each due user in exactly one count; exit 5 for a day without a recap; audits that can fail."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from notifications.domain import claim
from notifications.domain.schedule import cohorts_between, tzdata_version
from notifications.run.outcome import Outcome
from tests.support.jobs import Stage, bare, on_firestore, on_sqlite
from tests.support.web import completion, fcm_error, google_error, scripted
from tests.support.worlds import SqliteWorld, talk

SLOT = datetime(2026, 5, 1, 20, tzinfo=UTC)
OVER = SLOT + timedelta(hours=5)
DOC = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20}


def audited(stage: Stage, day: str = "2026-05-01", now: datetime = OVER) -> tuple[int, dict[str, Any]]:
    finished = stage.run("--now", now.isoformat(), "audit", "--date", day, "--json")
    return finished.code, finished.accounts


@on_sqlite
def test_every_due_user_is_in_exactly_one_count(stage: Stage) -> None:
    """Errors, lost claims and item faults too, once each."""
    for uid in ("sent", "refused", "busy", "held", "bad"):
        stage.add_user(uid)
    slot = stage.add_user("silent", talks={})
    stage.world.put_ledger("bad", slot.recap_date.isoformat(), {"state": "from-the-future"})

    async def llm(who: str) -> web.Response | None:
        return completion(None, refusal="no") if who == "refused" else None

    async def fcm(token: str) -> web.Response | None:
        return fcm_error(503, "UNAVAILABLE") if token == "token-busy-0" else None

    stage.llm.script, stage.fcm.script = llm, fcm
    with Redis(port=stage.redis.port) as client:
        client.set(claim.user_key("held", slot.recap_date), "1", px=60_000)
    finished = stage.run(RECAP_PUSH_DEADLINE_SECONDS="1", RECAP_FALLBACK="none")
    event = finished.event("tick.finished")
    counts = {outcome.value: event[outcome] for outcome in Outcome if event[outcome]}
    assert counts == {"sent": 1, "skipped": 1, "waiting": 2, "held": 1, "failed": 1}
    assert sum(counts.values()) == event["due"] == 6
    [line] = [line for line in finished.out.splitlines() if "pushes" in line]
    waiting = "2 waiting (llm refused the day, push UNAVAILABLE, FCM is overloaded or down; oldest "
    for words in ("1 sent", "1 skipped, ", waiting, "1 held (the app, or another job; free at ", "1 failed (the log "):
        assert words in line
    assert finished.code == 1


@on_sqlite
def test_slots_that_nobody_served_are_exit_5_where_redis_remembers(stage: Stage) -> None:
    """An empty Redis knows nothing of the time before it: a first run is no alarm."""
    stage.world.put_user("ann", DOC, {}, {"t": talk("ann", SLOT - timedelta(hours=1))})
    late = ("--now", (SLOT + timedelta(hours=2, minutes=30)).isoformat())
    first = stage.run(*late)
    assert (first.code, first.named("slots.unserved")) == (0, [])
    seen = first.event("redis.first_seen")
    assert (seen["severity"], seen["unserved"] > 0) == ("INFO", True)
    assert [event["event"] for event in stage.run(*late).events] == ["tick.finished"]  # told once
    with Redis(port=stage.redis.port) as client:
        remembers = json.loads(client.get(claim.since_key(stage.world.environment)))
        remembers["u"] -= 3_600_000
        client.set(claim.since_key(stage.world.environment), json.dumps(remembers), keepttl=True)
    again = stage.run(*late)
    assert again.code == 5
    assert again.event("slots.unserved")["severity"] == "ERROR"
    assert again.named("redis.first_seen") == []
    assert " not served; audit --date" in again.out


@on_sqlite
def test_who_signed_up_after_the_slot_was_not_due(stage: Stage) -> None:
    world = stage.world
    assert isinstance(world, SqliteWorld)
    for uid in ("old", "new", "later", "changed", "unknown"):
        world.put_user(uid, DOC, {}, {"t": talk(uid, SLOT - timedelta(hours=1))})
    world.make_old("new", SLOT + timedelta(minutes=5))  # while the slot was served: a run may have come in time
    world.make_old("later", SLOT + timedelta(hours=3))
    world.db.execute("UPDATE users SET updated_at = ? WHERE uid = 'changed'", (int((SLOT.timestamp() + 60) * 1e6),))
    world.db.execute("UPDATE users SET created_at = NULL, updated_at = NULL WHERE uid = 'unknown'")
    code, told = audited(stage)
    assert (code, told["counts"]) == (1, {"due": 2, "unserved": 2, "unknown": 2})
    assert (told["uids"]["unserved"], told["uids"]["unknown"]) == (["old", "unknown"], ["changed", "new"])
    for uid, refused in (("new", False), ("later", True)):  # a resend refuses whom the audit knows to be not due
        finished = stage.run("--now", OVER.isoformat(), "resend", uid, "2026-05-01")
        assert ("the account was made" in finished.err) is refused, finished.err
    world.delete_user("new")
    world.delete_user("old")
    world.delete_user("unknown")
    code, told = audited(stage)
    assert (code, told["counts"]) == (0, {"unknown": 1})  # what can't be known fails nobody


@on_firestore
def test_the_documents_own_create_time_tells_who_was_not_due(stage: Stage) -> None:
    """Made now, and asked of a slot of long ago."""
    stage.world.put_user("ann", DOC, {}, {"t": talk("ann", SLOT - timedelta(hours=1))})
    code, told = audited(stage)
    assert (code, told["counts"]) == (0, {})


def test_a_newcomers_first_audit_fails_for_nobody(tmp_path: Path) -> None:
    """Days before the data folder existed don't count: it says so, and which day does.

    Those whose hour it is now are due for today or for yesterday, by their zone.
    """
    assert bare(tmp_path).returncode == 0
    done = bare(tmp_path, "audit")
    said = " ".join(done.stdout.split())
    told = re.search(r"(\S+): (all well|nobody was due(?:; python job.py audit --date (\S+) is of today)?);", said)
    assert told is not None, done.stdout
    assert (done.returncode, "KIND" in said) == (0, told[2] == "all well")
    if told[3]:
        assert date.fromisoformat(told[3]) - date.fromisoformat(told[1]) == timedelta(days=1)


KINDS: dict[str, dict[str, Any]] = {
    "missed": {"state": "missed"},
    "dead": {"state": "dead"},
    "gave_up": {"state": "gave_up"},
    "unfinished": {"state": "pending", "outcome": "resend"},
    "unreadable": {"state": "sent", "seq": "one"},
    "unreadable sender": {"state": "sending"},
}


@on_sqlite
def test_an_audit_fails_for_each_kind_of_wrong(stage: Stage) -> None:
    for uid, ledger in KINDS.items():
        stage.world.put_user(uid, DOC, {}, {})
        stage.world.put_ledger(uid, "2026-05-01", ledger | {"date": "2026-05-01"})
        code, told = audited(stage)
        assert (code, uid in told["uids"][uid.split()[0]]) == (1, True), told
        stage.world.delete_user(uid)
        stage.world.delete_ledger(uid, "2026-05-01")
    assert audited(stage)[0] == 0


NOT_WELL: dict[str, tuple[dict[str, Any], str]] = {
    "allowed_repeats": ({"state": "sent", "tries": 2, "devices": {"d": "accepted"}}, "1 with an allowed repeat"),
    "device_gone": ({"state": "sent", "devices": {"d": "accepted", "e": "gone"}}, "1 with a target gone"),
    "sent": (
        {"state": "sent", "devices": {"d": "accepted"}, "source": "extract", "extract_reason": "provider_llm_429"},
        "1 extract (llm 429)",
    ),
}


@on_sqlite
def test_an_audit_says_all_well_only_where_nothing_repeated_nor_lost_a_device_nor_was_an_extract_for_a_fault(
    stage: Stage,
) -> None:
    for kind, (ledger, words) in NOT_WELL.items():
        stage.world.put_user("ann", DOC, {}, {})
        stage.world.put_ledger("ann", "2026-05-01", ledger | {"date": "2026-05-01", "seq": 1})
        for now in (SLOT + timedelta(minutes=30), OVER):  # of today as of yesterday
            finished = stage.run("--now", now.isoformat(), "audit", "--date", "2026-05-01")
            out = " ".join(finished.out.split())
            assert (finished.code, f"{kind} 1" in out, "all well: " + words in out) == (0, True, True), out
    none = {"date": "2026-05-01", "seq": 1, "state": "sent", "outcome": "no_devices"}  # nor ever had
    stage.world.put_ledger("ann", "2026-05-01", none)
    finished = stage.run("--now", OVER.isoformat(), "audit", "--date", "2026-05-01")
    is_told = ("no_devices 1" in " ".join(finished.out.split()), "2026-05-01: all well;" in finished.out)
    assert (finished.code, *is_told) == (0, True, True), finished.out
    legacy = {"date": "2026-05-01", "seq": 1, "state": "sent", "outcome": "legacy"}
    stage.world.put_ledger("ann", "2026-05-01", legacy)
    code, told = audited(stage)
    assert (code, told["counts"]) == (0, {"due": 1, "skipped": 1})
    plain = {"date": "2026-05-01", "seq": 1, "state": "sent", "source": "extract", "devices": {"d": "accepted"}}
    stage.world.put_ledger("ann", "2026-05-01", plain)
    assert "2026-05-01: all well;" in stage.run("--now", OVER.isoformat(), "audit", "--date", "2026-05-01").out


@on_sqlite
def test_a_slot_whose_users_nobody_reached_says_so_before_it_is_over(stage: Stage) -> None:
    stage.world.put_user("ann", DOC, {}, {"t": talk("ann", SLOT - timedelta(hours=1))})
    for minutes, state, code in ((4, "waiting", 0), (20, "unreached", 1)):
        ended, told = audited(stage, now=SLOT + timedelta(minutes=minutes))
        assert (ended, told["counts"]) == (code, {"due": 1, state: 1})


@on_sqlite
def test_who_is_open_is_told_until_when_and_what_ends_the_cause(stage: Stage) -> None:
    slot = stage.add_user("user-0")
    for n in range(1, 6):
        stage.add_user(f"user-{n}")
    day, lost = str(slot.recap_date), f"{slot.at + timedelta(minutes=140):%H:%M} UTC"
    with Redis(port=stage.redis.port) as client:
        now = int(client.time()[0]) * 1000
        key = claim.user_key("user-0", slot.recap_date)
        client.set(key, f'{{"s":"claimed","t":"t","u":{now + 400_500}}}', px=600_000)
    stage.fcm.script = scripted(
        lambda _: google_error(403, "PERMISSION_DENIED", "SERVICE_DISABLED", service="fcm.googleapis.com")
    )
    assert stage.run(RECAP_CONCURRENCY="2").code == 3
    finished = stage.run("audit", "--date", day)
    out = re.sub(r"oldest \d+ min", "oldest N min", " ".join(finished.out.split()))
    free = f"{datetime.fromtimestamp(now / 1000 + 459.999, UTC):%H:%M} UTC"
    for words in (
        "gcloud services enable fcm.googleapis.com.",
        f"their claims are free at {free}, and the next run after that takes them; lost from {lost} on, if none does",
        f"{day}{' so far' if stage.now.date() == slot.recap_date else ''}: something fails: ",
        f"(push SERVICE_DISABLED, the FCM API is off; oldest N min, lost at {lost})",
    ):
        assert words in out
    assert finished.code == 1
    assert stage.run("report", "--date", day, "-o", "page.html").code == 0
    page = re.sub(r"<[^>]+>", " ", (stage.folder / "page.html").read_text())
    late, person, waits = (page.index(words) for words in ("How late", "Who needs a person", "Who waits"))
    assert re.match(r"How late[^.]*No push was accepted; \d waiting; 1 held; \d not reached\.", page[late:])
    assert ("gcloud services enable" in page[person:waits], "held, 1:" in page[waits:]) == (True, True)


@on_sqlite
def test_a_day_in_which_redis_was_emptied_says_so(stage: Stage) -> None:
    slot = stage.add_user("ann")
    audit = ("audit", "--date", str(slot.recap_date))
    assert stage.run().code == 0
    assert "Redis" not in stage.run(*audit).out
    stage.redis.ask("FLUSHALL")
    examined = stage.run("doctor")
    assert (examined.code, "Redis was emptied" in examined.out.replace("\n      ", " ")) == (1, True), examined.out
    assert stage.run().code == 0
    finished = stage.run(*audit)
    assert (finished.code, "Redis: it was emptied, or replaced" in finished.out) == (0, True), finished.out


@pytest.mark.parametrize("other", ["another tzdata", "another number of shards"])
@on_sqlite
def test_slots_that_another_version_finished_are_not_unserved(stage: Stage, other: str) -> None:
    now, place = datetime.now(UTC), stage.world.environment
    version, shards = ("2020.1", 1) if other == "another tzdata" else (tzdata_version(), 4)
    cohorts = cohorts_between(now - timedelta(hours=3), now + timedelta(minutes=2))
    with Redis(port=stage.redis.port) as client:
        for cohort in cohorts:
            for index in range(shards):
                key = claim.shard_key(cohort.slot, cohort.hour, version, place, index, shards)
                client.set(key, '{"s":"complete","t":""}', px=3_600_000)
        remembers = int((now - timedelta(hours=5)).timestamp() * 1000)
        client.set(claim.since_key(place), f'{{"s":"complete","t":"","u":{remembers}}}', px=3_600_000)
    finished = stage.run()
    assert finished.named("slots.unserved") == []
    with Redis(port=stage.redis.port) as client:  # one shard of them was never finished
        for cohort in cohorts:
            client.delete(claim.shard_key(cohort.slot, cohort.hour, version, place, 0, shards))
    finished = stage.run()
    assert len(finished.named("slots.unserved")) == 1
