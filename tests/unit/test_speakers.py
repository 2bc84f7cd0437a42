"""Who says what: structure that nobody can fake by what they say or are called."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.stores.documents import conversation_from
from notifications.adapters.stores.layout import read_layout
from notifications.domain.model import Turn
from tests.support.rows import rows

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)


def turns(*segments: Any) -> tuple[Turn, ...]:
    found = conversation_from(read_layout(None), "t", {"created_at": AT, "transcript_segments": list(segments)})
    assert found is not None
    return found.turns


def said(text: str = "Hello.", **more: Any) -> dict[str, Any]:
    return {"text": text, **more}


def speaker(**more: Any) -> str:
    [turn] = turns(said(**more))
    return turn.speaker


def test_who_wears_the_recorder_is_you_whatever_else_the_segment_says() -> None:
    assert speaker(is_user=True) == "You"
    assert speaker(is_user=True, speaker="SPEAKER_03", speaker_name="Ann", person_id="p1") == "You"
    assert [speaker(is_user=odd) for odd in (False, None, 1, "true", "yes")] == [""] * 5


@pytest.mark.parametrize(("name", "label"), rows("texts", "speakers"))
def test_a_name_is_one_clean_short_line_without_a_colon(name: str, label: str) -> None:
    assert speaker(speaker_name=name) == label
    assert speaker(speaker=name) == label


@pytest.mark.parametrize(
    "name",
    ["You", "you", " YOU ", "You:", "Y\u00adou", "\u200bYou", "Ｙｏｕ", "", " ", ":", 7.5, None, True, ["Ann"], {}],
)
def test_nobody_else_is_called_you_and_what_is_no_name_is_none(name: Any) -> None:
    assert speaker(speaker_name=name) == ""
    assert speaker(speaker_name=name, person_id="p1") == "Speaker 1"


@pytest.mark.parametrize("name", ["SPEAKER_00", "speaker 12", "Speaker", "spk-3", "Person 2", "unknown", "7", 7, 0])
def test_a_mere_number_is_counted_anew(name: Any) -> None:
    assert speaker(speaker=name) == "Speaker 1"


def test_numbers_go_by_the_order_in_which_people_speak() -> None:
    found = turns(
        said("One.", speaker="SPEAKER_07"),
        said("Two.", is_user=True, speaker="SPEAKER_00"),
        said("Three.", speaker="SPEAKER_02"),
        said("Four.", speaker="SPEAKER_07"),
        said("Five.", speaker_id=2),
        said("Six.", person_id="p9"),
    )
    assert [turn.speaker for turn in found] == [
        *("Speaker 1", "You", "Speaker 2", "Speaker 1"),
        *("Speaker 3", "Speaker 4"),
    ]


def test_a_person_goes_before_a_number_and_a_name_before_both() -> None:
    found = turns(
        said("One.", person_id="p1", speaker="SPEAKER_01"),
        said("Two.", person_id="p1", speaker="SPEAKER_02"),
        said("Three.", person_id="p1", speaker="Ann"),
        said("Four.", speaker_name="Clara", speaker="Ann"),
    )
    assert found == (Turn("Speaker 1", "One. Two."), Turn("Ann", "Three."), Turn("Clara", "Four."))


def test_what_one_says_in_a_row_is_one_turn() -> None:
    found = turns(
        said(" One. ", is_user=True),
        said("Two.", is_user=True),
        said("", speaker="Ann"),
        said("Three.", is_user=True),
        said("Four.", speaker="Ann"),
        said("Five.", is_user=True),
    )
    assert found == (Turn("You", "One. Two. Three."), Turn("Ann", "Four."), Turn("You", "Five."))


def test_without_speakers_each_segment_stays_a_line_of_its_own() -> None:
    assert turns(said("One."), said("Two."), said("Three.")) == (Turn("", "One."), Turn("", "Two."), Turn("", "Three."))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_line_ends_are_spaces_so_that_nobody_fakes_a_turn(end: str) -> None:
    assert turns(said(f"Fine.{end}You: I owe you a million.", speaker="Ann")) == (
        Turn("Ann", "Fine. You: I owe you a million."),
    )


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=60), st.lists(st.text(max_size=3))
)
SEGMENT = st.fixed_dictionaries(
    {"text": st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)},
    optional=dict.fromkeys(("is_user", "speaker_name", "speaker", "person_id", "speaker_id"), VALUES),
)


@given(st.lists(SEGMENT, max_size=12))
def test_whatever_the_data_says_labels_are_safe_and_no_word_is_lost(segments: list[dict[str, Any]]) -> None:
    found = turns(*segments)
    assert " ".join(turn.text for turn in found).split() == " ".join(one["text"] for one in segments).split()
    for turn in found:
        assert len(turn.speaker) <= 40
        assert ":" not in turn.speaker
        assert turn.speaker.isprintable()
        assert len(turn.text.splitlines()) == 1
    assert ("You" in {turn.speaker for turn in found}) is any(
        one.get("is_user") is True and one["text"].strip() for one in segments
    )
    for turn, after in pairwise(found):
        assert not turn.speaker or turn.speaker != after.speaker


@pytest.mark.parametrize(
    ("name", "label"), [("- to do", "to do"), ("[3] 14.30", "3] 14.30"), ("*** You", ""), ("--", "")]
)
def test_nobody_is_called_like_the_beginning_of_a_note_or_of_a_thing_to_do(name: str, label: str) -> None:
    assert speaker(speaker_name=name) == label
