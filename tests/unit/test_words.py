"""Words, letters and scripts; and speech, as the extract knows it."""

from __future__ import annotations

import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from notifications.recap.words import (
    SCRIPTS,
    TABLE,
    begins_with_a_pronoun,
    content_stems,
    count_words,
    days_in,
    folded,
    is_written_in,
    letters_of,
    numbers_in,
    script_of,
    stop_words,
    table_words,
    without_fillers,
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


PLAIN = regex.compile(r"[\p{L}\p{M}'-]+")


@pytest.mark.parametrize(("language", "text", "day"), rows("languages", "days"))
def test_a_day_is_named_in_the_languages_own_words(language: str | None, text: str, day: bool) -> None:
    assert bool(days_in(text, language)) is day


@pytest.mark.parametrize(("language", "text", "number"), rows("languages", "numbers"))
def test_a_number_is_a_figure_or_a_word_from_eleven_on(language: str | None, text: str, number: bool) -> None:
    assert bool(numbers_in(text, language)) is number


@pytest.mark.parametrize(("language", "text", "begins"), rows("languages", "pronouns"))
def test_a_sentence_that_begins_with_a_pronoun_needs_another(language: str | None, text: str, begins: bool) -> None:
    assert begins_with_a_pronoun(text, language) is begins


@pytest.mark.parametrize(("language", "said", "kept"), rows("languages", "fillers"))
def test_fillers_and_doubled_words_go_and_nothing_else_changes(language: str | None, said: str, kept: str) -> None:
    assert without_fillers(said, language) == kept


def test_every_plain_word_of_the_table_is_found_in_a_sentence() -> None:
    for tag in TABLE:
        for kind, finds in (("days", days_in), ("numbers", numbers_in)):
            for word in table_words(kind, tag) if kind in TABLE[tag] else ():
                told = word.strip("*")
                if PLAIN.fullmatch(told):
                    assert finds(f"Xyz {told}, xyz.", tag), (tag, kind, word)
                    assert finds(f"{told.upper()}.", tag) or told.upper().lower() != told, (tag, kind, word)
        for word in table_words("pronouns", tag) if "pronouns" in TABLE[tag] else ():
            assert begins_with_a_pronoun(f"{word} xyz.", tag), (tag, word)
            assert begins_with_a_pronoun(f"“{word.capitalize()}”, xyz.", tag), (tag, word)


def test_nothing_is_found_where_nothing_is_said() -> None:
    for tag in [*TABLE, "tlh", ""]:
        for text in ("", "…", "Xyzq wvk."):
            found = (days_in(text, tag), numbers_in(text, tag), begins_with_a_pronoun(text, tag))
            assert not any(found), (tag, text)
        assert without_fillers("Xyzq wvk.", tag) == "Xyzq wvk."
