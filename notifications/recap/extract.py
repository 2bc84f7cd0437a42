"""A recap without an LLM: the day's own sentences, chosen and never rewritten. The same day gives the same extract."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import regex

from notifications.domain.model import WEARER, Cited, Conversation, Draft, Highlight, Turn, joined
from notifications.domain.money import NOTHING, Spent
from notifications.domain.own_words import own_words
from notifications.domain.schedule import zone
from notifications.domain.text import bounded, plain
from notifications.recap import bounds
from notifications.recap.document import MAX_TASKS
from notifications.recap.finish import BETWEEN_TOPICS, MAX_COUNTED, counted
from notifications.recap.lexrank import SAME, Alike, Weights, cosine, lexrank, select_diverse, weighed, words
from notifications.recap.material import Material, held_at
from notifications.recap.words import (
    begins_with_a_pronoun,
    content_stems,
    days_in,
    numbers_in,
    without_fillers,
    words_in,
)

Split = Callable[[str, str | None], list[str]]  # a text and its language, to sentences

MODEL = "extract"
CANDIDATES = 240  # sentences that are compared
READ_AT_MOST = 60_000  # characters of a day, evenly: cleaning them must not hold up the other users
LEAST_READ, MAX_TITLE = 400, 400  # characters of one conversation, of one title
MAX_OTHERS = 10  # events, and things to do, that stand for words which nobody said
OVERVIEW_SENTENCES = 6
DIGEST_SENTENCES, DIGEST_READS = 2, 4_000  # of one conversation; characters of it
LONG, FAIR, SHORT = 185, 115, 46  # characters of a spoken sentence: endless, of fair length, hardly one
LEAST_WORDS, SHORT_WORDS = 3, 6  # of a sentence that tells anything; fewer words than the second count less
PUSHED_FROM = 16  # of the best sentences
PUSHED_STEMS = 4  # content words of a sentence that a push shows
CONFIDED = ("health", "finance")  # categories of conversations of which nothing stands on a lock screen
MOVED = 0.35  # cosine from which a later conversation is about the same
SHARED = 4  # content words of a later sentence with another day or number: it may correct the first
MANY_SPEAKERS = 5  # in a conversation without title, category or task: a broadcast
BEST = 3  # sentences of a conversation by which it counts
# What makes a sentence worth more, as factors; found on the evaluation's days.
OF_A_FIGURE, OF_A_DAY, OF_A_NAME, OF_CONTENT, MOST_CONTENT = 1.33, 0.65, 0.65, 0.15, 15
OF_A_QUESTION, OF_A_SHORT_ONE, OF_A_PRONOUN, OF_THE_WEARER = 0.3, 0.71, 0.77, 0.96
OF_BACKGROUND, OF_A_SILENT_ONE = 0.15, 0.32  # where the wearer says nothing: without a title, and with one
OF_A_TASK = 0.2  # how much more a conversation counts for each thing to do
TELLING_STEMS = 5  # content words of a sentence that is worth a recap though it names no day, name or figure
ANNOUNCES = (":", "：")  # a heading, or what is said before a list: by itself it tells nothing
QUESTION = re.compile(r"[?？؟⁇‽]\W*$")
MARKS_AT_MOST = 40  # characters after the last word that are looked at: a search to the end tries each of them
ENDED = re.compile(r"[.!?…。！？؟।]\W*$")
FIGURE = regex.compile(r"\p{N}")
NAME = regex.compile(r"(?<=[\p{L}\p{N},;] )\p{Lu}[\p{L}\p{M}]+")
CLAUSES = re.compile(r"(?<=[,;:–—、，；])\s*")
EMOJI = {
    "work": "💼",
    "business": "💼",
    "technology": "💻",
    "education": "📚",
    "health": "🏃",
    "family": "🏡",
    "social": "💬",
    "travel": "✈️",
    "finance": "💶",
    "food": "🍲",
}
ANY_EMOJI = "🗓️"


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence of the day. `base`: what it is worth by its own words; `fact`: it has a figure, a day or a name."""

    text: str
    at: int  # place of its conversation
    base: float
    fact: bool
    names: frozenset[str] = frozenset()
    figures: frozenset[str] = frozenset()  # its days and numbers
    needs_more: bool = False  # it begins with a pronoun


def extract(m: Material, split: Split, spent: Spent = NOTHING) -> Draft:
    """The recap of this material from its own sentences. `spent`: on an LLM, to no use."""
    said = _candidates(m, split)
    vectors = weighed([words(one.text) for one in said])
    worth = _worth(said, lexrank(vectors))
    places = _without_corrected(range(len(said)), said, vectors)
    talks = _by_weight(m, said, worth, places)
    weighted = [worth[n] * _of_conversation(m, said[n].at) for n in range(len(said))]
    alike = partial(_alike, said, vectors)
    overview = sorted(select_diverse(places, weighted, alike, OVERVIEW_SENTENCES))
    highlights = tuple(_highlights(m, talks, places, said, weighted, alike, overview))
    best = sorted(places, key=lambda n: (-weighted[n], n))
    told = [_cited(m, said[n]) for n in overview]
    shown = {one.conversation_ids for one in told} | {one.conversation_ids for h in highlights for one in h.items}
    return Draft(
        headline=_headline(m, talks, said, best),
        overview=(*told, *_more(m, shown)),
        day_emoji=_emoji(Counter(c.category for c in m.conversations if c.category).most_common(1)),
        push=_push(m, said, best, alike),
        highlights=highlights,
        coverage={"whole": 0, "part": 0, "extract": len(m.conversations)},
        metadata={"model": MODEL, "source": "extract", **(spent.as_metadata() if spent.calls else {})},
    )


def tells_something(m: Material, split: Split) -> bool:
    """Whether a sentence of the day is worth a recap, where an LLM found none: or a thing to do, or an event."""
    if any(c.action_items or c.events for c in m.conversations):
        return True
    return any(one.fact or len(content_stems(one.text, m.language)) >= TELLING_STEMS for one in _candidates(m, split))


def digest(c: Conversation, split: Split, language: str | None) -> str:
    """A conversation in a sentence or two of its own: those that speak for the rest of it."""
    said = list(_sentences(0, c, language, split, DIGEST_READS))
    vectors = weighed([words(one.text) for one in said])
    worth = _worth(said, lexrank(vectors))
    best = sorted(range(len(said)), key=lambda n: (-worth[n], n))[:DIGEST_SENTENCES]
    return joined([said[n].text for n in sorted(best)])


def _candidates(m: Material, split: Split) -> list[Said]:
    """The best sentences by their own words, those of each conversation first, in the day's order."""
    each = max(LEAST_READ, READ_AT_MOST // max(1, len(m.conversations)))
    by_talk = [list(_sentences(at, c, m.language, split, each)) for at, c in enumerate(m.conversations)]
    ranked = [sorted(range(len(talk)), key=lambda n: (-talk[n].base, n)) for talk in by_talk]
    deepest = max(map(len, ranked), default=0)
    in_turn = [(at, ranks[depth]) for depth in range(deepest) for at, ranks in enumerate(ranked) if depth < len(ranks)]
    return [by_talk[at][n] for at, n in sorted(in_turn[:CANDIDATES])]


def _sentences(at: int, c: Conversation, language: str | None, split: Split, length: int) -> Iterable[Said]:
    tongue = c.language or language
    before, found = ("", -1), 0
    for turn, speaker, sentence in _split_lines(c, tongue, split, length):
        text = sentence if c.overview else without_fillers(sentence, tongue)
        one = _judged(text, speaker, at, tongue)
        if one is not None and one.needs_more:
            can_be_joined = before[1] == turn and not begins_with_a_pronoun(before[0], tongue)
            both = joined([before[0], text]) if can_be_joined else ""
            one = (len(both) <= bounds.MAX_SENTENCE and _judged(both, speaker, at, tongue)) or one
        before = text, turn
        if one is not None and len(one.text) <= bounds.MAX_SENTENCE:
            found += 1
            yield replace(one, base=one.base * OF_A_PRONOUN) if one.needs_more else one
    if not found:  # nothing was told in sentences: what is to do, and what was, stands for it
        others = (*c.events[:MAX_OTHERS], *(item.description for item in c.action_items[:MAX_OTHERS]))
        said = joined([turn.text for turn in c.lines])
        shortened = (bounded(plain(one, 2 * LEAST_READ), LEAST_READ) for one in (said, *others))
        if text := bounded(joined([words for words in shortened if words]), bounds.MAX_SENTENCE):
            yield Said(text, at, 1.0, fact=True)


def _judged(text: str, speaker: str, at: int, language: str | None) -> Said | None:
    """A sentence and what it is worth by its own words; None for what tells nothing."""
    count = words_in(text)
    if count < LEAST_WORDS or text.endswith(ANNOUNCES):
        return None
    names = frozenset(NAME.findall(text))
    days, numbers = days_in(text, language), numbers_in(text, language)
    stems = min(MOST_CONTENT, len(content_stems(text, language)))
    base = 1 + OF_A_FIGURE * bool(numbers) + OF_A_DAY * bool(days) + OF_A_NAME * bool(names) + OF_CONTENT * stems
    if QUESTION.search(text[-MARKS_AT_MOST:]):
        base *= OF_A_QUESTION
    if count < SHORT_WORDS:
        base *= OF_A_SHORT_ONE
    if speaker == WEARER:
        base *= OF_THE_WEARER
    fact = bool(days or numbers or names)
    return Said(text, at, base, fact, names, days | numbers, begins_with_a_pronoun(text, language))


def _split_lines(c: Conversation, language: str | None, split: Split, length: int) -> Iterable[tuple[int, str, str]]:
    """Turn, speaker and sentence, in order. What was written is one turn; of a transcript each speaker's words are."""
    left = length
    for number, turn in enumerate(c.lines if c.overview else _whole_turns(c.turns)):
        if left <= 0:
            return
        words = plain(turn.text[:left], left)
        is_cut = len(turn.text) > left
        left -= len(turn.text)
        sentences = [one for sentence in split(words, language) if (one := sentence.strip())]
        pieces = sentences if c.overview else _in_fair_pieces(sentences)
        for sentence in pieces[:-1] if is_cut else pieces:
            yield 0 if c.overview else number, turn.speaker, sentence


def _whole_turns(lines: Sequence[Turn]) -> Iterable[Turn]:
    """Segments without a speaker, put together where one goes on in the next."""
    parts: list[str] = []
    for turn in lines:
        goes_on = (
            parts and not turn.speaker and not ENDED.search(parts[-1][-MARKS_AT_MOST:]) and turn.text[:1].islower()
        )
        if parts and not goes_on:
            yield Turn("", " ".join(parts))
            parts = []
        if turn.speaker:
            yield turn
        else:
            parts.append(turn.text)
    if parts:
        yield Turn("", " ".join(parts))


def _in_fair_pieces(sentences: Iterable[str]) -> list[str]:
    """What one speaker said in pieces of fair length: a short sentence goes with the one before it, and of one that is
    endless, since nobody set a full stop, each piece has as many clauses as fit."""
    found: list[str] = []
    for sentence in sentences:
        clauses = CLAUSES.split(sentence) if len(sentence) > LONG else [sentence]
        for n, clause in enumerate(clauses):
            room = FAIR if n else LONG - FAIR
            if found and len(found[-1]) + len(clause) < room and (n or min(len(found[-1]), len(clause)) < SHORT):
                found[-1] = f"{found[-1]} {clause}"
            else:
                found.append(clause)
    return [one.rstrip(",;:–—、，； ") for one in found]


def _alike(said: Sequence[Said], vectors: Sequence[Weights], one: int, other: int) -> float:
    """How much two sentences say the same; wholly, where one holds the other."""
    first, second = said[one].text, said[other].text
    return 1.0 if first in second or second in first else cosine(vectors[one], vectors[other])


def _worth(said: Sequence[Said], ranks: Sequence[float]) -> list[float]:
    """What each sentence is worth: by its own words, and more where it speaks for others."""
    return [one.base * (1 + rank * len(said)) for one, rank in zip(said, ranks, strict=True)]


def _without_corrected(places: Iterable[int], said: Sequence[Said], vectors: Sequence[Weights]) -> list[int]:
    """Without those that a later sentence may correct.

    In one conversation: one that says the same of the same names. In a later one: one that is like it, and has days or
    numbers, but not all of its own.
    """
    kept: list[int] = []
    for n in places:
        kept = [one for one in kept if not _corrects(said[n], said[one], cosine(vectors[one], vectors[n]))] + [n]
    return kept


def _corrects(later: Said, one: Said, likeness: float) -> bool:
    if later.at == one.at:
        return likeness >= SAME and later.names == one.names
    return likeness >= MOVED and bool(later.figures) and not one.figures <= later.figures


def _of_conversation(m: Material, at: int) -> float:
    """What a sentence counts for by where it was said: background audio has no title, and the wearer says nothing."""
    c = m.conversations[at]
    silent = bool(c.turns) and all(turn.speaker != WEARER for turn in c.turns)
    if not m.knows_the_wearer:
        many = len({turn.speaker for turn in c.turns}) >= MANY_SPEAKERS
        return OF_BACKGROUND if many and not (c.title or c.action_items or c.category in EMOJI) else 1.0
    if not silent:
        return 1.0
    return OF_A_SILENT_ONE if c.title else OF_BACKGROUND


def _by_weight(m: Material, said: Sequence[Said], worth: Sequence[float], places: Sequence[int]) -> list[int]:
    """Conversations by their best sentences and their things to do, not by their minutes."""
    best: dict[int, list[float]] = defaultdict(list)
    for n in places:
        best[said[n].at].append(worth[n])
    weights = {at: sum(sorted(found, reverse=True)[:BEST]) for at, found in best.items()}
    for at, c in enumerate(m.conversations):
        weights[at] = weights.get(at, 0.0) * (1 + OF_A_TASK * min(BEST, len(c.action_items))) * _of_conversation(m, at)
    return sorted(weights, key=lambda at: (-weights[at], at))


def _highlights(
    m: Material,
    talks: Sequence[int],
    places: Sequence[int],
    said: Sequence[Said],
    worth: Sequence[float],
    alike: Alike,
    overview: Sequence[int],
) -> Iterable[Highlight]:
    """The heaviest conversations, each by its best sentences that stand nowhere else; in the day's order."""
    told, found = [*overview], dict[int, list[int]]()
    for at in talks:
        if len(found) == bounds.MAX_HIGHLIGHTS:
            break
        own = [n for n in places if said[n].at == at and n not in told and not said[n].needs_more]
        if chosen := select_diverse(own, worth, alike, bounds.MAX_ITEMS, told):
            found[at] = sorted(chosen)
            told += chosen
    for at, chosen in sorted(found.items()):
        c = m.conversations[at]
        yield Highlight(_topic(c, m), EMOJI.get(c.category, ANY_EMOJI), tuple(_cited(m, said[n]) for n in chosen))


def _topic(c: Conversation, m: Material) -> str:
    """Its title; without one, when it was held and who spoke, where the data has names."""
    title = plain(c.title, MAX_TITLE)
    if 0 < len(title) <= bounds.MAX_TOPIC:
        return title
    named = [one for one in dict.fromkeys(turn.speaker for turn in c.turns) if one and one != WEARER]
    time = f"{held_at(c).astimezone(zone(m.zone)):%H:%M}"
    with_names = f"{time} {', '.join(name for name in named if not FIGURE.search(name))}".strip()
    return with_names if len(with_names) <= bounds.MAX_TOPIC else time


def _headline(m: Material, talks: Sequence[int], said: Sequence[Said], best: Sequence[int]) -> str:
    """The titles of the heaviest conversations; else the best sentence that is short; else the counts."""
    shown = (m.conversations[at] for at in talks if m.conversations[at].category not in CONFIDED)
    titles = [title for c in shown if (title := plain(c.title, MAX_TITLE))]
    two, one = BETWEEN_TOPICS.join(dict.fromkeys(titles[:2])), titles[0] if titles else ""
    short = (said[n].text for n in _for_a_lock_screen(m, said, best))
    fitting = (text for text in (two, one, *short) if 0 < len(text) <= bounds.MAX_HEADLINE)
    return next(fitting, counted(m))


def _push(m: Material, said: Sequence[Said], best: Sequence[int], alike: Alike) -> str:
    """The best sentences that fit whole and say different things; where none tells a fact, the counts."""
    chosen: list[int] = []
    for n in _for_a_lock_screen(m, said, best[:PUSHED_FROM]):
        fits = _width(joined([said[one].text for one in (*chosen, n)])) <= bounds.MAX_PUSH
        if fits and all(alike(n, one) < SAME for one in chosen):
            chosen.append(n)
    return joined([said[n].text for n in chosen]) or counted(m)


def _for_a_lock_screen(m: Material, said: Sequence[Said], best: Sequence[int]) -> Iterable[int]:
    """The sentences that tell a fact, can be understood alone, and that no later one may correct; none is confided."""
    stems = [frozenset(content_stems(one.text, m.language)) for one in said]
    for n in best:
        one, c = said[n], m.conversations[said[n].at]
        telling = one.fact and (len(stems[n]) >= PUSHED_STEMS or not c.lines)
        if not telling or one.needs_more or c.category in CONFIDED:
            continue
        later = (k for k in range(n + 1, len(said)) if said[k].at > one.at and said[k].figures)
        if not any(len(stems[n] & stems[k]) >= SHARED and not one.figures <= said[k].figures for k in later):
            yield n


def _width(text: str) -> int:
    """Characters, of which a wide one counts as two."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def _more(m: Material, shown: Collection[object]) -> Iterable[Cited]:
    """What is not shown, counted in the user's language."""
    tasks = len({plain(item.description, MAX_COUNTED) for c in m.conversations for item in c.action_items} - {""})
    hidden = len(m.conversations) - len(shown), max(0, tasks - MAX_TASKS)
    return [Cited(one) for one in own_words(m.language).more(*hidden)]


def _cited(m: Material, one: Said) -> Cited:
    return Cited(one.text, (m.conversations[one.at].id,), bounded(one.text, bounds.MAX_QUOTE))


def _emoji(category: list[tuple[str, int]]) -> str:
    return EMOJI.get(category[0][0], ANY_EMOJI) if category else ANY_EMOJI
