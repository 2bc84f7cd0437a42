"""What an LLM says is kept where the notes hold the evidence: a quote that stands in a note that the sentence cites.

Whether the sentence follows from its quote is not for code to tell: recap/verify.py asks a second time.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from itertools import accumulate, islice

import regex

from notifications.domain.model import Cited
from notifications.domain.text import PLAIN_AT_MOST, bounded, clean, plain
from notifications.recap.bounds import MAX_QUOTE, MAX_SENTENCE
from notifications.recap.material import Material
from notifications.recap.plan import Line, Note
from notifications.recap.prompt import INSTRUCTIONS, PART_INSTRUCTIONS
from notifications.recap.words import count_words, folded, is_written_in, letters_of, script_of, words, writes_no_spaces

LEAST_QUOTE_BYTES = 12  # a shorter quote counts where it is the whole of a turn
RUN, RUN_UNSPACED = 6, 3  # letters in a row that count as found, where a quote isn't there to the letter
FOUND_SHARE = 0.7  # of a quote's letters in such runs, within a window of twice its length
NEARLY_AT_MOST = 400  # letters of a quote that is looked for so; a longer one stands to the letter, or not at all
PLACES_TRIED, GRAMS_FOUND = 3, 200
GRAMS_TRIED = 130  # runs of a quote that are looked for, evenly: all of them, of a quote of 25 words
SEARCHED_AT_MOST = 2_500_000  # letters of notes that are searched so for one answer: they take half a second
REPEATED = regex.compile(r"([\W_])[\W_]+")
LEAST_WORDS, LEAST_UNSPACED = 3, 6  # of a sentence: words, or characters where no spaces are written
MOST_CITED = 20  # notes of one sentence
WORDS_IN_A_ROW = 8  # of the instructions: that many are no chance
FORM_NAMES = ("day_emoji", "open_questions", "worth_knowing")  # of the answer's form, and no words of anybody's day
KEPT = "kept"
# Why a sentence is dropped.
UNCITED, UNQUOTED, EMPTY, TOO_LONG = "uncited", "unquoted", "empty", "too_long"
OURS, SCRIPT, TWICE, MALFORMED = "instructions", "script", "twice", "malformed"
Span = tuple[int, int]


class Ground:
    """One note as it was sent, as quotes are looked for in it."""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.text = unicodedata.normalize("NFC", "\n".join(line.text for line in note.lines))
        self.labels = sorted({line.label for line in note.lines if line.label}, key=len, reverse=True)

    @cached_property
    def letters(self) -> str:
        """Its letters alone."""
        return "".join(map(folded, self.text))

    @cached_property
    def places(self) -> list[int]:
        """How many letters its text has up to each character, with that."""
        return list(accumulate(len(folded(character)) for character in self.text))

    @cached_property
    def turns(self) -> dict[str, int]:
        """The letters of each line, and how many stand before it."""
        found: dict[str, int] = {}
        at = 0
        for line in self.note.lines:
            letters = letters_of(line.text)
            found.setdefault(letters, at)
            at += len(letters)
        return found

    def find(self, quote: str) -> Span | None:
        """Where its text holds the quote: to the letter, else nearly; None where it does not."""
        return self.exactly(quote) or self.nearly(quote)

    def exactly(self, quote: str) -> Span | None:
        """Where its text holds the quote to the letter, with speakers' labels or without."""
        for said in dict.fromkeys((quote, self._unlabelled(quote))):
            wanted = letters_of(said)
            if wanted and wanted in self.turns:
                return self._span(self.turns[wanted], len(wanted))
            at = self.letters.find(wanted) if _tells_where(said, wanted) else -1
            if at >= 0:
                return self._span(at, len(wanted))
        return None

    def _unlabelled(self, quote: str) -> str:
        for label in self.labels:
            if label in quote:
                quote = regex.sub(rf"(?<!\w){regex.escape(label)}\s*[:：]", " ", quote)
        return quote

    def nearly(self, quote: str) -> Span | None:
        """Where most of the quote stands close together."""
        said = self._unlabelled(quote)
        wanted = letters_of(said)
        if not _tells_where(said, wanted) or len(wanted) > NEARLY_AT_MOST or _repeats_itself(wanted):
            return None
        run, width = _run_of(wanted), 2 * len(wanted)
        for start in self._likely(wanted, run, width):
            window = self.letters[start : start + width]
            matcher = SequenceMatcher(None, wanted, window, autojunk=False)
            blocks = [block for block in matcher.get_matching_blocks() if block.size >= run]
            if sum(block.size for block in blocks) >= FOUND_SHARE * len(wanted):
                first, last = blocks[0], blocks[-1]
                return self._span(start + first.b, last.b + last.size - first.b)
        return None

    def _likely(self, wanted: str, run: int, width: int) -> Iterable[int]:
        """Where windows begin that hold most of its runs, the best first."""
        grams = range(0, len(wanted) - run + 1, 1 + len(wanted) // GRAMS_TRIED)
        hits = sorted({at for n in grams for at in self._places(wanted[n : n + run])})
        held: list[tuple[int, int]] = []
        end = 0
        for n, start in enumerate(hits):
            while end < len(hits) and hits[end] < start + width:
                end += 1
            held.append((end - n, start))
        chosen: list[int] = []
        for _, start in sorted(held, key=lambda one: (-one[0], one[1])):
            if len(chosen) == PLACES_TRIED:
                break
            if all(abs(start - one) > width // 4 for one in chosen):
                chosen.append(start)
        return chosen

    def _places(self, gram: str) -> Iterable[int]:
        at = self.letters.find(gram)
        for _ in range(GRAMS_FOUND):
            if at < 0:
                return
            yield at
            at = self.letters.find(gram, at + 1)

    def _span(self, at: int, length: int) -> Span:
        """A span of its letters as one of its text, widened to whole words."""
        start, end = bisect_right(self.places, at), bisect_left(self.places, at + length) + 1
        if not writes_no_spaces(self.text[start:end]):
            while start > 0 and self.text[start - 1].isalnum():
                start -= 1
            while end < len(self.text) and self.text[end].isalnum():
                end += 1
        return start, end


class Evidence:
    """Holds the sentences of one answer against the notes that were sent, and counts what does not stand."""

    def __init__(self, m: Material, notes: Sequence[Note], marker: str = "") -> None:
        self._m = m
        self._grounds = {note.number: Ground(note) for note in notes}
        self._marker = marker.casefold()
        self._script = script_of(m.language, (line.text for c in m.conversations for line in c.lines))
        self.counts: Counter[str] = Counter({KEPT: 0})
        self.dropped: list[tuple[str, str]] = []  # and why: for who looks at one recap, never for a log
        self._said: set[str] = set()
        self._searches = SEARCHED_AT_MOST

    def sentence(self, text: str, quote: str, numbers: Sequence[int], *, confided: bool = False) -> Cited | None:
        """The sentence with its evidence; None where it does not stand."""
        cited = list(islice((n for n in dict.fromkeys(numbers) if n in self._grounds), MOST_CITED))
        text, quote = _whole(text), clean(quote[: 4 * NEARLY_AT_MOST])
        flaw = self._flaw(text, MAX_SENTENCE, LEAST_WORDS) or (not cited and UNCITED)
        flaw = flaw or (letters_of(text) in self._said and TWICE)
        found = None if flaw else self._found(quote, cited)
        if flaw or found is None:
            self.drop(text, flaw or UNQUOTED)
            return None
        self.counts[KEPT] += 1
        self._said.add(letters_of(text))
        number, words = found
        ids = [self._m.conversations[n - 1].id for n in [number, *cited]]
        return Cited(text, tuple(dict.fromkeys(ids)), words, confided)

    def fragment(self, text: str, most: int, least_words: int = 1) -> str:
        """A topic, a headline or a push, which has no quote; empty where it can't stand."""
        text = _whole(text)
        return "" if self._flaw(text, most, least_words) else text

    def forget_what_was_said(self) -> None:
        """What sums the day up may say again what stands below."""
        self._said.clear()

    def _flaw(self, text: str, most: int, least_words: int) -> str:
        """Why a text can't stand, whatever the notes say; empty where it can."""
        if not _tells_something(text, least_words):
            return EMPTY
        if len(text) > most:
            return TOO_LONG
        ours = self._marker and self._marker in text.casefold()
        if ours or _rows(text) & OWN_ROWS or any(name in text and not self._is_said(name) for name in FORM_NAMES):
            return OURS
        return SCRIPT if self._script and not is_written_in(text, self._script) else ""

    def _is_said(self, name: str) -> bool:
        return any(name in ground.text for ground in self._grounds.values())

    def _found(self, quote: str, cited: Sequence[int]) -> tuple[int, str] | None:
        """The first cited note that holds the quote, and its own words there; a link alone is none."""
        for number in cited:
            ground = self._grounds[number]
            if span := ground.exactly(quote) or self._nearly(ground, quote):
                words = bounded(plain(" ".join(ground.text[slice(*span)].split())), MAX_QUOTE)
                if words:
                    return number, words
        return None

    def _nearly(self, ground: Ground, quote: str) -> Span | None:
        self._searches -= len(ground.letters)
        return ground.nearly(quote) if self._searches >= 0 else None

    def drop(self, text: str, reason: str) -> None:
        """Count a sentence that does not stand."""
        self.counts[reason] += 1
        self.dropped.append((text, reason))

    @property
    def without_evidence(self) -> int:
        """How many sentences were dropped since nothing showed where they come from."""
        return self.counts[UNCITED] + self.counts[UNQUOTED]

    @property
    def lost(self) -> tuple[str, ...]:
        """The sentences that were dropped and stand nowhere: what was said twice stands where it was said first."""
        return tuple(text for text, reason in self.dropped if text and reason != TWICE)

    @property
    def told(self) -> str:
        """What was dropped and why, for a person or an LLM: `2 unquoted, 1 too_long`."""
        return ", ".join(f"{n} {reason}" for reason, n in sorted(self.counts.items()) if n and reason != KEPT)

    def excerpts(self, sentences: Iterable[Cited], around: int | None = None) -> list[list[str]]:
        """The notes that the sentences cite, each once; with `around`, so many bytes on either side of each quote."""
        numbers = {c.id: n for n, c in enumerate(self._m.conversations, start=1)}
        cited: dict[int, list[str]] = {}
        for one in sentences:
            for at, key in enumerate(one.conversation_ids):
                if numbers.get(key) in self._grounds:
                    quotes = cited.setdefault(numbers[key], [])
                    quotes += [one.quote] if at == 0 else []
        if around is None:
            return [list(map(str, self._grounds[number].note.lines)) for number in sorted(cited)]
        return [self._excerpt(number, quotes, around) for number, quotes in sorted(cited.items())]

    def _excerpt(self, number: int, quotes: Sequence[str], around: int) -> list[str]:
        """What stands around the quotes, each line with its speaker; the note's beginning where none is found."""
        ground = self._grounds[number]
        found = [span for quote in quotes if (span := ground.find(quote))] or [(0, 0)]
        spans = [_bytes_around(ground.text, span, around) for span in found]
        header, *rest = ground.note.lines
        lines, at = [str(header)], len(header.text.encode()) + 1
        for line in rest:
            words = unicodedata.normalize("NFC", line.text).encode()
            for start, end in _merged((max(0, start - at), min(len(words), end - at)) for start, end in spans):
                kept = words[start:end].decode(errors="ignore")
                cut = "…" * (start > 0), "…" * (end < len(words))
                lines.append(str(Line(line.label, f"{cut[0]}{kept}{cut[1]}")))
            at += len(words) + 1
        return lines


def _bytes_around(text: str, span: Span, around: int) -> Span:
    start, end = (len(text[:place].encode()) for place in span)
    return start - around, end + around


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The spans that hold something, in order, those that touch as one."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _whole(text: str) -> str:
    """The text in plain words; as it is, and so too long, where only its beginning would be read."""
    return plain(text) if len(text) <= PLAIN_AT_MOST else text


def _tells_where(quote: str, letters: str) -> bool:
    """Whether the quote is long enough to be found by; of marks in a row one counts."""
    marks_once = REPEATED.sub(r"\1", quote.strip())
    return len(marks_once.encode()) >= LEAST_QUOTE_BYTES and len(letters) >= _run_of(letters)


def _repeats_itself(letters: str) -> bool:
    """Whether most of its runs are others again: comparing those would take a second each."""
    grams = [letters[n : n + RUN] for n in range(len(letters) - RUN + 1)]
    return 2 * len(set(grams)) < len(grams)


def _run_of(letters: str) -> int:
    return RUN_UNSPACED if writes_no_spaces(letters) else RUN


def _tells_something(text: str, least_words: int) -> bool:
    if writes_no_spaces(text):
        return len(letters_of(text)) >= min(LEAST_UNSPACED, 2 * least_words)
    return count_words(" ".join(words(text))) >= least_words and len(letters_of(text)) > least_words


def _rows(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    return frozenset(tuple(found[n : n + WORDS_IN_A_ROW]) for n in range(len(found) - WORDS_IN_A_ROW + 1))


OWN_ROWS = _rows(INSTRUCTIONS) | _rows(PART_INSTRUCTIONS)
