"""Speech, as the extract knows it."""

from __future__ import annotations

import pytest
import regex

from notifications.recap.words import TABLE, begins_with_a_pronoun, days_in, numbers_in, table_words, without_fillers
from tests.support.rows import rows

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
