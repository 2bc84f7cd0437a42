"""What a push says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.notice import Notice, Wording, notice
from notifications.domain.plain import plain
from notifications.domain.push import ACCEPTED, Message, PushAnswer, PushResult, PushText, deletions_allowed

MINUTE = timedelta(minutes=1)
TITLE, READY = "Your daily recap", "Your recap is ready."


@given(st.text(max_size=400), st.text(max_size=60))
def test_a_body_is_short_never_empty_and_cut_at_a_word(overview: str, headline: str) -> None:
    body = notice(headline, overview, "🌤️").body
    assert 0 < len(body) <= 150
    words = plain(overview)
    if body.endswith("…") and len(words) > 150 and " " in words[:149]:
        kept = body[:-1]
        assert words.startswith(kept)


@pytest.mark.parametrize(
    ("wording", "shown"),
    [
        (Wording(), Notice("🌤️ Head", "Over")),
        (Wording(PushText.RECAP, "de"), Notice("🌤️ Head", "Over")),
        (Wording(PushText.HEADLINE), Notice("🌤️ Head", "Your recap is ready.")),
        (Wording(PushText.HEADLINE, "de-AT"), Notice("🌤️ Head", "Dein Rückblick ist fertig.")),
        (Wording(PushText.NONE, "PT-br"), Notice("O seu resumo do dia", "O seu resumo está pronto.")),
        (Wording(PushText.NONE, "zh-Hans"), Notice("你的每日回顾", "你的回顾已准备好。")),
        (Wording(PushText.NONE, "sw"), Notice("Your daily recap", "Your recap is ready.")),
        (Wording(PushText.NONE, "zhx"), Notice("Your daily recap", "Your recap is ready.")),
        (Wording(PushText.NONE), Notice("Your daily recap", "Your recap is ready.")),
    ],
)
def test_a_push_shows_no_more_than_is_wished(wording: Wording, shown: Notice) -> None:
    assert notice("Head", "Over", "🌤️", wording) == shown


@pytest.mark.parametrize(("devices", "allowed"), [(0, 0), (4, 0), (5, 1), (9, 1), (10, 2), (50, 10), (1000, 200)])
def test_a_run_deletes_a_fifth_of_the_devices_that_it_saw_and_of_a_few_none(devices: int, allowed: int) -> None:
    assert deletions_allowed(devices) == allowed


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (("Head", "Over", "🌤️"), Notice("🌤️ Head", "Over")),
        (("Head", "Over", "sunny"), Notice("Head", "Over")),
        (("", "Over", "🌤️"), Notice(f"🌤️ {TITLE}", "Over")),
        (("Head", "", ""), Notice("Head", "Head")),
        (("", "", ""), Notice(TITLE, READY)),
        ((" **Head** ", "See https://evil.example <b>now</b>", ""), Notice("Head", "See now")),
        (("<br>", "\x1b[2J", "\u202e"), Notice(TITLE, READY)),
    ],
)
def test_what_a_device_shows_whoever_wrote_it(said: tuple[str, str, str], shown: Notice) -> None:
    assert notice(*said) == shown


# Letters of one to four bytes: a title has 300 bytes at most and a body 450, and an ellipsis is three of them.
@pytest.mark.parametrize(
    ("letter", "title", "body"), [("x", 99, 149), ("\u0436", 99, 149), ("\u6f22", 99, 149), ("\U00020000", 74, 111)]
)
def test_both_lines_are_cut_in_any_script(letter: str, title: int, body: int) -> None:
    assert notice(letter * 151, letter * 151, "") == Notice(letter * title + "…", letter * body + "…")


@pytest.mark.parametrize(("letter", "title", "body"), [("x", 100, 150), ("\u6f22", 100, 150), ("\U00020000", 75, 112)])
def test_both_lines_are_whole_up_to_their_bounds(letter: str, title: int, body: int) -> None:
    assert notice(letter * title, letter * body, "") == Notice(letter * title, letter * body)


def test_a_message_without_a_time_of_making_says_none() -> None:
    at = datetime(2026, 5, 1, 20, tzinfo=UTC)
    message = Message("u", at.date(), "tag", "Head", "Body", "id", None, at)
    assert message.data == {
        "type": "day_summary",
        "notification_type": "daily_summary",
        "navigate_to": "/daily-summary/id",
        "id": "id",
        "created_at": "",
        "text": "Body",
        "sender": "ai",
        "from_integration": "false",
    }


@pytest.mark.parametrize(
    ("result", "closes", "definite"),
    [
        (PushResult.ACCEPTED, True, True),
        (PushResult.GONE, True, True),
        (PushResult.REFUSED, False, True),  # open only while nobody else got it: the report says
        (PushResult.BUSY, False, True),
        (PushResult.UNSENT, False, True),
        (PushResult.UNKNOWN, False, False),
    ],
)
def test_what_an_answer_means_for_its_device(result: PushResult, closes: bool, definite: bool) -> None:
    assert (result.is_stored, result.is_definite) == (closes, definite)


@pytest.mark.parametrize("result", PushResult)
def test_on_call_hears_of_what_only_a_person_can_mend(result: PushResult) -> None:
    answer = PushAnswer(result, "code", timedelta(seconds=1), quota=True, retry_now=True)
    assert answer.needs_alert is (result is PushResult.REFUSED)
    assert PushAnswer(result, config=True).needs_alert is PushAnswer(result, foreign=True).needs_alert is True


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (PushAnswer(PushResult.BUSY, "401", config=True), "X refuses our credentials (401)."),
        (PushAnswer(PushResult.BUSY, "404", config=True, says="is not here"), "X is not here."),
        (
            PushAnswer(PushResult.UNKNOWN, "200", foreign=True),
            "What answers is not X: 200; check the address and its proxies.",
        ),
        (
            PushAnswer(PushResult.BUSY, "UNAVAILABLE", retry_now=True),
            "X is overloaded or down (UNAVAILABLE); wait, and check its status page if it lasts.",
        ),
        (PushAnswer(PushResult.UNKNOWN, "502"), "X fails (502); check the address and the network."),
        (PushAnswer(PushResult.UNSENT, "OSError"), "X does not answer (OSError); check the address and the network."),
        (PushAnswer(PushResult.BUSY, "429", quota=True), ""),
        (PushAnswer(PushResult.REFUSED, "400"), ""),
        (PushAnswer(PushResult.GONE, "UNREGISTERED"), ""),
        (ACCEPTED, ""),
    ],
)
def test_what_an_answer_says_of_its_channel(answer: PushAnswer, trouble: str) -> None:
    assert answer.trouble("X") == trouble
