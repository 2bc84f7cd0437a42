"""Shards: document-id ranges of a cohort, each the unit of work that one run claims (docs/protocol.md, section 2)."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from notifications.domain.claim import shard_key
from notifications.domain.schedule import Cohort, tzdata_version

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase  # in the order of their bytes


@dataclass(frozen=True, slots=True)
class Range:
    """Document ids from `start` (inclusive) to `end` (exclusive); None leaves that end open."""

    start: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """One document-id range of a cohort, and the key under which it is claimed."""

    cohort: Cohort
    index: int
    ids: Range
    key: str


def id_range(index: int, count: int) -> Range:
    """The index-th of `count` ranges over base-62 first characters; the two ends are open."""
    cuts = [None, *(BASE62[i * len(BASE62) // count] for i in range(1, count)), None]
    return Range(cuts[index], cuts[index + 1])


def shards_of(cohort: Cohort, environment: str, count: int) -> list[Shard]:
    """The cohort cut into that many."""
    tzdata = tzdata_version()
    keys = (shard_key(cohort.slot, cohort.hour, tzdata, environment, index, count) for index in range(count))
    return [Shard(cohort, index, id_range(index, count), key) for index, key in enumerate(keys)]


def key_of(uid: str, slot: datetime, hour: int, environment: str, count: int) -> str:
    """The key of the shard that this user is in."""
    index = next(index for index in range(count) if (end := id_range(index, count).end) is None or uid < end)
    return shard_key(slot, hour, tzdata_version(), environment, index, count)


def ended_cohorts(complete: Iterable[str], environment: str) -> set[str]:
    """What the keys of wholly complete cohorts begin with, by the keys of complete shards of whatever version."""
    ended: dict[tuple[str, str], set[int]] = {}
    for key in complete:
        made_by, _, place = key.rpartition(":")
        index, _, count = place.partition("of")
        if index.isdecimal() and count.isdecimal():
            ended.setdefault((made_by, count), set()).add(int(index))
    whole = [made_by.removesuffix(f":{environment}") for (made_by, count), of in ended.items() if len(of) == int(count)]
    return {made_by[: made_by.rfind(":") + 1] for made_by in whole}


def spread(shards: Sequence[Shard], task: int, tasks: int, count: int) -> list[Shard]:
    """Oldest slot first; within a slot each parallel task starts at its own place, which only keeps tasks apart."""
    start = task * count // tasks
    return sorted(shards, key=lambda shard: (shard.cohort.slot, (shard.index - start) % count, shard.cohort.hour))


def batches(shards: Sequence[Shard], count: int, tasks: int, most: int) -> Iterator[list[Shard]]:
    """What one task holds at once, in order: `most` shards, and of a cohort's `count` no more than its share."""
    share, left = -(-count // tasks), list(shards)
    while left:
        batch, rest = list[Shard](), list[Shard]()
        held: Counter[tuple[datetime, int]] = Counter()
        for shard in left:
            cohort = (shard.cohort.slot, shard.cohort.hour)
            fits = len(batch) < most and held[cohort] < share
            held[cohort] += fits
            (batch if fits else rest).append(shard)
        yield batch
        left = rest
