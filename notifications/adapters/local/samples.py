"""Sample users for a new data folder: some are due at whatever hour it is, in every kind of zone."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from notifications.adapters.local.private_files import MARKER, created, locked, private_folder, write_atomically
from notifications.adapters.stores.documents import Doc
from notifications.adapters.stores.imports import conversation_to, document_of, user_to
from notifications.adapters.stores.layout import Layout
from notifications.domain.errors import DependencyDown
from notifications.domain.schedule import Phase, Rules, latest_slot, zone
from notifications.domain.target import SAMPLE_TOKEN, Recipient
from notifications.ports import Sample

if TYPE_CHECKING:
    from notifications.adapters.local.sqlite import SqliteStore

USERS = 48  # one due in each half hour of the day, so that several are due at any time
SILENT = 9  # every 16th user, from this number on, has no conversations
RULES = Rules(catch_up=timedelta(hours=2), grace=timedelta(minutes=25))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "samples.toml").read_text(encoding="utf-8"))


async def fill(store: SqliteStore, layout: Layout, folder: Path, now: datetime) -> None:
    """Fill a new folder, once over all processes. Raises DependencyDown if the disk is full."""
    try:
        private_folder(folder)
        async with locked(folder / "fill.lock"):
            if created(folder) is None:
                if await store.empty():
                    for uid, user, devices, conversations in samples(layout, now):
                        await store.put(uid, user, devices, conversations)
                write_atomically(folder / MARKER, now.isoformat())
                private_folder(folder)
    except OSError as cause:
        raise DependencyDown("disk", f"{folder} can't be written ({cause.strerror}); make room.") from cause


async def talk(store: SqliteStore, layout: Layout, now: datetime) -> None:
    """Add conversations of that time to the sample users, so that a pretended evening has its recaps."""
    for number in range(USERS):
        uid = f"sample-{number:02}"
        devices, _ = await store.devices(uid)
        if number % 16 != SILENT and Recipient(uid, devices).is_sample:  # another user may have the uid
            talks = {f"{key}-{now:%Y-%m-%d}": doc for key, doc in talks_of(layout, number, now).items()}
            await store.add_talks(uid, talks)


def samples(layout: Layout, now: datetime) -> list[Sample]:
    """All but those whose day would end at once as missed, since their slot was before the first run."""
    zones = [_zone_and_hour(number, now) for number in range(USERS)]
    slots = [latest_slot(name, hour, now).at for name, hour in zones]
    return [
        sample(layout, number, now) for number in range(USERS) if RULES.phase(slots[number], now) is not Phase.CLOSING
    ]


def _zone_and_hour(number: int, now: datetime) -> tuple[str, int]:
    """Due at about half past midnight UTC and that many half hours."""
    zones = _table()["zones"]
    name = zones[number % len(zones)]
    midnight = now.astimezone(UTC).replace(hour=0, minute=30, second=0, microsecond=0)
    return name, (midnight + timedelta(minutes=30 * number)).astimezone(zone(name)).hour


def language_of(number: int) -> str:
    """What the number-th user speaks."""
    languages: list[str] = _table()["languages"]
    return languages[number % len(languages)]


def sample(layout: Layout, number: int, now: datetime) -> Sample:
    """The number-th user."""
    name, hour = _zone_and_hour(number, now)
    user = user_to(layout, name, number % 16 != 5, hour, language_of(number))
    tokens = {f"device-{index}": f"{SAMPLE_TOKEN}{number}-{index}" for index in range(1 + number % 2)}
    devices = {key: document_of([(layout.token, token)]) for key, token in tokens.items()}
    return f"sample-{number:02}", user, devices, {} if number % 16 == SILENT else talks_of(layout, number, now)


def talks_of(layout: Layout, number: int, now: datetime) -> dict[str, Doc]:
    """The number-th user's day: one of those in their language, its talks four hours apart, the last just over."""
    days = [day for day in _table()["days"] if day["language"] == language_of(number)]
    talks, uid = dict[str, Doc](), f"sample-{number:02}"
    for index, talk in enumerate(days[number % len(days)]["talks"]):
        begun = now - timedelta(hours=2.5 + 4 * index)
        key = f"{uid}-talk-{index}" if layout.owner else f"talk-{index}"  # one collection has all users'
        talks[key] = conversation_to(
            layout,
            uid,
            begun,
            begun + timedelta(minutes=talk["minutes"]),
            talk["title"],
            talk["turns"],
            category=talk["category"],
            action_items=[{"description": talk["todo"], "completed": index % 2 == 1}],
            events=[],
        )
    return talks
