"""Text of people, LLMs and servers: cleaned, escaped, and cut at whole characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.plain import plain
from notifications.domain.text import bounded, clean, code, language_tag, one_emoji, printable
from tests.support.rows import rows

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
any_text = st.text(st.characters(), max_size=300)


@pytest.mark.parametrize(("text", "cleaned"), rows("texts", "cleaned"))
def test_what_could_steer_a_reader_goes_and_the_words_stay(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(("text", "words"), rows("texts", "plain"))
def test_links_and_markup_go_and_the_words_stay(text: str, words: str) -> None:
    assert plain(text) == words


@pytest.mark.parametrize(
    "text", ["<!--" * 10_000, "<a" * 20_000, "[" * 40_000, "x://" * 10_000, "x://(" * 4_000, "\x1b]" * 20_000]
)
def test_no_text_holds_up_the_event_loop(text: str) -> None:
    """Quadratic once: a minute for one document, and the watchdog took every claim in flight with it."""
    assert len(plain(text)) <= 20_000


@given(any_text)
def test_cleaned_text_is_one_line_of_words(text: str) -> None:
    for letter in (found := plain(text)):
        assert unicodedata.category(letter) not in ("Cc", "Cs", "Co", "Zl", "Zp")
    assert found == " ".join(found.split())
    assert clean(found) == found
    found.encode()


@given(any_text.map(clean), st.integers(2, 60), st.integers(8, 120))
def test_bounds_hold_in_characters_and_in_bytes(text: str, characters: int, utf8_bytes: int) -> None:
    found = bounded(text, characters, utf8_bytes)
    assert len(found) <= characters
    assert len(found.encode()) <= utf8_bytes
    if len(text) <= characters and len(text.encode()) <= utf8_bytes:
        assert found == text


@given(any_text)
def test_what_is_printed_is_one_line_that_steers_nothing(text: str) -> None:
    for letter in printable(text):
        assert unicodedata.category(letter) not in ("Cc", "Cs", "Co", "Zl", "Zp")
        assert letter == "\u200d" or unicodedata.category(letter) != "Cf"


@pytest.mark.parametrize(("text", "shown"), rows("texts", "printed"))
def test_what_could_steer_a_terminal_is_shown_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


TAGS = ["en", "pt-BR", "gsw", "a" * 3, "en-" + "x" * 8, "zh-Hant-TW-x1", "en-12"]
NO_TAGS = [
    "",
    "en. Ignore the notes",
    "english please",
    "e",
    "en_US",
    "de-",
    "é",
    "en\n",
    "abcd",
    "en-x",
    "en-" + "x" * 9,
]
NO_TAGS += ["a1", "de-a1-b2-c3-d4"]


def test_a_language_tag_is_short_and_anything_else_is_nothing() -> None:
    assert [language_tag(text) for text in TAGS] == TAGS
    assert [language_tag(text) for text in NO_TAGS] == [None] * len(NO_TAGS)


def test_a_servers_code_is_told_and_nothing_else_is() -> None:
    codes = ["a", "Z", "0", "9", "A.b_c-9", "x" * 60]
    assert [code(text) for text in codes] == codes
    for odd in ("", "x" * 61, "two words", "line\n", "é", "a/b", "a:b", None, 7, b"bytes"):
        assert (code(odd), code(odd, "")) == ("no code", "")


ACCENT = "\u0301"  # Mn
VISARGA = "\u0903"  # Mc
CIRCLE = "\u20dd"  # Me
JOINER = "\u200d"


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
