"""The cardinal numbers that a text writes in words, in the languages of the tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import notifications.domain.language.number_tables as tables

PLACES = [*range(1, 20), *range(20, 100, 10), 100, 1000, 10**6]  # what the words of a row mean, in order
W = r"\w\u0900-\u0963\u0970-\u097f"  # the vowel signs of Devanagari are no \w
FOLD = str.maketrans("İ’ʼ‘ёأإآ\u00a0\u202f‐‑", "i'''еااا  --", "\u200b\u200e\u200f\u2060")
ROWS = {row[0]: row[1:] for row in map(str.split, tables.NUMBERS.split(";"))}
ALIASES = {"no": "nb", "nn": "nb", "iw": "he", "in": "id"}

DIGITS = {character: n % 10 for n, character in enumerate("〇一二三四五六七八九零")} | {"两": 2, "兩": 2}
TENS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8}
HANGUL = (
    {character: n for n, character in enumerate("영일이삼사오육칠팔구")},
    {"십": 10, "백": 100, "천": 1000, "만": 10**4},
)
HAN = "".join([*DIGITS, *TENS])
HAN_NUMBER = re.compile(
    rf"(?<![第\d.数數几幾{HAN}])(?:百分之)?([{HAN}]++)(?!嵐)"
    r"([年月日時时分秒人個个箇名位回次本枚台件匹歳岁歲週倍階円元块塊点點つ天张張条條只隻杯瓶間间页頁章冊册票%％]|か月|ヶ月|公斤|公里|小时)?"
)
HANGUL_COUNTER = (
    "(?:년|개월|월|일|시간|분|초|명|개|원|번|살|층|주|퍼센트|%|％|달러|미터|킬로|페이지|권|마리|대|잔|병|장|곳|가지|달"
    "|시|박|인분|사람)"
)
HANGUL_NUMBER = re.compile(rf"(?<![가-힣\d])([영일이삼사오육칠팔구십백천만]+?) ?{HANGUL_COUNTER}(?!율)")
KOREAN_TENS = {
    word: 10 * n for n, word in enumerate(["열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔"], 1)
} | {"스무": 20}
KOREAN_ONES = {word: n for n, word in enumerate(["한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉"], 1)}
KOREAN_NUMBER = re.compile(rf"(?<![가-힣\d])({'|'.join(KOREAN_TENS)})?({'|'.join(KOREAN_ONES)})? ?{HANGUL_COUNTER}")


class Number(NamedTuple):
    """Where a number stands, what it is, and its first and its longest word."""

    start: int
    end: int
    value: int
    first: str
    longest: int


def numbers_in_words(text: str, language: str | None) -> list[int]:
    """Every cardinal number from 2 on that is written in words. Without a known language, of words of one language."""
    text = unicodedata.normalize("NFC", text).translate(FOLD).lower()
    primary = (language or "").replace("_", "-").split("-")[0].lower()
    primary = ALIASES.get(primary, primary)
    if primary in {"ja", "zh"}:
        found = list(_han_numbers(text, primary))
    elif primary == "ko":
        found = list(_korean_numbers(text))
    elif primary in ROWS:
        found = list(_numbers(text, primary))
    else:
        found = _unambiguous(text)
    return [number.value for number in sorted(found) if number.value > 1]


def _unambiguous(text: str) -> list[Number]:
    """Of every language, what is long enough to be a word of that language only; where two disagree, the longer."""
    found = [*_han_numbers(text, None), *_korean_numbers(text)]
    for language in ROWS:
        if any(map(text.__contains__, _clear_words(language))):
            found += [number for number in _numbers(text, language) if _clear(number)]
    kept: list[Number] = []
    for number in sorted(set(found), key=lambda number: (number.start, -number.end, number.value)):
        if kept and number.start < kept[-1].end:
            if number[:2] == kept[-1][:2] and number.value != kept[-1].value:
                kept[-1] = kept[-1]._replace(value=0)
        else:
            kept.append(number)
    return kept


def _clear(number: Number) -> bool:
    return _is_clear(number.first, number.longest) and number.first not in tables.ELSEWHERE


def _is_clear(word: str, longest: int) -> bool:
    return word[0] >= "\u0370" or longest > 4 or word in tables.SHORT


@cache
def _clear_words(language: str) -> list[str]:
    """Of which one is in every text that has a clear number: most sentences have none, in any language."""
    kept: list[str] = []
    for word in sorted(_words(language)[0], key=len):
        if _is_clear(word, len(word)) and not any(one in word for one in kept):
            kept.append(word)
    return kept


@cache
def _words(language: str) -> tuple[dict[str, int], set[str], list[str]]:
    """What each word means, those that begin no number, and an expression for each."""
    values: dict[str, int] = {}
    bound: set[str] = set()
    patterns: list[str] = []
    for n, cell in enumerate(ROWS[language]):
        told, _, forms = cell.rpartition("=") if re.match(r"\d+=", cell) else ("", "", cell)
        value = int(told) if told else PLACES[n]
        for form in forms.replace("_", " ").split("|"):
            pattern = unicodedata.normalize("NFC", form.removeprefix("*"))
            word = re.sub(r"\(\?.*?\)", "", pattern)
            if word != "-":
                values.setdefault(word, value)
                patterns.append(pattern)
                bound |= {word} if form.startswith("*") else set()
    if link := tables.LINKS.get(language):
        ones = [word for word, value in values.items() if value < 10]
        tens = [word for word, value in values.items() if 20 <= value < 100 and value % 10 == 0]
        for one in ones:
            joined = one + ("ën" if language == "nl" and one.endswith("e") else link)
            for ten in tens:
                values[joined + ten] = values[one] + values[ten]
                patterns.append(joined + ten)
    return values, bound, patterns


@cache
def _vocabulary(language: str) -> tuple[dict[str, int], set[str], re.Pattern[str], re.Pattern[str]]:
    """What each word means, those that begin no number, and expressions of whole words and of their parts."""
    values, bound, patterns = _words(language)
    atom = "(?:" + "|".join(sorted(patterns, key=len, reverse=True)) + ")"
    glue = tables.GLUED.get(language)
    word = atom if glue is None else f"(?>{atom}(?:{glue}(?>{atom}))*+)"
    lead = tables.LEADS.get(language, "()")
    return values, bound, re.compile(rf"(?<![{W}]){lead}({word})(?![{W}])"), re.compile(atom)


def _parts(text: str, language: str) -> Iterator[tuple[int, int, str, int]]:
    """Each part of a number: from, to, the word, and how it is joined to the one before.

    0 is not at all, 1 in one word, 2 with a space, 3 with an "and".
    """
    _, _, words, atoms = _vocabulary(language)
    end, anded = -9, f" {tables.ANDS.get(language, '-')} "
    for m in words.finditer(text):
        gap = text[end : m.start()].replace("-", " ") if 0 <= m.start() - end < 8 else "."
        join = 3 if gap == anded or (gap == " " and m[1] and language in tables.LEADS) else 2 if gap == " " else 0
        for part in atoms.finditer(m[2]):
            start = m.start(2) + part.start()
            yield (m.start() if join != 1 else start), m.start(2) + part.end(), part[0], join
            join = 1
        end = m.end()


def _room(value: int, language: str) -> int:
    """A part that is smaller may follow."""
    if value >= 1000:
        return 1000
    if language == "fr" and value in {60, 80}:
        return 20
    if value == 10:
        return 10 if language in tables.TEN_AND else 0
    return 100 if value % 100 == 0 else 10 if value % 10 == 0 else 0


def _numbers(text: str, language: str) -> Iterator[Number]:
    values, bound, _, _ = _vocabulary(language)
    number, total, group, scale, room = Number(0, 0, 0, "", 0), 0, 0, 10**12, 0
    for start, end, word, join in _parts(text, language):
        value = values[word]
        least = (0, 0, tables.SPACED.get(language, 0), tables.ANDED.get(language, 10**9))[join]
        fits = join and value < room and room >= least and not (value == 1 and join > 1 and language in tables.GLUED)
        if language == "fr" and join == 3:
            fits = fits and room <= 20 and value in {1, 11}
        if join in {1, 2} and value >= 1000 and group and value < scale:
            total, group, scale, room = total + group * value, 0, value, 1000
        elif join in {1, 2} and value == 100 and 1 <= group < 20:
            group, room = group * 100, 100
        elif fits:
            group, room = group + value, _room(value, language)
        else:
            yield from _whole(text, number, language)
            number = Number(start, end, 0, word, 0)
            if word in bound:
                total, group, scale, room = 0, 0, 10**12, 0
            elif value >= 1000:
                total, group, scale, room = value, 0, value, 1000
            else:
                total, group, scale, room = 0, value, 10**12, _room(value, language)
        number = number._replace(end=end, value=total + group, longest=max(number.longest, len(word)))
    yield from _whole(text, number, language)


def _whole(text: str, number: Number, language: str) -> Iterator[Number]:
    """The number, unless it is part of something else: an ordinal, half a million, or a word that is none alone."""
    start, end = number.start, number.end
    alone = tables.NOT_ALONE.get(text[start:end])
    if number.value < 2 or (alone and not re.compile(alone).match(text, end)):
        return
    ordinal = number.value % 10 == 0 and re.compile(tables.ORDINAL).match(text, end)
    if ordinal or (language == "vi" and text.startswith("thứ ", start - 4)):
        return
    scale = _vocabulary(language)[0].get(number.first, 0) >= 100
    if not scale or not re.compile(tables.PARTED).search(text, max(0, start - 12), start):
        yield number


def _read(run: str, digits: dict[str, int], tens: dict[str, int]) -> int:
    """A number of numerals and places; 0 where its numerals are without places."""
    total = group = digit = 0
    for character in run:
        if character in digits:
            if digit:
                return 0
            digit = digits[character]
        elif tens[character] < 10**4:
            group, digit = group + (digit or 1) * tens[character], 0
        else:
            total, group, digit = total + ((group + digit) or 1) * tens[character], 0, 0
    return total + group + digit


def _han_numbers(text: str, language: str | None) -> Iterator[Number]:
    for m in HAN_NUMBER.finditer(text):
        run, counter = m[1], m[2]
        percent = m[0].startswith("百分之")
        if len(run) == 1 and not counter and not percent:
            continue
        if (run, counter) in {("十", "分"), ("百", "分"), ("万", "一"), ("四", "周")} or run in {
            "千万",
            "万一",
            "百万一",
        }:
            continue
        years = len(run) == 4 and counter == "年" and all(character in DIGITS for character in run)
        value = int("".join(str(DIGITS[c]) for c in run)) if years else _read(run, DIGITS, TENS)
        if len(run) == 1 and TENS.get(run, 0) >= 10**4:
            continue
        # 一百五 is 150 as Chinese is spoken, and 105 in Japanese.
        if language != "ja" and re.search("[百千万萬億亿][二三四五六七八九]$", run):
            continue
        yield Number(m.start(), m.end(), value, run, 9)


def _korean_numbers(text: str) -> Iterator[Number]:
    for m in HANGUL_NUMBER.finditer(text):
        if len(m[1]) > 1 and any(character in HANGUL[1] for character in m[1]):
            yield Number(m.start(), m.end(), _read(m[1], *HANGUL), m[1], 9)
    for m in KOREAN_NUMBER.finditer(text):
        if m[1] or m[2]:
            value = KOREAN_TENS.get(m[1] or "", 0) + KOREAN_ONES.get(m[2] or "", 0)
            yield Number(m.start(), m.end(), value, m[0], 9)
