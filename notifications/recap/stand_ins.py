"""The last step of a draft: what replaces the headline, push, topics or overview that were dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from notifications.domain.model import Conversation, Draft, Highlight
from notifications.domain.phrases import phrases_in
from notifications.domain.schedule import zone
from notifications.domain.text import plain
from notifications.recap.bounds import MAX_HEADLINE, MAX_PUSH, MAX_TOPIC
from notifications.recap.material import Material, held_at
from notifications.recap.words import content_stems

SHARED_STEMS = 4  # content words that a text shares with a dropped or confided sentence: it says the same
LEAST_SHARED = 2  # the same, of a text of fewer words and a confided sentence
MAX_TITLE = 400  # characters of a title that are read
MAX_TASK_COMPARED = 1_600  # characters by which two things to do are told apart
TOPIC_SEPARATOR = " · "


def finished(draft: Draft, m: Material) -> Draft:
    """The draft with an overview, topics, a headline and a push, whatever was dropped; none of them confided.

    Without a second look the push shows the counts, below the headline that is its title.
    """
    talks = {c.id: c for c in m.conversations}
    highlights = tuple(
        replace(one, topic=one.topic or topic_of(talks[one.items[0].conversation_ids[0]], m))
        for one in draft.highlights
    )
    overview = draft.overview or tuple(one.items[0] for one in highlights)
    private = {item.text for item in draft.sentences if item.private}
    dropped_stems = [_stems(text, m) for text in draft.dropped]
    confided_stems = [_stems(text, m) for text in private]

    def may_be_shown(text: str) -> bool:
        stems = _stems(text, m)
        least = min(SHARED_STEMS, max(LEAST_SHARED, len(stems)))
        return text not in private and not any(len(stems & other) >= least for other in confided_stems)

    def stands(text: str) -> bool:
        says_what_was_dropped = any(len(_stems(text, m) & other) >= SHARED_STEMS for other in dropped_stems)
        return bool(text) and not says_what_was_dropped and may_be_shown(text)

    counts = counts_of(m)
    headline, push = draft.headline, draft.push
    if not stands(headline):
        headline = _topics([one for one in highlights if may_be_shown(one.topic)]) or counts
    if not draft.checks.get("verified"):
        push = counts
    elif not stands(push):
        push = next((one.text for one in overview if len(one.text) <= MAX_PUSH and may_be_shown(one.text)), counts)
    return replace(draft, highlights=highlights, overview=overview, headline=headline, push=push)


def counts_of(m: Material) -> str:
    """`3 conversations, 2 things to do`, in the user's language."""
    open_items = (item for c in m.conversations for item in c.action_items if not item.completed)
    tasks = {plain(item.description, MAX_TASK_COMPARED) for item in open_items} - {""}
    return phrases_in(m.language).counts(len(m.conversations), len(tasks))


def _stems(text: str, m: Material) -> frozenset[str]:
    return frozenset(content_stems(text, m.language))


def _topics(highlights: Collection[Highlight]) -> str:
    """The first two topics without a confided sentence; the first alone where both are too long."""
    topics = [one.topic for one in highlights if not any(item.private for item in one.items)][:2]
    both = TOPIC_SEPARATOR.join(topics)
    return both if len(both) <= MAX_HEADLINE else topics[0]


def topic_of(c: Conversation, m: Material, names: Iterable[str] = ()) -> str:
    """A conversation's title; where it has none that fits, when it was held, and the names."""
    title = plain(c.title, MAX_TITLE)
    if 0 < len(title) <= MAX_TOPIC:
        return title
    time = f"{held_at(c).astimezone(zone(m.zone)):%H:%M}"
    with_names = f"{time} {', '.join(names)}".strip()
    return with_names if len(with_names) <= MAX_TOPIC else time
