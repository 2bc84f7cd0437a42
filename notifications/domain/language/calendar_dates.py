"""Where the weekdays and dates of a text stand, and what they mean, in the languages of the tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TypeVar

import notifications.domain.language.calendar_tables as tables

T = TypeVar("T")
Found = list[tuple[int, int, list[T]]]  # from, to (in the readable text), and each way to read it
SENTENCES = 512  # that are read several times in a row, and not anew each time
Date = tuple[int | None, int | None, int | None]  # year, month, day; None is not said

ALIASES = {"no": "nb", "nn": "nb", "iw": "he", "in": "id"}
PLAIN = str.maketrans("’ʼ‘＇׳״：／．（），－％־–\u00a0\u202f\u2009", "'''''\":/.(),-%--   ", "\u200b\u200e\u200f\u2060")
PLAIN |= {zero + n: ord("0") + n for zero in (0x660, 0x6F0, 0x966, 0x9E6, 0xFF10) for n in range(10)}
W = r"\w\u0900-\u0963\u0970-\u097f"  # the vowel signs of Devanagari are no \w


def readable(text: str) -> str:
    """The text in NFC, its digits, points, colons and spaces in ASCII: what spans point into."""
    return unicodedata.normalize("NFC", text).translate(PLAIN)


@cache
def expression(pattern: str) -> re.Pattern[str]:
    """Without case, composed as the readable text is, and compiled when it is first needed."""
    return re.compile(unicodedata.normalize("NFC", pattern), re.IGNORECASE)


def groups(columns: Iterable[str]) -> str:
    """One group a column."""
    return "|".join(f"({column})" for column in columns)


def _rows(table: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in (line.split() for line in table.split(";"))}


ROWS = {kind: _rows(table) for kind, table in tables.TABLES.items()}
SHAPED = {kind: {key: "".join(row) for key, row in _rows(shapes).items()} for kind, shapes in tables.SHAPES.items()}

DAY = r"(3[01]|[12]\d|0?[1-9])"
HAN = "〇一二三四五六七八九"
HOURS = ["한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열", "열한", "열두"]
DAY_BEFORE = (
    rf"(?<![\w.,:/])(?<!\d-)(?:{DAY}(?:st|nd|rd|th|\.)?"
    r"(?: ?[-/] ?| (?:to|and|bis|und|au|et|y|al?|e|i|и|по|till|og|och|en|tot) ))?"
    rf"{DAY}(?:st|nd|rd|th|er|\.|º|ª|°|:?e|-?(?:го|е|ое))?(?: (?:of|del?|di|do|من))? ?$"
)
DAY_AFTER = (
    rf"\.?,? (?:the )?{DAY}(?:st|nd|rd|th)?(?: ?- ?{DAY}(?:st|nd|rd|th)?)?"
    r"(?![\w%:$€]|[./]\d|,\d{1,3}(?!\d)| ?(?:[ap]\.?m|km|miles|people|minutes|hours|days|weeks)\b)"
)
YEAR = r"(?:,? (?:of |del? |di |năm |عام |سنة )?|,|/|-)((?:19|20)\d\d)(?![\d:%]|[.,]\d)"
YMD = r"(?<![\w.,:/-])((?:19|20)\d\d)([-/.])(\d{1,2})\2(\d{1,2})(?![\d-]|[./]\d)"
DMY = r"(?<![\d.,:/-])(\d{1,2})([-/.]) ?(\d{1,2})\2 ?((?:19|20)?\d\d)(?![\d/]|[-.,:]\d)"
DOTTED = r"(?<![\d.,:/])(\d{1,2})\. ?(\d{1,2})\.(?! ?\d)"
SLASHED = rf"(?<!\w)(?:{tables.ON_DATE}) ?(\d{{1,2}})/(\d{{1,2}})(?![\d/])"
HAN_DATE = (
    rf"(?:(?<!\d)(?=\d)|(?<![\d个個十{HAN}])(?=[十{HAN}]))(?:(\d{{4}}|[{HAN}]{{4}}) ?[年년] ?)?"
    rf"(\d{{1,2}}|[十{HAN}]{{1,3}}) ?(?:月(?!曜)|월(?!요))"
    rf"(?: ?(\d{{1,2}}|[十{HAN}]{{1,3}}) ?(?:[日號号](?![間间曜本])|일(?!간)))?"
)
ALONE, IN = tables.NO_MONTH_ALONE, rf"(?<!\w)(?:{tables.IN_MONTH})[ -]$"
SHORT_EN = (
    rf"(?-i:(?<!the )(?:Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun))(?:\.(?!\w)| {DAY}(?:st|nd|rd|th)?(?![\w:%]|[.,]\d))"
)
GAP = r"\.?,? ?(?:(?:the|le|el|den|dem|der) )?"


def known(language: str | None) -> str | None:
    """The language of the tables that a tag names; None: every language is tried."""
    primary = (language or "").replace("_", "-").split("-")[0].lower()
    primary = ALIASES.get(primary, primary)
    return primary if primary in ROWS["weekday"] else None


def blank(text: str, spans: Found[T]) -> str:
    """The text with spaces where the spans are."""
    parts, at = [], 0
    for start, end, _ in spans:
        parts += [text[at:start], " " * (end - max(at, start))]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def apart(spans: Found[T]) -> Found[T]:
    """In order; of two that overlap the one that begins first, or is longer."""
    kept: Found[T] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or kept[-1][1] <= span[0]:
            kept.append(span)
    return kept


def _cell(kind: str, language: str, cell: str) -> str:
    shape = "@" if cell.startswith("=") else SHAPED.get(kind, {}).get(language, "@")
    return tables.LEADS.get(language, "") + f"(?:{shape.replace('@', cell.removeprefix('='))})".replace("_", " ")


@cache
def _finder(kind: str, language: str | None) -> tuple[re.Pattern[str], int]:
    """The expressions of a table, one group a column. Words end where letters do, but not in Chinese or Japanese."""
    width = max(map(len, ROWS[kind].values()))
    classes = []
    before, behind = f"(?<![{W}])(?=[^\\W\\d_])", f"(?![{W}])"
    for front, back, members in ((before, behind, None), (before, "", {"ko"}), ("", "", {"ja", "zh"})):
        rows = [
            [_cell(kind, key, cell) if cell != "-" else "" for cell in row]
            for key, row in ROWS[kind].items()
            if language in (None, key) and (key in members if members else key not in {"ko", "ja", "zh"})
        ]
        columns = ["|".join(row[n] for row in rows if n < len(row) and row[n]) or "(?!)" for n in range(width)]
        classes.append(f"{front}(?:{groups(columns)}){back}" if rows else groups(["(?!)"] * width))
    return expression("|".join(classes)), width


@lru_cache(SENTENCES)
def find(kind: str, text: str, language: str | None) -> list[tuple[int, int, int]]:
    """From, to, and the column of each word of a table."""
    pattern, width = _finder(kind, language)
    return [
        (m.start(), m.end(), ((m.lastindex or 1) - 1) % width)
        for m in pattern.finditer(text)
        if language or m[0].lower() not in tables.ELSEWHERE
    ]


@cache
def _at(language: str | None) -> list[re.Pattern[str]]:
    rows = [row for key, row in ROWS["at"].items() if language in (None, key)]
    cells = ["|".join(row[n] for row in rows if row[n] != "-").replace("_", " ") or "(?!)" for n in range(3)]
    return [expression(rf"(?<![{W}])(?:{cell})\.? ?$") for cell in cells]


def says_time(text: str, at: int, language: str | None) -> list[bool]:
    """Whether the words before this place say that a time follows: always, mostly, or before a unit."""
    return [bool(pattern.search(text, max(0, at - 16), at)) for pattern in _at(language)]


def weekday_spans(text: str, language: str | None) -> Found[int]:
    """Where each weekday stands. Monday is 0."""
    found = [(start, end, [day]) for start, end, day in find("weekday", text, language)]
    short = find("short weekday", text, language)
    spans = [(start, end) for start, end, read in date_spans(text, language) if read[0][2]] if short else []
    starts, ends = {start for start, _ in spans}, {end for _, end in spans}
    for start, end, day in short:
        gap = expression(GAP).match(text, end)
        behind = text[start - 1 : start] == "(" and (start - 1 in ends or start - 2 in ends)
        dated = (gap is not None and gap.end() in starts) or behind
        if not language and text[start:end].isascii() and end - start < 3:
            continue
        if dated or (language in (None, "en") and expression(SHORT_EN).match(text, start)):
            found.append((start, end, [day]))
    return apart(found)


def _valid(year: str | None, month: str | None, day: str | None) -> list[Date]:
    y, m, d = (int(part) if part else None for part in (year, month, day))
    y = y + 2000 if y is not None and y < 100 else y
    return [(y, m, d)] if m and 1 <= m <= 12 and (d is None or 1 <= d <= 31) else []


@lru_cache(SENTENCES)
def date_spans(text: str, language: str | None) -> Found[Date]:
    """Where each date stands, and each way to read it."""
    found: Found[Date] = [(m.start(), m.end(), _valid(m[1], m[3], m[4])) for m in expression(YMD).finditer(text)]
    for m in expression(DMY).finditer(text):
        if len(m[4]) == 4 or (" " not in m[0] and (m[2] == "/" or len(m[0]) == 8)):
            other = [] if m[2] == "." else _valid(m[4], m[1], m[3])
            found.append((m.start(), m.end(), list(dict.fromkeys(_valid(m[4], m[3], m[1]) + other))))
    for m in expression(DOTTED).finditer(text) if language is None or language in tables.DOTS else ():
        goes_on = language or re.match(r"[^\w\s]*\s*[^\W\dA-ZÄÖÜ]", text[m.end() : m.end() + 8])
        if goes_on and not says_time(text, m.start(), language)[0]:
            found.append((m.start(), m.end(), _valid(None, m[2], m[1])))
    for m in expression(SLASHED).finditer(text):
        read = list(dict.fromkeys(_valid(None, m[2], m[1]) + _valid(None, m[1], m[2])))
        found.append((m.start(1), m.end(), read))
    for m in expression(HAN_DATE).finditer(text):
        year, month, day = (part and str(han(part)) for part in m.groups())
        found.append((m.start(), m.end(), _valid(year, month, day)))
    taken: set[int] = set()  # where the days stand that a month has already
    for kind in ("month", "short month"):
        for start, end, column in find(kind, text, language):
            found += _beside(text, language, start, end, column + 1, kind != "month", taken)
    return apart([one for one in found if one[2]])


def _beside(
    text: str, language: str | None, start: int, end: int, month: int, short: bool, taken: set[int]
) -> Found[Date]:
    """The date that this word for a month is of: its days and its year stand beside it."""
    word, first, last = text[start:end], start, end + (short and text[end : end + 1] == ".")
    day = expression(DAY_BEFORE).search(text, max(0, start - 34), start)
    if day and day.start(2) not in taken:
        first = day.start()
    else:
        day = expression(DAY_AFTER).match(text, last) if language in (None, "en", "hi") else None
        last = day.end() if day else last
    year = expression(YEAR).match(text, last)
    if day:
        taken.update(day.start(n) for n in (1, 2))
    elif not year and (short or not _stands_alone(text, language, start, word)):
        return []
    days = [one for one in day.groups() if one] if day else [None]
    read = [date for one in days for date in _valid(year and year[1], str(month), one)]
    return [(first, year.end() if year else last, read)]


def _stands_alone(text: str, language: str | None, start: int, word: str) -> bool:
    if word in tables.NO_MONTH or (language == "en" and word == "august"):
        return False
    return not expression(ALONE).fullmatch(word) or bool(expression(IN).search(text, max(0, start - 9), start))


def han(number: str) -> int:
    """A number below 100 in digits, in Chinese numerals or as Korean says hours; -1 is none."""
    if number.isdigit():
        return int(number)
    if number in HOURS:
        return HOURS.index(number) + 1
    number = number.replace("两", "二").replace("兩", "二")
    if len(number) == 4 and "十" not in number:
        return int("".join(str(HAN.index(digit)) for digit in number))
    tens, ten, ones = number.rpartition("十")
    if len(tens) > 1 or len(ones) > 1 or "十" in tens:
        return -1
    return (10 * (HAN.index(tens) if tens else 1) if ten else 0) + (HAN.index(ones) if ones else 0)
