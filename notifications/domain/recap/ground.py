"""What notes say, as far as code can hold a sentence against it: each of their sentences, and all of them together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache

from notifications.domain.language.calendar_words import dates, relative_days, strip_calendar, times, weekdays
from notifications.domain.language.names import SMALL_LETTERS
from notifications.domain.language.number_words import numbers_in_words
from notifications.domain.language.numbers import mentioned_currencies, numbers, western
from notifications.domain.language.words import content_words, primary, stems, without_ending, words, writes_no_spaces
from notifications.domain.model import Conversation
from notifications.domain.recap.material import Material, held_at
from notifications.domain.schedule import zone

EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
SENTENCE_ENDS = re.compile(r"(?<=[.!?…])(?<!\d\.)\s+|(?<=[。！？؟।])|\n")
SMALL = re.compile(r"(?<![^\W_])[^\W\d_A-ZÀ-ÖØ-ÞА-Я][^\W\d_]+")

NOT_SAID = re.compile(r"[\W_]+")
WEEK = 7

YearMonthDay = tuple[int | None, int | None, int | None]
MonthDay = tuple[int | None, int | None]


class Piece:
    """One sentence of a note. Each kind of fact is looked for when it is needed."""

    def __init__(self, text: str, tongue: str | None) -> None:
        self.text = text
        self.tongue = tongue

    @cached_property
    def numbers(self) -> Counter[Decimal]:
        """How often each number is said, in digits or in words, but for dates and times; in each way to read it."""
        rest = strip_calendar(self.text, self.tongue)
        found = Counter(map(Decimal, numbers_in_words(rest, self.tongue)))
        for whole, bare in numbers(rest):
            found.update(whole | bare)
        return found

    @cached_property
    def dates(self) -> frozenset[YearMonthDay]:
        """Every date."""
        return frozenset(dates(self.text, self.tongue))

    @cached_property
    def month_days(self) -> frozenset[MonthDay]:
        """Every date, without its year."""
        return frozenset(one[1:] for one in self.dates)

    @cached_property
    def weekdays(self) -> Counter[int]:
        """How often each weekday is named."""
        return Counter(weekdays(self.text, self.tongue))

    @cached_property
    def times(self) -> frozenset[int]:
        """Every time of day, in minutes."""
        return frozenset(times(self.text, self.tongue))

    @cached_property
    def topic(self) -> frozenset[str]:
        """What it is about: its words, but for those that are facts themselves."""
        return topic_of(self.text, self.tongue)


class Ground:
    """What some notes say together."""

    def __init__(self, conversations: Sequence[Conversation], m: Material) -> None:
        self._texts = [(western("\n".join(_said(c))), primary(c.language or m.language) or None) for c in conversations]
        tz = zone(m.zone)
        self._held = [held_at(c).astimezone(tz) for c in conversations]
        self._held += [c.finished_at.astimezone(tz) for c in conversations if c.finished_at]
        self._day = m.date

    @cached_property
    def pieces(self) -> list[Piece]:
        """Its sentences."""
        return [Piece(one, tongue) for text, tongue in self._texts for one in SENTENCE_ENDS.split(text) if one]

    @cached_property
    def languages(self) -> frozenset[str]:
        """The primary languages of the notes; an unknown one is none."""
        return frozenset(tongue for _, tongue in self._texts if tongue)

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word, without case; of a joined one its parts too."""
        found = {word for text, _ in self._texts for word in words(text)}
        return frozenset(found | {part for word in found for part in re.split(r"['’\-‑]", word)})

    @cached_property
    def stems(self) -> frozenset[str]:
        """The first letters of every word."""
        return frozenset(stem for word in self.words for stem in stems(word))

    @cached_property
    def without_endings(self) -> frozenset[str]:
        """Every word without its case ending."""
        return frozenset(without_ending(word, tongue) for word in self.words for tongue in self.languages)

    @cached_property
    def lower_case(self) -> frozenset[str]:
        """How the words begin that are written small somewhere: no name begins like one of them by chance."""
        small = (word for text, _ in self._texts for word in SMALL.findall(text))
        return frozenset(word[:n] for word in small for n in (len(word), SMALL_LETTERS - 1, SMALL_LETTERS))

    @cached_property
    def numbers(self) -> Counter[Decimal]:
        """How often each number is said, but for dates and times."""
        return sum((piece.numbers for piece in self.pieces), Counter[Decimal]())

    @cached_property
    def dates(self) -> frozenset[YearMonthDay]:
        """Every date that is written, and each day that is meant by a weekday, or by `tomorrow`."""
        written = frozenset().union(*(piece.dates for piece in self.pieces))
        meant = [self._day, *(held.date() for held in self._held)]
        meant += [self._day + timedelta(days=n) for n in self.relative_days]
        if not written:  # else a weekday says which of the dates, and no other
            near = (self._day + timedelta(days=n) for n in range(-WEEK, WEEK + 1))
            meant += [day for day in near if day.weekday() in self.named_weekdays]
        return written | {(day.year, day.month, day.day) for day in meant}

    @cached_property
    def named_weekdays(self) -> Counter[int]:
        """How often each weekday is named."""
        return sum((piece.weekdays for piece in self.pieces), Counter[int]())

    @cached_property
    def weekdays(self) -> frozenset[int]:
        """Every weekday that is named, or meant by a date; this day's own is not, unless somebody names it."""
        exact = (self._exact(one) for one in self.dates)
        return frozenset(self.named_weekdays) | {day.weekday() for day in exact if day and day != self._day}

    @cached_property
    def relative_days(self) -> frozenset[int]:
        """Every `yesterday` and `tomorrow`."""
        return frozenset(one for text, tongue in self._texts for one in relative_days(text, tongue))

    @cached_property
    def times(self) -> frozenset[int]:
        """Every time of day, in minutes; when they were held, too."""
        said = frozenset().union(*(piece.times for piece in self.pieces))
        return said | {held.hour * 60 + held.minute for held in self._held}

    @cached_property
    def quotable(self) -> str:
        """All that is said, as letters and digits."""
        return letters_of("\n".join(text for text, _ in self._texts))

    @cached_property
    def emails(self) -> frozenset[str]:
        """Every e-mail address."""
        return frozenset(one.casefold() for text, _ in self._texts for one in EMAIL.findall(text))

    @cached_property
    def currencies(self) -> frozenset[str]:
        """Every currency that is named."""
        return frozenset().union(*(mentioned_currencies(text) for text, _ in self._texts))

    def has_day(self, day: int) -> bool:
        """Whether so many days from this one are spoken of, in whatever words."""
        found = self._day + timedelta(days=day)
        named = found.weekday() in self.named_weekdays
        return day in self.relative_days or named or self.has_date((found.year, found.month, found.day))

    def has_date(self, claimed: YearMonthDay) -> bool:
        """Whether a date is spoken of: the year may be open, and a month alone is no day of it."""
        year, *rest = claimed
        return any(rest == [*said[1:]] and (year is None or said[0] in (year, None)) for said in self.dates)

    def _exact(self, said: YearMonthDay) -> date | None:
        """The day, where day and month are said; without a year the nearest."""
        year, month, day = said
        if month is None or day is None:
            return None
        years = [year] if year else [self._day.year - 1, self._day.year, self._day.year + 1]
        found = [made for one in years if (made := _made(one, month, day))]
        return min(found, key=lambda one: abs(one - self._day), default=None)


def topic_of(text: str, tongue: str | None) -> frozenset[str]:
    """The stems of what a sentence is about; a number, a weekday or a month is none."""
    about = (word for word in words(text) if not any(letter.isdigit() for letter in word))
    return frozenset(stem for word in about if not _is_a_fact(word, tongue) for stem in content_words(word, tongue))


@lru_cache(20_000)
def _is_a_fact(word: str, tongue: str | None) -> bool:
    if writes_no_spaces(word[0]):  # it may be a whole sentence
        return False
    return bool(numbers_in_words(word, tongue) or weekdays(word, tongue) or dates(word, tongue))


def letters_of(text: str) -> str:
    """Its letters and digits, without case."""
    return NOT_SAID.sub("", text.casefold())


def _said(c: Conversation) -> Iterable[str]:
    return (c.title, c.overview or c.transcript, *c.events, *(item.description for item in c.action_items))


def _made(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
