"""Converts Markdown that an app stores as a conversation's text to plain lines, with the same words and lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

ITEM = re.compile(r"(?:[-*+•‣◦▪]|–)\s+(?:\[[ xX]\]\s+)?")
NUMBER = re.compile(r"(\d{1,3})[.)]\s+")
HEADING = re.compile(r"#{1,6}(?:\s+|$)")
BOLD_LINE = re.compile(r"(?:\*\*|__)([^*_]{1,200})(?:\*\*|__)\s*[:：]?")  # used as a heading
FENCES = ("```", "~~~")
DEFINITION = re.compile(r"\[[^\[\]]{1,100}\]:\s*\S")  # a link's address: `[1]: https://…`
BREAK = re.compile(r"<br\s{0,5}/?>", re.IGNORECASE)
MARK = re.compile(r"[\\`*_~\[]")
ADDRESS = r"\((?:[^()\s]|\([^()\s]{0,200}\)){0,2000}(?:\s\"[^\"]{0,200}\")?\)"
LINK = re.compile(rf"(?<!\\)!?\[([^\[\]]{{0,400}})\](?:{ADDRESS}|\[[^\[\]]{{0,100}}\])")
STARS = re.compile(r"(?<![\d\\])\*\*|(?<!\\)\*\*(?!\d)")  # not in `2**10`
STAR = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*]{1,400})(?<=[^\s*\\])\*(?![\w*])")
UNDERSCORES = re.compile(r"(?<![\w\\])(_{1,2})(?=[^\s_])([^_]{1,400})(?<=[^\s_\\])\1(?!\w)")
ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|>~])")
QUOTED = re.compile(r"(?:>\s+|>(?![\d=]))+")  # `>5` is no quotation
END_OF_A_SENTENCE = ".。!！?？…।"
END_OF_A_HEADING = f" :：{END_OF_A_SENTENCE}"


def without_marks(text: str) -> str:
    """The text as plain lines. A heading ends with a colon, so that it is not taken for a sentence."""
    rows = [row.strip() for row in BREAK.sub("\n", text).splitlines()]
    listed = _numbered(rows)
    lines: list[str] = []
    in_code = False
    for index, row in enumerate(rows):
        if row.startswith(FENCES):
            in_code = not in_code
        elif in_code:
            lines.append(row)
        elif index and _is_underline(row, rows[index - 1]) and lines:
            lines[-1] = _heading(lines[-1])
        elif not (_is_rule(row) or DEFINITION.match(row)):
            lines.append(_row(row, index in listed))
    return "\n".join(line for line in lines if line)


def _numbered(rows: Sequence[str]) -> set[int]:
    """The rows of numbered lists. Two consecutive numbers are needed, since one alone may be a date, `5. Mai`."""
    numbers = [(index, int(match[1])) for index, row in enumerate(rows) if (match := NUMBER.match(row))]
    listed: set[int] = set()
    for (index, number), (next_index, next_number) in pairwise(numbers):
        if next_number == number + 1:
            listed |= {index, next_index}
    return listed


def _is_underline(row: str, above: str) -> bool:
    """Whether the row makes a heading of the row above; below a sentence, or an empty row, it is a rule."""
    return len(row) > 1 and set(row) in ({"="}, {"-"}) and bool(above) and above[-1] not in END_OF_A_SENTENCE


def _is_rule(row: str) -> bool:
    """Whether the row is a horizontal line, also of a table."""
    return len(row) > 2 and any(set(row) <= set(characters) for characters in ("|:- ", "* ", "_ ", "= "))


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


def _heading(text: str) -> str:
    text = text.rstrip(END_OF_A_HEADING)
    return f"{text}:" if text else ""


def _inlines(cells: Iterable[str]) -> Iterable[str]:
    return (text for cell in cells if (text := _inline(cell)))


def _inline(text: str) -> str:
    if not MARK.search(text):
        return text.strip()
    text = LINK.sub(r"\1", text).replace("~~", "").replace("`", "")
    for pattern, replacement in ((STARS, ""), (STAR, r"\1"), (UNDERSCORES, r"\2"), (ESCAPED, r"\1")):
        text = pattern.sub(replacement, text)
    return text.strip()
