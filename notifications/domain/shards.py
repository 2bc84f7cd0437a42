"""Shards: a cohort's ranges of document ids, the units of work that a run claims (docs/protocol.md, section 2)."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from notifications.domain.claim import shard_key
from notifications.domain.schedule import Cohort, tzdata_version

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase  # in byte order


@dataclass(frozen=True, slots=True)
class Range:
    """Document ids from `start` (inclusive) to `end` (exclusive); None: open."""

    start: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of a cohort, and the key of its claim."""

    cohort: Cohort
    index: int
    ids: Range
    key: str


def id_range(index: int, count: int) -> Range:
    """The index-th of `count` ranges, by base-62 first characters; the outer ends are open."""
    cuts = [None, *(BASE62[i * len(BASE62) // count] for i in range(1, count)), None]
    return Range(cuts[index], cuts[index + 1])


def shards_of(cohort: Cohort, environment: str, count: int) -> list[Shard]:
    """The cohort's `count` shards."""
    tzdata = tzdata_version()
    keys = (shard_key(cohort.slot, cohort.hour, tzdata, environment, index, count) for index in range(count))
    return [Shard(cohort, index, id_range(index, count), key) for index, key in enumerate(keys)]


def key_of(uid: str, slot: datetime, hour: int, environment: str, count: int) -> str:
    """The key of a user's shard."""
    index = next(index for index in range(count) if (end := id_range(index, count).end) is None or uid < end)
    return shard_key(slot, hour, tzdata_version(), environment, index, count)


def ended_cohorts(complete: Iterable[str], environment: str) -> set[str]:
    """The prefixes of the cohorts all of whose shards are complete, by the keys of complete shards of any version."""
    indexes: dict[tuple[str, str], set[int]] = {}
    for key in complete:
        prefix, _, place = key.rpartition(":")
        index, _, count = place.partition("of")
        if index.isdecimal() and count.isdecimal():
            indexes.setdefault((prefix, count), set()).add(int(index))
    whole = [prefix for (prefix, count), ended in indexes.items() if len(ended) == int(count)]
    versioned = [prefix.removesuffix(f":{environment}") for prefix in whole]
    return {prefix[: prefix.rfind(":") + 1] for prefix in versioned}


def spread(shards: Sequence[Shard], task: int, tasks: int, count: int) -> list[Shard]:
    """Oldest slot first; within a slot each parallel task starts at another shard, only to keep tasks apart."""
    start = task * count // tasks
    return sorted(shards, key=lambda shard: (shard.cohort.slot, (shard.index - start) % count, shard.cohort.hour))


def batches(shards: Sequence[Shard], *, per_cohort: int, tasks: int, limit: int) -> Iterator[list[Shard]]:
    """What a task claims at a time, in order: up to `limit` shards, and of the `per_cohort` shards its share."""
    share, left = -(-per_cohort // tasks), list(shards)
    while left:
        batch, rest = list[Shard](), list[Shard]()
        held: Counter[tuple[datetime, int]] = Counter()
        for shard in left:
            cohort = (shard.cohort.slot, shard.cohort.hour)
            fits = len(batch) < limit and held[cohort] < share
            held[cohort] += fits
            (batch if fits else rest).append(shard)
        yield batch
        left = rest
