"""What may take long, out of the event loop's way: a thread, where there is enough to read that its hop pays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SOON = 8_000  # characters: a usual day and its recap, read in a millisecond or two; a hop costs 0.1 ms and the GIL


async def beside_the_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work returns or raises. `size`: characters that it reads, hostile ones among them."""
    return work(*args, **kwargs) if size <= SOON else await asyncio.to_thread(work, *args, **kwargs)
