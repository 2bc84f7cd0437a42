"""A user document that the query can't see: what of it has one right answer, and what a person has to decide."""

from __future__ import annotations

import re
from typing import Any

from notifications.adapters.stores.documents import USER_ENABLED, USER_HOUR, USER_ZONE, Doc
from notifications.domain.schedule import zone_names
from notifications.ports import Decided, Mended

DROPPED = {  # links that tzdata once had in its file `backward`, and where they led
    "US/Pacific-New": "America/Los_Angeles",
    "Canada/East-Saskatchewan": "America/Regina",
}
HOUR = re.compile(r"\s*([0-9]{1,2})\s*", re.ASCII)
SWITCHES = {"true": True, "false": False}
NO_ZONE, ODD_ZONE = "no time zone", "a time zone that is none"
NO_HOUR, ODD_HOUR = "no hour", "an hour that is none"
NO_SWITCH, ODD_SWITCH = "no switch", "a switch that is neither on nor off"


def mended(doc: Doc, decided: Decided | None = None) -> Mended:
    """What changes: what has one right answer, and the rest only where it is decided.

    A zone, an hour and a switch are the app's to know: it writes a zone only where there is none, so that a guess of
    ours would stay for good. `GMT+03:00` is an offset of some day, not a place: Etc/GMT-3 is the same today, and wrong
    after the next change of clocks in most places that have it.
    """
    decided = decided or Decided()
    found = {
        USER_ZONE: _zone(doc.get(USER_ZONE), decided.zone),
        USER_ENABLED: _switch(doc.get(USER_ENABLED), enable=decided.enable),
        USER_HOUR: _hour(doc.get(USER_HOUR), decided.hour),
    }
    changes = {
        name: (doc.get(name), value)
        for name, (value, _) in found.items()
        if value is not None and (value != doc.get(name) or type(value) is not type(doc.get(name)))
    }
    return Mended(changes, tuple(kind for _, kind in found.values() if kind))


def _zone(told: Any, decided: str | None) -> tuple[str | None, str]:
    if not isinstance(told, str) or not told.strip():
        return decided, "" if decided else NO_ZONE
    name = told.strip()
    name = DROPPED.get(name, name)
    if name in zone_names():
        return name, ""
    alike = [one for one in zone_names() if one.casefold() == name.casefold()]
    if len(alike) == 1:  # names that differ in case alone are never two zones
        return alike[0], ""
    return decided, "" if decided else ODD_ZONE


def _switch(told: Any, *, enable: bool) -> tuple[bool | None, str]:
    if isinstance(told, bool):
        return told, ""
    if isinstance(told, str) and told.strip().lower() in SWITCHES:
        return SWITCHES[told.strip().lower()], ""
    if told is None:
        return (True, "") if enable else (None, NO_SWITCH)
    return None, ODD_SWITCH


def _hour(told: Any, decided: int | None) -> tuple[int | None, str]:
    if isinstance(told, str) and (digits := HOUR.fullmatch(told)):
        told = int(digits[1])
    if isinstance(told, int | float) and not isinstance(told, bool) and told in range(24):
        return int(told), ""
    return decided, "" if decided is not None else NO_HOUR if told is None else ODD_HOUR
