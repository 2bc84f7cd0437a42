"""What a person said, their tokens and keys go where they belong and nowhere else."""

from __future__ import annotations

from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage
from tests.support.hostile import hostile
from tests.support.jobs import Stage, on_sqlite
from tests.support.servers import free_port
from tests.support.web import Elsewhere, fcm_error, scripted
from tests.support.worlds import talk


def test_an_account_erased_during_the_run_gets_nothing(staged: FaultStage) -> None:
    """The user's document is deleted during the LLM call: no summary, no ledger, no push."""
    staged.add_users("ann")
    process = staged.strike("llm ann", "before", "freeze")
    staged.stage.world.delete_user("ann")
    finished = staged.thaw(process)
    assert finished.code == 0, finished.err
    assert (staged.stage.world.ledgers("ann"), staged.stage.world.summaries("ann"), staged.pushes()) == ({}, {}, {})
    assert staged.stage.record("ann", staged.slots["ann"]).state is ClaimState.SKIPPED


def test_no_content_no_token_and_no_key_is_logged(staged: FaultStage) -> None:
    staged.add_users("ann", devices=2)
    answers = iter([fcm_error(400, "INVALID_ARGUMENT"), fcm_error(404, "UNREGISTERED")])
    staged.fcm_rule = scripted(lambda _: next(answers, None))
    finished = staged.stage.run()
    said = finished.err + finished.out
    for secret in ("garden", "Buy seeds", "A day of", "token-ann", "test-key"):
        assert secret not in said


@on_sqlite
def test_conversations_follow_no_redirect_of_the_llm(staged: FaultStage) -> None:
    elsewhere = Elsewhere()
    staged.add_users("ann")
    staged.llm_rule = scripted(
        lambda _: web.Response(status=307, headers={"Location": f"{elsewhere.url}/v1/chat/completions"})
    )
    finished = staged.stage.run()
    assert (finished.code, elsewhere.got) == (4, []), finished.err
    elsewhere.stop()


@on_sqlite
def test_bearer_tokens_do_not_go_in_clear_to_another_machine(stage: Stage) -> None:
    stage.world.put_user("ann", {"time_zone": "UTC"}, {}, {"t": talk("ann", stage.now)})
    project = {"GOOGLE_CLOUD_PROJECT": "p", "FCM_BASE_URL": f"http://fcm.example:{free_port()}"}
    finished = stage.run(**project)
    assert (finished.code, "FCM_BASE_URL is http:// to another machine" in finished.err) == (3, True), finished.err


@on_sqlite
def test_a_hostile_uid_is_escaped_wherever_it_is_printed(stage: Stage) -> None:
    uid = "ann\x1b]0;owned\x07\r\n2026-05-01: all well\u202e"
    slot = stage.add_user(uid)
    day = slot.recap_date.isoformat()
    outputs = [
        stage.run("--dry-run"),
        stage.run(RECAP_LOG_FORMAT="console"),
        stage.run("inspect"),
        stage.run("audit", "--date", day),
        stage.run("resend", uid, day),
        stage.run("--user", uid, RECAP_LOG_FORMAT="console"),
    ]
    stage.world.update_user(uid, {"time_zone": "mars"})
    outputs += [stage.run("doctor"), stage.run("--user", uid), stage.run("resend", uid, day)]
    for finished in outputs:
        for line in (finished.out + finished.err).splitlines():
            assert hostile(line.replace("http", "")) == [], ascii(line)
        assert "2026-05-01: all well" not in finished.out.splitlines()
