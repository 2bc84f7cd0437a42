"""The tables of languages: each has what it needs, and nothing that no code reads."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
import regex

from notifications.domain.phrases import PHRASES, phrases_in
from notifications.domain.plain import plain
from notifications.recap.words import (
    DEFAULT_LANGUAGE,
    LINKS,
    SCRIPTS,
    TABLE,
    english_name,
    is_written_in,
    language_entry,
    primary_language,
    stop_words,
    table_words,
)

KINDS = ("days", "numbers", "pronouns", "fillers")
WRITTEN = [(tag, kind) for tag, known in TABLE.items() for kind in KINDS if kind in known]
PATTERNS = ("ja", "zh", "ko", "tr")  # whose numbers are patterns, since a word of theirs stands within others
COUNTED = ("talks", "tasks", "more_talks", "more_tasks")


def test_each_language_has_a_name_a_script_and_nothing_unknown() -> None:
    for tag, language in TABLE.items():
        assert regex.fullmatch("[a-z]{2,3}", tag), tag
        assert set(language) <= {"name", "script", *KINDS}, tag
        assert regex.fullmatch(r"[A-Z]\p{L}+(?:[ -]\p{L}+)*", language["name"]), tag
        assert language["script"] in SCRIPTS, tag


def test_only_tags_of_one_language_share_a_name() -> None:
    names = Counter(language["name"] for language in TABLE.values())
    assert {tag for tag, language in TABLE.items() if names[language["name"]] > 1} == {"he", "iw", "nb", "nn", "no"}


def test_the_words_of_a_kind_are_small_composed_each_once_and_in_the_languages_script() -> None:
    for tag, kind in WRITTEN:
        found = table_words(kind, tag)
        assert found, (tag, kind)
        assert [one for one, count in Counter(found).items() if count > 1] == [], (tag, kind)
        for word in found:
            assert word == unicodedata.normalize("NFC", word).lower()
            assert "_" not in word
            if tag not in PATTERNS:
                assert regex.fullmatch(r"\*?[\p{L}\p{M}'+?-]+\*?", word), word
            assert is_written_in(regex.sub(r"\W", "", word), TABLE[tag]["script"]), word


@pytest.mark.parametrize("tag", PHRASES)
def test_each_language_that_a_user_reads_is_known_to_the_extract(tag: str) -> None:
    assert {"days", "numbers", "pronouns"} <= set(TABLE[tag])
    assert len(stop_words(tag)) > 50


def test_a_language_without_words_of_a_kind_has_those_of_english() -> None:
    assert table_words("days", "cy") == table_words("days", DEFAULT_LANGUAGE) == table_words("days", "tlh")
    assert "monday*" in table_words("days", "")
    assert table_words("days", "de") != table_words("days", DEFAULT_LANGUAGE)


def test_words_of_many_languages_may_stand_before_a_pronoun() -> None:
    assert {"and", "und", "et", "y", "и", "और"} <= set(LINKS)


@pytest.mark.parametrize(
    ("tag", "first"), [("pt-BR", "pt"), ("DE", "de"), ("zh-Hans-CN", "zh"), ("en", "en"), ("", ""), (None, "")]
)
def test_what_counts_of_a_tag_is_its_first_part(tag: str | None, first: str) -> None:
    assert primary_language(tag) == first


def test_a_language_is_called_by_its_name_and_an_unknown_one_by_its_tag() -> None:
    assert [english_name(tag) for tag in ("de", "pt-BR", "tlh", "")] == ["German (de)", "Portuguese (pt-BR)", "tlh", ""]
    assert language_entry("tlh") == language_entry(None) == {}


@pytest.mark.parametrize("tag", PHRASES)
def test_our_own_words_are_plain_and_short_in_each_language(tag: str) -> None:
    words = PHRASES[tag]
    for line in (words.title, words.ready):
        assert plain(line) == line
        assert 5 < len(line) <= 40
    for name in COUNTED:
        forms = getattr(words, name)
        assert (name, len(forms), [form.count("{}") for form in forms]) == (name, 2, [1, 1])
        for form in forms:
            told = form.format(12)
            assert (plain(told), "{" in told, len(told) <= 45) == (told, False, True)
    assert is_written_in(words.ready, TABLE[tag]["script"])


@pytest.mark.parametrize("tag", PHRASES)
def test_what_is_not_there_is_not_counted(tag: str) -> None:
    words = PHRASES[tag]
    assert words.counts(0, 0) == words.ready
    assert words.counts(1, 0) == words.talks[0].format(1)
    assert words.counts(3, 2) == f"{words.talks[1].format(3)}, {words.tasks[1].format(2)}"
    assert (words.more(0, 0), words.more(0, 1), words.more(2, 0)) == (
        [],
        [words.more_tasks[0].format(1)],
        [words.more_talks[1].format(2)],
    )


def test_who_reads_another_language_reads_english() -> None:
    assert phrases_in("de-AT") is PHRASES["de"]
    assert phrases_in("PT") is PHRASES["pt"]
    assert phrases_in("sw") is phrases_in(None) is phrases_in("") is PHRASES["en"]
