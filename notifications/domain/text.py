"""Cleans, cuts and escapes text of people, LLMs and servers."""

from __future__ import annotations

import re
import sys
import unicodedata
from urllib.parse import urlsplit

ZERO_WIDTH_JOINERS = "\u200c\u200d"  # part of the spelling of Persian, Hindi and others, and of joined emoji
VARIATION_SELECTORS = "\ufe0e\ufe0f"
ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z^_])")
ANY_LENGTH = sys.maxsize  # what `printable` is told to show whole
MAX_ID_BYTES = 1_500  # of a document's id
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)
SPACE_CATEGORIES = ("Zs", "Zl", "Zp")
DROPPED_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn")


def clean(text: str) -> str:
    """One line, without control, bidirectional, zero-width and private characters, and lone surrogates."""
    if text.isprintable():
        return " ".join(text.split())
    text = ESCAPE_SEQUENCE.sub("", text)
    return " ".join("".join(_cleaned_letter(text, index) for index in range(len(text))).split())


def _cleaned_letter(text: str, index: int) -> str:
    letter = text[index]
    if letter.isspace() or unicodedata.category(letter) in SPACE_CATEGORIES:
        return " "
    if letter in ZERO_WIDTH_JOINERS:
        before, after = text[index - 1 : index], text[index + 1 : index + 2]
        return letter if _may_be_joined(before) and _may_be_joined(after) else ""
    return "" if unicodedata.category(letter) in DROPPED_CATEGORIES else letter


def _may_be_joined(letter: str) -> bool:
    """Whether a joiner beside this letter belongs to the spelling: letters beyond Latin, marks, emoji."""
    if not letter or letter.isascii():
        return False
    return letter in VARIATION_SELECTORS or unicodedata.category(letter) in ("Lo", "Mn", "Mc", "So", "Sk")


def bounded(text: str, characters: int, utf8_bytes: int | None = None) -> str:
    """The text, cut to at most that many characters and bytes: after a word if possible, with an ellipsis."""
    if len(text) <= characters and (utf8_bytes is None or len(text.encode()) <= utf8_bytes):
        return text
    head = text[: characters - 1]
    if utf8_bytes is not None:
        head = head.encode()[: max(0, utf8_bytes - 3)].decode(errors="ignore")
    inside_a_word = " " in head and not text[len(head)].isspace()
    head = head[: head.rindex(" ")] if inside_a_word else _whole_graphemes(head, text)
    return head.rstrip(" ,;:.-") + "…"


def _whole_graphemes(head: str, text: str) -> str:
    """The head, without the rest of a grapheme that was cut apart."""
    cut = len(head)
    while 0 < cut < len(text) and (_is_continuation(text[cut]) or text[cut - 1] in ZERO_WIDTH_JOINERS):
        cut -= 1
    return text[:cut]


def _is_continuation(letter: str) -> bool:
    return letter in ZERO_WIDTH_JOINERS or unicodedata.category(letter) in ("Mn", "Mc", "Me") or letter in MODIFIERS


MODIFIERS = frozenset(map(chr, range(0x1F3FB, 0x1F400)))  # the skin tones of emoji


def one_emoji(text: str, fallback: str = "") -> str:
    """The emoji that the text starts with, whole; else the fallback."""
    text = clean(text)
    if not text or not _is_picture(text[0]):
        return fallback
    end = 1
    if _is_flag(text[0]) and len(text) > 1 and _is_flag(text[1]):
        return text[:2]
    while end < len(text) and end < 12 and (_is_continuation(text[end]) or text[end - 1] == "\u200d"):
        end += 1
    return text[:end].rstrip("\u200d")


def _is_picture(letter: str) -> bool:
    return unicodedata.category(letter) == "So" or _is_flag(letter)


def _is_flag(letter: str) -> bool:
    return "\U0001f1e6" <= letter <= "\U0001f1ff"


def language_tag(text: str) -> str | None:
    """The text if it is a language tag such as `pt-BR`; else None, since it gets into the prompt."""
    return text if LANGUAGE_TAG.fullmatch(text) else None


def printable(text: str, length: int = 2_000) -> str:
    """The text as one line for a terminal; characters that could control it, or hide or reorder text, are escaped."""
    shown = text if len(text) <= length else text[: length - 1] + "…"
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(_escaped(letter) for letter in shown)


def _escaped(letter: str) -> str:
    if letter == " " or (unicodedata.category(letter) not in (*DROPPED_CATEGORIES, "Zl", "Zp")):
        return letter
    if letter == "\u200d":  # joins emoji, harmless
        return letter
    return letter.encode("unicode_escape").decode()


def code(text: object, fallback: str = "no code") -> str:
    """The text if it is an error code of letters, digits and . _ - alone; else the fallback."""
    return text if isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,60}", text) else fallback


def is_document_id(text: str) -> bool:
    """Whether the text can be a document's id."""
    reserved = text in (".", "..") or (text.startswith("__") and text.endswith("__"))
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return bool(text) and "/" not in text and "\0" not in text and not reserved and size <= MAX_ID_BYTES


COLUMNS = 80


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def wrapped(text: str, width: int, *, indent: int = 0) -> list[str]:
    """Lines of this width, broken at spaces, or within a word that is too long; all but the first indented."""
    lines = [""]
    for word in text.split():
        for piece in _pieces(word, width - indent):
            if lines[-1].strip() and width_of(lines[-1]) + 1 + width_of(piece) > width:
                lines.append(" " * indent)
            lines[-1] += f" {piece}" if lines[-1].strip() else piece
    return lines


def _pieces(word: str, room: int) -> list[str]:
    if width_of(word) <= room:
        return [word]
    pieces = [""]
    for letter in word:
        if width_of(pieces[-1] + letter) > room:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def is_loopback(url: str) -> bool:
    """Whether the URL is an http:// address of this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK
