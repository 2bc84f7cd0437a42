"""The shards of the due cohorts, and which of them may be claimed (PROTOCOL sections 2, 3 and 6)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, Stored, shard_key
from notifications.domain.claim_table import claimable
from notifications.domain.schedule import Cohort, Phase, Rules, cohorts_between, tzdata_version
from notifications.ports import Claims, Range, Terms
from notifications.run import Run

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
    """What Redis says about every shard of the last three hours."""

    claimable: list[Shard]
    unserved: list[Shard]


async def due_shards(claims: Claims, rules: Rules, shards: int, now: datetime, offset: timedelta) -> Due:
    """The state of every shard by pipelined GETs: one round trip. Oldest slot first."""
    listed = [
        Shard(cohort, index, id_range(index, shards), _key(cohort, index, shards))
        for cohort in cohorts_between(now - SEEN_FOR, now)
        for index in range(shards)
    ]
    records = await claims.read([shard.key for shard in listed])
    redis_now = int((now - offset).timestamp() * 1000)
    due = Due([], [])
    for shard, record in zip(listed, records, strict=True):
        if rules.phase(shard.cohort.slot, now) is Phase.OVER:
            if record.s is not Stored.COMPLETE:
                due.unserved.append(shard)
        elif claimable(record, redis_now):
            due.claimable.append(shard)
    return due


def _key(cohort: Cohort, index: int, shards: int) -> str:
    return shard_key(cohort.slot, cohort.hour, tzdata_version(), index, shards)


def spread(shards: Sequence[Shard], task: int, tasks: int, count: int) -> list[Shard]:
    """Oldest slot first; within a slot each parallel task starts at its own place of the ring.

    Which task serves which shard is the claims' business: this only keeps them apart.
    """
    start = task * count // tasks
    return sorted(shards, key=lambda shard: (shard.cohort.slot, (shard.index - start) % count, shard.cohort.hour))
