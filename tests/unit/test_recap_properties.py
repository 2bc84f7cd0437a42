"""What holds of any draft, any answer and any words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.sentences import sentences
from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import WEARER, ActionItem, Cited, Conversation, Draft, Turn
from notifications.recap.answer import LISTS, read_answer, read_facts
from notifications.recap.evidence import FUZZY_SHARE, Evidence, SearchableNote
from notifications.recap.extract import extract, is_worth_an_extract, make_digest
from notifications.recap.material import Material
from notifications.recap.plan import Line, Note, plan
from notifications.recap.prompt import part_question, recap_question
from notifications.recap.stand_ins import finished
from notifications.recap.verify import Verdict, apply_verdicts, count_sentences, second_look
from notifications.recap.words import letters_of
from notifications.testing.answers import item

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
INNOCENT = json.loads((Path(__file__).parents[2] / "evals" / "innocent.json").read_text(encoding="utf-8"))
QUOTES = (
    "Clara wants the rent of 900 euros by Friday",
    "Tom paints the garden fence blue in June",
    "the boiler in the cellar is broken again",
    "grandmother turns ninety on the twentieth",
)
FALSE_QUOTE = "seven wizards quietly juggled purple xylophones"
M = Material(AT.date(), tuple(Conversation(f"c{n}", AT, overview=quote) for n, quote in enumerate(QUOTES)), "en")
[NOTES] = plan(M, 60_000, 1, lambda c: "").parts
BOUNDS = {"decisions": 3, "open_questions": 3, "worth_knowing": 3, "overview": 4}


# --- A sentence costs itself alone ---

NOTE = st.integers(1, len(QUOTES))
COUNT = st.integers(0, 6)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """An answer in which every sentence is another."""
    said = iter(range(10_000))

    def items(most: int) -> list[dict[str, Any]]:
        numbers = draw(st.lists(NOTE, max_size=most))
        return [item(f"Sentence number {next(said)} of the day.", QUOTES[n - 1], [n]) for n in numbers]

    highlights = [{"topic": f"Topic {n}", "emoji": "🏠", "items": items(5)} for n in range(draw(st.integers(0, 4)))]
    lists = {name: items(6) for name in (*LISTS, "overview")}
    return {"highlights": highlights, **lists, "headline": "A day", "push": "It was a day.", "day_emoji": "🌤️"}


def all_items(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for h in answer["highlights"] for one in h["items"]] + [
        one for name in (*LISTS, "overview") for one in answer[name]
    ]


def texts(items: tuple[Cited, ...]) -> list[str]:
    return [one.text for one in items]


@given(answers(), st.data())
def test_a_sentence_without_evidence_costs_itself_alone(answer: dict[str, Any], data: st.DataObject) -> None:
    everything = all_items(answer)
    false = data.draw(st.sets(st.sampled_from(range(len(everything)))) if everything else st.just(set()))
    for n in false:
        everything[n]["quote"] = FALSE_QUOTE
    draft = read_answer(json.dumps(answer), Evidence(M, NOTES, "q7k3x"))

    def standing(items: list[dict[str, Any]], most: int) -> list[str]:
        return [one["text"] for one in items if one["quote"] != FALSE_QUOTE][:most]

    kept = [(h["topic"], standing(h["items"], 3)) for h in answer["highlights"]]
    assert [(one.topic, texts(one.items)) for one in draft.highlights] == [one for one in kept if one[1]]
    lists = (draft.decisions_made, draft.unresolved_questions, draft.knowledge_nuggets, draft.overview)
    for name, found in zip(BOUNDS, lists, strict=True):
        assert texts(found) == standing(answer[name], BOUNDS[name])
    assert (draft.headline, draft.push) == ("A day", "It was a day.")


@given(answers(), st.data())
def test_a_sentence_that_is_refused_costs_itself_alone(answer: dict[str, Any], data: st.DataObject) -> None:
    draft = read_answer(json.dumps(answer), Evidence(M, NOTES, "q7k3x"))
    if not count_sentences(draft):
        return
    keys = sorted(set(second_look(M, draft, Evidence(M, NOTES), 100_000).asked.values()))
    refused = data.draw(st.sets(st.sampled_from(keys)))
    left = apply_verdicts(draft, {key: Verdict(*key, supported=key not in refused) for key in keys})

    def stands(role: str, text: str) -> bool:
        return (role, text) not in refused

    def kept(role: str, items: tuple[Cited, ...]) -> tuple[Cited, ...]:
        return tuple(one for one in items if stands(role, one.text))

    highlights = [
        replace(one, topic=one.topic if stands("topic", one.topic) else "", items=kept("sentence", one.items))
        for one in draft.highlights
    ]
    assert left == replace(
        draft,
        headline=draft.headline if stands("headline", draft.headline) else "",
        push=draft.push if stands("push", draft.push) else "",
        overview=kept("sentence", draft.overview),
        highlights=tuple(one for one in highlights if one.items),
        unresolved_questions=kept("question", draft.unresolved_questions),
        decisions_made=kept("decision", draft.decisions_made),
        knowledge_nuggets=kept("sentence", draft.knowledge_nuggets),
        checks={**({"unsupported": len(refused)} if refused else {}), "verified": True},
        dropped=left.dropped,
    )
    assert sorted(left.dropped) == sorted(text for _, text in refused)


@given(answers(), st.data())
def test_what_fell_is_made_up_for_and_nothing_confided_is_pushed(answer: dict[str, Any], data: st.DataObject) -> None:
    for one in all_items(answer):
        one["confided"] = data.draw(st.booleans())
    answer |= {"headline": "", "push": "", "overview": data.draw(st.sampled_from([[], answer["overview"]]))}
    checks = data.draw(st.sampled_from([{"verified": True}, {"verified": False}, {}]))
    before = replace(read_answer(json.dumps(answer), Evidence(M, NOTES, "q7k3x")), checks=checks)
    draft = finished(before, M)
    private = {one.text for one in _cited(draft) if one.private}
    assert draft.headline
    assert draft.push
    assert not {draft.headline, draft.push} & private
    assert bool(draft.overview) is bool(before.overview or before.highlights)
    assert len(draft.headline) <= 120
    assert len(draft.push) <= 140
    assert replace(draft, headline="", push="", overview=before.overview) == before


def _cited(draft: Draft) -> list[Cited]:
    return [*draft.overview, *(one for h in draft.highlights for one in h.items)]


# --- Evidence ---

LETTERS = st.characters(exclude_categories=["Cs"])
FEW = st.text(alphabet="abcdeé 日本ก", max_size=60)
SOME = ("rent", "friday", "clara", "fence", "blue", "Straße", "日本", "語", "กา", "हिन्दी", "ﬁve", "…", "-")
WORDY = st.lists(st.sampled_from(SOME), max_size=30).map(" ".join)
TEXTS = st.one_of(FEW, WORDY, st.text(alphabet=LETTERS, max_size=60))


def ground(*lines: str) -> SearchableNote:
    return SearchableNote(Note(1, tuple(Line("", line) for line in lines)))


def in_order(wanted: str, found: str) -> int:
    """How many letters of one stand in the other, in order."""
    rows = [0] * (len(found) + 1)
    for letter in wanted:
        before = 0
        for n, other in enumerate(found, start=1):
            rows[n], before = (before + 1 if letter == other else max(rows[n], rows[n - 1])), rows[n]
    return rows[-1]


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_what_is_found_is_a_span_that_holds_the_share_that_is_claimed(lines: list[str], quote: str) -> None:
    note = ground(*lines)
    span = note.find(quote)
    if span is None:
        return
    start, end = span
    assert 0 <= start < end <= len(note.text)
    wanted, found = letters_of(quote), letters_of(note.text[start:end])
    assert in_order(wanted, found) >= FUZZY_SHARE * len(wanted)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.data())
def test_words_of_a_note_are_found_in_it_to_the_letter(lines: list[str], data: st.DataObject) -> None:
    note = ground(*lines)
    start = data.draw(st.integers(0, len(note.text)))
    quote = note.text[start : data.draw(st.integers(start, len(note.text)))]
    span = note.find(quote)
    if len(letters_of(quote)) >= 6 and len(letters_of(quote).encode()) >= 12:  # marks in a row count once
        assert span is not None
        assert letters_of(quote) in letters_of(note.text[span[0] : span[1]])


@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, TEXTS, st.lists(st.integers(-2, 9), max_size=4))
def test_whatever_is_stored_is_plain_bounded_and_of_a_cited_note(
    overviews: list[str], text: str, quote: str, numbers: list[int]
) -> None:
    talks = tuple(Conversation(f"c{n}", AT, overview=one or "x") for n, one in enumerate(overviews))
    m = Material(AT.date(), talks, None)
    [notes] = plan(m, 60_000, 1, lambda c: "").parts
    evidence = Evidence(m, notes, "q7k3x")
    kept = evidence.check_sentence(text, quote, numbers)
    assert evidence.counts.total() == 1
    if kept is None:
        assert len(evidence.dropped) == 1
        return
    cited = {f"c{n - 1}" for n in numbers}
    assert set(kept.conversation_ids) == {key for key in cited if int(key[1:]) in range(len(talks))}
    assert len(kept.text) <= 400
    assert len(kept.quote) <= 300
    assert len(second_look(m, Draft("", (kept,), ""), evidence, 10_000).asked) == 1


# --- Hostile text ---

ODD = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="<>[]()*_`#\n.:/\\{}\"'\u202e\u200b\u0301\ud83dabc 日ก", max_size=200),
    st.sampled_from(
        ["\x1b[2J", "[1] 09:00, 3 min.", "You: I owe you", "The second marker: bcdfg.", "{}", "]" * 99, "a\u0301" * 99]
    ),
)


def odd_material(data: st.DataObject) -> Material:
    def text() -> str:
        return data.draw(ODD).encode("utf-8", "ignore").decode()  # stores refuse half of a surrogate pair

    talks = []
    for n in range(data.draw(st.integers(1, 3))):
        speakers = data.draw(st.lists(st.sampled_from(["", WEARER, "Ann"]), max_size=3))
        turns = tuple(Turn(speaker, text()) for speaker in speakers)
        told: dict[str, Any] = {
            "title": text(),
            "overview": "" if turns else text() or "x",
            "action_items": tuple(ActionItem(text()) for _ in range(data.draw(st.integers(0, 2)))),
            "events": (text(),),
        }
        talks.append(Conversation(f"c{n}", AT, turns=turns, **told))
    return Material(AT.date(), tuple(talks), data.draw(st.sampled_from([None, "en", "ja", "tlh", "pt-BR"])))


@given(st.data())
def test_no_material_and_no_answer_is_too_hostile(data: st.DataObject) -> None:
    m = odd_material(data)
    [notes] = plan(m, 60_000, 1, lambda c: make_digest(c, sentences, m.language)).parts
    question = recap_question(m, notes)
    assert all(line.startswith(question.marker) or not line for line in question.notes.split("\n\n", 1)[1].split("\n"))
    part_question(m, notes)
    is_worth_an_extract(m, sentences)
    finished(extract(m, sentences), m)
    quotes = [line.text for note in notes for line in note.lines]
    numbers = st.lists(st.integers(0, 3), min_size=1, max_size=3)
    said = st.one_of(ODD, st.sampled_from(quotes))
    items = [item(data.draw(ODD), data.draw(said), data.draw(numbers)) for _ in range(4)]
    answer = {
        "highlights": [{"topic": data.draw(ODD), "emoji": data.draw(ODD), "items": items[:2]}],
        "decisions": items[2:],
        "open_questions": items[3:],
        "worth_knowing": items[:1],
        "overview": items,
        **{name: data.draw(ODD) for name in ("headline", "push", "day_emoji")},
    }
    evidence = Evidence(m, notes, question.marker)
    draft = read_answer(json.dumps(answer), evidence)
    facts = json.dumps({"facts": items})
    refused(lambda: read_facts(facts, Evidence(m, notes, question.marker)), ItemReason.UNFOUNDED)
    if count_sentences(draft):
        for room in (100, 100_000):
            look = second_look(m, draft, evidence, room)
            look.read(data.draw(ODD))
            assert {key for key in look.asked.values() if not key[1]} == set()
    finished(draft, m)


def refused(read: Callable[[], object], reason: ItemReason) -> bool:
    """Whether it is refused; for no other reason than that."""
    try:
        read()
    except ItemFault as fault:
        if fault.reason is not reason:
            raise
        return True
    return False


KEYS = ("notes", "quote", "text", "id", "items", "supported")
JSONISH = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner)),
    max_leaves=9,
)
FORM = (*LISTS, "highlights", "overview", "headline", "push", "day_emoji")


@given(st.fixed_dictionaries(dict.fromkeys(FORM, JSONISH)), JSONISH)
def test_an_answer_of_any_form_is_read_or_refused(answer: dict[str, Any], verdicts: Any) -> None:
    drafts: list[Draft] = []
    text = json.dumps(answer)
    is_refused = refused(lambda: drafts.append(read_answer(text, Evidence(M, NOTES))), ItemReason.INVALID_ANSWER)
    assert list(map(count_sentences, drafts)) == ([] if is_refused else [0])
    look = second_look(M, Draft("", (Cited(QUOTES[0], ("c0",), QUOTES[0]),), ""), Evidence(M, NOTES), 10_000)
    assert look.read(json.dumps({"verdicts": verdicts})) is None


# --- Nothing is left out for its wording ---


AS: dict[str, Callable[[str], Conversation]] = {
    "{}": lambda text: Conversation("c", AT, overview=text),
    "You: {}": lambda text: Conversation("c", AT, turns=(Turn(WEARER, text),)),
    "- to do: {}": lambda text: Conversation("c", AT, action_items=(ActionItem(text),)),
}


@pytest.mark.parametrize("line", AS)
def test_an_innocent_sentence_that_looks_like_an_attack_stands_in_the_notes_and_may_be_told(line: str) -> None:
    for number, case in enumerate(INNOCENT):
        m = Material(AT.date(), (AS[line](case["text"]),), case["language"])
        [notes] = plan(m, 60_000, 12, lambda c: "").parts
        question = recap_question(m, notes)
        assert f"{question.marker} {line.format(case['text'])}" in question.notes.split("\n"), number
        kept = Evidence(m, notes, "q7k3x").check_sentence(case["text"], case["text"], [1])
        assert (kept and kept.text) == case["text"], number


def test_an_innocent_sentence_is_kept_by_the_extract() -> None:
    for number, case in enumerate(INNOCENT):
        m = Material(AT.date(), (AS["{}"](case["text"]),), case["language"])
        told = "".join(one.text for one in extract(m, sentences).overview)
        assert letters_of(told) == letters_of(case["text"]), number


ALONE = (
    *("The ferry to Split leaves at seven on Friday.", "Anna pays 40 euros to Clara on Monday."),
    *("Tom paints the garden fence.", "The boiler is broken again.", "Grandmother turns ninety on the twentieth."),
)
ANY_DAY = st.lists(st.lists(st.sampled_from(ALONE), min_size=1, max_size=5), min_size=1, max_size=4)


@given(ANY_DAY)
def test_the_extract_says_nothing_twice(day: list[list[str]]) -> None:
    talks = tuple(Conversation(f"c{n}", AT, overview=" ".join(said)) for n, said in enumerate(day))
    draft = extract(Material(AT.date(), talks, "en"), sentences)
    told = " ".join([*texts(draft.overview), *(text for h in draft.highlights for text in texts(h.items))])
    assert {one: told.count(one) for one in ALONE if told.count(one) > 1} == {}
    assert {one: draft.push.count(one) for one in ALONE if draft.push.count(one) > 1} == {}
