"""While a run works: one line on a terminal, and the first pushes; nothing where nobody watches."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

from notifications.commands.terminal import Steady, say, say_wrapped
from notifications.domain.push import Message
from notifications.domain.text import COLUMNS
from notifications.run.outcome import Progress

DRAWN_EVERY_SECONDS, FIRST_DRAWN_SECONDS = 0.25, 1.0
PREVIEWS = 5
FORM = "{n_fmt} of {total_fmt} due so far done{postfix}, {rate_noinv_fmt}, {remaining} left"


@asynccontextmanager
async def shown(progress: Callable[[], Progress]) -> AsyncIterator[None]:
    """Draw how far it is, until the work ends; everything else is printed above it."""
    error, out = sys.stderr, sys.stdout
    if not (isinstance(error, Steady) and isinstance(out, Steady) and error.isatty()):
        yield
        return
    drawing = asyncio.create_task(_draw(error, out, progress))
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


async def _draw(error: Steady, out: Steady, progress: Callable[[], Progress]) -> None:
    await asyncio.sleep(FIRST_DRAWN_SECONDS)  # what is done at once needs none
    from tqdm import tqdm

    @contextmanager
    def above() -> Iterator[None]:
        with tqdm.external_write_mode(file=error.bare):
            yield

    tqdm.monitor_interval = 0  # no thread of its own
    bar = tqdm(
        total=0, initial=progress().done, file=error.bare, ncols=COLUMNS - 1, bar_format=FORM, unit="", leave=False
    )
    error.beside = out.beside = above
    try:
        while True:
            now = progress()
            bar.total = now.due
            bar.set_postfix_str(f"{now.in_flight} in flight, {now.waiting} waiting", refresh=False)
            bar.update(now.done - bar.n)
            bar.refresh()
            await asyncio.sleep(DRAWN_EVERY_SECONDS)
    finally:
        error.beside = out.beside = nullcontext
        bar.close()


class Previews:
    """The first pushes into the outbox, where somebody watches; of the others the number."""

    def __init__(self) -> None:
        self._pushes = 0

    def __call__(self, message: Message, device: str) -> None:
        self._pushes += 1
        if self._pushes <= PREVIEWS and sys.stdout.isatty():
            say_wrapped(f"push to {message.uid} (device {device}): {message.title}", "    ", "  ")
            say_wrapped(message.body, "    ")

    def tell_rest(self) -> None:
        """How many more there were."""
        if self._pushes > PREVIEWS and sys.stdout.isatty():
            say(f"  and {self._pushes - PREVIEWS:,} more pushes")
        self._pushes = 0
