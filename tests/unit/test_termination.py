"""SIGTERM brings forward the time-outs that were begun under it, each to its own last seconds."""

from __future__ import annotations

import asyncio

import pytest

from notifications.run.termination import Termination

LONG = 3600.0


async def _told_to_stop(grace: float, *, before: bool) -> bool:
    """Whether work of an hour is given up when the run is told to stop."""
    terminated, begun, may_end = Termination(), asyncio.Event(), asyncio.Event()

    async def work() -> bool:
        try:
            async with terminated.timeout(LONG, grace=grace):
                begun.set()
                await may_end.wait()
        except TimeoutError:
            return True
        return False

    if before:
        terminated.set()
    working = asyncio.create_task(work())
    await begun.wait()
    terminated.set()
    if grace:
        may_end.set()
    return await working


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(("grace", "given_up"), [(0.0, True), (LONG, False)])
async def test_work_is_given_up_unless_it_has_last_seconds(grace: float, given_up: bool, before: bool) -> None:
    assert await _told_to_stop(grace, before=before) is given_up


async def test_a_shorter_time_out_of_its_own_still_holds() -> None:
    async def briefly() -> None:
        terminated = Termination()
        async with terminated.timeout(0, grace=LONG):
            terminated.set()
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await briefly()


async def test_what_is_already_being_given_up_is_left_alone() -> None:
    terminated, cleaning, cleaned = Termination(), asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        async with terminated.timeout(0):
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await cleaned.wait()

    ending = asyncio.create_task(slow_to_end())
    await cleaning.wait()
    terminated.set()
    cleaned.set()
    with pytest.raises(TimeoutError):
        await ending
