"""A recap without an LLM: the day's own sentences, chosen and never changed. The same day gives the same extract."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from notifications.domain.language.words import writes_no_spaces
from notifications.domain.model import Cited, Conversation, Draft, Highlight
from notifications.domain.recap.bounds import (
    MAX_HEADLINE,
    MAX_HIGHLIGHTS,
    MAX_LIST,
    MAX_LISTED,
    MAX_OVERVIEW,
    MAX_SENTENCE,
    MAX_SUMMARY,
    MAX_TOPIC,
)
from notifications.domain.recap.lexrank import Weights, apart, lexrank, weighed, words
from notifications.domain.recap.material import Material
from notifications.domain.spending import NOTHING, Spent
from notifications.domain.text import bounded, plain

Split = Callable[[str, str | None], list[str]]  # a text and its language, to sentences

MODEL = "extract"
CANDIDATES = 240  # sentences that are compared: the first of each conversation first
READ_AT_MOST = 60_000  # characters of a day, evenly: cleaning them must not hold up the other users
LEAST_READ, MAX_TITLE = 400, 400  # characters of one conversation, of one title
MAX_OTHERS = 10  # events, and things to do, that stand for words which nobody said
OF_SPOKEN = 0.6  # what somebody said reads worse than what was written of it
SHORT_TOPIC = 40  # characters, where a conversation has no title
OF_A_FIGURE, OF_A_DECISION, OF_LENGTH = 0.6, 0.3, 0.5  # how much more a sentence is worth; by the evaluation days
OVERVIEW_SENTENCES = 4
DIGEST_SENTENCES, DIGEST_READS = 2, 4_000  # of one conversation; characters of it
SAME_WORDS = 0.5  # cosine from which two sentences say the same
SHORTEST, SHORTEST_SPOKEN = 12, 24  # characters: less is no sentence that tells anything
ANNOUNCES = (":", "：")  # a heading, or what is said before a list: by itself it tells nothing
QUESTION = re.compile(r"[?？؟⁇‽]\W*$")
FIGURE = re.compile(r"\d")
DECIDES = re.compile(
    r"\b(?:agreed|decided|settled on|chose|approved|going with|go with|moved? the)\b"
    r"|\b(?:beschlossen|entschieden|entschied|vereinbart|abgemacht|geeinigt|festgelegt)\b"
    r"|\b(?:décidé|décidons|convenu|choisi|validé)\b|\b(?:decidi\w+|decidí\w*|acord\w+|elegimos|quedamos en)\b"
    r"|\b(?:decidimos|decidiu|combinamos|combinado|escolhemos)\b|\b(?:deciso|concordato|scelto|stabilito)\b"
    r"|\b(?:besloten|afgesproken|gekozen)\b|\b(?:postanowi\w+|zdecydowa\w+|ustali\w+)\b"
    r"|\b(?:решил\w*|договорил\w+|выбрал\w*|вирішил\w*|домовил\w+)\b|\b(?:karar ver\w+|kararlaştır\w+|anlaştı\w*)\b"
    r"|決め(?:た|まし)|決まっ|決定|ことにし(?:た|まし)|决定|同意|商定|결정|하기로|قرر|اتفق|फैसला|तय किया|निर्णय",
    re.IGNORECASE,
)
UNDECIDED = re.compile(
    r"n't\b|\b(?:not|never|yet to|nicht|noch kein\w*|pas encore|n'\w+ pas|ne \w+ pas|todavía no|no se|aún no)\b"
    r"|\b(?:não|ainda|non|ancora|niet|nie|jeszcze|не|ещё|еще|ще|henüz|değil|لم|नहीं)\b"
    r"|まだ|ません|ない|没有|尚未|还没|未决|아직|않|अभी तक",
    re.IGNORECASE,
)
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
    """One sentence of the day."""

    text: str
    at: int  # place of its conversation
    question: bool

    @property
    def decides(self) -> bool:
        """Whether something was decided: `not decided yet` decides nothing."""
        return bool(DECIDES.search(self.text)) and not UNDECIDED.search(self.text)


def extract(m: Material, split: Split, spent: Spent = NOTHING) -> Draft:
    """The recap of this material from its own sentences. `spent`: on an LLM, to no use."""
    said = _candidates(m, split)
    vectors = weighed([words(one.text) for one in said])
    ranks = _worth(m, said, lexrank(vectors))
    best = sorted(range(len(said)), key=lambda n: (-ranks[n], said[n].at, n))
    told = [n for n in best if not said[n].question] or best
    overview = sorted(_of_different_talks(told, said, vectors), key=lambda n: (said[n].at, n))
    decided = [n for n in told if said[n].decides and not said[n].question]
    figures = [n for n in told if FIGURE.search(said[n].text) and n not in decided and not said[n].question]
    talks = _by_weight(m.conversations, said, ranks)
    return Draft(
        headline=_headline([m.conversations[at] for at in talks], [said[n].text for n in overview]),
        overview=bounded(_joined([said[n].text for n in overview]), MAX_OVERVIEW),
        day_emoji=_emoji(Counter(c.category for c in m.conversations if c.category).most_common(1)),
        highlights=tuple(_highlights(m, talks, [*(n for n in told if n not in overview), *told], said, vectors)),
        unresolved_questions=_cited(m, [n for n in best if said[n].question], said, vectors),
        decisions_made=_cited(m, decided, said, vectors),
        knowledge_nuggets=_cited(m, figures, said, vectors),
        coverage={"whole": 0, "part": 0, "extract": len(m.conversations)},
        metadata={"model": MODEL, "source": "extract", **(spent.as_metadata() if spent.calls else {})},
    )


def digest(c: Conversation, split: Split, language: str | None) -> str:
    """A conversation in a sentence or two of its own: those that speak for the rest of it."""
    said = list(_sentences(0, c, language, split, DIGEST_READS))
    vectors = weighed([words(one.text) for one in said])
    ranks = lexrank(vectors)
    best = sorted(range(len(said)), key=lambda n: (-ranks[n], n))[:DIGEST_SENTENCES]
    return _joined([said[n].text for n in sorted(best)])


def _candidates(m: Material, split: Split) -> list[Said]:
    """The first sentence of each conversation, then the second of each, until there are enough."""
    each = max(LEAST_READ, READ_AT_MOST // max(1, len(m.conversations)))
    by_talk = [list(_sentences(at, c, m.language, split, each)) for at, c in enumerate(m.conversations)]
    deepest = max(map(len, by_talk), default=0)
    in_turn = [talk[depth] for depth in range(deepest) for talk in by_talk if depth < len(talk)]
    return sorted(in_turn[:CANDIDATES], key=lambda one: one.at)


def _sentences(at: int, c: Conversation, language: str | None, split: Split, length: int) -> Iterable[Said]:
    found = 0
    for sentence in _split_lines(c, language, split, length):
        text = bounded(sentence.strip(), MAX_SENTENCE)
        if text.endswith(ANNOUNCES):
            continue
        if len(text) >= (SHORTEST if c.overview else SHORTEST_SPOKEN) or (text and any(map(writes_no_spaces, text))):
            found += 1
            yield Said(text, at, bool(QUESTION.search(text)))
    if not found:  # nothing was told in sentences: what is to do, and what was, stands for it
        others = (*c.events[:MAX_OTHERS], *(item.description for item in c.action_items[:MAX_OTHERS]))
        rest = (plain(one, LEAST_READ) for one in (c.overview or c.transcript, *others))
        if text := bounded(". ".join(one for one in rest if one), MAX_SENTENCE):
            yield Said(text, at, question=False)


def _split_lines(c: Conversation, language: str | None, split: Split, length: int) -> Iterable[str]:
    """What was written ends with its line; what was said may go on in the next."""
    told = c.overview[:length].splitlines() if c.overview else [c.transcript]
    return (sentence for line in told for sentence in split(plain(line, length), c.language or language))


def _joined(sentences: Sequence[str]) -> str:
    return " ".join([*map(_ended, sentences[:-1]), *sentences[-1:]])


def _ended(sentence: str) -> str:
    """The sentence with a full stop, where it has no mark of its own: a line of a list, or what was said."""
    if not sentence[-1:].isalnum():
        return sentence
    return sentence + ("。" if writes_no_spaces(sentence[-1]) else ".")


def _worth(m: Material, said: Sequence[Said], ranks: Sequence[float]) -> list[float]:
    """What each sentence is worth: its rank, more in a long talk, and more where it has a figure or decides."""
    found = []
    for one, rank in zip(said, ranks, strict=True):
        tells = OF_A_FIGURE * bool(FIGURE.search(one.text)) + OF_A_DECISION * one.decides
        c = m.conversations[one.at]
        spoken = 1.0 if c.overview else OF_SPOKEN
        found.append(rank * spoken * (1 + OF_LENGTH * math.log1p(c.minutes)) * (1 + tells))
    return found


def _of_different_talks(places: Sequence[int], said: Sequence[Said], vectors: Sequence[Weights]) -> list[int]:
    """The best of each conversation, of which no two say the same; where there are few, more of the same ones."""
    firsts: dict[int, int] = {}
    for n in places:
        firsts.setdefault(said[n].at, n)
    chosen = apart(firsts.values(), vectors, OVERVIEW_SENTENCES, SAME_WORDS)
    return apart([*chosen, *places], vectors, OVERVIEW_SENTENCES, SAME_WORDS)


def _by_weight(talks: Sequence[Conversation], said: Sequence[Said], ranks: Sequence[float]) -> list[int]:
    """Conversations by how much of the day they carry: their sentences' ranks, and their length."""
    weight = {at: math.log1p(c.minutes) / 100 for at, c in enumerate(talks)}
    for one, rank in zip(said, ranks, strict=True):
        weight[one.at] += rank
    return sorted(weight, key=lambda at: (-weight[at], at))


def _highlights(
    m: Material, talks: Sequence[int], told: Sequence[int], said: Sequence[Said], vectors: Sequence[Weights]
) -> Iterable[Highlight]:
    """The heaviest conversations, each by the first that is told of it; no two of the same words."""
    own: dict[int, int] = {}
    for n in told:
        own.setdefault(said[n].at, n)
    for n in apart([own[at] for at in talks if at in own], vectors, MAX_HIGHLIGHTS, SAME_WORDS):
        c = m.conversations[said[n].at]
        topic = bounded(plain(c.title, MAX_TITLE), MAX_TOPIC) or bounded(said[n].text, SHORT_TOPIC)
        yield Highlight(topic, EMOJI.get(c.category, ANY_EMOJI), bounded(said[n].text, MAX_SUMMARY), (c.id,))


def _cited(m: Material, places: Sequence[int], said: Sequence[Said], vectors: Sequence[Weights]) -> tuple[Cited, ...]:
    chosen = apart(places, vectors, MAX_LIST, SAME_WORDS)
    return tuple(Cited(bounded(said[n].text, MAX_LISTED), (m.conversations[said[n].at].id,)) for n in chosen)


def _headline(talks: Sequence[Conversation], overview: Sequence[str]) -> str:
    titles = list(islice(dict.fromkeys(title for c in talks[:9] if (title := plain(c.title, MAX_TITLE))), 2))
    return bounded(" · ".join(titles) or next(iter(overview), ""), MAX_HEADLINE)


def _emoji(category: list[tuple[str, int]]) -> str:
    return EMOJI.get(category[0][0], ANY_EMOJI) if category else ANY_EMOJI
