"""What the LLM answered: read, held against its evidence, cleaned and bounded, or refused."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from typing import Any

import pytest

from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import Cited, Conversation, Draft, Highlight
from notifications.recap.answer import MAX_ANSWER_CHARS, read_answer, read_facts
from notifications.recap.evidence import Evidence
from notifications.recap.material import Material
from notifications.recap.plan import plan
from notifications.testing.answers import item, recap_answer

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
SAID = "They met and ate soup at noon. They want to paint the fence. It costs 40 euros. Who pays for it?"
M = Material(date(2026, 5, 1), tuple(Conversation(key, AT, overview=SAID) for key in "ab"), None)
[NOTES] = plan(M, 60_000, 1, lambda c: "").parts
MET, PAINT, COSTS, PAYS = "They met and ate soup", "want to paint the fence", "It costs 40 euros", "Who pays for it?"
WHOLE = {
    "highlights": [{"topic": "Food", "emoji": "🍲", "items": [item("You ate soup.", MET, [2])]}],
    "decisions": [item("To paint the fence.", PAINT, [2])],
    "open_questions": [item("Who pays for it?", PAYS, [1])],
    "worth_knowing": [item("It costs 40 euros.", COSTS, [1, 2], private=True)],
    "overview": [item("You met them.", MET, [1, 2, 1]), item("They ate at noon.", MET, [2])],
    "headline": "A day",
    "push": "You met them at noon.",
    "day_emoji": "🌤️ sunny",
}


def evidence() -> Evidence:
    return Evidence(M, NOTES, "q7k3x")


def read(**changes: Any) -> Draft:
    return read_answer(json.dumps(WHOLE | changes), evidence())


def counts(answer: dict[str, Any]) -> dict[str, int]:
    held = evidence()
    read_answer(json.dumps(answer), held)
    return dict(held.counts)


def texts(sentences: tuple[Cited, ...]) -> list[str]:
    return [one.text for one in sentences]


def test_an_answer_is_read_whole() -> None:
    assert read() == Draft(
        headline="A day",
        overview=(Cited("You met them.", ("a", "b"), MET), Cited("They ate at noon.", ("b",), MET)),
        day_emoji="🌤️",
        push="You met them at noon.",
        highlights=(Highlight("Food", "🍲", (Cited("You ate soup.", ("b",), MET),)),),
        decisions_made=(Cited("To paint the fence.", ("b",), PAINT),),
        unresolved_questions=(Cited("Who pays for it?", ("a",), "Who pays for it"),),
        knowledge_nuggets=(Cited("It costs 40 euros.", ("a", "b"), COSTS, private=True),),
    )
    assert counts(WHOLE) == {"kept": 6}


def test_an_empty_answer_is_an_answer() -> None:
    empty: dict[str, Any] = {
        name: [] for name in ("highlights", "decisions", "open_questions", "worth_knowing", "overview")
    }
    draft = read(**empty, headline="", push="", day_emoji="")
    assert (draft, draft.is_empty) == (Draft("", (), ""), True)
    assert counts(WHOLE | empty) == {"kept": 0}


@pytest.mark.parametrize("notes", [[0], [3], [-1], [1_234_567_890], [True], ["1"], [1.0]])
def test_a_sentence_without_a_citation_that_exists_is_dropped_and_counted(notes: list[Any]) -> None:
    answer = WHOLE | {
        "overview": [item("You met them.", MET), item("They flew away.", MET, notes)],
        "decisions": [item("To fly away.", MET, notes)],
        "highlights": [{"topic": "T", "emoji": "", "items": [item("You ate soup.", MET, notes)]}],
    }
    draft = read_answer(json.dumps(answer), evidence())
    assert (texts(draft.overview), draft.decisions_made, draft.highlights) == (["You met them."], (), ())
    assert counts(answer) == {"kept": 3, "uncited": 3}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        7,
        "They met.",
        [],
        {},
        {"text": "They met.", "quote": MET},
        {"text": 7, "quote": MET, "notes": [1]},
        {"text": "They met them.", "quote": None, "notes": [1]},
        {"text": "They met them.", "quote": MET, "notes": 1},
        {"text": "They met them \ud83d.", "quote": MET, "notes": [1]},
        {"text": "They met them.", "quote": MET + " \ud83d", "notes": [1]},
    ],
)
def test_what_is_no_sentence_costs_itself_alone(odd: Any) -> None:
    answer = WHOLE | {
        "overview": [odd, item("You met them.", MET)],
        "highlights": [{"topic": "Food", "emoji": "🍲", "items": [item("You ate soup.", MET), odd]}],
    }
    held = evidence()
    draft = read_answer(json.dumps(answer), held)
    assert (texts(draft.overview), texts(draft.highlights[0].items)) == (["You met them."], ["You ate soup."])
    assert dict(held.counts) == {"kept": 5, "malformed": 2}


@pytest.mark.parametrize(
    "odd", [1, None, {}, {"topic": "T", "emoji": "", "items": "none"}, {"topic": "T", "items": []}]
)
def test_what_is_no_highlight_costs_itself_alone(odd: Any) -> None:
    answer = WHOLE | {"highlights": [odd, *WHOLE["highlights"]]}
    held = evidence()
    draft = read_answer(json.dumps(answer), held)
    assert [one.topic for one in draft.highlights] == ["Food"]
    assert dict(held.counts) == {"kept": 6, "malformed": 1}


@pytest.mark.parametrize("odd", [None, 7, ["A day"], "A day \ud83d", "word " * 80, "q7k3x says so"])
def test_a_headline_a_push_or_a_topic_that_can_not_stand_is_empty_and_costs_nothing_else(odd: Any) -> None:
    topics = [{"topic": odd, "emoji": odd, "items": [item("You ate soup.", MET)]}]
    draft = read(headline=odd, push=odd, day_emoji=odd, highlights=topics)
    assert (draft.headline, draft.push, draft.day_emoji) == ("", "", "")
    assert draft.highlights == (Highlight("", "", (Cited("You ate soup.", ("a",), MET),)),)
    assert len(draft.overview) == 2


def test_lists_are_bounded_by_code() -> None:
    sentences = [item(f"They met for the {n}. time.", MET) for n in range(9)]
    topics = [
        {"topic": f"Talk {n}", "emoji": "💬", "items": [item(f"You ate soup {n} and {m}.", MET) for m in range(5)]}
        for n in range(6)
    ]
    draft = read(
        highlights=topics, decisions=sentences, open_questions=sentences, worth_knowing=sentences, overview=sentences
    )
    assert [one.topic for one in draft.highlights] == ["Talk 0", "Talk 1", "Talk 2", "Talk 3"]
    assert [texts(one.items) for one in draft.highlights] == [
        [f"You ate soup {n} and {m}." for m in range(3)] for n in range(4)
    ]
    assert texts(draft.decisions_made) == [f"They met for the {n}. time." for n in range(3)]
    # What was said in one list is not said again in the next, and makes room for what was not; the overview may.
    assert texts(draft.unresolved_questions) == [f"They met for the {n}. time." for n in range(3, 6)]
    assert texts(draft.knowledge_nuggets) == [f"They met for the {n}. time." for n in range(6, 9)]
    assert texts(draft.overview) == [f"They met for the {n}. time." for n in range(4)]


@pytest.mark.parametrize(("name", "most"), [("headline", 120), ("push", 140)])
def test_a_headline_push_or_topic_that_does_not_fit_is_left_out_whole(name: str, most: int) -> None:
    exact = ("A day of soup and paint " * 9)[:most].strip()
    exact += "x" * (most - len(exact))
    assert [getattr(read(**{name: text}), name) for text in (exact, exact + "x")] == [exact, ""]
    topics = [{"topic": "t" * n, "emoji": "", "items": [item(f"You ate soup {n}.", MET)]} for n in (80, 81)]
    assert [one.topic for one in read(highlights=topics).highlights] == ["t" * 80, ""]


def test_a_list_without_end_is_read_to_its_twentieth() -> None:
    dropped = item("It was never said.", "no such words are anywhere")
    twentieth, beyond = item("This is the twentieth.", MET), item("This is beyond it.", MET)
    draft = read(decisions=[dropped] * 19 + [twentieth, beyond])
    assert texts(draft.decisions_made) == ["This is the twentieth."]


def test_confided_is_what_says_so_however_it_is_written() -> None:
    told = [item(f"You met them {n}.", MET) | {"confided": odd} for n, odd in enumerate([True, 1, "true", None])]
    bare = {key: value for key, value in item("You met them.", MET).items() if key != "confided"}
    assert [one.private for one in read(overview=told).overview] == [True, True, True, False]
    assert [one.private for one in read(overview=[bare]).overview] == [False]


def test_facts_of_a_part_are_read_by_the_same_rules() -> None:
    facts = [item("You met them.", MET), item("They flew away.", "no such words at all"), item("To paint it.", PAINT)]
    found = read_facts(json.dumps({"facts": facts}), evidence())
    assert found == (Cited("You met them.", ("a",), MET), Cited("To paint it.", ("a",), PAINT))
    assert read_facts('{"facts": []}', evidence()) == ()


def test_thirty_facts_of_a_part_are_read() -> None:
    facts = [item(f"They met for the {n}. time.", MET) for n in range(40)]
    assert len(read_facts(json.dumps({"facts": facts}), evidence())) == 30


def test_facts_most_of_which_have_no_evidence_are_refused_and_not_quoted() -> None:
    facts = [item("You met them.", MET), item("They flew away.", "no such words"), item("They swam.", MET, [9])]
    facts.append(item("They swam away.", MET, [9]))
    with pytest.raises(ItemFault) as caught:
        read_facts(json.dumps({"facts": facts}), evidence())
    assert str(caught.value) == "The LLM says what the notes do not (1 empty, 1 uncited, 1 unquoted)."
    assert caught.value.reason is ItemReason.UNFOUNDED
    with pytest.raises(ItemFault, match="2 malformed"):  # of which no fact can be read: useless, and no empty part
        read_facts(json.dumps({"facts": [7, {"text": "You met."}]}), evidence())


def test_an_answer_may_be_as_long_as_no_recap_is() -> None:
    text = json.dumps(WHOLE)
    assert read_answer(text + " " * (MAX_ANSWER_CHARS - len(text)), evidence()).headline == "A day"
    with pytest.raises(ItemFault, match="ValueError"):
        read_answer(text + " " * (MAX_ANSWER_CHARS - len(text) + 1), evidence())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "JSONDecodeError"),
        ("not json", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("null", "TypeError"),
        ("{}", "no 'highlights'"),
        (json.dumps(recap_answer("x", overview="They met.")), "TypeError"),
        (json.dumps(recap_answer("x", highlights=None)), "TypeError"),
        (json.dumps(recap_answer("secret words", decisions="none")), "TypeError"),
        (json.dumps({key: value for key, value in WHOLE.items() if key != "push"}), "no 'push'"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_an_answer_off_the_schema_is_an_item_fault_that_quotes_nothing(text: str, why: str) -> None:
    with pytest.raises(ItemFault) as caught:
        read_answer(text, evidence())
    assert str(caught.value) == f"The LLM's answer does not follow the recap's schema ({why})."
    assert caught.value.reason is ItemReason.INVALID_ANSWER


DRAFT = json.dumps(WHOLE | {"headline": "The draft", "overview": [item("They flew away.", MET)]})
THINKS = f"<think>Perhaps {DRAFT}, or {{this}}</think>"
TALK = "{so} " * 60


@pytest.mark.parametrize(
    "text",
    [
        f"{THINKS}\n{json.dumps(WHOLE)}",
        f"<THINK>Perhaps {DRAFT}</Think>\n```json\n{json.dumps(WHOLE)}\n```",
        f"Perhaps {DRAFT}\n</think>{json.dumps(WHOLE)}",  # what began it stands in the server's own template
        f"{THINKS}again: {THINKS}{json.dumps(WHOLE)} That is all.",
        f"{THINKS}{json.dumps(WHOLE)}<think>Was that right? {DRAFT}",
        f"◁think▷{DRAFT}◁/think▷{json.dumps(WHOLE)}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|channel|>final<|message|>{json.dumps(WHOLE)}",
        f"First {DRAFT}, then better {json.dumps(WHOLE)}.",
        f"{TALK}{json.dumps(WHOLE)}{TALK}",
        json.dumps([WHOLE]),
        json.dumps({"answer": WHOLE}),
        f"{json.dumps(WHOLE)} and {{}}, {{'a': 1}}, " + '{"facts": []}',
    ],
)
def test_what_counts_follows_the_thoughts_and_is_the_last_that_fits(text: str) -> None:
    assert read_answer(text, evidence()) == read()


def test_an_answer_that_speaks_of_thoughts_is_left_as_it_is() -> None:
    said = read(overview=[item("They met them.", MET), item("They ate </think> soup.", MET)])
    assert texts(said.overview) == ["They met them.", "They ate soup."]


@pytest.mark.parametrize("text", [f"<think>Perhaps {DRAFT}", f" \n<thinking>{DRAFT} </thin", f"{THINKS}<think>{DRAFT}"])
def test_thoughts_that_never_end_are_no_answer_but_one_that_was_cut(text: str) -> None:
    with pytest.raises(ItemFault) as caught:
        read_answer(text, evidence())
    assert (caught.value.reason, "draft" in str(caught.value)) == (ItemReason.TRUNCATED, False)


@pytest.mark.parametrize("piece", ["{", "{x} ", '{"a":', '{"a":1}', "[{", '{"a":"', "<think>", "</think>"])
def test_no_answer_takes_longer_than_its_length_is_worth(piece: str) -> None:
    begun = time.process_time()
    with pytest.raises(ItemFault):
        read_answer(piece * (MAX_ANSWER_CHARS // len(piece)), evidence())
    assert time.process_time() - begun < 1
