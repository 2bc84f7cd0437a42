"""Text cut to its bounds: where exactly, and never through a character."""

from __future__ import annotations

import pytest

from notifications.domain.text import bounded, one_emoji, plain, printable
from tests.support.rows import rows

ACCENT = "\u0301"  # Mn
VISARGA = "\u0903"  # Mc
CIRCLE = "\u20dd"  # Me
JOINER = "\u200d"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("characters", "found"),
    [
        (16, "one two, three.."),
        (15, "one two…"),  # right before the last dot: inside of a word
        (14, "one two…"),
        (10, "one two…"),
        (9, "one two…"),  # right before the space
        (8, "one…"),  # inside of "two,"
        (4, "one…"),
        (3, "on…"),  # there is no whole word
        (2, "o…"),
        (1, "…"),
    ],
)
def test_a_text_is_cut_after_a_whole_word_where_there_is_one(characters: int, found: str) -> None:
    text = "one two, three.."
    assert bounded(text, characters) == found


@pytest.mark.parametrize("end", [" ", ",", ";", ":", ".", "-", " ,;:.-"])
def test_what_ends_no_sentence_goes_before_the_ellipsis(end: str) -> None:
    assert bounded(f"word{end}" + "x" * 20, len(f"word{end}") + 1) == "word…"


@pytest.mark.parametrize("end", ["!", "?", ")", "…", "_", "X"])
def test_what_belongs_to_the_word_stays(end: str) -> None:
    assert bounded(f"word{end} next", 6) == f"word{end}…"


@pytest.mark.parametrize(
    ("text", "utf8_bytes", "found"),
    [
        ("日本語", 9, "日本語"),
        ("日本語", 8, "日…"),  # 3 of them are the ellipsis
        ("日本語", 6, "日…"),
        ("日本語", 5, "…"),  # no half of a character
        ("日本語", 3, "…"),
        ("héé wörld", 11, "héé…"),
        ("héé wörld", 12, "héé wörld"),
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "ab…"),
        ("abcdef", 4, "a…"),
        ("abcdef", 3, "…"),
    ],
)
def test_a_text_is_cut_at_its_bytes(text: str, utf8_bytes: int, found: str) -> None:
    assert bounded(text, 100, utf8_bytes) == found


@pytest.mark.parametrize(("characters", "utf8_bytes", "found"), [(3, 100, "ab…"), (100, 5, "ab…"), (6, 6, "abcdef")])
def test_the_narrower_bound_counts(characters: int, utf8_bytes: int, found: str) -> None:
    assert bounded("abcdef", characters, utf8_bytes) == found


@pytest.mark.parametrize("mark", [ACCENT, VISARGA, CIRCLE, "\U0001f3fb", "\U0001f3ff", "\ufe0f", JOINER, "\u200c"])
def test_a_mark_is_not_cut_from_its_base(mark: str) -> None:
    assert bounded(f"xy{mark}z", 3) == "x…"


@pytest.mark.parametrize("other", ["\U0001f3fa", "\U0001f400", "\u00a8", "字"])
def test_what_stands_by_itself_is_cut_off_alone(other: str) -> None:
    assert bounded(f"xy{other}z", 3) == "xy…"


@pytest.mark.parametrize(
    ("text", "characters", "found"),
    [
        ("e" + 2 * ACCENT, 2, "…"),  # the whole text is one character
        (4 * ACCENT, 2, "…"),  # marks without a base
        (4 * ACCENT + JOINER, 2, "…"),
        (FAMILY + "xy", 6, f"{FAMILY}…"),
        (FAMILY + "xy", 5, "…"),
        ("x" + FAMILY, 5, "x…"),  # right after a joiner
        ("x" + FAMILY, 4, "x…"),  # right before one
    ],
)
def test_a_joined_character_goes_whole(text: str, characters: int, found: str) -> None:
    assert bounded(text, characters) == found


@pytest.mark.parametrize(("text", "emoji"), rows("texts", "emojis"))
def test_the_first_emoji_with_all_that_belongs_to_it(text: str, emoji: str) -> None:
    assert one_emoji(text, "fallback") == emoji


@pytest.mark.parametrize(("length", "words"), [(0, ""), (3, "one"), (4, "one"), (5, "one t"), (7, "one two")])
def test_no_more_of_a_text_is_read_than_asked_for(length: int, words: str) -> None:
    assert plain("one two", length) == words


def test_of_an_endless_text_twenty_thousand_characters_are_read() -> None:
    assert plain("x" * 20_000) == "x" * 20_000
    assert plain("x" * 20_001) == "x" * 20_000


@pytest.mark.parametrize(("length", "shown"), [(5, "abcd"), (4, "abcd"), (3, "ab…"), (2, "a…"), (1, "…")])
def test_what_is_printed_is_cut_at_its_length(length: int, shown: str) -> None:
    assert printable("abcd", length) == shown


def test_no_line_is_longer_than_two_thousand_characters() -> None:
    assert printable("x" * 2_000) == "x" * 2_000
    assert printable("x" * 2_001) == "x" * 1_999 + "…"
