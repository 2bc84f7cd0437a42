"""The last step of a draft: replaces the headline, push, topics or overview that were dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from notifications.domain.model import Conversation, Draft, Highlight
from notifications.domain.phrases import phrases_in
from notifications.domain.plain import plain
from notifications.domain.schedule import zone
from notifications.recap.bounds import MAX_HEADLINE, MAX_PUSH, MAX_TOPIC
from notifications.recap.material import Material, held_at
from notifications.recap.words import content_stems

SHARED_STEMS = 4  # content words in common from which a text says the same as a dropped or private sentence
MIN_SHARED_STEMS = 2  # the same for a text of fewer content words and a private sentence
MAX_TITLE = 400  # characters of a title that are read
MAX_TASK_COMPARED = 1_600  # characters by which two tasks are compared
TOPIC_SEPARATOR = " · "


def fill_in(draft: Draft, material: Material) -> Draft:
    """The draft with an overview, topics, a headline and a push, whatever was dropped.

    Headline and push are not private. Without a second look the push shows the counts, below the headline that is its
    title.
    """
    conversations = {conversation.id: conversation for conversation in material.conversations}
    highlights = tuple(
        highlight
        if highlight.topic
        else replace(highlight, topic=topic_of(conversations[highlight.conversation_ids[0]], material))
        for highlight in draft.highlights
    )
    overview = draft.overview or tuple(highlight.items[0] for highlight in highlights)
    private = {sentence.text for sentence in draft.sentences if sentence.private}
    dropped_stems = [_stems(text, material) for text in draft.dropped]
    private_stems = [_stems(text, material) for text in private]

    def may_be_shown(text: str) -> bool:
        stems = _stems(text, material)
        min_shared = min(SHARED_STEMS, max(MIN_SHARED_STEMS, len(stems)))
        return text not in private and not any(len(stems & other) >= min_shared for other in private_stems)

    def is_usable(text: str) -> bool:
        repeats_dropped = any(len(_stems(text, material) & other) >= SHARED_STEMS for other in dropped_stems)
        return bool(text) and not repeats_dropped and may_be_shown(text)

    counts = counts_of(material)
    headline, push = draft.headline, draft.push
    if not is_usable(headline):
        headline = _topics([highlight for highlight in highlights if may_be_shown(highlight.topic)]) or counts
    if not draft.checks.get("verified"):
        push = counts
    elif not is_usable(push):
        texts = (sentence.text for sentence in overview)
        push = next((text for text in texts if len(text) <= MAX_PUSH and may_be_shown(text)), counts)
    return replace(draft, highlights=highlights, overview=overview, headline=headline, push=push)


def counts_of(material: Material) -> str:
    """`3 conversations, 2 things to do`, in the user's language."""
    open_items = (item for item in material.action_items if not item.completed)
    tasks = {plain(item.description, MAX_TASK_COMPARED) for item in open_items} - {""}
    return phrases_in(material.language).counts(len(material.conversations), len(tasks))


def _stems(text: str, material: Material) -> frozenset[str]:
    return frozenset(content_stems(text, material.language))


def _topics(highlights: Collection[Highlight]) -> str:
    """The first two topics without a private sentence; the first alone if both are too long."""
    public = [highlight for highlight in highlights if not any(sentence.private for sentence in highlight.items)]
    topics = [highlight.topic for highlight in public[:2]]
    both = TOPIC_SEPARATOR.join(topics)
    return both if len(both) <= MAX_HEADLINE else topics[0]


def topic_of(conversation: Conversation, material: Material, names: Iterable[str] = ()) -> str:
    """A conversation's title; if it has none that fits, when it was held, and the names."""
    title = plain(conversation.title, MAX_TITLE)
    if 0 < len(title) <= MAX_TOPIC:
        return title
    time = f"{held_at(conversation).astimezone(zone(material.zone)):%H:%M}"
    with_names = f"{time} {', '.join(names)}".strip()
    return with_names if len(with_names) <= MAX_TOPIC else time
