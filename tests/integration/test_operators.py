"""doctor, audit and resend as an operator meets them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

from redis import Redis

from notifications.domain.claim import shard_key, turn_value
from notifications.domain.schedule import latest_slot, tzdata_version
from tests.support.jobs import Stage, latest_hour, on_firestore, on_sqlite
from tests.support.servers import free_port, wait_for
from tests.support.web import fcm_error, llm_error, scripted
from tests.support.worlds import Doc, talk


@on_firestore
def test_doctor_checks_everything_and_says_what_to_do(stage: Stage) -> None:
    stage.add_user("good")
    stage.world.put_user("bad", {"time_zone": "mars", "daily_summary_enabled": True}, {}, {})
    nowhere = f"http://127.0.0.1:{free_port()}"
    finished = stage.run("doctor", OPENAI_BASE_URL=f"{nowhere}/v1", FCM_BASE_URL=nowhere)
    assert finished.code == 1
    found = {
        line[6:].split(" (")[0].split(":")[0]: line[:4]
        for line in finished.out.splitlines()
        if line[:4] in ("ok  ", "look")
    }
    dependencies = (
        "time zones",
        "Redis answers",
        "the clocks of Redis, the store and this machine",
        "users and their index",
    )
    fine = (*dependencies, "the store", "open deliveries and their index", "the last day's targets")
    bad = ("users that the query can't see", "the LLM", "push")
    assert found == dict.fromkeys(fine, "ok  ") | dict.fromkeys(bad, "look")
    assert "doctor --fix" in finished.out
    assert "test-key" not in finished.out + finished.err


@on_sqlite
def test_doctor_says_whether_runs_come_and_what_stopped_the_last_one(stage: Stage) -> None:
    def doctor() -> str:
        said = " ".join(stage.run("doctor").out.split())
        return str(re.findall(r"\w+ runs: .*?(?= ok push)", said)[0])

    assert doctor() == "none runs: Redis knows of no run yet"
    assert stage.run().code == 0
    assert re.fullmatch(r"ok runs: the last sweep began at \d\d:\d\d UTC", doctor())
    with Redis(port=stage.redis.port) as client:
        client.delete(*client.keys("daily_summary:cohort*"), *client.keys("daily_summary:sweep*"))
        [since] = client.keys("daily_summary:since*")
        client.set(
            since, turn_value("t", int((datetime.now(UTC) - timedelta(days=1)).timestamp() * 1000)), px=3_600_000
        )
    assert re.match(r"look runs: none came to the users due at \d\d:\d\d UTC: check the scheduler", doctor())
    for n in range(12):
        stage.add_user(f"user-{n:02}")
    stage.llm.script = scripted(lambda _: llm_error(429, "rate_limit_exceeded"))
    assert stage.run(RECAP_CONCURRENCY="1").code == 4
    with Redis(port=stage.redis.port) as client:  # another run took the hour since, and was killed two minutes ago
        at, hour = latest_slot("UTC", latest_hour("UTC", stage.now), stage.now).at, latest_hour("UTC", stage.now)
        key = shard_key(at, hour, tzdata_version(), stage.world.environment, 0, 1)
        was, until = client.get(key), int(client.time()[0]) * 1000 + 60_000
        client.set(key, f'{{"s":"claimed","t":"t","u":{until}}}', px=3_600_000)
        killed = " ".join(stage.run("doctor").out.split())
        client.set(key, was, px=3_600_000)
    held = rf"held: users due at {at:%H:%M} UTC, by a run that may be dead"
    assert re.search(rf"look a killed run: {held} \(not heard of since \d\d:\d\d\); free at \d\d:\d\d; ", killed)
    stopped = r"look runs: the last one stopped before it reached all users \(llm 429\); they are due again at"
    assert re.match(stopped, doctor())


@on_sqlite
def test_a_lease_that_a_clock_ahead_has_stamped_is_held_by_nobody(stage: Stage) -> None:
    """Redis' clock was set back since: the next run claims both, and no command says otherwise before."""
    slot = stage.add_user("ann")
    hour, claim = latest_hour("UTC", stage.now), f"users:ann:daily_summary_lock:{slot.recap_date}"
    shard = shard_key(slot.at, hour, tzdata_version(), stage.world.environment, 0, 1)
    with Redis(port=stage.redis.port) as client:
        for key in (claim, shard):
            until = int(client.time()[0]) * 1000 + 40 * 60_000
            client.set(key, f'{{"s":"claimed","t":"t","u":{until}}}', px=7_200_000)
    day = ("--date", str(slot.recap_date))
    assert "held" not in stage.run("audit", "--json", *day).accounts["counts"]
    assert "0 users." in stage.run("inspect", "--where", "held", *day).out
    told = " ".join(stage.run("why", "ann", str(slot.recap_date)).out.split())
    assert "claim: left by a run that was killed; the next run may take it" in told
    assert "a run is at work" not in " ".join(stage.run("doctor").out.split())
    assert stage.run().event("tick.finished")["sent"] == 1
    assert stage.fcm.accepted == {"token-ann-0": 1}


@on_sqlite
def test_doctor_says_what_it_tried_of_fcm_and_what_the_last_pushes_came_to(stage: Stage) -> None:
    for n in range(6):
        stage.add_user(f"user-{n}")
    stage.fcm.script = scripted(lambda token: fcm_error(503, "UNAVAILABLE") if token else None)
    assert stage.run(RECAP_PUSH_DEADLINE_SECONDS="1").code == 4
    stage.fcm.script = None
    said = " ".join(stage.run("doctor").out.split())
    assert "ok push (our access alone: no recap is sent)" in said
    assert re.search(
        r"look the last day's targets: 6 of 6 targets of \S+ wait for a recap "
        r"\(push UNAVAILABLE, FCM is overloaded or down\); each run tries them again",
        said,
    )


@on_sqlite
def test_doctor_mends_what_has_one_right_answer_and_lists_what_somebody_has_to_decide(stage: Stage) -> None:
    on = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20}
    users: dict[str, Doc] = {
        "bare": {"name": "x"},
        "early": {**on, "daily_summary_hour_local": "22"},
        "moved": {**on, "time_zone": "GMT+03:00"},
        "off": {**on, "daily_summary_enabled": False},
        "old": {**on, "time_zone": "US/Pacific-New"},
        "space": {**on, "time_zone": "Asia/Kolkata ", "daily_summary_hour_local": 25},
    }
    for uid, doc in users.items():
        stage.world.put_user(uid, doc, {}, {})
    would = stage.run("doctor", "--fix", "--dry-run")
    said = " ".join(would.out.split())
    assert would.code == 1
    where, zone, hour = stage.shape.users, *map(stage.shape.field, ("time_zone", "daily_summary_hour_local"))
    assert f'{where}/space: would be corrected: {zone} "Asia/Kolkata " -> "Asia/Kolkata"' in said
    assert "3 of 5 would be corrected by doctor --fix. 3 users left" in said
    assert {uid: stage.world.user(uid) for uid in users} == users
    fixed = stage.run("doctor", "--fix")
    said = " ".join(fixed.out.split())
    decisions = {
        "no time zone (--zone ZONE)": "bare",
        "an unknown time zone (--zone ZONE)": "moved",
        "no hour (--hour H)": "bare",
        "an invalid hour (--hour H)": "space",
        "no switch (--enable)": "bare",
    }
    for line in (
        f'{where}/early: {hour} "22" -> 22',
        f'{where}/old: {zone} "US/Pacific-New" -> "America/Los_Angeles"',
        *(f"{what}: 1: {uid}" for what, uid in decisions.items()),
        "3 corrected",
    ):
        assert line in said
    expected = {
        **users,
        "early": on | {"daily_summary_hour_local": 22},
        "old": on | {"time_zone": "America/Los_Angeles"},
        "space": on | {"time_zone": "Asia/Kolkata", "daily_summary_hour_local": 25},
    }
    assert (fixed.code, {uid: stage.world.user(uid) for uid in users}) == (1, expected)
    decided = stage.run("doctor", "--fix", "--zone", "Europe/Paris", "--hour", "7", "--enable")
    assert (decided.code, "3 corrected" in decided.out) == (0, True)
    paris = {"time_zone": "Europe/Paris", "daily_summary_enabled": True, "daily_summary_hour_local": 7}
    assert {uid: stage.world.user(uid) for uid in users} == expected | {
        "bare": {"name": "x"} | paris,
        "moved": on | {"time_zone": "Europe/Paris"},
        "space": on | {"time_zone": "Asia/Kolkata", "daily_summary_hour_local": 7},
    }


@on_firestore
def test_audit_joins_users_ledgers_and_summaries_of_a_day(stage: Stage) -> None:
    slots = {f"user-{n}": stage.add_user(f"user-{n}", talks={} if n % 3 == 0 else None) for n in range(6)}
    for uid in ("user-0", "user-1"):
        stage.run("--user", uid)
    day = slots["user-0"].recap_date.isoformat()
    audit = ("audit", "--date", day)
    finished = stage.run(*audit, "--json")
    counts = {"due": 6, "sent": 1, "skipped": 1, "stored": 1}
    left = finished.accounts["counts"]
    is_reached = "waiting" in left  # by the first five minutes of an hour nobody needs to be
    assert (finished.code, left) == (int(not is_reached), counts | {"waiting" if is_reached else "unreached": 4})
    assert stage.run().code == 0
    told = stage.run(*audit, "--json").accounts
    assert told["counts"] == {"due": 6, "sent": 4, "skipped": 2, "stored": 4}
    spent = [told[name] for name in ("sources", "tokens", "without_a_price")]
    assert (spent, told["usd"] > 0) == ([{"llm": 4}, stage.llm.tokens, 0], True)
    said = " ".join(stage.run(*audit).out.split())
    assert f"4 by the LLM; {stage.llm.tokens:,} tokens, {told['usd']:.4f} USD." in said


def test_inspect_joins_redis_with_the_ledger_and_knows_a_day_that_redis_has_forgotten(stage: Stage) -> None:
    slot = stage.add_user("ann")
    assert stage.run().code == 0
    day = slot.recap_date.isoformat()
    [row] = [json.loads(line) for line in stage.run("inspect", "--json").out.splitlines()]
    kept = {"uid": "ann", "date": day, "claim": "sent", "ledger": "sent", "tries": 1, "slot": slot.at.isoformat()}
    assert {name: row[name] for name in kept} == kept
    assert (list(row["devices"].values()), 0 < row["ttl_seconds"] <= 3 * 3600) == (["accepted"], True)
    nobody = stage.run("inspect", "--user", "a")
    assert (nobody.code, nobody.out) == (2, "0 days.\n")
    assert "does not exist; check the uid." in nobody.err
    stage.redis.ask("FLUSHALL")
    for arguments in (("--user", "ann"), ("--date", day)):
        [row] = [json.loads(line) for line in stage.run("inspect", *arguments, "--json").out.splitlines()]
        assert (row["uid"], row["date"], row["claim"], row["ledger"]) == ("ann", day, "absent", "sent")
    assert stage.run("inspect").out == "0 days.\n"
    stage.world.put_ledger("ann", day, stage.world.ledgers("ann")[day] | {"state": "pending"})
    assert " pending " in stage.run("inspect").out


@on_sqlite
def test_inspect_shows_every_key_of_the_job_and_no_other(stage: Stage) -> None:
    slot = stage.add_user("ann")
    assert stage.run().code == 0
    claim = f"users:ann:daily_summary_lock:{slot.recap_date}"
    with Redis(port=stage.redis.port) as client:
        client.set("daily_summary:pause:e1", "1", px=60_000)
        client.rpush("daily_summary:by_another_hand", "x")
        client.set("users:ann:profile", "the app's own", ex=600)
        client.set("daily_summary:steers\x1b[2J", b"\xff\n", ex=600)
        ours = {name.decode() for name in client.keys("*")} - {"users:ann:profile"}
    rows = [json.loads(line) for line in stage.run("inspect", "--keys", "--json").out.splitlines()]
    found = {row["key"]: row for row in rows}
    assert set(found) == ours
    assert json.loads(found[claim]["value"])["s"] == "sent"
    assert 0 < found[claim]["ttl_seconds"] <= 3 * 3600
    pause = found["daily_summary:pause:e1"]
    assert (pause["value"], 0 < pause["ttl_seconds"] <= 60) == ("1", True)
    by_another = found["daily_summary:by_another_hand"]
    assert (by_another["value"], by_another["ttl_seconds"]) == ("(list)", None)
    shown = stage.run("inspect", "--keys").out
    assert (shown.endswith(f"\n{len(ours)} keys.\n"), "\x1b" in shown) == (True, False)
    assert max(map(len, shown.splitlines())) <= 80
    assert stage.run("inspect", "--keys", "--user", "ann").out.splitlines()[1].startswith(f"{claim}  ")
    assert stage.run("inspect", "--keys", "--date", "2020-01-01").out == "0 keys.\n"
    with Redis(port=stage.redis.port) as client:
        client.delete("daily_summary:by_another_hand")  # the only one without a TTL


AT = datetime.now(UTC).replace(hour=20, minute=0, second=0, microsecond=0) - timedelta(days=2)
DAY, NEXT = AT.date().isoformat(), (AT + timedelta(days=1)).date().isoformat()
MISSED: Doc = {"date": DAY, "state": "missed", "outcome": "closed", "seq": 1, "devices": {}}
ALL = ("resend", "--date", DAY, "--where", "missed")


def put(stage: Stage, uid: str, *, devices: int = 1, silent: bool = False, **doc: object) -> None:
    whole = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20, **doc}
    said = {} if silent else {"t": talk(uid, AT - timedelta(hours=2))}
    stage.world.put_user(uid, whole, {f"d{n}": f"token-{uid}-{n}" for n in range(devices)}, said)
    stage.world.put_ledger(uid, DAY, MISSED)


@on_sqlite
def test_who_can_not_be_sent_to_uses_up_no_limit(stage: Stage) -> None:
    """In the order of their uids those come first who can't be sent to."""
    put(stage, "a-later")
    covered = {"window_start": AT - timedelta(hours=30), "window_end": AT + timedelta(days=1)}
    stage.world.put_ledger("a-later", NEXT, {**MISSED, **covered, "date": NEXT, "state": "sent"})
    put(stage, "b-off", daily_summary_enabled=False)
    put(stage, "c-silent", silent=True)
    put(stage, "d-mars", time_zone="mars")
    for uid in ("e", "f", "g"):
        put(stage, uid)
    refused = "1 in a later recap, 1 nothing to say, 1 switched off, 1 unreadable document"
    would = stage.run(*ALL, "--limit", "2", "--dry-run")
    expected = f"{DAY}: would send 2, {refused} (dry run: nothing was claimed, sent or written)."
    assert " ".join(would.out.split()) == expected
    first = stage.run(*ALL, "--limit", "2")
    assert f"{DAY}: 2 sent, {refused}; 2 pushes, 4 LLM calls." in " ".join(first.out.split()), first.err
    assert first.code == 5  # somebody's document can't be read
    assert stage.fcm.accepted == {"token-e-0": 1, "token-f-0": 1}
    stage.run(*ALL, "--limit", "2")
    assert stage.fcm.accepted == {"token-e-0": 1, "token-f-0": 1, "token-g-0": 1}
    assert "d-mars" in first.out


@on_sqlite
def test_a_device_that_had_the_recap_is_not_pushed_to_again(stage: Stage) -> None:
    put(stage, "ann", devices=2)
    stage.fcm.script = scripted(lambda token: fcm_error(503, "UNAVAILABLE") if token == "token-ann-1" else None)
    stage.settings |= {"RECAP_PUSH_DEADLINE_SECONDS": "1", "RECAP_PUSH_RETRY_SECONDS": "0.2"}
    process = stage.start(*ALL)
    wait_for(lambda: "accepted" in str(stage.world.ledgers("ann")[DAY]["devices"]), "report")
    process.kill()
    stage.end(process)
    stage.redis.ask("FLUSHALL")
    ledger = stage.world.ledgers("ann")[DAY]
    stage.world.put_ledger("ann", DAY, {**ledger, "state": "gave_up", "outcome": "pushes"})
    stage.fcm.script = None
    assert stage.run("resend", "--date", DAY, "--where", "gave_up").code == 0
    assert stage.fcm.accepted == {"token-ann-0": 1, "token-ann-1": 1}
