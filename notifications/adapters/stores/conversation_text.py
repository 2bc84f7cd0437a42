"""The text of a conversation document: the app's summary of it, else its transcript."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from unicodedata import normalize

from notifications.adapters.stores.markdown import without_marks
from notifications.domain.errors import Malformed
from notifications.domain.model import WEARER, Turn
from notifications.domain.text import clean
from notifications.recap.bounds import MAX_TEXT

TRANSCRIPT = "transcript_segments"
MAX_RESULTS = 100  # results of apps, and sections, that are read
MAX_SEGMENTS = 20_000  # segments read of a transcript; a day without a pause has some 30,000 sentences
MAX_UNPACKED = 40 * MAX_TEXT  # bytes of a decompressed transcript, with times and speakers
MAX_NAME = 40  # characters of a speaker's name
NUMBERED = re.compile(r"(?:speaker|spk|person|unknown)?[ _-]*\d*", re.IGNORECASE)  # an unnamed speaker
COLON = re.compile(r"[:：﹕︓]")
NO_LETTERS = re.compile(r"^[\W_]+")  # "- to do" and "[3]" begin a line of a note, not a name
JSON_SPACE = re.compile(r"[ \t\n\r]*")


def text(value: object) -> str:
    """Stripped text; empty for anything else. Raises UnicodeEncodeError for half of a surrogate pair."""
    if not isinstance(value, str):
        return ""
    value.encode()
    return value.strip()


def maps(value: object) -> list[Mapping[str, Any]]:
    """The maps of a list; empty for anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def summary_text(doc: Mapping[str, Any], structured: Mapping[str, Any], texts: Sequence[object]) -> tuple[str, bool]:
    """The first text of an app, else of `texts`, else the sections, in plain lines; and whether it was cut."""
    for candidate in _texts(doc, structured, texts):
        if lines := without_marks(candidate[:MAX_TEXT]):
            return lines, len(candidate) > MAX_TEXT
    return "", False


def _texts(doc: Mapping[str, Any], structured: Mapping[str, Any], texts: Sequence[object]) -> Iterator[str]:
    for name in ("apps_results", "plugins_results"):
        yield from (text(result.get("content")) for result in maps(doc.get(name))[:MAX_RESULTS])
    yield from map(text, texts)
    sections = maps(structured.get("sections"))[:MAX_RESULTS]
    sections.sort(key=lambda section: section.get("kind") == "side_notes")  # side notes come last
    parts = ((text(section.get("heading")), text(section.get("body_markdown"))) for section in sections)
    yield "\n".join(f"# {heading}\n{body}" for heading, body in parts if body)


def is_encrypted(segments: object) -> bool:
    """Whether only the app can read the transcript: it is encrypted, as text in base64."""
    return isinstance(segments, str) and bool(segments.strip())


def transcript(key: str, segments: object) -> tuple[tuple[Turn, ...], bool]:
    """The turns, and whether the transcript was cut. Raises Malformed.

    Consecutive segments of one speaker are one turn; without a speaker each is its own.
    """
    try:
        rows, cut = _segments(segments)
    except (zlib.error, ValueError, TypeError, RecursionError) as cause:
        flaw = f"{TRANSCRIPT} is no list, nor a compressed one ({type(cause).__name__})"
        raise Malformed(f"conversation {key}: {flaw}.") from None
    turns: list[tuple[str, list[str]]] = []
    numbers: dict[str, str] = {}
    room = MAX_TEXT
    for segment in rows:
        words = " ".join(text(segment.get("text")).split())  # one line, so that no segment looks like two
        speaker = _speaker(segment, numbers)
        if kept := words[:room]:
            if speaker and turns and turns[-1][0] == speaker:
                turns[-1][1].append(kept)
            else:
                turns.append((speaker, [kept]))
        room -= len(words)
        if room < 0:
            break
    return tuple(Turn(speaker, " ".join(parts)) for speaker, parts in turns), cut or room < 0


def _speaker(segment: Mapping[str, Any], numbers: dict[str, str]) -> str:
    """The wearer, else the speaker's name, else a number in order of appearance; empty if unknown."""
    if segment.get("is_user") is True:
        return WEARER
    for field in ("speaker_name", "speaker"):
        if name := _name(segment.get(field)):
            return name
    for field in ("person_id", "speaker_id", "speaker"):
        value = segment.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return numbers.setdefault(f"{field} {value}", f"Speaker {len(numbers) + 1}")
    return ""


def _name(value: object) -> str:
    """A speaker's name, cleaned; empty for a mere number, or the wearer's own label."""
    words = NO_LETTERS.sub("", clean(COLON.sub(" ", value[: 4 * MAX_NAME]))) if isinstance(value, str) else ""
    unnamed = NUMBERED.fullmatch(words) or normalize("NFKC", words).casefold() == WEARER.casefold()
    return "" if unnamed else words[:MAX_NAME].strip()


def _segments(value: object) -> tuple[list[Mapping[str, Any]], bool]:
    """The segments of a list, or of its zlib-compressed JSON; and whether there are more than are read.

    Raises zlib.error, ValueError, TypeError or RecursionError for anything else.
    """
    if isinstance(value, list):
        return maps(value[:MAX_SEGMENTS]), len(value) > MAX_SEGMENTS
    if not isinstance(value, bytes):
        raise TypeError("no list")
    unpacking = zlib.decompressobj()
    unpacked = codecs.getincrementaldecoder("utf-8")().decode(unpacking.decompress(value, MAX_UNPACKED))
    cut = bool(unpacking.unconsumed_tail)
    if not (unpacking.eof or cut):
        raise ValueError("incomplete")
    elements = list(islice(_elements(unpacked, cut), MAX_SEGMENTS + 1))
    return maps(elements[:MAX_SEGMENTS]), cut or len(elements) > MAX_SEGMENTS


def _elements(unpacked: str, cut: bool) -> Iterator[object]:
    """The elements of a JSON list, parsed one by one. `cut`: its end is missing."""
    decoder, at = json.JSONDecoder(), _past_space(unpacked, 0)
    if unpacked[at : at + 1] != "[":
        raise ValueError("no list")
    at = _past_space(unpacked, at + 1)
    while unpacked[at : at + 1] != "]":
        try:
            element, at = decoder.raw_decode(unpacked, at)
        except ValueError:
            if cut:
                return
            raise
        yield element
        at = _past_space(unpacked, at)
        if unpacked[at : at + 1] == ",":
            at = _past_space(unpacked, at + 1)


def _past_space(unpacked: str, at: int) -> int:
    return JSON_SPACE.match(unpacked, at).end()  # type: ignore[union-attr]
