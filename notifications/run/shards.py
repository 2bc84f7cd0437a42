"""The shards of the due cohorts, and which of them may be claimed (PROTOCOL sections 2, 3 and 6)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, SHARD_PREFIX, SINCE_KEY, SWEEP_KEY, Stored, shard_key
from notifications.domain.claim_table import claimable
from notifications.domain.errors import ConfigFault, KeyTrouble
from notifications.domain.schedule import Cohort, Phase, Rules, cohorts_between, tzdata_version
from notifications.ports import Claims, Range, Terms
from notifications.run.state import Run

log = structlog.get_logger()

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase  # in the order of their bytes
ZONES_AT_MOST = 30  # that one `in` takes
SEEN_FOR = timedelta(milliseconds=EXPIRY_AFTER_SLOT_MS)  # as long as a shard's record is kept


@dataclass(frozen=True, slots=True)
class Shard:
    """One document-id range of a cohort: the unit of work that a run claims."""

    cohort: Cohort
    index: int
    ids: Range
    key: str

    def terms(self, run: Run) -> Terms:
        """On what terms it is claimed: never dead, and due again until the end of the grace."""
        numbers = run.parts.numbers
        end = self.cohort.slot + run.parts.rules.catch_up + run.parts.rules.grace
        return Terms(
            key=self.key,
            lease_ms=int(numbers.shard_lease_seconds * 1000),
            expire_ms=run.redis_ms(self.cohort.slot) + EXPIRY_AFTER_SLOT_MS,
            until_ms=run.redis_ms(end),
        )


def id_range(index: int, count: int) -> Range:
    """The index-th of `count` ranges over base-62 first characters; the two ends are open."""
    cuts = [None, *(BASE62[i * len(BASE62) // count] for i in range(1, count)), None]
    return Range(cuts[index], cuts[index + 1])


@dataclass(frozen=True, slots=True)
class Due:
    """What Redis says about every shard of the last three hours, and whether a sweep is due."""

    claimable: list[Shard]
    unserved: list[Shard]
    sweep: bool
    remembers_since: datetime  # what Redis says of the time before is nothing


async def due_shards(claims: Claims, rules: Rules, shards: int, now: datetime, offset: timedelta) -> Due:
    """The state of every shard, and of the sweep, by pipelined GETs: one round trip. Oldest slot first."""
    listed = [
        Shard(cohort, index, id_range(index, shards), _key(cohort, index, shards))
        for cohort in cohorts_between(now - SEEN_FOR, now)
        for index in range(shards)
    ]
    *records, swept, since = await claims.read([*(shard.key for shard in listed), SWEEP_KEY, SINCE_KEY])
    redis_now = int((now - offset).timestamp() * 1000)
    claimable_ones, unserved = [], []
    for shard, record in zip(listed, records, strict=True):
        if rules.phase(shard.cohort.slot, now) is Phase.OVER:
            if record.s is not Stored.COMPLETE:
                unserved.append(shard)
        elif claimable(record, redis_now):
            claimable_ones.append(shard)
    if unserved:
        unserved = await _served_by_nobody(claims, unserved)
    remembers_since = datetime.fromtimestamp(since.u / 1000, UTC) + offset if since.u else now
    return Due(claimable_ones, unserved, swept.s is Stored.ABSENT, remembers_since)


async def _served_by_nobody(claims: Claims, unserved: Sequence[Shard]) -> list[Shard]:
    """Those whose cohort no other version ended either: one of another tzdata, or with another number of shards."""
    ended: dict[tuple[str, str], set[int]] = {}
    with suppress(KeyTrouble, ConfigFault):  # who may not scan is told once more rather than never
        async for found in claims.scan(f"{SHARD_PREFIX}*"):
            cohort, _, place = found.key.rpartition(":")
            index, _, count = place.partition("of")
            if found.record.s is Stored.COMPLETE and index.isdecimal() and count.isdecimal():
                ended.setdefault((cohort, count), set()).add(int(index))
    whole = [cohort for (cohort, count), indexes in ended.items() if len(indexes) == int(count)]
    return [shard for shard in unserved if not any(one.startswith(_of_any_version(shard)) for one in whole)]


def _of_any_version(shard: Shard) -> str:
    return shard.key.rpartition(":")[0].rpartition(":")[0] + ":"


def _key(cohort: Cohort, index: int, shards: int) -> str:
    return shard_key(cohort.slot, cohort.hour, tzdata_version(), index, shards)


def spread(shards: Sequence[Shard], task: int, tasks: int, count: int) -> list[Shard]:
    """Oldest slot first; within a slot each parallel task starts at its own place of the ring.

    Which task serves which shard is the claims' business: this only keeps them apart.
    """
    start = task * count // tasks
    return sorted(shards, key=lambda shard: (shard.cohort.slot, (shard.index - start) % count, shard.cohort.hour))
