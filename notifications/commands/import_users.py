"""`import FILE.jsonl`: one user a line, with devices and conversations; all or nothing a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from notifications.commands.operation import Context, Operation
from notifications.commands.reopen import reopen
from notifications.commands.terminal import say_wrapped, several
from notifications.domain.errors import Malformed, UsageFault
from notifications.domain.text import is_document_id, printable
from notifications.ports import Store

COLLECTIONS = ("fcm_tokens", "conversations")
FIELDS = ("uid", "user", *COLLECTIONS)
NEXT = (
    "next: python job.py --dry-run says who of them is due; python job.py serves them, python job.py --user UID "
    "one of them at once (also where a run is at work on that hour already); python job.py why UID says why not."
)
TOLD_AT_MOST = 20  # lines that were refused; the rest is counted


def import_users(path: Path) -> Operation:
    """The operation: the next tick finds those whose hour is being served.

    Exit 1 where a line was refused: the others are in, and the same file may be imported again.
    """

    async def run(context: Context) -> int:
        lines = _lines(path)
        first = next(lines, None)
        if first is None:
            raise UsageFault(f"{path} has no line; write one user a line, as docs/documents.md shows.")
        done: list[str] = []
        refused = 0
        async with context.open_parts() as parts:
            try:
                for number, line in chain([first], lines):
                    try:
                        done.append(await _import(parts.store, line))
                    except Malformed as flaw:
                        refused += 1
                        if refused <= TOLD_AT_MOST:
                            say_wrapped(f"line {number}: {flaw}", "    ", "  ")
            finally:  # whatever ended it, those who are in are found
                await reopen(context, parts, done)
        if refused > TOLD_AT_MOST:
            say_wrapped(f"and {refused - TOLD_AT_MOST} more", "    ", "  ")
        more = f"; {several(refused, 'line')} refused, of which nothing was written" if refused else ""
        say_wrapped(f"{several(len(done), 'user')} imported{more}.")
        if done:
            say_wrapped(NEXT)
        return 1 if refused else 0

    return run


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each with its number; empty ones are left out. Raises UsageFault where the file can't be read."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as cause:
        raise UsageFault(f"{path} can't be read ({cause.strerror}); check its name.") from cause


async def _import(store: Store, line: bytes) -> str:
    told = _object(line)
    for name in told:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, 1)
            raise Malformed(f"{printable(name, 60)!r} is no field here; {f'{near[0]} is' if near else _fields()}.")
    uid = told.get("uid")
    if not isinstance(uid, str) or not is_document_id(uid):
        raise Malformed("uid is missing, or is no id of a document.")
    user, *collections = (told.get(name, {}) for name in FIELDS[1:])
    for name, found in zip(FIELDS[1:], (user, *collections), strict=True):
        if not isinstance(found, dict):
            raise Malformed(f"{name} is not a map; docs/documents.md shows one.")
    await store.put(uid, user, *collections)
    return uid


def _fields() -> str:
    return f"{', '.join(FIELDS)} are"


def _object(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line.strip().decode(), parse_constant=_no_number)
        json.dumps(told, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Malformed("it holds half of a surrogate pair.") from None
    except UnicodeDecodeError:
        raise Malformed("it is no UTF-8.") from None
    except (ValueError, RecursionError) as cause:
        where = f" at character {cause.pos + 1}" if isinstance(cause, json.JSONDecodeError) else ""
        raise Malformed(f"it is no JSON{where}; write one whole object a line.") from None
    if not isinstance(told, dict):
        raise Malformed("it is no object; write one object a line.")
    return told


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
