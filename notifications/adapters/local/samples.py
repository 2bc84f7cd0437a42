"""Sample users for a new data folder: some are due at whatever hour it is, in every kind of zone."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from notifications.adapters.local.private_files import locked, private_folder, write_atomically
from notifications.adapters.stores.documents import Doc
from notifications.domain.errors import DependencyDown
from notifications.domain.schedule import Phase, Rules, latest_slot, zone
from notifications.ports import Sample

if TYPE_CHECKING:
    from notifications.adapters.local.sqlite import SqliteStore

MARKER = "created"
USERS = 48  # one due in each half hour of the day, so that several are due at any time
SILENT = 9  # every 16th user, from this number on, has no conversations
TOKEN = "sample-token-"  # noqa: S105 - a prefix, not a secret
RULES = Rules(catch_up=timedelta(hours=2), grace=timedelta(minutes=25))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "samples.toml").read_text(encoding="utf-8"))


def created(folder: Path) -> datetime | None:
    """When the data folder was first filled; None if it was not, or its mark can't be read."""
    try:
        return datetime.fromisoformat((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


async def fill(store: SqliteStore, folder: Path, now: datetime) -> None:
    """Fill a new folder, once over all processes. Raises DependencyDown if the disk is full."""
    try:
        private_folder(folder)
        async with locked(folder / "fill.lock"):
            if created(folder) is None:
                if await store.empty():
                    for uid, user, devices, conversations in samples(now):
                        await store.put(uid, user, devices, conversations)
                write_atomically(folder / MARKER, now.isoformat())
                private_folder(folder)
    except OSError as cause:
        raise DependencyDown("disk", f"{folder} can't be written ({cause.strerror}); make room.") from cause


async def talk(store: SqliteStore, now: datetime) -> None:
    """Add conversations of that time to the sample users, so that a pretended evening has its recaps."""
    for number in range(USERS):
        uid = f"sample-{number:02}"
        devices, _ = await store.devices(uid)
        is_sample = devices and all(device.token.startswith(TOKEN) for device in devices)
        if number % 16 != SILENT and is_sample:  # another user may have the uid
            talks = {f"{key}-{now:%Y-%m-%d}": doc for key, doc in _talks(number, now).items()}
            await store.add_talks(uid, talks)


def samples(now: datetime) -> list[Sample]:
    """All but those whose day would end at once as missed, since their slot was before the first run."""
    users = [sample(number, now) for number in range(USERS)]
    return [made for made in users if RULES.phase(_slot(made[1], now), now) is not Phase.CLOSING]


def _slot(user: Doc, now: datetime) -> datetime:
    return latest_slot(user["time_zone"], user["daily_summary_hour_local"], now).at


def sample(number: int, now: datetime) -> Sample:
    """The number-th user: due at about half past midnight UTC and that many half hours."""
    name, language = (_table()[key][number % len(_table()[key])] for key in ("zones", "languages"))
    midnight = now.astimezone(UTC).replace(hour=0, minute=30, second=0, microsecond=0)
    user = {
        "time_zone": name,
        "daily_summary_enabled": number % 16 != 5,
        "daily_summary_hour_local": (midnight + timedelta(minutes=30 * number)).astimezone(zone(name)).hour,
        "language": language,
    }
    devices = {
        f"device-{index}": {"token": f"{TOKEN}{number}-{index}", "time_zone": name, "created_at": now}
        for index in range(1 + number % 2)
    }
    return f"sample-{number:02}", user, devices, {} if number % 16 == SILENT else _talks(number, now)


def _talks(number: int, now: datetime) -> dict[str, Doc]:
    """The number-th user's day: one of those in their language, its talks 4 hours apart and the last just over."""
    languages = _table()["languages"]
    language = languages[number % len(languages)]
    days = [day for day in _table()["days"] if day["language"] == language]
    talks: dict[str, Doc] = {}
    for index, talk in enumerate(days[number % len(days)]["talks"]):
        begun = now - timedelta(hours=2.5 + 4 * index)
        ended = begun + timedelta(minutes=talk["minutes"])
        talks[f"talk-{index}"] = {
            "created_at": ended,
            "started_at": begun,
            "finished_at": ended,
            "discarded": False,
            "is_locked": False,
            "language": language,
            "structured": {
                "title": talk["title"],
                "category": talk["category"],
                "action_items": [{"description": talk["todo"], "completed": index % 2 == 1}],
                "events": [],
            },
            "transcript_segments": [
                {"text": text, "is_user": not name} | ({"speaker_name": name} if name else {})
                for name, text in talk["turns"]
            ],
        }
    return talks
