"""What a push shows: its title and its text."""

from __future__ import annotations

from dataclasses import dataclass

from notifications.domain.phrases import phrases_in
from notifications.domain.plain import plain
from notifications.domain.push import PushText
from notifications.domain.text import bounded, one_emoji

TITLE_LENGTH, TITLE_BYTES = 100, 300
BODY_LENGTH, BODY_BYTES = 150, 450  # phones show no more; far below a push's maximum size in every script


@dataclass(frozen=True, slots=True)
class Wording:
    """How much of a recap a push shows, and the language of the phrases shown instead of the rest."""

    shown: PushText = PushText.RECAP
    language: str | None = None  # a language tag; English if it is unknown

    @property
    def placeholder(self) -> Notice:
        phrases = phrases_in(self.language)
        return Notice(phrases.title, phrases.ready)


@dataclass(frozen=True, slots=True)
class Notice:
    """The two lines that a device shows."""

    title: str
    body: str


def notice(headline: str, text: str, emoji: str, wording: Wording = Wording()) -> Notice:
    """The title (emoji and headline) and the body (the push text), cleaned and cut at words, as the wording allows."""
    if wording.shown is PushText.NONE:
        return wording.placeholder
    headline, text = plain(headline), plain(text)
    title = bounded(f"{one_emoji(emoji)} {headline or wording.placeholder.title}".strip(), TITLE_LENGTH, TITLE_BYTES)
    if wording.shown is PushText.HEADLINE:
        return Notice(title, wording.placeholder.body)
    return Notice(title, bounded(text or headline or wording.placeholder.body, BODY_LENGTH, BODY_BYTES))
