"""The words of a conversation document: what an app wrote of it, else what was said in it."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from unicodedata import normalize

from notifications.domain.errors import Malformed
from notifications.domain.model import WEARER, Turn
from notifications.domain.text import clean
from notifications.recap.bounds import MAX_TEXT
from notifications.recap.markdown import without_marks

TRANSCRIPT = "transcript_segments"
MAX_RESULTS = 100  # of apps, and sections, that are looked at
MAX_SEGMENTS = 20_000  # of a transcript: in a day without a pause some 30,000 sentences are said
MAX_UNPACKED = 40 * MAX_TEXT  # bytes of a compressed transcript: with times and speakers, in letters of six bytes
MAX_NAME = 40  # characters of a speaker's name
NUMBERED = re.compile(
    r"(?:speaker|spk|person|unknown)?[ _-]*\d*", re.IGNORECASE
)  # what a recorder calls whom it can't name
COLON = re.compile(r"[:：﹕︓]")
NO_LETTERS = re.compile(r"^[\W_]+")  # "- to do" and "[3]" begin a line of a note, and are no names
JSON_SPACE = re.compile(r"[ \t\n\r]*")


def text(value: object) -> str:
    """Stripped text; empty for anything else. Raises UnicodeEncodeError for half of a surrogate pair."""
    if not isinstance(value, str):
        return ""
    value.encode()
    return value.strip()


def maps(value: object) -> list[Mapping[str, Any]]:
    """The maps of a list; none of anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def written(doc: Mapping[str, Any], structured: Mapping[str, Any]) -> tuple[str, bool]:
    """The first text of an app, else the overview, else the sections, in plain lines; and whether it was cut."""
    for found in _texts(doc, structured):
        if told := without_marks(found[:MAX_TEXT]):
            return told, len(found) > MAX_TEXT
    return "", False


def _texts(doc: Mapping[str, Any], structured: Mapping[str, Any]) -> Iterator[str]:
    for name in ("apps_results", "plugins_results"):
        yield from (text(result.get("content")) for result in maps(doc.get(name))[:MAX_RESULTS])
    yield text(structured.get("overview"))
    sections = maps(structured.get("sections"))[:MAX_RESULTS]
    sections.sort(key=lambda one: one.get("kind") == "side_notes")  # they come last, wherever they stand
    told = ((text(one.get("heading")), text(one.get("body_markdown"))) for one in sections)
    yield "\n".join(f"# {heading}\n{body}" for heading, body in told if body)


def is_encrypted(segments: object) -> bool:
    """Whether only the app can read a transcript: then it is text in base64."""
    return isinstance(segments, str) and bool(segments.strip())


def transcript(key: str, segments: object) -> tuple[tuple[Turn, ...], bool]:
    """What was said, turn by turn, and whether it was too long to be read to its end. Raises Malformed.

    Segments of one speaker in a row are one turn; where the data names no speaker each stays a turn of its own.
    """
    try:
        found, cut = _segments(segments)
    except (zlib.error, ValueError, TypeError, RecursionError) as cause:
        what = f"{TRANSCRIPT} is no list, nor a compressed one ({type(cause).__name__})"
        raise Malformed(f"conversation {key}: {what}.") from None
    said: list[tuple[str, list[str]]] = []
    numbers: dict[str, str] = {}
    room = MAX_TEXT
    for segment in found:
        words = " ".join(text(segment.get("text")).split())  # so that no segment can pretend to be two
        speaker = _speaker(segment, numbers)
        if kept := words[:room]:
            if speaker and said and said[-1][0] == speaker:
                said[-1][1].append(kept)
            else:
                said.append((speaker, [kept]))
        room -= len(words)
        if room < 0:
            break
    return tuple(Turn(speaker, " ".join(parts)) for speaker, parts in said), cut or room < 0


def _speaker(segment: Mapping[str, Any], numbers: dict[str, str]) -> str:
    """Who speaks: the wearer, else a name that the data has, else a number in order of appearance; empty if unknown."""
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
    """A speaker's name as it may stand before what they say; empty for a mere number, or the wearer's own label."""
    words = NO_LETTERS.sub("", clean(COLON.sub(" ", value[: 4 * MAX_NAME]))) if isinstance(value, str) else ""
    unnamed = NUMBERED.fullmatch(words) or normalize("NFKC", words).casefold() == WEARER.casefold()
    return "" if unnamed else words[:MAX_NAME].strip()


def _segments(value: object) -> tuple[list[Mapping[str, Any]], bool]:
    """The segments of a list, or of its zlib-compressed JSON; and whether there are more than are looked at.

    Raises zlib.error, ValueError, TypeError or RecursionError for what is neither.
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
    found = list(islice(_elements(unpacked, cut), MAX_SEGMENTS + 1))
    return maps(found[:MAX_SEGMENTS]), cut or len(found) > MAX_SEGMENTS


def _elements(unpacked: str, cut: bool) -> Iterator[object]:
    """The elements of a JSON list one by one: no more are made than are looked at. `cut`: its end is missing."""
    decoder, at = json.JSONDecoder(), _past_space(unpacked, 0)
    if unpacked[at : at + 1] != "[":
        raise ValueError("no list")
    at = _past_space(unpacked, at + 1)
    while unpacked[at : at + 1] != "]":
        try:
            found, at = decoder.raw_decode(unpacked, at)
        except ValueError:
            if cut:
                return
            raise
        yield found
        at = _past_space(unpacked, at)
        if unpacked[at : at + 1] == ",":
            at = _past_space(unpacked, at + 1)


def _past_space(unpacked: str, at: int) -> int:
    return JSON_SPACE.match(unpacked, at).end()  # type: ignore[union-attr]
