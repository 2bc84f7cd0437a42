"""The weekdays, dates, relative days and clock times that a text names; without a known language, of every language."""

from __future__ import annotations

import re
from functools import lru_cache

import notifications.domain.language.calendar_tables as tables
from notifications.domain.language.calendar_dates import (
    HAN,
    HOURS,
    SENTENCES,
    Date,
    Found,
    W,
    apart,
    blank,
    date_spans,
    expression,
    find,
    groups,
    han,
    known,
    readable,
    says_time,
    weekday_spans,
)

TIME = (
    r"(?:(?<![^\W\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3])(?<![.,:/])|(?<=[\d ]T))"
    r"(\d{1,2})(?!\d)(?:(:|\.| ?h ?)([0-5]\d)(?!\d)(?::[0-5]\d)?)?"
)
CLOCK = rf" ?(?:uhr(?: ([0-5]\d)(?!\d| ?uhr))?|o'?clock|बजे|बजकर(?: ([0-5]?\d) मिनट)?)(?![{W}])"
UNIT = rf" ?(?:(h|uur|giờ)(?: ([0-5]\d)(?: phút)?)?|час(?:а|ов)?|годин[аиіу]?|hod(?:in[ayu]?)?)(?![{W}])"
AM_PM = rf" ?(?:([aπ])|[pμ])\.? ?[mμ](?![{W}])\.?"
BEFORE_TURN = rf"(?<![{W}])(?:{groups(tables.TURNS_BEFORE)}) $"
AFTER_TURN = rf" (?:{groups(tables.TURNS_AFTER)})(?![{W}])"
AFTER_PART = rf",? ?(?:{groups(tables.PARTS_AFTER)})(?![{W}])"
BEFORE_PART = rf"(?:{groups(tables.PARTS_BEFORE)})(?: (?:saat|um|को|में|के|की))?(?: (?:साढ़े|सवा|पौने))?[の ]?$"
OF_DAY = rf",? ?(?:{tables.OF_THE_DAY})"
ENDS = rf"\s?(?:$|[,;!?)\]\"…]|\.(?!\d)|(?:{tables.NOT_COUNTED})\b)"
HAN_TIME = (
    rf"((?<![\d.,:第])\d{{1,2}}|(?<![\d第几幾数十两兩{HAN}])[十两兩{HAN}]{{1,3}}|(?<![가-힣])(?:{'|'.join(HOURS[::-1])}))"
    rf" ?(?:([点點])(?![意建原要理内问方经看希注收结])|[时時](?![間间])|시(?![간적름]))"
    rf"(?: ?(半|반)| ?(\d{{1,2}}|[十{HAN}]{{1,3}}) ?[分분]|([一三])刻)?(钟|鐘|整)?"
)


def weekdays(text: str, language: str | None) -> list[int]:
    """Every weekday named in the text, in order: Monday is 0. Without a known language, of every language."""
    return [day for _, _, days in weekday_spans(readable(text), known(language)) for day in days]


def dates(text: str, language: str | None) -> list[Date]:
    """Every date written in the text, in order; each way to read it."""
    return [date for _, _, read in date_spans(readable(text), known(language)) for date in read]


def relative_days(text: str, language: str | None) -> list[int]:
    """Yesterday is -1, the day after tomorrow 2. Both ways where the word says either, as in Hindi."""
    return [
        day for _, _, column in find("relative", readable(text), known(language)) for day in tables.RELATIVE[column]
    ]


def times(text: str, language: str | None) -> list[int]:
    """Every clock time, in minutes of the day; the morning's and the evening's where the text does not say which."""
    return [minute for _, _, read in time_spans(text, language) for minute in read]


def time_spans(text: str, language: str | None) -> Found[int]:
    """Where in the readable text each clock time stands, and each way to read it."""
    text, language = readable(text), known(language)
    return _times(blank(text, date_spans(text, language)), language)


@lru_cache(SENTENCES)
def strip_calendar(text: str, language: str | None) -> str:
    """The readable text with spaces where its dates and clock times, and weekdays with a digit, were."""
    text, language = readable(text), known(language)
    numbered = [day for day in weekday_spans(text, language) if any(map(str.isdigit, text[day[0] : day[1]]))]
    text = blank(blank(text, numbered), date_spans(text, language))
    return blank(text, _times(text, language))


def _minutes(hour: str, minute: int, part: int | None) -> list[int]:
    """Each way to read a clock time. `part`: 1 morning, 2 afternoon or evening, 3 night, 4 midday."""
    h = han(hour)
    if not 0 <= h <= 24 or not 0 <= minute < 60:
        return []
    if not 1 <= h <= 12 or (hour[0] == "0" and not part):
        return [(h * 60 + minute) % 1440]
    if not part:
        return [h % 12 * 60 + minute, (h % 12 + 12) * 60 + minute]
    late = part == 2 or (part == 3 and 6 <= h < 12) or (part == 4 and (h < 10 or h == 12))
    return [(h % 12 + 12 * late) * 60 + minute]


def _times(text: str, language: str | None) -> Found[int]:
    found = [(start, end, [720 * (1 - column)]) for start, end, column in find("noon", text, language)]
    for m in expression(HAN_TIME).finditer(text):
        part = expression(BEFORE_PART).search(text, max(0, m.start() - 12), m.start())
        told = part or any(m.groups()[2:])
        if told or (m[1] != "一" and (not m[2] or (language == "zh" and m[1].isdigit()))):
            minute = 30 if m[3] else han(m[4]) if m[4] else 15 * han(m[5]) if m[5] else 0
            found.append((m.start(), m.end(), _minutes(m[1], minute, part and part.lastindex)))
    for m in expression(TIME).finditer(text):
        found += _clock(text, language, m)
    return apart([one for one in found if one[2]])


def _clock(text: str, language: str | None, m: re.Match[str]) -> Found[int]:
    """The clock time that this number is, if what stands around it says so."""
    always, mostly, before_unit = says_time(text, m.start(), language)
    sep, minute, end = (m[2] or "").strip().lower(), int(m[3] or 0), m.end()
    turn = expression(BEFORE_TURN).search(text, max(0, m.start() - 16), m.start())
    clock, unit = expression(CLOCK).match(text, end), expression(UNIT).match(text, end)
    if tail := clock or unit:
        end, minute = tail.end(), int(next((part for part in tail.groups() if part and part.isdigit()), minute))
    later = expression(AFTER_TURN).match(text, end)
    end = later.end() if later else end
    am_pm = expression(AM_PM).match(text, end)
    if am_pm and language == "de" and "." not in am_pm[0]:
        am_pm = None
    end = am_pm.end() if am_pm else end
    part = expression(AFTER_PART).match(text, end) or expression(BEFORE_PART).search(
        text, max(0, m.start() - 24), m.start()
    )
    hour, said = int(m[1]), always or mostly or before_unit
    sure = sep == ":" or clock or am_pm or turn or always or (sep == "h" and (hour > 5 or said))
    sure = sure or (unit and (said or part or (unit[1] and 12 < hour < 24 and language != "en")))
    sure = sure or (said and (part or later)) or (part and expression(OF_DAY).match(text, end))
    sure = sure or (
        mostly and expression(ENDS).match(text, end) and not (sep == "." and language == "en" and hour < 13)
    )
    if not sure:
        return []
    when = (1 if am_pm[1] else 2) if am_pm else part and part.lastindex
    shift = tables.TURNS[(turn.lastindex or 1) - 1] if turn else 0
    shift += tables.TURNS[(later.lastindex or 1) - 1] if later else 0
    return [(m.start(), end, [(t + shift) % 1440 for t in _minutes(m[1], minute, when)])]
