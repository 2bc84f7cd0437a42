"""`import FILE.jsonl`: one user a line, with devices and conversations; all or nothing a line."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from notifications.commands.inspect import claims_of
from notifications.commands.operation import Context
from notifications.commands.terminal import say, say_wrapped, several
from notifications.domain.claim import ClaimState
from notifications.domain.errors import Malformed, UsageFault
from notifications.domain.schedule import Phase, latest_slot
from notifications.domain.shards import key_of
from notifications.domain.text import is_document_id, printable
from notifications.ports import Store
from notifications.run.state import Parts

COLLECTIONS = ("fcm_tokens", "conversations")
FIELDS = ("uid", "user", *COLLECTIONS)
NEXT = (
    "next: python job.py --dry-run says who of them is due; python job.py serves them, python job.py --user UID "
    "one of them at once (also where a run is at work on that hour already); python job.py why UID says why not."
)
MAX_LINE, SKIPPED = 64_000_000, 1_000_000  # bytes: of one line, and of what is passed over at a time
MANY = 5_000  # conversations of one user, which take seconds
TOLD_EVERY_SECONDS = 5.0
Line = tuple[int, bytes | None]  # its number; None in place of one that is too long
TOLD_AT_MOST = 20  # lines that were refused; the rest is counted


async def import_users(path: Path, context: Context) -> int:
    """Exit 1 where a line was refused: the others are in, and the same file may be imported again."""
    lines = _lines(path)
    first = await _following(lines)
    if first is None:
        raise UsageFault(f"{path} has no line; write one user a line, as docs/documents.md shows.")
    so_far = _SoFar()
    async with context.open_parts() as parts:
        try:
            await _take(context, parts.store, first, lines, so_far)
        finally:  # whatever ended it, those who are in are found
            await reopen(context, parts, so_far.taken)
    taken, refused = len(so_far.taken), so_far.refused
    if refused > TOLD_AT_MOST:
        say_wrapped(f"and {refused - TOLD_AT_MOST} more", "    ", "  ")
    more = f"; {several(refused, 'line')} refused, of which nothing was written" if refused else ""
    say_wrapped(f"{several(taken, 'user')} imported{more}.")
    if so_far.stopped_at:
        say_wrapped(f"Stopped after line {so_far.stopped_at:,}; the same file may be imported again.")
    elif taken:
        say_wrapped(NEXT)
    return 1 if refused or so_far.stopped_at else 0


@dataclass(slots=True)
class _SoFar:
    """Who is in, with the line of each; how many lines were refused; and after which one it was told to stop."""

    taken: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    stopped_at: int = 0


async def _take(context: Context, store: Store, first: Line, lines: Iterator[Line], so_far: _SoFar) -> None:
    one: Line | None = first
    told = time.monotonic()
    while one is not None:
        number, line = one
        try:
            so_far.taken[await _import(store, number, line, so_far.taken)] = number
        except Malformed as flaw:
            so_far.refused += 1
            if so_far.refused <= TOLD_AT_MOST:
                say_wrapped(f"line {number}: {flaw}", "    ", "  ")
        if context.terminated.is_set():
            so_far.stopped_at = number
            return
        if time.monotonic() - told >= TOLD_EVERY_SECONDS:
            told = time.monotonic()
            say(f"  {several(len(so_far.taken), 'user')} so far, line {number:,}")
        one = await _following(lines)


async def _following(lines: Iterator[Line]) -> Line | None:
    return await asyncio.to_thread(next, lines, None)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        if sys.stdin is None:
            raise UsageFault("stdin is closed; give a file in place of -.")
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def _lines(path: Path) -> Iterator[Line]:
    """Each with its number; None for one that is too long; empty ones are left out. Raises UsageFault."""
    try:
        with _opened(path) as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE and not line.endswith(b"\n"):
                    yield number, None
                    while line and not line.endswith(b"\n"):
                        line = file.readline(SKIPPED)
                elif line.strip():
                    yield number, line
    except OSError as cause:
        raise UsageFault(f"{path} can't be read ({cause.strerror}); check its name.") from cause


async def _import(store: Store, number: int, line: bytes | None, taken: dict[str, int]) -> str:
    """The user of one line. `taken`: on which line each that is in stood."""
    if line is None:
        raise Malformed(f"it is longer than {MAX_LINE // 1_000_000} MB; one user's line is never as long.")
    told = _object(line)
    for name in told:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, 1)
            raise Malformed(f"{printable(name, 60)!r} is no field here; {f'{near[0]} is' if near else _fields()}.")
    uid = told.get("uid")
    if not isinstance(uid, str) or not is_document_id(uid):
        raise Malformed("uid is missing, or is no id of a document.")
    if uid in taken:
        raise Malformed(f"{printable(uid, 60)!r} stands on line {taken[uid]} already; write one line a user.")
    user, *collections = (told.get(name, {}) for name in FIELDS[1:])
    for name, found in zip(FIELDS[1:], (user, *collections), strict=True):
        if not isinstance(found, dict):
            raise Malformed(f"{name} is not a map; docs/documents.md shows one.")
    if len(collections[1]) >= MANY:
        say(f"  line {number}: {several(len(collections[1]), 'conversation')}")
    await store.put(uid, user, *collections)
    return uid


def _fields() -> str:
    return f"{', '.join(FIELDS)} are"


def _object(line: bytes) -> dict[str, Any]:
    try:
        if line.startswith(codecs.BOM_UTF8):
            raise Malformed("it begins with a byte order mark; write the file as UTF-8 without one.")
        told = json.loads(line.strip().decode(), parse_constant=_no_number, object_pairs_hook=_once_each)
        json.dumps(told, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Malformed("it holds half of a surrogate pair.") from None
    except UnicodeDecodeError:
        raise Malformed("it is no UTF-8.") from None
    except (ValueError, RecursionError) as cause:
        if isinstance(cause, _Twice):
            raise Malformed(f"the name {printable(str(cause), 60)!r} stands twice in one object.") from None
        where = f" at character {cause.pos + 1}" if isinstance(cause, json.JSONDecodeError) else ""
        raise Malformed(f"it is no JSON{where}; write one whole object a line.") from None
    if not isinstance(told, dict):
        raise Malformed("it is no object; write one object a line.")
    return told


class _Twice(ValueError):
    """Two values under one name: JSON's readers keep the last, and say nothing."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise _Twice(name)
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


async def reopen(context: Context, parts: Parts, uids: Iterable[str]) -> None:
    """Forget that their shards are complete; who has had theirs has it still, by their own claim and ledger."""
    now = await context.claims.now() + context.offset
    keys = {key for uid in uids if (key := await _served(parts.store, parts, uid, now))}
    for key in sorted(keys):
        [record] = await context.claims.read([key])
        if record.state is ClaimState.COMPLETE:
            await context.claims.forget(key, record)


async def _served(store: Store, parts: Parts, uid: str, now: datetime) -> str | None:
    """The key of the user's shard, where its slot is being served."""
    listed = await store.user(uid)
    if listed is None or listed.user is None:
        return None
    slot = latest_slot(listed.user.zone, listed.user.hour, now)
    over = parts.limits.rules.phase(slot.at, now) is Phase.OVER
    return None if over else key_of(uid, slot.at, listed.user.hour, parts.claims.environment, parts.limits.shards)


async def forget_claims(context: Context, uid: str) -> None:
    """All that Redis remembers of a user who is removed."""
    async for found in context.claims.scan(claims_of(uid, None)):
        await context.claims.forget(found.key)


PAGE = 1_000
UID, TOKEN = re.compile(r"sample-\d\d", re.ASCII), "sample-token-"


async def samples(context: Context, *, remove: bool) -> int:
    """Whoever has a sample's uid and a device of their own is no sample, and stays as they are."""
    async with context.open_parts() as parts:
        if remove:
            count = await _remove(context, parts.store)
            say_wrapped(f"{several(count, 'sample user')} removed, with all that was made for them.")
            return 0
        now = await context.claims.now() + context.offset
        put: list[str] = []
        for uid, user, devices, conversations in context.samples(now):
            if await parts.store.user(uid) is None or await _is_sample(parts.store, uid):
                await parts.store.put(uid, user, devices, conversations)
                put.append(uid)
        await reopen(context, parts, put)
        say_wrapped(f"{len(put)} sample users are in; some are due now: python job.py.")
        return 0


async def _remove(context: Context, store: Store) -> int:
    count = 0
    after: str | None = None
    while page := await store.all_users(after, PAGE):
        for listed in page:
            if UID.fullmatch(listed.uid) and await _is_sample(store, listed.uid):
                await store.remove(listed.uid)
                await forget_claims(context, listed.uid)
                count += 1
        after = page[-1].uid
    return count


async def _is_sample(store: Store, uid: str) -> bool:
    devices, _ = await store.devices(uid)
    return bool(devices) and all(device.token.startswith(TOKEN) for device in devices)
