"""Words that are meant for a machine and not for the user: left out before anybody reads the day, LLM or extract.

Conversations are other people's words. Who says "ignore your instructions", or tells what the recap has to say,
speaks to the summarizer; nothing of that belongs into a recap. What follows it in the same line goes too, since
that is what it asks for. This is a net, and no wall: what slips through meets the checks of the answer.
"""

from __future__ import annotations

import re

from notifications.domain.language.steering_words import (
    ADDRESSED,
    COMMANDS,
    FORGED,
    IGNORE,
    ORDERS,
    OUTPUT,
    RULES,
    WHOLE,
)
from notifications.domain.text import clean

SPACED = frozenset(
    "abcdefghijklmnopqrstuvwxyzàáâãäåæçèéêëìíîïñòóôõöøùúûüýœßабвгдежзийклмнопрстуфхцчшщъыьэюяğışıłśżźćęąńó§"
)
MACHINE = re.compile(r"(?<![^\W_])(?:AI|A\.I\.|KI|IA|ИИ|ШІ|एआई)(?![^\W_])")
MAX_LINE, OVERLAP = 4_000, 500  # characters that are looked at in one go
NEAR = 40  # characters between what is to be ignored and the word that says so
LINES_AFTER = 3  # of a line that steers: a forged message has several
FIELD = re.compile(
    r"^[^.!?]{1,80}[:|;][^.!?]{0,80}$"
)  # `reference: X`, or a table's row, of which the next line says what to do with it
WORDS = re.compile(r"[^\W_]")
SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’»)]*(?:\s+|$)|(?<=[。！？؟।])[”’」]*\s*(?![A-Za-z])|\n")


def _any(words: str) -> re.Pattern[str]:
    """One pattern of a table's lines, of lower-case text; a word stands whole, or begins one where it ends in `-`."""
    at_start: list[str] = []
    anywhere: list[str] = []
    for one in filter(None, (part.strip() for line in words.split("\n") for part in _alternatives(line))):
        body = one.removesuffix("-")
        if one[0] in SPACED:
            at_start.append(body if one != body else body + r"(?![^\W_])")
        else:
            anywhere.append(body)
    parts = [rf"(?<![^\W_])(?:{'|'.join(at_start)})"] if at_start else []
    return re.compile("|".join([*parts, *anywhere]))


def _alternatives(line: str) -> list[str]:
    """Split at the bars that stand in no group."""
    found, depth = [""], 0
    for n, letter in enumerate(line):
        escaped = n > 0 and line[n - 1] == "\\"
        depth += (letter in "([" and not escaped) - (letter in ")]" and not escaped)
        if letter == "|" and not depth and not escaped:
            found.append("")
        else:
            found[-1] += letter
    return found


FORGED_OR_WHOLE = (_any(FORGED), _any(WHOLE))
UNRULY = (_any(IGNORE), _any(RULES))
PAIRS = tuple((_any(first), _any(second)) for first, second in ((ADDRESSED, COMMANDS), (OUTPUT, ORDERS)))


def steers(sentence: str) -> bool:
    """Whether a sentence speaks to the summarizer."""
    text = MACHINE.sub("§ai", _cleaned(sentence)).replace("İ", "i").lower()
    if any(pattern.search(text) for pattern in FORGED_OR_WHOLE) or _are_near(text, *UNRULY):
        return True
    return any(first.search(text) and second.search(text) for first, second in PAIRS)


def _cleaned(text: str) -> str:
    return text if text.isascii() else "\n".join(map(clean, text.split("\n")))


def _are_near(text: str, one: re.Pattern[str], other: re.Pattern[str]) -> bool:
    near = (text[max(0, verb.start() - NEAR) : verb.end() + NEAR] for verb in one.finditer(text))
    return any(map(other.search, near))


def without_steering(text: str) -> tuple[str, str]:
    """The text up to where it speaks to a summarizer, line by line; and what was left out, for the checks."""
    if not any(steers(text[at : at + MAX_LINE]) for at in range(0, len(text), MAX_LINE - OVERLAP)):
        return text, ""
    lines = text.split("\n")
    kept: list[str] = []
    left_out: list[str] = []
    skip = 0
    for line in lines:
        told = "" if skip else _innocent(line)
        if len(told) < len(line):
            left_out.append(line[len(told) :])
            if not skip:
                while len(lines) > 1 and kept and (FIELD.match(kept[-1]) or not WORDS.search(kept[-1])):
                    left_out.append(kept.pop())
                skip = LINES_AFTER + 1
        skip = max(0, skip - 1)
        kept += [told] if told else []
    return "\n".join(kept), "\n".join(left_out)


def _innocent(line: str) -> str:
    """The sentences before the first that steers."""
    end = 0
    for found in [*SENTENCE.finditer(line), None]:
        stop = found.end() if found else len(line)
        if any(steers(line[at : min(at + MAX_LINE, stop)]) for at in range(end, stop, MAX_LINE - OVERLAP)):
            return line[:end].rstrip()
        end = stop
    return line
