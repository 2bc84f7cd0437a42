"""The Lua files, as Redis is asked for them, and what they answer."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from notifications.domain.claim import ClaimAnswer, Stored, Verb
from notifications.ports import Reply

LONGEST_MS = 10 * 366 * 86_400_000


@cache
def script(verb: Verb) -> tuple[str, str]:
    """The verb's Lua source, behind the shared reading and writing of records, and its SHA1."""
    folder = Path(__file__).parent / "lua"
    both = (folder / "record.lua", folder / f"{verb.value}.lua")
    source = "\n".join(one.read_text(encoding="utf-8") for one in both)
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


@cache
def spend_script() -> tuple[str, str]:
    """The script that counts money, which is no verb of a record, and its SHA1."""
    source = (Path(__file__).parent / "lua" / "spend.lua").read_text(encoding="utf-8")
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def reply_of(raw: list[Any]) -> Reply:
    """The answer of a verb."""
    word, detail, failures, crashes, now, reason = raw
    answer = ClaimAnswer(text_of(word))
    return Reply(
        answer=answer,
        now=datetime.fromtimestamp(now // 1000, UTC) + timedelta(milliseconds=now % 1000),
        wait=span_of(0 if answer is ClaimAnswer.DONE else int(detail)),
        final=Stored(text_of(detail)) if answer is ClaimAnswer.DONE else None,
        failures=failures,
        crashes=crashes,
        reason=text_of(reason),
    )


def span_of(milliseconds: int) -> timedelta:
    """A span as Redis tells it, whose keys may outlive what a timedelta holds."""
    return timedelta(milliseconds=min(milliseconds, LONGEST_MS))


def shown(value: str | bytes) -> str:
    """What Redis holds, for a person: bytes that are no text are escaped."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def text_of(value: str | bytes) -> str:
    """What Redis sends, as text."""
    return value.decode() if isinstance(value, bytes) else value
