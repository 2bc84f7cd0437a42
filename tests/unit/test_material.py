"""Which conversations count, and whether a day says enough."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain.model import WEARER, ActionItem, Conversation, Turn
from notifications.recap.material import Material, held_at, material
from notifications.recap.words import count_words
from tests.support.rows import rows

DAY = date(2026, 5, 1)
AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
WORDS = "one two three four five six seven eight nine ten"


def talk(key: str, overview: str = WORDS, **changes: Any) -> Conversation:
    given: dict[str, Any] = {"created_at": AT, "title": f"Title {key}", "overview": overview} | changes
    return Conversation(key, **given)


def test_a_day_of_titles_alone_has_nothing_to_say() -> None:
    assert material(DAY, [talk("a", "")], None) is None
    assert material(DAY, [], "en") is None


def test_what_says_nothing_is_left_out_and_the_rest_is_in_the_order_it_was_held() -> None:
    late = talk("late", started_at=AT + timedelta(hours=3))
    early = talk("early", created_at=AT + timedelta(hours=5), started_at=AT - timedelta(hours=1))
    unknown = talk("unknown")
    found = material(DAY, [late, talk("silent", ""), unknown, early], "pt", "Asia/Tokyo")
    assert found == Material(DAY, (early, unknown, late), "pt", "Asia/Tokyo")
    assert [held_at(c) for c in (early, unknown)] == [AT - timedelta(hours=1), AT]


@pytest.mark.parametrize(
    ("told", "worth"),
    [
        ({"overview": WORDS}, True),
        ({"overview": "one two three four five six seven eight nine"}, False),
        ({"overview": "Hi.", "action_items": (ActionItem("Call"),)}, True),
        ({"overview": "Hi.", "events": ("Dinner",)}, True),
        ({"overview": "", "turns": (Turn("You", WORDS),)}, True),
        (
            {
                "overview": "",
                "turns": (Turn("You", "one two three four five"), Turn("Ann", "six seven eight nine ten")),
            },
            True,
        ),
        ({"overview": "", "turns": (Turn("You", "Yes, sure."),) * 500}, False),
        ({"overview": "", "turns": (Turn("You", "Yes, sure."), Turn("", "one two three four five six seven"))}, False),
        ({"overview": "", "turns": (Turn("", "今日は公園に行きました。楽しかったですね。"),)}, True),
    ],
)
def test_a_day_is_worth_a_recap_by_what_is_said_to_do_and_to_come(told: dict[str, Any], worth: bool) -> None:
    assert (material(DAY, [talk("a", **told)], None, min_words=10) is not None) is worth


def test_the_words_of_all_conversations_count_together() -> None:
    few = [talk(str(n), "two words") for n in range(5)]
    assert material(DAY, few, None, min_words=10) is not None
    assert material(DAY, few[:4], None, min_words=10) is None
    assert material(DAY, few[:1], None, min_words=0) is not None


@pytest.mark.parametrize(("text", "words"), rows("texts", "word_counts"))
def test_two_letters_count_as_a_word_where_a_script_writes_no_spaces(text: str, words: int) -> None:
    assert count_words(text) == words


def test_the_language_is_the_users_else_the_conversations() -> None:
    talks = [talk("a", language="de"), talk("b", language="de"), talk("c", language="fr")]
    languages = [found.language for given in ("pt", None) if (found := material(DAY, talks, given))]
    assert languages == ["pt", "de"]
    silent = material(DAY, [talk("a")], None)
    assert silent is not None
    assert (silent.language, silent.zone) == (None, "UTC")


def test_the_wearer_is_known_where_any_turn_is_theirs() -> None:
    written, spoken = talk("a"), talk("b", "", turns=(Turn("Speaker 1", WORDS), Turn("", WORDS)))
    worn = talk("c", "", turns=(Turn(WEARER, WORDS),))
    for talks, known in (
        ((written,), (False, False)),
        ((written, spoken), (True, False)),
        ((spoken, worn), (True, True)),
    ):
        found = material(DAY, talks, None)
        assert found is not None
        assert (found.has_transcript, found.wearer_is_known) == known
