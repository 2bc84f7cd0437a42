"""Evidence: a sentence of the LLM is kept if its quote is found in a note that it cites.

Code can't tell whether the sentence follows from its quote: recap/verify.py asks a model.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from enum import StrEnum
from functools import cached_property
from itertools import accumulate, islice

import regex

from notifications.domain.model import Cited
from notifications.domain.plain import MAX_PLAIN, plain
from notifications.domain.text import bounded, clean
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

MIN_QUOTE_BYTES = 12  # a shorter quote counts only if it is a whole line
MIN_MATCH = 6  # letters of the shortest common substring that counts in a fuzzy search
MIN_MATCH_UNSPACED = 3  # the same, for scripts without spaces
FUZZY_SHARE = 0.7  # share of a quote's letters that must be in such substrings, in a window of twice its length
MAX_FUZZY = 400  # letters of a quote; a longer one has to match exactly
MAX_QUOTE_READ = 4 * MAX_FUZZY  # characters of a quote that are cleaned and read, so that a huge one costs little
MAX_WINDOWS = 3  # windows that are compared with a quote
MAX_HITS = 200  # places at which one n-gram is looked up
MAX_NGRAMS = 130  # n-grams of a quote that are looked up, evenly spaced; it covers a quote of 25 words completely
MAX_SEARCHED = 2_500_000  # letters that one answer's fuzzy searches may read: about half a second of CPU
PUNCTUATION_RUN = regex.compile(r"([\W_])[\W_]+")
MIN_SENTENCE_WORDS = 3
MIN_SENTENCE_CHARACTERS = 6  # for scripts without spaces
MAX_CITED = 20  # notes of one sentence
COPIED_WORDS = 8  # this many consecutive words from our instructions: the model has copied them
SCHEMA_FIELD_NAMES = ("day_emoji", "open_questions", "worth_knowing")  # only those that are no ordinary words
KEPT = "kept"  # counted beside the reasons
Span = tuple[int, int]


class DropReason(StrEnum):
    """Why a sentence is dropped, as a draft's `checks` count it. The values are stored: don't rename them."""

    UNCITED = "uncited"  # it cites no note that was sent
    UNQUOTED = "unquoted"  # no cited note has its quote
    TOO_SHORT = "empty"
    TOO_LONG = "too_long"
    LEAKED_INSTRUCTIONS = "instructions"
    WRONG_SCRIPT = "script"
    DUPLICATE = "twice"
    MALFORMED = "malformed"  # it does not follow the schema


class SearchableNote:
    """Searches one note for quotes, ignoring case, spaces and punctuation."""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.text = unicodedata.normalize("NFC", "\n".join(line.text for line in note.lines))
        self.labels = sorted({line.label for line in note.lines if line.label}, key=len, reverse=True)

    @cached_property
    def letters(self) -> str:
        """The text's letters, marks and digits, case-folded."""
        return "".join(map(folded, self.text))

    @cached_property
    def letter_counts(self) -> list[int]:
        """Cumulative letter count for each character: maps offsets in `letters` back to offsets in `text`."""
        return list(accumulate(len(folded(character)) for character in self.text))

    @cached_property
    def line_starts(self) -> dict[str, int]:
        """Offset in `letters` of each line, keyed by the line's letters (the first of equal lines)."""
        starts: dict[str, int] = {}
        offset = 0
        for line in self.note.lines:
            letters = letters_of(line.text)
            starts.setdefault(letters, offset)
            offset += len(letters)
        return starts

    def find(self, quote: str) -> Span | None:
        """The span of the quote in `text`: exact, else fuzzy. None if it is not found."""
        return self.find_exact(quote) or self.find_fuzzy(quote)

    def find_exact(self, quote: str) -> Span | None:
        """The span in `text` that has all letters of the quote, with speakers' labels or without."""
        for variant in dict.fromkeys((quote, self._without_labels(quote))):
            wanted = letters_of(variant)
            # A quote that is too short to be searched for counts only as a whole line.
            if wanted and wanted in self.line_starts:
                return self._text_span(self.line_starts[wanted], len(wanted))
            offset = self.letters.find(wanted) if _is_searchable(variant, wanted) else -1
            if offset >= 0:
                return self._text_span(offset, len(wanted))
        return None

    def _without_labels(self, quote: str) -> str:
        for label in self.labels:
            if label in quote:
                quote = regex.sub(rf"(?<!\w){regex.escape(label)}\s*[:：]", " ", quote)
        return quote

    def find_fuzzy(self, quote: str) -> Span | None:
        """The span of the match within a window in which at least FUZZY_SHARE of the quote's letters match."""
        quote = self._without_labels(quote)
        wanted = letters_of(quote)
        if not _is_searchable(quote, wanted) or len(wanted) > MAX_FUZZY or _is_repetitive(wanted):
            return None
        ngram_size, window_size = _min_match(wanted), 2 * len(wanted)
        for start in self._likely_windows(wanted, ngram_size, window_size):
            window = self.letters[start : start + window_size]
            matcher = SequenceMatcher(None, wanted, window, autojunk=False)
            blocks = [block for block in matcher.get_matching_blocks() if block.size >= ngram_size]
            if sum(block.size for block in blocks) >= FUZZY_SHARE * len(wanted):
                first, last = blocks[0], blocks[-1]
                return self._text_span(start + first.b, last.b + last.size - first.b)
        return None

    def _likely_windows(self, wanted: str, ngram_size: int, window_size: int) -> Iterable[int]:
        """The starts of the windows that have most of the quote's n-grams, the best first."""
        offsets = range(0, len(wanted) - ngram_size + 1, 1 + len(wanted) // MAX_NGRAMS)
        hits = sorted({hit for offset in offsets for hit in self._hits(wanted[offset : offset + ngram_size])})
        counts = [bisect_left(hits, start + window_size) - index for index, start in enumerate(hits)]
        chosen: list[int] = []
        for _, start in sorted(zip(counts, hits, strict=True), key=lambda window: (-window[0], window[1])):
            if len(chosen) == MAX_WINDOWS:
                break
            # Windows closer than a quarter of their size would find the same match.
            if all(abs(start - other) > window_size // 4 for other in chosen):
                chosen.append(start)
        return chosen

    def _hits(self, ngram: str) -> Iterable[int]:
        """The offsets in `letters` of an n-gram, the first MAX_HITS."""
        offset = self.letters.find(ngram)
        for _ in range(MAX_HITS):
            if offset < 0:
                return
            yield offset
            offset = self.letters.find(ngram, offset + 1)

    def _text_span(self, offset: int, length: int) -> Span:
        """Convert a span of `letters` to a span of `text`, widened to whole words."""
        start = bisect_right(self.letter_counts, offset)
        end = bisect_left(self.letter_counts, offset + length) + 1
        if not writes_no_spaces(self.text[start:end]):
            while start > 0 and self.text[start - 1].isalnum():
                start -= 1
            while end < len(self.text) and self.text[end].isalnum():
                end += 1
        return start, end


class Evidence:
    """Checks the sentences of one answer against the notes that were sent, and counts those that it drops.

    `marker`: the random word that begins each line of a note in the prompt; a sentence with it has copied the prompt.
    """

    def __init__(self, material: Material, notes: Sequence[Note], marker: str = "") -> None:
        self._material = material
        self._notes = {note.number: SearchableNote(note) for note in notes}
        self._marker = marker.casefold()
        texts = (line.text for conversation in material.conversations for line in conversation.lines)
        self._script = script_of(material.language, texts)
        self.counts: Counter[str] = Counter({KEPT: 0})
        self.dropped: list[tuple[str, str]] = []  # text and reason of every dropped sentence; never logged
        self._seen: set[str] = set()
        self._letters_left = MAX_SEARCHED

    def check_sentence(self, text: str, quote: str, numbers: Sequence[int], *, private: bool = False) -> Cited | None:
        """The sentence with its evidence; None if it is dropped, which is counted. `private`: marked as confided."""
        text, quote = _plain_or_too_long(text), clean(quote[:MAX_QUOTE_READ])
        cited = list(islice((number for number in dict.fromkeys(numbers) if number in self._notes), MAX_CITED))
        reason = self._reason_to_drop(text, cited)
        evidence = None if reason else self._find_quote(quote, cited)
        if evidence is None:
            self.record_dropped(text, reason or DropReason.UNQUOTED)
            return None
        self.counts[KEPT] += 1
        self._seen.add(letters_of(text))
        first, quoted_text = evidence
        ids = [self._material.conversations[number - 1].id for number in (first, *cited)]
        return Cited(text, tuple(dict.fromkeys(ids)), quoted_text, private)

    def check_fragment(self, text: str, max_length: int, min_words: int = 1) -> str:
        """A text without a quote (topic, headline, push), cleaned, or "" to drop it; counts nothing."""
        text = _plain_or_too_long(text)
        return "" if self._flaw(text, max_length, min_words) else text

    def forget_seen(self) -> None:
        """Forget the sentences seen so far: the overview may repeat the highlights."""
        self._seen.clear()

    def _reason_to_drop(self, text: str, cited: Sequence[int]) -> DropReason | None:
        """Why a sentence is dropped before its quote is looked up."""
        if flaw := self._flaw(text, MAX_SENTENCE, MIN_SENTENCE_WORDS):
            return flaw
        if not cited:
            return DropReason.UNCITED
        return DropReason.DUPLICATE if letters_of(text) in self._seen else None

    def _flaw(self, text: str, max_length: int, min_words: int) -> DropReason | None:
        """Why a text is dropped, whatever it cites."""
        if not _has_words(text, min_words):
            return DropReason.TOO_SHORT
        if len(text) > max_length:
            return DropReason.TOO_LONG
        if self._leaks_instructions(text):
            return DropReason.LEAKED_INSTRUCTIONS
        return DropReason.WRONG_SCRIPT if self._script and not is_written_in(text, self._script) else None

    def _leaks_instructions(self, text: str) -> bool:
        """Whether the text has the marker, a run of words from our instructions, or a field's name that no note has."""
        if self._marker and self._marker in text.casefold():
            return True
        if _word_ngrams(text) & INSTRUCTION_NGRAMS:
            return True
        names = [name for name in SCHEMA_FIELD_NAMES if name in text]
        return any(all(name not in note.text for note in self._notes.values()) for name in names)

    def _find_quote(self, quote: str, cited: Sequence[int]) -> tuple[int, str] | None:
        """The first cited note that has the quote, and the note's own text there."""
        for number in cited:
            note = self._notes[number]
            if span := note.find_exact(quote) or self._find_fuzzy(note, quote):
                quoted_text = bounded(plain(" ".join(note.text[slice(*span)].split())), MAX_QUOTE)
                if quoted_text:  # a quote that is only a link is empty after plain()
                    return number, quoted_text
        return None

    def _find_fuzzy(self, note: SearchableNote, quote: str) -> Span | None:
        self._letters_left -= len(note.letters)
        return note.find_fuzzy(quote) if self._letters_left >= 0 else None

    def record_dropped(self, text: str, reason: DropReason) -> None:
        """Count a dropped sentence, and keep its text."""
        self.counts[reason.value] += 1
        self.dropped.append((text, reason.value))

    @property
    def without_evidence(self) -> int:
        """How many sentences were dropped because no cited note, or no quote in it, was found."""
        return self.counts[DropReason.UNCITED] + self.counts[DropReason.UNQUOTED]

    @property
    def dropped_texts(self) -> tuple[str, ...]:
        """The dropped sentences, without those that repeat a kept one."""
        return tuple(text for text, reason in self.dropped if text and reason != DropReason.DUPLICATE)

    def describe_dropped(self) -> str:
        """What was dropped and why: `2 unquoted, 1 too_long`."""
        counts = sorted((reason, count) for reason, count in self.counts.items() if reason != KEPT)
        return ", ".join(f"{count} {reason}" for reason, count in counts if count)

    def cited_notes(self, sentences: Iterable[Cited]) -> list[list[str]]:
        """The lines of each note that the sentences cite, in the material's order."""
        return [list(map(str, self._notes[number].note.lines)) for number in sorted(self._quotes_by_note(sentences))]

    def excerpts(self, sentences: Iterable[Cited], around: int) -> list[list[str]]:
        """As `cited_notes`, but of each note only `around` bytes on either side of each quote."""
        quotes = sorted(self._quotes_by_note(sentences).items())
        return [self._excerpt(self._notes[number], note_quotes, around) for number, note_quotes in quotes]

    def _quotes_by_note(self, sentences: Iterable[Cited]) -> dict[int, list[str]]:
        """The quotes from each cited note, by its number. A sentence's first id is the note that has its quote."""
        numbers = {conversation.id: number for number, conversation in enumerate(self._material.conversations, start=1)}
        quotes: dict[int, list[str]] = {}
        for sentence in sentences:
            for index, conversation_id in enumerate(sentence.conversation_ids):
                number = numbers.get(conversation_id)
                if number in self._notes:
                    quotes.setdefault(number, []).extend([sentence.quote] if index == 0 else [])
        return quotes

    def _excerpt(self, note: SearchableNote, quotes: Sequence[str], around: int) -> list[str]:
        """The text around the quotes, each line with its speaker; the note's beginning if no quote is found."""
        quoted = [span for quote in quotes if (span := note.find(quote))] or [(0, 0)]
        spans = [_bytes_around(note.text, span, around) for span in quoted]
        header, *rest = note.note.lines
        lines, byte_offset = [str(header)], len(header.text.encode()) + 1
        for line in rest:
            text = unicodedata.normalize("NFC", line.text).encode()
            in_line = ((max(0, start - byte_offset), min(len(text), end - byte_offset)) for start, end in spans)
            for start, end in _merge_spans(in_line):
                excerpt = text[start:end].decode(errors="ignore")
                lines.append(str(Line(line.label, f"{'…' * (start > 0)}{excerpt}{'…' * (end < len(text))}")))
            byte_offset += len(text) + 1
        return lines


def _bytes_around(text: str, span: Span, around: int) -> Span:
    """Convert a span in characters to one in bytes, `around` bytes wider on either side."""
    start, end = (len(text[:offset].encode()) for offset in span)
    return start - around, end + around


def _merge_spans(spans: Iterable[Span]) -> list[Span]:
    """The spans that are not empty, in order; those that touch are merged."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _plain_or_too_long(text: str) -> str:
    """`plain(text)`, but a text over MAX_PLAIN unchanged, so that it fails the length check instead of being cut."""
    return plain(text) if len(text) <= MAX_PLAIN else text


def _is_searchable(quote: str, letters: str) -> bool:
    """Whether the quote is long enough to be searched for; repeated punctuation counts once."""
    collapsed = PUNCTUATION_RUN.sub(r"\1", quote.strip())
    return len(collapsed.encode()) >= MIN_QUOTE_BYTES and len(letters) >= _min_match(letters)


def _is_repetitive(letters: str) -> bool:
    """Whether most n-grams repeat: SequenceMatcher needs about a second for such a text."""
    ngrams = [letters[offset : offset + MIN_MATCH] for offset in range(len(letters) - MIN_MATCH + 1)]
    return 2 * len(set(ngrams)) < len(ngrams)


def _min_match(letters: str) -> int:
    return MIN_MATCH_UNSPACED if writes_no_spaces(letters) else MIN_MATCH


def _has_words(text: str, min_words: int) -> bool:
    if writes_no_spaces(text):
        return len(letters_of(text)) >= (MIN_SENTENCE_CHARACTERS if min_words > 1 else 1)
    # More letters than words are required, since "a b c" has three words but says nothing.
    return count_words(" ".join(words(text))) >= min_words and len(letters_of(text)) > min_words


def _word_ngrams(text: str) -> frozenset[tuple[str, ...]]:
    tokens = words(text)
    starts = range(len(tokens) - COPIED_WORDS + 1)
    return frozenset(tuple(tokens[start : start + COPIED_WORDS]) for start in starts)


INSTRUCTION_NGRAMS = _word_ngrams(INSTRUCTIONS) | _word_ngrams(PART_INSTRUCTIONS)
