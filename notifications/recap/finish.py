"""The last hand on a draft: what stands in for the parts that did not stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from notifications.domain.model import Cited, Draft, Highlight
from notifications.domain.own_words import own_words
from notifications.domain.schedule import zone
from notifications.domain.text import plain
from notifications.recap.bounds import MAX_HEADLINE, MAX_PUSH, MAX_TOPIC
from notifications.recap.material import Material, held_at
from notifications.recap.words import content_stems

SHARED_STEMS = 4  # content words that a headline has in common with a dropped sentence: then it says the same
LEAST_SHARED = 2  # of a headline of fewer, with a confided sentence
MAX_COUNTED = 1_600  # characters of a thing to do, by which it is told from the others
BETWEEN_TOPICS = " · "


def finished(draft: Draft, m: Material) -> Draft:
    """The draft with an overview, topics, a headline and a push, whatever was dropped; none of them confided.

    Without a second look the push is the counts, beneath the headline that is its title.
    """
    highlights = tuple(replace(one, topic=one.topic or _topic(one.items[0], m)) for one in draft.highlights)
    overview = draft.overview or tuple(one.items[0] for one in highlights)
    lost = [frozenset(content_stems(text, m.language)) for text in draft.dropped]
    confided = [one.text for one in draft.sentences if one.confided]
    hidden = [frozenset(content_stems(text, m.language)) for text in confided]

    def may_be_seen(text: str) -> bool:
        stems = frozenset(content_stems(text, m.language))
        least = min(SHARED_STEMS, max(LEAST_SHARED, len(stems)))
        return text not in confided and not any(len(stems & one) >= least for one in hidden)

    counts = counted(m)
    given = (_unless_lost(text, lost, m) for text in (draft.headline, draft.push))
    headline, push = (text if may_be_seen(text) else "" for text in given)
    if not headline:
        headline = _topics(one for one in highlights if may_be_seen(one.topic)) or counts
    if not draft.checks.get("verified"):
        push = counts
    elif not push:
        push = next((one.text for one in overview if len(one.text) <= MAX_PUSH and may_be_seen(one.text)), counts)
    return replace(draft, highlights=highlights, overview=overview, headline=headline, push=push)


def counted(m: Material) -> str:
    """`3 conversations, 2 things to do`, in the user's language."""
    tasks = {
        plain(item.description, MAX_COUNTED) for c in m.conversations for item in c.action_items if not item.completed
    }
    return own_words(m.language).counts(len(m.conversations), len(tasks - {""}))


def _unless_lost(text: str, lost: Iterable[frozenset[str]], m: Material) -> str:
    """The text; empty where it says what was dropped."""
    stems = frozenset(content_stems(text, m.language))
    return "" if any(len(stems & one) >= SHARED_STEMS for one in lost) else text


def _topics(highlights: Iterable[Highlight]) -> str:
    """The first two topics of which nothing is confided; the first alone where both are too long."""
    topics = [one.topic for one in highlights if not any(item.confided for item in one.items)][:2]
    both = BETWEEN_TOPICS.join(topics)
    return both if len(both) <= MAX_HEADLINE else topics[0]


def _topic(item: Cited, m: Material) -> str:
    """A highlight's topic by its data: the conversation's title, else when it was held."""
    c = next(one for one in m.conversations if one.id == item.conversation_ids[0])
    title = plain(c.title)
    return title if 0 < len(title) <= MAX_TOPIC else f"{held_at(c).astimezone(zone(m.zone)):%H:%M}"
