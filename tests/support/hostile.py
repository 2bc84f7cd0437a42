"""What a text must not hold once it is stored, pushed or printed."""

from __future__ import annotations

import unicodedata


def hostile(text: str) -> list[str]:
    """What could steer a terminal or a reader in it."""
    found = [
        letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co") and letter != "\u200d"
    ]
    return found + [mark for mark in ("http", "evil.example", "<b>", "**", "](") if mark in text]
