"""Evidence: a sentence of the LLM is kept where its quote stands in a note that it cites.

Code can't tell whether the sentence follows from its quote: recap/verify.py asks a model.
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
from notifications.recap.words import (
    count_words,
    folded,
    is_written_in,
    letters_of,
    script_of,
    words,
    writes_no_spaces,
)

LEAST_QUOTE_BYTES = 12  # a shorter quote counts only where it is a whole line
RUN, RUN_UNSPACED = 6, 3  # letters in a row that count as found in a fuzzy search
FUZZY_SHARE = 0.7  # of a quote's letters that have to be in such runs, in a window of twice its length
MAX_FUZZY = 400  # letters of a quote; a longer one has to be exact
MAX_WINDOWS, MAX_HITS = 3, 200  # that are compared; of one run of letters
MAX_RUNS = 130  # of a quote, taken evenly: all of them for 25 words
MAX_SEARCHED = 2_500_000  # letters of notes that fuzzy searches of one answer read, in half a second
REPEATED = regex.compile(r"([\W_])[\W_]+")
LEAST_WORDS, LEAST_UNSPACED = 3, 6  # of a sentence: words, or characters where no spaces are written
MAX_CITED = 20  # notes of one sentence
COPIED_WORDS = 8  # in a row that are also in the instructions: no coincidence
FORM_NAMES = ("day_emoji", "open_questions", "worth_knowing")  # names in the answer's schema
KEPT = "kept"
# Why a sentence is dropped.
UNCITED, UNQUOTED, EMPTY, TOO_LONG = "uncited", "unquoted", "empty", "too_long"
OURS, SCRIPT, TWICE, MALFORMED = "instructions", "script", "twice", "malformed"
Span = tuple[int, int]


class SearchableNote:
    """One note as it was sent, in which quotes are looked up by their letters alone."""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.text = unicodedata.normalize("NFC", "\n".join(line.text for line in note.lines))
        self.labels = sorted({line.label for line in note.lines if line.label}, key=len, reverse=True)

    @cached_property
    def letters(self) -> str:
        """The text's letters alone."""
        return "".join(map(folded, self.text))

    @cached_property
    def places(self) -> list[int]:
        """How many letters the text has up to each character, inclusive."""
        return list(accumulate(len(folded(character)) for character in self.text))

    @cached_property
    def line_starts(self) -> dict[str, int]:
        """The letters of each line, and how many letters come before it."""
        starts: dict[str, int] = {}
        at = 0
        for line in self.note.lines:
            letters = letters_of(line.text)
            starts.setdefault(letters, at)
            at += len(letters)
        return starts

    def find(self, quote: str) -> Span | None:
        """Where the text has the quote, exactly or else nearly."""
        return self.find_exact(quote) or self.find_fuzzy(quote)

    def find_exact(self, quote: str) -> Span | None:
        """Where the text has the quote to the letter, with speakers' labels or without."""
        for variant in dict.fromkeys((quote, self._without_labels(quote))):
            wanted = letters_of(variant)
            if wanted and wanted in self.line_starts:
                return self._span(self.line_starts[wanted], len(wanted))
            at = self.letters.find(wanted) if _is_searchable(variant, wanted) else -1
            if at >= 0:
                return self._span(at, len(wanted))
        return None

    def _without_labels(self, quote: str) -> str:
        for label in self.labels:
            if label in quote:
                quote = regex.sub(rf"(?<!\w){regex.escape(label)}\s*[:：]", " ", quote)
        return quote

    def find_fuzzy(self, quote: str) -> Span | None:
        """Where most of the quote's letters stand close together."""
        quote = self._without_labels(quote)
        wanted = letters_of(quote)
        if not _is_searchable(quote, wanted) or len(wanted) > MAX_FUZZY or _is_repetitive(wanted):
            return None
        run, width = _run_of(wanted), 2 * len(wanted)
        for start in self._likely_windows(wanted, run, width):
            window = self.letters[start : start + width]
            matcher = SequenceMatcher(None, wanted, window, autojunk=False)
            blocks = [block for block in matcher.get_matching_blocks() if block.size >= run]
            if sum(block.size for block in blocks) >= FUZZY_SHARE * len(wanted):
                first, last = blocks[0], blocks[-1]
                return self._span(start + first.b, last.b + last.size - first.b)
        return None

    def _likely_windows(self, wanted: str, run: int, width: int) -> Iterable[int]:
        """The starts of the windows that have most of the quote's runs, the best first."""
        runs = range(0, len(wanted) - run + 1, 1 + len(wanted) // MAX_RUNS)
        hits = sorted({at for n in runs for at in self._hits(wanted[n : n + run])})
        counts = [bisect_left(hits, start + width) - n for n, start in enumerate(hits)]
        chosen: list[int] = []
        for _, start in sorted(zip(counts, hits, strict=True), key=lambda one: (-one[0], one[1])):
            if len(chosen) == MAX_WINDOWS:
                break
            if all(abs(start - other) > width // 4 for other in chosen):
                chosen.append(start)
        return chosen

    def _hits(self, run: str) -> Iterable[int]:
        at = self.letters.find(run)
        for _ in range(MAX_HITS):
            if at < 0:
                return
            yield at
            at = self.letters.find(run, at + 1)

    def _span(self, at: int, length: int) -> Span:
        """A span of the letters as one of the text, widened to whole words."""
        start, end = bisect_right(self.places, at), bisect_left(self.places, at + length) + 1
        if not writes_no_spaces(self.text[start:end]):
            while start > 0 and self.text[start - 1].isalnum():
                start -= 1
            while end < len(self.text) and self.text[end].isalnum():
                end += 1
        return start, end


class Evidence:
    """Checks the sentences of one answer against the notes that were sent, and counts those that it drops."""

    def __init__(self, m: Material, notes: Sequence[Note], marker: str = "") -> None:
        self._m = m
        self._notes = {note.number: SearchableNote(note) for note in notes}
        self._marker = marker.casefold()
        self._script = script_of(m.language, (line.text for c in m.conversations for line in c.lines))
        self.counts: Counter[str] = Counter({KEPT: 0})
        self.dropped: list[tuple[str, str]] = []  # text and reason: for `preview` alone, never logged
        self._seen: set[str] = set()
        self._letters_left = MAX_SEARCHED

    def check_sentence(self, text: str, quote: str, numbers: Sequence[int], *, confided: bool = False) -> Cited | None:
        """The sentence with its evidence; None, and counted, where it is dropped."""
        cited = list(islice((n for n in dict.fromkeys(numbers) if n in self._notes), MAX_CITED))
        text, quote = _plain_or_too_long(text), clean(quote[: 4 * MAX_FUZZY])
        letters = letters_of(text)
        flaw = self._flaw(text, MAX_SENTENCE, LEAST_WORDS) or ("" if cited else UNCITED)
        flaw = flaw or (TWICE if letters in self._seen else "")
        evidence = None if flaw else self._look_up(quote, cited)
        if evidence is None:
            self.drop(text, flaw or UNQUOTED)
            return None
        self.counts[KEPT] += 1
        self._seen.add(letters)
        number, own_words = evidence
        ids = [self._m.conversations[n - 1].id for n in [number, *cited]]
        return Cited(text, tuple(dict.fromkeys(ids)), own_words, confided)

    def check_fragment(self, text: str, most: int, least_words: int = 1) -> str:
        """A topic, headline or push, which has no quote; empty where it is dropped."""
        text = _plain_or_too_long(text)
        return "" if self._flaw(text, most, least_words) else text

    def allow_repeats(self) -> None:
        """What sums up the day may repeat the sentences checked so far."""
        self._seen.clear()

    def _flaw(self, text: str, most: int, least_words: int) -> str:
        """Why a text is dropped, whatever the notes say; empty where it is not."""
        if not _has_words(text, least_words):
            return EMPTY
        if len(text) > most:
            return TOO_LONG
        has_marker = self._marker and self._marker in text.casefold()
        if has_marker or _word_runs(text) & OWN_RUNS or any(self._is_form_name(name, text) for name in FORM_NAMES):
            return OURS
        return SCRIPT if self._script and not is_written_in(text, self._script) else ""

    def _is_form_name(self, name: str, text: str) -> bool:
        return name in text and not any(name in note.text for note in self._notes.values())

    def _look_up(self, quote: str, cited: Sequence[int]) -> tuple[int, str] | None:
        """The first cited note that has the quote, and the note's own words there."""
        for number in cited:
            note = self._notes[number]
            if span := note.find_exact(quote) or self._find_fuzzy(note, quote):
                own_words = bounded(plain(" ".join(note.text[slice(*span)].split())), MAX_QUOTE)
                if own_words:  # none are left of a link
                    return number, own_words
        return None

    def _find_fuzzy(self, note: SearchableNote, quote: str) -> Span | None:
        self._letters_left -= len(note.letters)
        return note.find_fuzzy(quote) if self._letters_left >= 0 else None

    def drop(self, text: str, reason: str) -> None:
        """Count a dropped sentence."""
        self.counts[reason] += 1
        self.dropped.append((text, reason))

    @property
    def without_evidence(self) -> int:
        """How many sentences were dropped for want of a note or a quote."""
        return self.counts[UNCITED] + self.counts[UNQUOTED]

    @property
    def dropped_texts(self) -> tuple[str, ...]:
        """The dropped sentences, without those that repeat a kept one."""
        return tuple(text for text, reason in self.dropped if text and reason != TWICE)

    @property
    def summary(self) -> str:
        """What was dropped and why: `2 unquoted, 1 too_long`."""
        return ", ".join(f"{n} {reason}" for reason, n in sorted(self.counts.items()) if n and reason != KEPT)

    def excerpts(self, sentences: Iterable[Cited], around: int | None = None) -> list[list[str]]:
        """The notes that the sentences cite, each once; with `around`, that many bytes on either side of each quote."""
        numbers = {c.id: n for n, c in enumerate(self._m.conversations, start=1)}
        quotes: dict[int, list[str]] = {}
        for sentence in sentences:
            for place, source in enumerate(sentence.conversation_ids):
                if numbers.get(source) in self._notes:
                    quotes.setdefault(numbers[source], []).extend([sentence.quote] if place == 0 else [])
        if around is None:
            return [list(map(str, self._notes[number].note.lines)) for number in sorted(quotes)]
        return [self._excerpt(self._notes[number], of_note, around) for number, of_note in sorted(quotes.items())]

    def _excerpt(self, note: SearchableNote, quotes: Sequence[str], around: int) -> list[str]:
        """The text around the quotes, each line with its speaker; the note's beginning where no quote is found."""
        quoted = [span for quote in quotes if (span := note.find(quote))] or [(0, 0)]
        spans = [_bytes_around(note.text, span, around) for span in quoted]
        header, *rest = note.note.lines
        lines, at = [str(header)], len(header.text.encode()) + 1
        for line in rest:
            text = unicodedata.normalize("NFC", line.text).encode()
            for start, end in _merged((max(0, start - at), min(len(text), end - at)) for start, end in spans):
                kept = text[start:end].decode(errors="ignore")
                lines.append(str(Line(line.label, f"{'…' * (start > 0)}{kept}{'…' * (end < len(text))}")))
            at += len(text) + 1
        return lines


def _bytes_around(text: str, span: Span, around: int) -> Span:
    start, end = (len(text[:place].encode()) for place in span)
    return start - around, end + around


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The spans that are not empty, in order; those that touch are merged."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _plain_or_too_long(text: str) -> str:
    """The text in plain words; unchanged, and so dropped as too long, where `plain` would read only its beginning."""
    return plain(text) if len(text) <= PLAIN_AT_MOST else text


def _is_searchable(quote: str, letters: str) -> bool:
    """Whether the quote is long enough to be looked up; repeated marks count once."""
    marks_once = REPEATED.sub(r"\1", quote.strip())
    return len(marks_once.encode()) >= LEAST_QUOTE_BYTES and len(letters) >= _run_of(letters)


def _is_repetitive(letters: str) -> bool:
    """Whether most of its runs repeat: comparing those would take a second each."""
    runs = [letters[n : n + RUN] for n in range(len(letters) - RUN + 1)]
    return 2 * len(set(runs)) < len(runs)


def _run_of(letters: str) -> int:
    return RUN_UNSPACED if writes_no_spaces(letters) else RUN


def _has_words(text: str, least: int) -> bool:
    if writes_no_spaces(text):
        return len(letters_of(text)) >= (LEAST_UNSPACED if least > 1 else 1)
    return count_words(" ".join(words(text))) >= least and len(letters_of(text)) > least


def _word_runs(text: str) -> frozenset[tuple[str, ...]]:
    of_text = words(text)
    return frozenset(tuple(of_text[n : n + COPIED_WORDS]) for n in range(len(of_text) - COPIED_WORDS + 1))


OWN_RUNS = _word_runs(INSTRUCTIONS) | _word_runs(PART_INSTRUCTIONS)
