"""The hard facts of a sentence, and whether its notes have them: numbers, dates, times, amounts, quotes, names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from decimal import Decimal
from functools import cached_property

from notifications.domain.language.calendar_dates import date_spans, known, readable
from notifications.domain.language.calendar_words import relative_days, strip_calendar, time_spans, weekdays
from notifications.domain.language.names import Known, strange_name
from notifications.domain.language.number_words import numbers_in_words
from notifications.domain.language.numbers import currencies, numbers, western
from notifications.domain.language.words import primary
from notifications.domain.recap.ground import EMAIL, Ground, Piece, letters_of, topic_of

QUOTED = re.compile(
    r"“([^“”]+)”|„([^„“”]+)[“”]|\"([^\"]+)\"|«([^«»]+)»|»([^«»]+)«|「([^「」]+)」|『([^『』]+)』|”([^“”]+)”|‹([^‹›]+)›"
)
MUCH_ALIKE = 2  # words that two sentences about the same thing have in common
NUMBER, DATE, TIME, AMOUNT, QUOTE, EMAIL_ADDRESS, NAME = "number", "date", "time", "amount", "quote", "email", "name"

Kind = Callable[[Piece], Collection[object]]  # the facts of one kind that a sentence of the notes has


def unfounded(text: str, ground: Ground, language: str | None, *, cited: int = 1, is_title: bool = False) -> str:
    """Which kind of hard fact the sentence has and its notes do not; empty where they have all."""
    claim = _Claim(western(text), ground, language)
    checks: dict[str, Callable[[], bool]] = {
        EMAIL_ADDRESS: claim.emails_stand,
        QUOTE: claim.quotes_stand,
        TIME: claim.times_stand,
        DATE: claim.dates_stand,
        NUMBER: lambda: claim.numbers_stand(cited),
        AMOUNT: claim.amounts_stand,
        NAME: lambda: claim.names_stand(is_title=is_title),
    }
    return next((kind for kind, stands in checks.items() if not stands()), "")


class _Claim:
    """One sentence, and what it is held against."""

    def __init__(self, text: str, ground: Ground, language: str | None) -> None:
        self._text = text
        self._ground = ground
        self._language = language
        self._rest = strip_calendar(text, language)

    @cached_property
    def _topic(self) -> frozenset[str]:
        return topic_of(self._text, self._language)

    def emails_stand(self) -> bool:
        return all(one.casefold() in self._ground.emails for one in EMAIL.findall(self._text))

    def quotes_stand(self) -> bool:
        quotes = (letters_of(next(filter(None, found))) for found in QUOTED.findall(self._text))
        return all(quote in self._ground.quotable for quote in quotes)

    def times_stand(self) -> bool:
        read = (frozenset(one) for _, _, one in time_spans(self._text, self._language))
        return all(one & self._ground.times and self._is_said_of_this(one, lambda p: p.times) for one in read)

    def dates_stand(self) -> bool:
        ground = self._ground
        for _, _, read in date_spans(readable(self._text), known(self._language)):
            a_span = len({month for _, month, _ in read}) == 1  # 5 to 7 May; else one date in two ways to read it
            if not (all if a_span else any)(map(ground.has_date, read)):
                return False
            if not self._is_said_of_this(frozenset(one[1:] for one in read), lambda p: p.month_days):
                return False
        for day, often in Counter(weekdays(self._text, self._language)).items():
            if day not in ground.weekdays or often > max(1, ground.named_weekdays[day]):
                return False
            if not self._is_said_of_this(frozenset([day]), lambda p: p.weekdays):
                return False
        days = relative_days(self._text, self._language)
        return not days or any(map(ground.has_day, days))

    def numbers_stand(self, cited: int) -> bool:
        said = [whole for whole, _ in numbers(self._rest)]
        said += [frozenset([Decimal(n)]) for n in numbers_in_words(self._rest, self._language) if n != cited]
        return all(
            often <= max((self._ground.numbers[value] for value in one), default=0)
            and self._is_said_of_this(one, lambda p: p.numbers)
            for one, often in Counter(said).items()
        )

    def amounts_stand(self) -> bool:
        claimed = currencies(self._text)
        return not claimed or claimed <= self._ground.currencies

    def names_stand(self, *, is_title: bool) -> bool:
        ground, language = self._ground, self._language
        if language and ground.languages and primary(language) not in ground.languages:
            return True
        words = Known(ground.words, ground.without_endings, ground.lower_case)
        return not strange_name(self._rest, words, language, is_title=is_title)

    def _is_said_of_this(self, fact: frozenset[object], kind: Kind) -> bool:
        """Whether a fact that the notes have is said of what the sentence is about, and not of something else.

        It is, where a sentence of the notes has both it and a word of ours. Else no sentence that is much like
        ours may have another fact of the kind: then somebody changed it.
        """
        pieces = [piece for piece in self._ground.pieces if kind(piece)]
        holders = [piece for piece in pieces if fact.intersection(kind(piece))]
        if len(holders) == len(pieces) or any(piece.topic & self._topic for piece in holders):
            return True
        others = (piece for piece in pieces if piece not in holders)
        return not any(len(piece.topic & self._topic) >= MUCH_ALIKE for piece in others)
