"""What is under way at the hour, or comes in after it, is in the next recap; and ledgers with odd figures."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from redis import Redis

from notifications.domain.claim import user_key
from notifications.domain.schedule import ONE_DAY, Slot
from notifications.domain.told_once import told_hash
from tests.support.jobs import Finished, Stage, on_firestore, on_sqlite
from tests.support.web import llm_error, scripted
from tests.support.worlds import Doc, SqliteWorld, talk

EMPTY = {"title": "", "overview": ""}


def run_at(stage: Stage, at: datetime) -> Finished:
    return stage.run("--now", at.isoformat())


def ids_in(stage: Stage, uid: str, slot: Slot, days: int = 0) -> set[str]:
    """The conversations that the ledger of that date has told."""
    ledger = stage.world.ledgers(uid)[(slot.recap_date + days * ONE_DAY).isoformat()]
    every = ("live", "stuck", "upload", "known", "after")
    return {key for key in every if told_hash(uid, key) in ledger["told"]}


@on_firestore
def test_what_can_not_be_read_at_the_hour_is_in_the_next_recap_and_in_no_other(stage: Stage) -> None:
    hour = timedelta(hours=1)
    slot = stage.add_user("ann", talks={})
    put = stage.world.put_talk
    put("ann", "known", talk("ann", slot.at - 5 * hour))
    put("ann", "live", talk("ann", slot.at - hour, status="in_progress", structured=EMPTY))
    put("ann", "stuck", talk("ann", slot.at - 2 * hour, status="processing"))  # with words, and never ended
    assert run_at(stage, slot.at + 0.1 * hour).event("tick.finished")["sent"] == 1
    assert ids_in(stage, "ann", slot) == {"known"}

    put("ann", "live", talk("ann", slot.at - hour, status="completed"))
    put("ann", "upload", talk("ann", slot.at - 4 * hour))  # as it was recorded
    put("ann", "after", talk("ann", slot.at + 3 * hour))
    assert run_at(stage, slot.at + 24.1 * hour).event("tick.finished")["sent"] == 1
    assert ids_in(stage, "ann", slot, 1) == {"live", "upload", "after", "stuck"}
    ledger = stage.world.ledgers("ann")[(slot.recap_date + ONE_DAY).isoformat()]
    assert (ledger["window_start"], ledger["window_end"]) == (slot.at, slot.at + ONE_DAY)
    assert ledger["read_from"] == slot.at - ONE_DAY
    why = stage.run("why", "ann", (slot.recap_date + ONE_DAY).isoformat())
    assert "4 conversations used" in " ".join(why.out.split()), why.out

    silent = run_at(stage, slot.at + 48.1 * hour)
    assert silent.event("tick.finished")["skipped_by_reason"] == {"no_content": 1}
    assert ids_in(stage, "ann", slot, 2) == set()
    assert stage.llm.calls["ann"] == 2


@on_sqlite
def test_a_recap_has_an_id_of_its_own_that_commands_go_by(stage: Stage) -> None:
    slot = stage.add_user("ann")
    day = slot.recap_date.isoformat()
    assert stage.run().event("tick.finished")["sent"] == 1
    [(key, doc)] = stage.world.summaries("ann").items()
    assert (doc["id"], stage.world.ledgers("ann")[day]["summary_id"], uuid.UUID(key).version) == (key, key, 4)
    theirs = {"id": "0", "date": day, "headline": "Made by the app", "overview": "O"}
    stage.world.put_summary("ann", "0", theirs)  # meanwhile, and found first by its date
    shown = stage.run("show", "ann", day)
    assert ("A day of ann" in shown.out, "Made by the app" in shown.out) == (True, False)


@on_firestore
def test_a_skipped_day_frees_its_key_for_the_app_and_what_the_app_told_is_told(stage: Stage) -> None:
    hour = timedelta(hours=1)
    slot = stage.add_user("ann", talks={})
    stage.add_user("bob")
    stage.llm.script = scripted(lambda _: llm_error(503, "overloaded"))
    first = stage.run()
    event = first.event("tick.finished")
    assert (event["skipped"], event["waiting"]) == (1, 1), first.err
    key = user_key("ann", slot.recap_date)
    with Redis(port=stage.redis.port) as client:
        assert client.set(key, "1", ex=7200, nx=True) is True  # as the app's own "make my recap now" takes it
        stage.llm.script = None
        again = stage.run(RECAP_SHARD_RETRY_MIN_SECONDS="0.001")
        assert again.code == 0, again.err
        refused = stage.run("resend", "ann", slot.recap_date.isoformat())
        assert (refused.code, "is making" in refused.err, key in refused.err) == (2, True, True), refused.err
        assert client.get(key) == b"1"
    stage.world.put_talk("ann", "upload", talk("ann", slot.at - 2 * hour))
    made = stage.now.replace(tzinfo=None).isoformat()
    stage.world.put_summary("ann", "app", {"id": "app", "date": slot.recap_date.isoformat(), "created_at": made})
    tomorrow = run_at(stage, slot.at + 24.1 * hour)
    assert tomorrow.event("tick.finished")["skipped_by_reason"] == {"no_content": 2}, tomorrow.err  # bob, too: told all


@on_sqlite
def test_the_apps_lock_on_a_day_that_has_ended_holds_no_shard(stage: Stage) -> None:
    slot = stage.add_user("ann")
    day = slot.recap_date.isoformat()
    ended = {"state": "skipped", "outcome": "no_content", "date": day, "seq": 1, "told": ""}
    stage.world.put_ledger("ann", day, ended)
    with Redis(port=stage.redis.port) as client:
        client.set(user_key("ann", slot.recap_date), "1", ex=7200)
        finished = stage.run()
        assert (finished.code, finished.event("tick.finished")["done_before"]) == (0, 1)
        states = [json.loads(client.get(one) or b"{}").get("s") for one in client.scan_iter("daily_summary:cohort:*")]
    assert set(states) == {"complete"}


@on_sqlite
def test_a_window_that_a_clock_ahead_left_behind_is_trouble_and_never_no_content(stage: Stage) -> None:
    stage.settings |= {"RECAP_PROVIDER_RETRY_SECONDS": "0.001", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.001"}
    slot = stage.add_user("ann")
    tomorrow = (slot.recap_date + ONE_DAY).isoformat()
    window = {"window_start": slot.at, "window_end": slot.at + ONE_DAY}
    odd: Doc = {"state": "skipped", "date": tomorrow, "seq": 1} | window
    stage.world.put_ledger("ann", tomorrow, odd)
    finished = stage.run()
    assert finished.code == 1
    [trouble] = finished.named("recap.trouble")
    assert f"{stage.shape.users}/ann/recap_deliveries/{tomorrow}" in trouble["reason"]
    assert slot.recap_date.isoformat() not in stage.world.ledgers("ann")
    closing = run_at(stage, slot.at + timedelta(hours=2, minutes=5))
    assert stage.world.ledgers("ann")[slot.recap_date.isoformat()]["outcome"] == "inverted_window", closing.err
    stage.world.put_ledger("ann", tomorrow, odd | {"told": ""})  # a ledger of this version says what it told: nothing
    stage.world.delete_ledger("ann", slot.recap_date.isoformat())
    with Redis(port=stage.redis.port) as client:
        client.delete(user_key("ann", slot.recap_date))
    assert stage.run("--user", "ann").event("tick.finished")["sent"] == 1


FIGURES: dict[str, dict[str, Any]] = {
    "count-huge": {"failures": 10**30},
    "count-negative": {"tries": -1},
    "infinite": {"usd": float("inf")},
    "nan": {"llm_seconds": float("nan")},
    "negative": {"usd": -0.01},
    "tokens-huge": {"tokens": 10**18},
}


def test_one_odd_figure_is_one_unreadable_ledger(stage: Stage) -> None:
    slot = stage.add_user("good")
    day = slot.recap_date.isoformat()
    odd = dict(FIGURES)
    if isinstance(stage.world, SqliteWorld):
        odd["huge"] = {"usd": 10**400}
    else:
        odd["count-huge"] = {"failures": 2**62}
    assert stage.run().code == 0
    whole = stage.world.ledgers("good")[day]
    for uid, changes in odd.items():
        stage.add_user(uid)
        stage.world.put_ledger(uid, day, whole | changes)
    audited = stage.run("audit", "--date", day, "--json")
    told = audited.accounts
    assert (audited.code, sorted(told["uids"]["unreadable"])) == (1, sorted(odd))
    assert (told["uids"]["sent"], told["counts"]["sent"], told["sources"]) == (["good"], 1, {"llm": 1})
    assert json.loads(json.dumps(told, allow_nan=False))
    page = stage.folder / "page.html"
    assert stage.run("report", "--date", day, "-o", str(page)).code == 0
    assert "unreadable" in page.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in stage.run("inspect", "--date", day, "--json").out.splitlines()]
    assert {row["uid"]: row["ledger"] for row in rows} == {"good": "sent"} | dict.fromkeys(odd, "unreadable")
    why = stage.run("why", "nan", day)
    assert (why.code, why.err) == (1, "")
    sentence = (
        f"written by another version, or by hand. Correct or delete {stage.shape.users}/nan/recap_deliveries/{day}."
    )
    assert sentence in " ".join(why.out.split())
