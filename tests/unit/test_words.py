"""Words, stems and scripts, as far as a recap needs them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.recap.words import (
    SCRIPTS,
    content_stems,
    count_words,
    folded,
    is_written_in,
    letters_of,
    script_of,
    stop_words,
    words,
    writes_no_spaces,
)
from tests.support.rows import rows


@pytest.mark.parametrize(("text", "found"), rows("languages", "words"))
def test_words_are_found_without_case(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(("language", "text", "stems"), rows("languages", "stems"))
def test_what_a_text_is_about(language: str | None, text: str, stems: list[str]) -> None:
    assert content_stems(text, language) == stems


def test_words_that_say_nothing_are_known_by_language() -> None:
    assert "the" in stop_words("en")
    assert "und" in stop_words("de")
    assert stop_words("tlh") == stop_words("") == frozenset()


@pytest.mark.parametrize(("text", "letters"), rows("languages", "letters"))
def test_texts_are_compared_by_their_letters_marks_and_digits(text: str, letters: str) -> None:
    assert letters_of(text) == letters


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_letters_are_the_same_whatever_the_form(text: str) -> None:
    found = letters_of(text)
    assert letters_of(unicodedata.normalize("NFD", text)) == found
    assert found == "".join(folded(character) for character in unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(("text", "unspaced"), rows("languages", "unspaced"))
def test_some_scripts_write_no_spaces(text: str, unspaced: bool) -> None:
    assert writes_no_spaces(text) is unspaced


@pytest.mark.parametrize(
    ("text", "count"), [("one two", 2), ("", 0), ("日本語です", 2), ("go 日本語 now", 3), ("ไปตลาด", 3), ("ü ö", 2)]
)
def test_two_characters_count_as_a_word_where_no_spaces_are_written(text: str, count: int) -> None:
    assert count_words(text) == count


@pytest.mark.parametrize(("language", "texts", "script"), rows("languages", "script_of"))
def test_the_script_is_the_languages_else_that_of_most_letters(
    language: str | None, texts: list[str], script: str | None
) -> None:
    assert script_of(language, texts) == script


def test_of_a_long_day_the_first_texts_tell_its_script() -> None:
    assert script_of(None, ["hi"] * 50 + ["Привет" * 99] * 50) == "Latin"
    assert script_of(None, ["a" * 300 + "ж" * 9_000]) == "Latin"


@pytest.mark.parametrize(("text", "script", "written"), rows("languages", "written_in"))
def test_names_of_other_scripts_may_stand_in_a_text(text: str, script: str, written: bool) -> None:
    assert is_written_in(text, script) is written


@given(st.text(max_size=60), st.sampled_from([None, "", "en", "ja", "zh", "hi", "tlh"]))
def test_no_text_is_too_odd(text: str, language: str | None) -> None:
    assert isinstance(content_stems(text, language), list)
    assert script_of(language, [text]) in {None, *SCRIPTS}
    assert count_words(text) >= 0
    assert writes_no_spaces(text) in (True, False)
