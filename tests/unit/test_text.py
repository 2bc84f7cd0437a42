"""Text of people, LLMs and servers: cleaned, bounded at whole characters, escaped."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.text import bounded, clean, code, language_tag, plain, printable
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
