"""Shards: every document id is in exactly one, and tasks begin apart. docs/protocol.md, section 2."""

from __future__ import annotations

import string
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.claim import cohort_prefix
from notifications.domain.schedule import Cohort, tzdata_version
from notifications.domain.shards import (
    BASE62,
    Range,
    Shard,
    batches,
    ended_cohorts,
    id_range,
    key_of,
    shards_of,
    spread,
)

SLOT = datetime(2026, 5, 1, 20, tzinfo=UTC)
COHORT = Cohort(SLOT, 22, {"Europe/Paris": date(2026, 5, 1)})
LATER = Cohort(SLOT + timedelta(minutes=15), 22, {})
counts = st.integers(1, 62)


def cuts(count: int) -> list[str | None]:
    return [id_range(index, count).start for index in range(count)]


def holds(ids: Range, uid: str) -> bool:
    return (ids.start is None or ids.start <= uid) and (ids.end is None or uid < ids.end)


def test_sixteen_shards_have_fixed_boundaries() -> None:
    """Stored keys name a shard by its number alone: a boundary that moved would leave users to nobody."""
    assert cuts(16) == [None, *"37BFJNRVYcgkosw"]
    assert id_range(1, 16) == Range("3", "7")
    assert id_range(15, 16) == Range("w", None)


def test_sixty_two_shards_have_one_first_character_each() -> None:
    assert string.digits + string.ascii_uppercase + string.ascii_lowercase == BASE62
    assert cuts(62) == [None, *BASE62[1:]]
    assert id_range(61, 62) == Range("z", None)


@given(counts, st.text(min_size=1, max_size=8))
def test_every_id_is_in_exactly_one_shard(count: int, uid: str) -> None:
    assert [holds(id_range(index, count), uid) for index in range(count)].count(True) == 1


@given(counts)
def test_shards_hold_first_characters_as_evenly_as_they_divide(count: int) -> None:
    sizes = [sum(holds(id_range(index, count), letter) for letter in BASE62) for index in range(count)]
    assert max(sizes) - min(sizes) <= 1


def test_a_cohorts_shards_have_their_ranges_and_keys() -> None:
    begins = f"daily_summary:cohort:v2:2026-05-01T20:00:00Z:22:{tzdata_version()}:e1"
    assert shards_of(COHORT, "e1", 2) == [
        Shard(COHORT, 0, Range(None, "V"), f"{begins}:0of2"),
        Shard(COHORT, 1, Range("V", None), f"{begins}:1of2"),
    ]


@pytest.mark.parametrize(
    ("keys", "ended"),
    [
        (["22:2026.1:e1:0of1"], True),
        (["22:2025.9:e1:0of1"], True),
        (["22:2026.1:e1:0of2", "22:2026.1:e1:1of2"], True),
        (["22:2026.1:0of1"], True),  # up to version 1.0
        (["22:2026.1:0of2", "22:2026.1:1of2"], True),
        (["22:2026.1:e1:0of2"], False),
        (["22:2026.1:e1:0of2", "22:2025.9:e1:1of2"], False),
        (["22:2026.1:e1:0of2", "22:2026.1:1of2"], False),
        (["22:2026.1:e2:0of1"], False),  # another environment's
        (["21:2026.1:e1:0of1"], False),
        (["2:2026.1:e1:0of1"], False),
        (["22:2026.1:e1:xof1", "22:e1:0of1:", "0of1"], False),
        ([], False),
    ],
)
def test_a_cohort_has_ended_under_any_version_of_its_own_environment(keys: list[str], ended: bool) -> None:
    named = [f"daily_summary:cohort:v2:2026-05-01T20:00:00Z:{key}" for key in keys]
    assert (cohort_prefix(SLOT, 22) in ended_cohorts(named, "e1")) is ended


def order(shards: list[Shard], task: int, tasks: int, count: int) -> list[int]:
    return [shard.index for shard in spread(shards, task, tasks, count)]


@pytest.mark.parametrize(
    ("task", "tasks", "count", "indexes"),
    [
        (0, 1, 1, [0]),
        (0, 1, 4, [0, 1, 2, 3]),
        (0, 2, 4, [0, 1, 2, 3]),
        (1, 2, 4, [2, 3, 0, 1]),
        (1, 2, 5, [2, 3, 4, 0, 1]),
        (2, 3, 5, [3, 4, 0, 1, 2]),
        (3, 4, 4, [3, 0, 1, 2]),
        (5, 8, 2, [1, 0]),  # more tasks than shards
    ],
)
def test_each_task_begins_at_its_own_place_of_the_ring(task: int, tasks: int, count: int, indexes: list[int]) -> None:
    assert order(shards_of(COHORT, "e1", count), task, tasks, count) == indexes


def test_the_oldest_slot_comes_first_then_the_place_then_the_hour() -> None:
    early = Cohort(SLOT, 8, {})
    given_shards = [*shards_of(LATER, "e1", 2), *shards_of(COHORT, "e1", 2), *shards_of(early, "e1", 2)]
    found = [(shard.cohort.slot, shard.cohort.hour, shard.index) for shard in spread(given_shards, 1, 2, 2)]
    assert found == [
        (SLOT, 8, 1),
        (SLOT, 22, 1),
        (SLOT, 8, 0),
        (SLOT, 22, 0),
        (LATER.slot, 22, 1),
        (LATER.slot, 22, 0),
    ]


HOURS = [Cohort(SLOT, hour, {}) for hour in range(24)]


@pytest.mark.parametrize(
    ("count", "tasks", "sizes"),
    [
        (16, 1, [8, 8]),
        (16, 2, [8, 8]),
        (16, 4, [4, 4, 4, 4]),
        (16, 32, [1] * 16),
        (1, 1, [1]),
        (1, 4, [1]),
        (2, 1, [2]),
    ],
)
def test_of_one_cohort_a_task_holds_its_share_at_most(count: int, tasks: int, sizes: list[int]) -> None:
    assert [
        len(batch) for batch in batches(shards_of(COHORT, "e1", count), per_cohort=count, tasks=tasks, limit=8)
    ] == sizes


@pytest.mark.parametrize(("count", "tasks", "held"), [(1, 1, 8), (1, 4, 8), (16, 1, 8), (16, 16, 8)])
def test_many_cohorts_fill_a_batch(count: int, tasks: int, held: int) -> None:
    """One cohort's slowest user holds up no more than its batch: most cohorts are small."""
    shards = spread([one for cohort in HOURS for one in shards_of(cohort, "e1", count)], 0, tasks, count)
    found = list(batches(shards, per_cohort=count, tasks=tasks, limit=8))
    assert len(found[0]) == held
    assert sorted(one.key for batch in found for one in batch) == sorted(one.key for one in shards)


@given(st.integers(1, 62), st.integers(1, 70))
def test_tasks_that_start_together_take_nobody_elses(count: int, tasks: int) -> None:
    """Each task's first batch, in the order in which it goes through them: together they are all shards."""
    shards = shards_of(COHORT, "e1", count)
    spreads = [spread(shards, task, tasks, count) for task in range(tasks)]
    first = [next(batches(ordered, per_cohort=count, tasks=tasks, limit=count)) for ordered in spreads]
    assert {shard.index for batch in first for shard in batch} == set(range(count))


def test_a_user_whose_id_is_a_boundary_is_in_the_shard_that_starts_there() -> None:
    end = id_range(0, 4).end
    assert end is not None
    slot = datetime(2026, 5, 1, 20, tzinfo=UTC)
    assert key_of(end, slot, 20, "e1", 4).endswith(":1of4")
