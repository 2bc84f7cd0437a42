"""Slots, recap dates and cohorts, by the IANA zones of the tzdata package alone (docs/protocol.md, section 2)."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import cache, lru_cache
from importlib import import_module
from math import inf
from pathlib import Path
from struct import Struct
from zoneinfo import ZoneInfo

from notifications.domain.errors import Malformed
from notifications.domain.model import instant

TZDATA = import_module("tzdata")  # zoneinfo imports it by this name, too
FOLDER = Path(str(TZDATA.__file__)).parent
ZONE_FILES = str(FOLDER / "zoneinfo")
zoneinfo.reset_tzpath((ZONE_FILES,))  # reading the files is twice as fast as the package's own loader

HEADER = 44  # bytes of a TZif file's header; before the second one stand times of four bytes
COUNTS = Struct(">20x6l")  # isut, isstd, leap, time, type, char
TIME_COUNT, TIME = Struct(">32xl"), Struct(">q")
EMPTY_FOOTER = b"\n\n"
LONGEST_SHIFT = timedelta(days=1)  # of a clock: a zone's day can be left out, or come twice

ONE_DAY = timedelta(days=1)
ONE_HOUR = timedelta(hours=1)
NOON = 12


class Phase(Enum):
    """Where `now` is, relative to a slot."""

    EARLY = "early"
    DUE = "due"
    CLOSING = "closing"
    OVER = "over"

    @property
    def is_due(self) -> bool:
        """Whether the catch-up still runs. EARLY too: Redis' clock was set back a little since the claim."""
        return self in (Phase.EARLY, Phase.DUE)


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a slot is served: due for `catch_up`, then closing for `grace`."""

    catch_up: timedelta
    grace: timedelta

    def service_end(self, slot: datetime) -> datetime:
        """When the slot is over: after its catch-up and grace."""
        return slot + self.catch_up + self.grace

    def could_have(self, slot: datetime, created: datetime | None) -> bool:
        """Whether an account of that time (None: unknown) was there while the slot was served."""
        return created is None or created < self.service_end(slot)

    def phase(self, slot: datetime, now: datetime) -> Phase:
        """EARLY, DUE, CLOSING or OVER; each range includes its start and excludes its end."""
        late = instant(now) - instant(slot)
        if late < timedelta(0):
            return Phase.EARLY
        if late < self.catch_up:
            return Phase.DUE
        return Phase.CLOSING if late < self.catch_up + self.grace else Phase.OVER


@dataclass(frozen=True, slots=True)
class Slot:
    """The instant at which a user's recap is due, and its recap date."""

    at: datetime
    recap_date: date
    zone: str
    hour: int

    def back(self, days: int) -> datetime:
        """The slot `days` nominal dates earlier, in the same zone at the same hour."""
        return slot_instant(zone(self.zone), nominal_date(self.recap_date, self.hour) - days * ONE_DAY, self.hour)


@dataclass(frozen=True, slots=True)
class Cohort:
    """All users with the same slot and hour. `zones`: the nominal date of each zone."""

    slot: datetime
    hour: int
    zones: Mapping[str, date]

    def zone_batches(self, size: int) -> Iterator[list[str]]:
        """The zones in order, as many at a time as one query may name."""
        names = sorted(self.zones)
        return (names[start : start + size] for start in range(0, len(names), size))


@cache
def tzdata_version() -> str:
    """The version of the tzdata package, a part of a cohort's key."""
    return str(TZDATA.__version__)


@cache
def zone_names() -> tuple[str, ...]:
    """All IANA names of the tzdata package, aliases included, sorted."""
    return tuple(sorted((FOLDER / "zones").read_text(encoding="utf-8").split()))


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of an exact IANA name. Raises Malformed, also for `america/new_york`."""
    if name not in zone_names():
        raise Malformed(f"{name!r} is no IANA time zone; names are exact, such as 'Europe/Paris'.")
    return ZoneInfo(name)


@lru_cache(maxsize=4_096)
def slot_instant(tz: ZoneInfo, nominal: date, hour: int) -> datetime:
    """An hour of a local date, in UTC: of a repeated time the first, in a gap the first valid instant after it."""
    wall = datetime.combine(nominal, time(hour), tzinfo=tz)
    first = wall.astimezone(UTC)
    if _local(first, tz) == wall.replace(tzinfo=None):
        return first
    second = wall.replace(fold=1).astimezone(UTC)
    # In a gap the two lie on either side of the clock change: bisect for its first second.
    low, high = int(second.timestamp()), int(first.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _local(datetime.fromtimestamp(middle, UTC), tz) < wall.replace(tzinfo=None):
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def _local(moment: datetime, tz: ZoneInfo) -> datetime:
    return moment.astimezone(tz).replace(tzinfo=None)


def recap_date(nominal: date, hour: int) -> date:
    """The day that a recap is about: the nominal date for hours from noon on, else the day before."""
    return nominal if hour >= NOON else nominal - ONE_DAY


def nominal_date(day: date, hour: int) -> date:
    """The inverse of `recap_date`."""
    return day if hour >= NOON else day + ONE_DAY


def slot_on(tz_name: str, nominal: date, hour: int) -> Slot:
    """A user's slot on a nominal date."""
    return Slot(slot_instant(zone(tz_name), nominal, hour), recap_date(nominal, hour), tz_name, hour)


@lru_cache(maxsize=4_096)
def slot_of_day(tz_name: str, day: date, hour: int) -> Slot:
    """A user's slot for a recap date."""
    return slot_on(tz_name, nominal_date(day, hour), hour)


def latest_slot(tz_name: str, hour: int, now: datetime) -> Slot:
    """The last slot at or before `now`: what `--user` serves."""
    today = instant(now).astimezone(zone(tz_name)).date()
    slots = (slot_on(tz_name, today + ONE_DAY * back, hour) for back in (1, 0, -1, -2))
    return max((slot for slot in slots if slot.at <= now), key=lambda slot: (slot.at, slot.recap_date))


def cohorts_between(after: datetime, until: datetime) -> list[Cohort]:
    """The cohorts with after < slot <= until, by slot and hour. If a zone skipped a day, the later date wins."""
    zones: dict[tuple[datetime, int], dict[str, date]] = {}
    for names in _names_by_rules(instant(after)):
        for at, nominal, hour in _slots_of(zone(names[0]), instant(after), instant(until)):
            zones.setdefault((at, hour), {}).update(dict.fromkeys(names, nominal))
    return [Cohort(slot, hour, dict(sorted(zones[slot, hour].items()))) for slot, hour in sorted(zones)]


def _names_by_rules(after: datetime) -> list[list[str]]:
    """All names, grouped by what their files say from then on, since evaluating rules costs much more than reading."""
    since = after.timestamp() - LONGEST_SHIFT.total_seconds()
    names: dict[bytes, list[str]] = {}
    for name in zone_names():
        names.setdefault(_rules(_zone_file(name), since), []).append(name)
    return list(names.values())


@cache
def _zone_file(name: str) -> bytes:
    with open(f"{ZONE_FILES}/{name}", "rb", buffering=0) as file:
        return file.read()


def _rules(data: bytes, since: float) -> bytes:
    """What a TZif file (RFC 9636, section 3) says of times after `since`: after its last transition, its footer."""
    counts = COUNTS.unpack_from(data)
    second = HEADER + sum(count * size for count, size in zip(counts, (1, 1, 8, 5, 6, 1), strict=True))
    transitions = TIME_COUNT.unpack_from(data, second)[0]
    last = TIME.unpack_from(data, second + HEADER + 8 * (transitions - 1))[0] if transitions else -inf
    footer = data[data.rindex(b"\n", 0, -1) :]
    return footer if footer != EMPTY_FOOTER and last < since else data


def _slots_of(tz: ZoneInfo, after: datetime, until: datetime) -> Iterator[tuple[datetime, date, int]]:
    low, high = _local(after, tz), _local(until, tz)
    shift = abs((high - low) - (until - after))  # how far the clock changed in between
    wall = min(low, high).replace(minute=0, second=0, microsecond=0) - shift
    while wall <= max(low, high) + shift:
        at = slot_instant(tz, wall.date(), wall.hour)
        if after < at <= until:
            yield at, wall.date(), wall.hour
        wall += ONE_HOUR
