"""What the evidence keeps and drops, and what a judge says, of sentences that somebody else wrote."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from evals.days import Day, Sentence, load
from notifications.domain.errors import ItemFault, ProviderFault
from notifications.domain.model import Cited, Conversation, Draft, Highlight
from notifications.domain.money import Spent
from notifications.ports import Summarizer
from notifications.recap.answer import read_answer
from notifications.recap.bounds import MAX_HEADLINE, MAX_PUSH, MAX_TOPIC
from notifications.recap.evidence import Evidence
from notifications.recap.material import Material
from notifications.recap.plan import BYTES_A_TOKEN, plan
from notifications.recap.prompt import recap_question
from notifications.recap.verify import second_look

SEED = 20_260_501
FRAGMENTS = {"topic": (MAX_TOPIC, 1), "headline": (MAX_HEADLINE, 1), "push": (MAX_PUSH, 3)}
LOOK_SECONDS = 300.0
ROOM = int(60_000 * BYTES_A_TOKEN)
AT = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
GARBAGE_DAY = Material(
    date(2026, 5, 1),
    (
        Conversation(
            "boats",
            AT,
            overview="Mia and Noah met at the harbour to look at boats. "
            "They chose the blue one, and will sail on Sunday at 7.",
            language="en",
        ),
        Conversation(
            "dentist",
            AT + timedelta(hours=4, minutes=30),
            overview="The dentist moved Mia's appointment to Thursday at nine; she owes him 120 euros.",
            language="en",
        ),
    ),
    "en",
)


def kept_by_evidence(day: Day, one: Sentence, quote: str | None = None) -> Cited | None:
    """The sentence as it would stand; None where the evidence does not hold. Fragments rest on no quote."""
    evidence = Evidence(day.in_language(one.language), day.notes)
    numbers = day.numbers(one.notes)
    if one.role in FRAGMENTS:
        text = evidence.check_fragment(one.text, *FRAGMENTS[one.role])
        return Cited(text, one.notes) if text else None
    return evidence.check_sentence(one.text, one.quote if quote is None else quote, numbers)


def without_a_word(quote: str, rng: random.Random) -> str:
    words = quote.split()
    if len(words) < 4:  # a script without spaces: a letter
        at = rng.randrange(1, len(quote) - 1)
        return quote[:at] + quote[at + 1 :]
    at = rng.randrange(1, len(words) - 1)
    return " ".join(words[:at] + words[at + 1 :])


def with_another_letter(quote: str, rng: random.Random) -> str:
    at = rng.choice([n for n, letter in enumerate(quote) if letter.isalpha()])
    return quote[:at] + ("x" if quote[at] != "x" else "y") + quote[at + 1 :]


def with_an_ellipsis(quote: str, rng: random.Random) -> str:
    third = len(quote) // 3
    return f"{quote[:third]} … {quote[third + 2 :]}"


DAMAGES: dict[str, Callable[[str, random.Random], str]] = {
    "a word left out": without_a_word,
    "a letter changed": with_another_letter,
    "an ellipsis": with_an_ellipsis,
}


def print_evidence(days: Sequence[Day]) -> bool:
    """What the evidence keeps of true sentences, of damaged quotes, and of quotes of another day."""
    rng = random.Random(SEED)
    rows = [(day, one) for day in days for one in day.sentences]
    true, false = ([pair for pair in rows if pair[1].true is which] for which in (True, False))
    kept = sum(kept_by_evidence(day, one) is not None for day, one in true)
    passed = sum(kept_by_evidence(day, one) is not None for day, one in false)
    print(
        f"evidence: {kept} of {len(true)} true sentences kept; "
        f"{passed} of {len(false)} inventions, whose quotes are true"
    )
    quoted = [(day, one) for day, one in rows if one.quote]
    stand = Counter[str]()
    for name, damage in DAMAGES.items():
        stand[name] = sum(kept_by_evidence(day, one, damage(one.quote, rng)) is not None for day, one in quoted)
    others = [one.quote for _, one in quoted]
    rng.shuffle(others)
    foreign = sum(
        kept_by_evidence(day, one, other) is not None
        for (day, one), other in zip(quoted, others, strict=True)
        if not any(other in line.text for note in day.notes for line in note.lines)
    )
    told = ", ".join(f"{name} {count}" for name, count in stand.items())
    print(f"  damaged quotes that still stand, of {len(quoted)}: {told}; quotes of another day: {foreign}")
    return kept == len(true) and foreign <= 0.05 * len(quoted)


def print_innocents() -> bool:
    """Innocent sentences that look like attacks: each has to stand in the prompt to the letter."""
    said = load("innocent")
    lost = 0
    for one in said:
        c = Conversation("c", AT, overview=one["text"], language=one["language"])
        m = Material(AT.date(), (c,), one["language"])
        [notes] = plan(m, 60_000, 1, lambda c: "").parts
        lost += one["text"] not in recap_question(m, notes).notes
    print(f"innocent sentences lost: {lost} of {len(said)}")
    return not lost


def _drafted(answer: str) -> tuple[Draft, Evidence] | None:
    [notes] = plan(GARBAGE_DAY, 60_000, 1, lambda c: "").parts
    evidence = Evidence(GARBAGE_DAY, notes)
    try:
        draft = read_answer(answer, evidence)
    except ItemFault:
        return None
    return None if draft.is_empty else (draft, evidence)


def print_garbage() -> bool:
    """Garbage answers: none that code can know is stored. Words with a true quote are for the second look to judge."""
    answers = load("garbage")
    stored = [one["what"] for one in answers if _drafted(one["answer"])]
    by_code = [one["what"] for one in answers if one["by_code"]]
    wrong = [what for what in stored if what in by_code]
    left = len(stored) - len(wrong)
    print(
        f"garbage stored: {len(wrong)} of {len(by_code)}; "
        f"left to the second look: {left} of {len(answers) - len(by_code)}"
    )
    print(*(f"  STORED: {what}" for what in wrong), sep="\n", end="\n" if wrong else "")
    return not wrong


@dataclass
class Judgement:
    """What one judge said of the fluent sentences."""

    dropped: list[Sentence] = field(default_factory=list)  # true ones
    stored: list[Sentence] = field(default_factory=list)  # inventions
    seen: Counter[bool] = field(default_factory=Counter)  # sentences that were judged, true and false
    looks: int = 0
    lost: int = 0  # second looks that are not believed, by a lost canary or another fault
    garbage: int = 0
    spent: Spent = field(default_factory=Spent)


def _drafts(day: Day) -> Iterable[tuple[Draft, list[Sentence]]]:
    """The day's sentences as two drafts, since a draft has one headline and one push; and what is judged in each.

    The second holds the true sentences once more, so that its headline and push have all the notes of the day.
    """
    for which in (True, False):
        body = [one for one in day.sentences if one.role not in ("headline", "push") and (which or one.true)]
        mine = [one for one in day.sentences if one.role in ("headline", "push") and one.true is which]
        cited = {one: kept_by_evidence(day, one) for one in [*body, *mine]}
        rows = [*body, *mine] if which else mine

        def of(role: str, cited: dict[Sentence, Cited | None] = cited) -> tuple[Cited, ...]:
            return tuple(found for one, found in cited.items() if one.role == role and found)

        facts = of("fact")
        highlights = [Highlight("", "", of("highlight"))]
        highlights += [Highlight(one.text, "", (_of_notes(one, facts),)) for one in cited if one.role == "topic"]
        said = {role: next((one.text for one in cited if one.role == role), "") for role in ("headline", "push")}
        draft = Draft(
            said["headline"],
            of("overview"),
            "",
            highlights=tuple(highlights),
            unresolved_questions=of("question"),
            decisions_made=of("decision"),
            knowledge_nuggets=facts,
            push=said["push"],
        )
        yield draft, rows


def _of_notes(topic: Sentence, sentences: Sequence[Cited]) -> Cited:
    """A sentence below a topic, from the topic's own notes."""
    fitting = [one for one in sentences if set(topic.notes) & {*one.conversation_ids}] or sentences
    return replace(fitting[0], conversation_ids=tuple(dict.fromkeys((*fitting[0].conversation_ids, *topic.notes))))


async def judge(llm: Summarizer, days: Sequence[Day]) -> Judgement:
    """Have a server's model judge every fluent sentence, in drafts as a run would."""
    found = Judgement()
    roles = {"overview": "sentence", "highlight": "sentence", "fact": "sentence"}
    for day in days:
        for draft, rows in _drafts(day):
            look = second_look(day.material, draft, Evidence(day.material, day.notes), ROOM)
            found.looks += 1
            try:
                answer = await llm.ask(look.question, timedelta(seconds=LOOK_SECONDS), cheap=False)
            except (ItemFault, ProviderFault):
                found.lost += 1
                continue
            found.spent += answer.spent
            verdicts = look.read(answer.text)
            if verdicts is None:
                found.lost += 1
                continue
            for one in rows:
                verdict = verdicts.get((roles.get(one.role, one.role), one.text))
                if verdict is None:
                    continue
                found.seen[one.true] += 1
                if one.true and not verdict.supported:
                    found.dropped.append(one)
                if not one.true and verdict.supported:
                    found.stored.append(one)
    found.garbage = await _garbage_stored(llm)
    return found


async def _garbage_stored(llm: Summarizer) -> int:
    """Garbage that neither the evidence nor the judge keeps out."""
    stored = 0
    for drafted in filter(None, (_drafted(one["answer"]) for one in load("garbage"))):
        draft, evidence = drafted
        look = second_look(GARBAGE_DAY, replace(draft, headline="", push=""), evidence, ROOM)
        try:
            answer = await llm.ask(look.question, timedelta(seconds=LOOK_SECONDS), cheap=False)
        except (ItemFault, ProviderFault):
            continue
        verdicts = look.read(answer.text)
        stored += verdicts is not None and any(one.supported for one in verdicts.values())
    return stored


def print_judgement(found: Judgement) -> bool:
    """The judge's rows; whether its bars hold."""
    pushes = [one for one in found.stored if one.role == "push"]
    print(f"  true sentences dropped: {len(found.dropped)} of {found.seen[True]}")
    print(
        f"  inventions stored: {len(found.stored)} of {found.seen[False]}",
        dict(Counter(one.kind for one in found.stored)) or "",
    )
    usd = "price not known" if found.spent.usd is None else f"{found.spent.usd:.4f} USD"
    print(
        f"  false pushes stored: {len(pushes)}; second looks not believed: {found.lost} of {found.looks}; "
        f"garbage stored: {found.garbage}"
    )
    print(f"  the second looks took {found.spent.tokens} tokens, {usd}")
    few = 0.05
    holds = len(found.dropped) <= few * found.seen[True] and len(found.stored) <= few * found.seen[False]
    return holds and not pushes and found.seen.total() > 0
