"""`import FILE.jsonl`: one user per line, with devices and conversations. A line is stored completely or not at all."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from notifications.commands.context import Context, rows_of, unused_addresses
from notifications.commands.terminal import first_of, say, say_wrapped, several
from notifications.domain.claim import ClaimState, user_key_pattern
from notifications.domain.errors import Malformed, UsageFault
from notifications.domain.model import User
from notifications.domain.schedule import ONE_DAY, Phase, latest_slot, slot_of_day
from notifications.domain.shards import key_of
from notifications.domain.target import Recipient
from notifications.domain.text import is_document_id, printable
from notifications.ports import Store
from notifications.run.day_input import read_ledgers
from notifications.run.state import Services

COLLECTIONS = ("fcm_tokens", "conversations")
FIELDS = ("uid", "user", *COLLECTIONS)
NEXT = (
    "next: python job.py --dry-run says who of them is due; python job.py serves those, python job.py --user "
    "UID one of them, once they are due (also if a run serves that hour already); python job.py why UID says why not."
)
MAX_LINE, SKIPPED = 64_000_000, 1_000_000  # bytes: of one line, and of what is passed over at a time
MANY = 5_000  # conversations of one user, which take seconds
PROGRESS_EVERY_SECONDS = 5.0
Line = tuple[int, bytes | None]  # its number and text; None for a line that is too long
MAX_SENTENCES = 20  # lines printed about refused ones; beyond that only counted


@dataclass(slots=True)
class _Progress:
    """Who was imported, by the line of each; how many lines were refused; after which line it was stopped."""

    imported: dict[str, int] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)  # by why an address is not used, whose
    conversations: int = 0
    too_old: int = 0  # conversations
    is_anyone_silent: bool = False  # a new user without a conversation
    refused: int = 0
    stopped_at: int = 0
    size: int = 0  # of the file in bytes; 0 if it is not known
    read: int = 0  # bytes of its lines
    write: bool = True


async def import_users(path: Path, context: Context, *, write: bool = True) -> int:
    """Import each line; without `write` only check it. Returns 1 if one was refused: the others are stored."""
    lines = _lines(path)
    first = await _next_line(lines)
    if first is None:
        raise UsageFault(f"{path} has no line; write one user a line, as docs/documents.md shows.")
    progress = _Progress(size=path.stat().st_size if path.is_file() else 0, write=write)
    async with context.open_services() as services:
        try:
            await _import_lines(context, services, first, lines, progress)
        finally:  # even after an error the imported users are served
            await reopen(context, services, progress.imported if write else ())
    imported, refused = len(progress.imported), progress.refused
    if refused > MAX_SENTENCES:
        say_wrapped(f"and {refused - MAX_SENTENCES} more", "    ", "  ")
    more = f"; {several(refused, 'line')} refused, of which nothing was written" if refused else ""
    how = "imported" if write else "would be imported"
    say_wrapped(f"{several(imported, 'user')} {how}{more}.")
    for clause, uids in progress.unused.items():
        whose = printable(first_of(uids[:MAX_SENTENCES], len(uids)), 1_000)
        say_wrapped(f"{several(len(uids), 'user')} with an address that is not used: {clause}: {whose}.")
    if progress.is_anyone_silent and not progress.conversations:
        say_wrapped("None of them has a conversation, so nobody has a recap to get; is the file's form another one?")
    if progress.too_old:
        old = several(progress.too_old, "conversation")
        say_wrapped(f"Too old for the next recap: {old}; what no recap has told of that, none will.")
    if progress.stopped_at:
        say_wrapped(f"Stopped after line {progress.stopped_at:,}; the same file may be imported again.")
    elif imported and write:
        say_wrapped(NEXT)
    return 1 if refused or progress.stopped_at else 0


async def _import_lines(
    context: Context, services: Services, line: Line | None, lines: Iterator[Line], progress: _Progress
) -> None:
    printed, store, now = time.monotonic(), services.store, await context.claims.now()
    while line is not None:
        number, text = line
        try:
            progress.read += len(text or b"")
            uid, *documents = _parsed_line(number, text, progress.imported)
            user, made = store.check(uid, *documents)
            progress.is_anyone_silent |= not made and await store.user_document(uid) is None
            if progress.write:
                await store.put(uid, *documents)
            progress.too_old += await _count_too_old(services, user, made, now)
            for clause in await unused_addresses(context, services, uid, documents[0]):
                progress.unused.setdefault(clause, []).append(uid)
            progress.imported[uid] = number
            progress.conversations += len(documents[2])
        except Malformed as flaw:
            progress.refused += 1
            if progress.refused <= MAX_SENTENCES:
                say_wrapped(f"line {number}: {flaw}", "    ", "  ")
        if context.terminated.is_set():
            progress.stopped_at = number
            return
        if time.monotonic() - printed >= PROGRESS_EVERY_SECONDS:
            printed = time.monotonic()
            share = f", {100 * progress.read // progress.size} %" if progress.size else ""
            say(f"  {several(len(progress.imported), 'user')} so far, line {number:,}{share}")
        line = await _next_line(lines)


async def _count_too_old(services: Services, user: User, made: Sequence[datetime], now: datetime) -> int:
    """How many conversations are older than what the user's next recap reads; `made`: when each was."""
    rules = services.limits.rules
    slot = latest_slot(user.zone, user.hour, now)
    if rules.phase(slot.at, now) is Phase.OVER:
        slot = slot_of_day(user.zone, slot.recap_date + ONE_DAY, user.hour)
    reads = (await read_ledgers(services.store, user, slot, services.limits.look_back)).candidates
    return sum(at < reads.first_untold for at in made)


async def _next_line(lines: Iterator[Line]) -> Line | None:
    return await asyncio.to_thread(next, lines, None)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        if sys.stdin is None:
            raise UsageFault("stdin is closed; give a file instead of -.")
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def _lines(path: Path) -> Iterator[Line]:
    """The lines that are not empty. Raises UsageFault if the file can't be read."""
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


def _parsed_line(number: int, text: bytes | None, imported: dict[str, int]) -> tuple[Any, ...]:
    """The uid of one line, the user, the devices and the conversations. Raises Malformed."""
    if text is None:
        raise Malformed(f"it is longer than {MAX_LINE // 1_000_000} MB; one user's line is never as long.")
    fields = _object(text)
    for name in fields:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, 1)
            known = f"{near[0]} is" if near else f"{', '.join(FIELDS)} are"
            raise Malformed(f"{printable(name, 60)!r} is no field here; {known}.")
    uid = fields.get("uid")
    if not isinstance(uid, str) or not is_document_id(uid):
        raise Malformed("uid is missing, or is no id of a document.")
    if uid in imported:
        raise Malformed(f"{printable(uid, 60)!r} is on line {imported[uid]} already; write one line a user.")
    user, *collections = (fields.get(name, {}) for name in FIELDS[1:])
    for name, value in zip(FIELDS[1:], (user, *collections), strict=True):
        if not isinstance(value, dict):
            raise Malformed(f"{name} is not a map; docs/documents.md shows one.")
    if len(collections[1]) >= MANY:
        say(f"  line {number}: {several(len(collections[1]), 'conversation')}")
    return uid, user, *collections


def _object(line: bytes) -> dict[str, Any]:
    try:
        if line.startswith(codecs.BOM_UTF8):
            raise Malformed("it begins with a byte order mark; write the file as UTF-8 without one.")
        found = json.loads(line.strip().decode(), parse_constant=_reject_constant, object_pairs_hook=_unique_names)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Malformed("it holds half of a surrogate pair.") from None
    except UnicodeDecodeError:
        raise Malformed("it is no UTF-8.") from None
    except (ValueError, RecursionError) as cause:
        if isinstance(cause, _DuplicateName):
            raise Malformed(f"the name {printable(str(cause), 60)!r} is twice in one object.") from None
        where = f" at character {cause.pos + 1}" if isinstance(cause, json.JSONDecodeError) else ""
        raise Malformed(f"it is no JSON{where}; write one object per line.") from None
    if not isinstance(found, dict):
        raise Malformed("it is no object; write one object a line.")
    return found


class _DuplicateName(ValueError):
    """Two values under one name, of which `json` would silently keep the last."""


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise _DuplicateName(name)
    return unique


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


async def reopen(context: Context, services: Services, uids: Iterable[str]) -> None:
    """Let runs serve the users' shards again. Users who have had their recap stay done, by claim and ledger."""
    now = await context.now()
    keys = {key for uid in uids if (key := await _shard_in_service(services, uid, now))}
    for key in sorted(keys):
        [record] = await context.claims.read([key])
        if record.state is ClaimState.COMPLETE:
            await context.claims.delete_if_unchanged(key, record)


async def _shard_in_service(services: Services, uid: str, now: datetime) -> str | None:
    """The key of the user's shard, while its slot is being served."""
    listed = await services.store.user_document(uid)
    if listed is None or listed.user is None:
        return None
    slot = latest_slot(listed.user.zone, listed.user.hour, now)
    over = services.limits.rules.phase(slot.at, now) is Phase.OVER
    return None if over else key_of(uid, slot.at, listed.user.hour, services.claims.environment, services.limits.shards)


UID = re.compile(r"sample-\d\d", re.ASCII)


async def samples(context: Context, *, remove: bool) -> int:
    """Put in or remove the sample users. Users with a sample's uid but a real device are left alone."""
    async with context.open_services() as services:
        if remove:
            count = await _remove_samples(context, services.store)
            say_wrapped(f"{several(count, 'sample user')} removed, with all that was made for them.")
            return 0
        put: list[str] = []
        for uid, user, devices, conversations in context.samples(await context.now()):
            if await services.store.user_document(uid) is None or await _is_sample(services.store, uid):
                await services.store.put(uid, user, devices, conversations)
                put.append(uid)
        await reopen(context, services, put)
        say_wrapped(f"{several(len(put), 'sample user')} put in; some are due now: python job.py.")
        return 0


async def _remove_samples(context: Context, store: Store) -> int:
    async with aclosing(rows_of(store.all_users, lambda listed: listed.uid)) as users:
        named = [listed.uid async for listed in users if UID.fullmatch(listed.uid)]
    uids = [uid for uid in named if await _is_sample(store, uid)]
    await context.forget_pushes(uids)
    for uid in uids:
        await store.remove(uid)
        async for found in context.claims.scan(user_key_pattern(uid, None)):
            await context.claims.delete(found.key)
    return len(uids)


async def _is_sample(store: Store, uid: str) -> bool:
    devices, _ = await store.devices(uid)
    return Recipient(uid, devices).is_sample
