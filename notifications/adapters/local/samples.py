"""Sample users for a new data folder: some are due at whatever hour it is, in every kind of zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from notifications.adapters.local.private_files import locked, private_folder, write_whole
from notifications.adapters.stores.documents import Doc
from notifications.domain.errors import DependencyDown
from notifications.domain.model import Device
from notifications.domain.schedule import Phase, Rules, latest_slot, zone
from notifications.ports import Sample

MARKER = "created"

ZONES = (
    *("Pacific/Kiritimati", "Pacific/Auckland", "Pacific/Chatham", "Australia/Sydney", "Australia/Adelaide"),
    *("Asia/Tokyo", "Asia/Shanghai", "Asia/Jakarta", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Karachi"),
    *("Asia/Tehran", "Europe/Moscow", "Africa/Cairo", "Europe/Berlin", "Europe/Paris", "Africa/Lagos"),
    *("Europe/London", "Atlantic/Azores", "America/Nuuk", "America/Sao_Paulo", "America/St_Johns"),
    *("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles", "Pacific/Honolulu"),
)
SILENT = 9  # of 16: they say nothing
TOKEN = "sample-token-"  # noqa: S105 - what theirs begin with
USERS = 48  # one due in each half hour of the day, so that several are due at any time

TALKS: tuple[tuple[str, str, str, int, str], ...] = (
    (
        "Harbour project review",
        "The team walked through the harbour project and agreed to move the launch to the first week of the month. "
        "Budget stands at 42,000. Who signs the crane contract is still open?",
        "work",
        45,
        "Send the new launch date to the suppliers",
    ),
    (
        "Breakfast with Ines",
        "Ines is back from Porto and starts her new job on Monday. You decided to hike together on Sunday.",
        "social",
        25,
        "Book the trail parking",
    ),
    (
        "Call with the clinic",
        "The blood results are fine; the next check is in 6 months. Walking 30 minutes a day was recommended.",
        "health",
        12,
        "Set a reminder for the next check",
    ),
    (
        "Budget talk at home",
        "You compared two heating offers and settled on the heat pump. Will the grant cover a third of it?",
        "family",
        35,
        "Ask the bank about the grant",
    ),
    (
        "Pairing on the search index",
        "A slow query was traced to a missing index; with it, answers take 8 ms. It goes out after a review.",
        "technology",
        60,
        "Write the migration",
    ),
    (
        "Spanish lesson",
        "You practised the past tense and will read a short story by Friday.",
        "education",
        30,
        "Read it",
    ),
)
MISSED_AFTER, MISSED_FOR = timedelta(hours=2), timedelta(minutes=25)


class Fillable(Protocol):
    """A store that can be filled."""

    async def empty(self) -> bool: ...
    async def put(self, uid: str, user: Doc, fcm_tokens: dict[str, Doc], conversations: dict[str, Doc]) -> None: ...
    async def devices(self, uid: str) -> tuple[list[Device], int]: ...
    async def add_talks(self, uid: str, conversations: dict[str, Doc]) -> None: ...


def created(folder: Path) -> datetime | None:
    """When the data folder was first filled; None if it was not yet, or what says so can't be read."""
    try:
        return datetime.fromisoformat((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


async def fill(store: Fillable, folder: Path, now: datetime) -> None:
    """Fill a new folder, once, whoever comes first. Raises DependencyDown where the disk is full."""
    try:
        private_folder(folder)
        async with locked(folder / "fill.lock"):
            if created(folder) is None:
                if await store.empty():
                    for one in samples(now):
                        await store.put(*one)
                write_whole(folder / MARKER, now.isoformat())
                private_folder(folder)
    except OSError as cause:
        raise DependencyDown("disk", f"{folder} can't be written ({cause.strerror}); make room.") from cause


async def talk(store: Fillable, now: datetime) -> None:
    """Sample users that are there talk at that time, too: a pretended evening of another season has its recaps."""
    for number in range(USERS):
        said = {f"{key}-{now:%Y-%m-%d}": doc for key, doc in _talks(number, now).items()}
        uid = f"sample-{number:02}"
        devices, _ = await store.devices(uid)
        is_ours = devices and all(device.token.startswith(TOKEN) for device in devices)
        if number % 16 != SILENT and is_ours:  # whoever only has the uid of one said nothing of this
            await store.add_talks(uid, said)


def samples(now: datetime) -> list[Sample]:
    """All but those whose day would end at once as missed, since their slot passed before there was a job."""
    rules = Rules(MISSED_AFTER, MISSED_FOR)
    made = [sample(number, now) for number in range(USERS)]
    return [one for one in made if rules.phase(_slot(one, now), now) is not Phase.CLOSING]


def _slot(one: Sample, now: datetime) -> datetime:
    return latest_slot(one[1]["time_zone"], one[1]["daily_summary_hour_local"], now).at


def sample(number: int, now: datetime) -> Sample:
    """The number-th user: due at about half past midnight UTC and that many half hours."""
    name = ZONES[number % len(ZONES)]
    midnight = now.astimezone(UTC).replace(hour=0, minute=30, second=0, microsecond=0)
    hour = (midnight + timedelta(minutes=30 * number)).astimezone(zone(name)).hour
    user: dict[str, Any] = {
        "time_zone": name,
        "daily_summary_enabled": number % 16 != 5,
        "daily_summary_hour_local": hour,
        "language": "en",
    }
    devices: dict[str, Doc] = {
        f"device-{n}": {"token": f"{TOKEN}{number}-{n}", "time_zone": name, "created_at": now}
        for n in range(1 + number % 2)
    }
    talks = {} if number % 16 == SILENT else _talks(number, now)
    return f"sample-{number:02}", user, devices, talks


def _talks(number: int, now: datetime) -> dict[str, Doc]:
    talks: dict[str, Doc] = {}
    for n in range(5):
        title, overview, category, minutes, todo = TALKS[(number + n) % len(TALKS)]
        begun = now - timedelta(hours=2.5 + 4 * n)
        ended = begun + timedelta(minutes=minutes)
        talks[f"talk-{n}"] = {
            "created_at": ended,
            "started_at": begun,
            "finished_at": ended,
            "discarded": False,
            "is_locked": False,
            "structured": {
                "title": title,
                "overview": overview,
                "category": category,
                "action_items": [{"description": todo, "completed": n % 2 == 1}],
                "events": [],
            },
        }
    return talks
