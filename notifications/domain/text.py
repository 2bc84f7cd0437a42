"""Cleans, cuts and escapes text of people, LLMs and servers."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import urlsplit

ZERO_WIDTH_JOINERS = "\u200c\u200d"  # part of the spelling of Persian, Hindi and others, and of joined emoji
VARIATION_SELECTORS = "\ufe0e\ufe0f"
# A link ends before a space, a closing quote or bracket, Chinese and Japanese, and the marks of a sentence's end.
IN_A_LINK = r'[^\s<>"()«»‘-‟‹›…،؛؟۔।॥\u3001-\u30ff\u3400-\u9fff\uff01-\uff65]'
BRACKETED = rf"\({IN_A_LINK}*\)"
LINKED = rf"(?:(?:{BRACKETED}|{IN_A_LINK})*(?:{BRACKETED}|(?![.,;:!?'*|\]}}]){IN_A_LINK}))"
# Only the letters' own groups ignore case: with the whole pattern the wide ranges cost some 10 ms of every start.
LINK = re.compile(
    rf"(?:(?<=\w) )?(?:(?:(?i:[a-z][a-z0-9+.-]{{1,20}}://)|(?i:www\.|\b(?:mailto|tel):)(?=\S)){LINKED}?"
    r"|\b(?i:javascript|data):\S+)"
)
MARKDOWN_LINK = re.compile(r"!?\[([^\[\]]{0,400})\]\((?:[^()]|\([^()]{0,200}\)){0,2000}\)?")
# Phones make links of bare domains: one with a path is removed, one without loses its dots.
DOMAIN = re.compile(rf"(?<![\w@.-])((?:[\w-]{{1,63}}[.。．｡]){{1,8}})((?i:[a-z]{{2,24}}))(?![\w-])([/?#:]{LINKED}?)?")
DOTS = re.compile(r"[.。．｡]")
TOP_LEVEL_NAMES = """
    com net org info biz edu gov mil int app dev xyz online site shop store top club live pro tech page link click
    cloud work world today news blog wiki example test invalid onion zip mov icu vip bid loan win fun space website
    host press agency email rocks guru ac ad ae ai al am at au az ba be bg br by ca cc ch ci cl cn co cz de dk ee es
    eu fi fr ge gg gl gr hk hr hu id ie il im in io ir is it jp ke kr kz la li lt lu lv ly ma md me mk ms mx my ng
    nl no nu nz ph pk pl pt pw ro rs ru sa se sg sh si sk so st su th tk tl to tr tv tw ua ug uk us uz vc ve vn ws
    za
"""
TOP_LEVEL = frozenset(TOP_LEVEL_NAMES.split())
TAG = re.compile(r"<[/!?]?[a-zA-Z][^<>]{0,2000}>|<!--[^<>]{0,2000}-->")
MAX_PLAIN = 20_000  # characters that `plain` reads
BLOCK = re.compile(r"</?(?:br|p|div|li|tr|td|h\d)\b", re.IGNORECASE)  # these tags separate lines
MARKDOWN = re.compile(r"(?m)^\s{0,3}(?:#{1,6}\s+|>\s+|[-*+]\s+|```.*$)|\*\*|__|~~|`+")
ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z^_])")
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


def plain(text: str, length: int = MAX_PLAIN) -> str:
    """The first `length` characters of the text, cleaned, without links and markup."""
    text = text[:length]
    for _ in range(3 if "<" in text or "](" in text else 0):  # they may be nested
        text = MARKDOWN_LINK.sub(r"\1", TAG.sub(lambda tag: " " if BLOCK.match(tag[0]) else "", text))
    text = clean(MARKDOWN.sub("", text))
    if ":" in text or "www." in text.lower():  # every link has one of them; the pattern is slow
        text = LINK.sub(_gap, text)
    return " ".join(DOMAIN.sub(_no_link, text).split())


def _gap(link: re.Match[str]) -> str:
    """What replaces a link: a space, but none before punctuation."""
    following = link.string[link.end() : link.end() + 1]
    return " " if following in " :" or following.isalnum() else ""


def _no_link(domain: re.Match[str]) -> str:
    """What replaces a domain: a space if it has a path, else its name without dots, which phones do not link."""
    names, top, path = domain[1], domain[2], domain[3]
    real = top in TOP_LEVEL or (top.isupper() and top.lower() in TOP_LEVEL)
    if not real:
        return domain[0]
    return " " if path and len(path) > 1 else DOTS.sub(" ", names) + top + (path or "")


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
