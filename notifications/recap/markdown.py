"""Markdown that an app keeps as a conversation's text, to plain lines: the marks go, the words and the lines stay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

ITEM = re.compile(r"(?:[-*+•‣◦▪]|–)\s+(?:\[[ xX]\]\s+)?")
NUMBER = re.compile(r"(\d{1,3})[.)]\s+")
HEADING = re.compile(r"#{1,6}(?:\s+|$)")
BOLD_LINE = re.compile(r"(?:\*\*|__)([^*_]{1,200})(?:\*\*|__)\s*[:：]?")  # what stands for a heading
FENCES = ("```", "~~~")
DEFINITION = re.compile(r"\[[^\[\]]{1,100}\]:\s*\S")  # of a link: `[1]: https://…`
BREAK = re.compile(r"<br\s{0,5}/?>", re.IGNORECASE)
MARK = re.compile(r"[\\`*_~\[]")
ADDRESS = r"\((?:[^()\s]|\([^()\s]{0,200}\)){0,2000}(?:\s\"[^\"]{0,200}\")?\)"
LINK = re.compile(rf"(?<!\\)!?\[([^\[\]]{{0,400}})\](?:{ADDRESS}|\[[^\[\]]{{0,100}}\])")
STARS = re.compile(r"(?<![\d\\])\*\*|(?<!\\)\*\*(?!\d)")  # `2**10` is none
STAR = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*]{1,400})(?<=[^\s*\\])\*(?![\w*])")
UNDERSCORES = re.compile(r"(?<![\w\\])(_{1,2})(?=[^\s_])([^_]{1,400})(?<=[^\s_\\])\1(?!\w)")
ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|>~])")
QUOTED = re.compile(r"(?:>\s+|>(?![\d=]))+")  # `>5` is no quotation
END_OF_A_SENTENCE = ".。!！?？…।"
END_OF_A_HEADING = f" :：{END_OF_A_SENTENCE}"


def without_marks(text: str) -> str:
    """The text as plain lines. A heading ends with a colon, so that nobody takes it for a sentence."""
    rows = [row.strip() for row in BREAK.sub("\n", text).splitlines()]
    listed = _numbered(rows)
    kept: list[str] = []
    in_code = False
    for at, row in enumerate(rows):
        if row.startswith(FENCES):
            in_code = not in_code
        elif in_code:
            kept.append(row)
        elif at and _underlines(row, rows[at - 1]) and kept:
            kept[-1] = _heading(kept[-1])
        elif not (_draws(row) or DEFINITION.match(row)):
            kept.append(_row(row, at in listed))
    return "\n".join(row for row in kept if row)


def _numbered(rows: Sequence[str]) -> set[int]:
    """The rows that begin with the number of a list: one alone may be a date, `5. Mai`."""
    found = [(at, int(number[1])) for at, row in enumerate(rows) if (number := NUMBER.match(row))]
    pairs = pairwise(found)
    return {at for one, other in pairs if other[1] == one[1] + 1 for at in (one[0], other[0])}


def _underlines(row: str, above: str) -> bool:
    """Whether it makes a heading of the row above; below a sentence, or an empty row, it is a rule."""
    return len(row) > 1 and set(row) in ({"="}, {"-"}) and bool(above) and above[-1] not in END_OF_A_SENTENCE


def _draws(row: str) -> bool:
    drawn = set(row)
    return len(row) > 2 and (drawn <= set("|:- ") or drawn <= set("* ") or drawn <= set("_ ") or drawn <= set("= "))


def _row(row: str, numbered: bool) -> str:
    if quoted := QUOTED.match(row):
        row = row[quoted.end() :]
    if mark := HEADING.match(row):
        return _heading(_inline(row[mark.end() :].rstrip("# ")))
    if bold := BOLD_LINE.fullmatch(row):
        return _heading(_inline(bold[1]))
    if mark := (NUMBER if numbered else ITEM).match(row):
        row = row[mark.end() :]
    if len(row) > 1 and row[0] == row[-1] == "|":
        return "; ".join(_inlines(row.strip("|").split("|")))
    return _inline(row)


def _heading(words: str) -> str:
    words = words.rstrip(END_OF_A_HEADING)
    return f"{words}:" if words else ""


def _inlines(cells: Iterable[str]) -> Iterable[str]:
    return (words for cell in cells if (words := _inline(cell)))


def _inline(words: str) -> str:
    if not MARK.search(words):
        return words.strip()
    words = LINK.sub(r"\1", words).replace("~~", "").replace("`", "")
    for pattern, kept in ((STARS, ""), (STAR, r"\1"), (UNDERSCORES, r"\2"), (ESCAPED, r"\1")):
        words = pattern.sub(kept, words)
    return words.strip()
