"""A user's devices, and the addresses that the app set for other channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from notifications.adapters.stores.conversation_text import text
from notifications.adapters.stores.layout import FID, LEGACY_TOKEN, Layout, value_at
from notifications.domain.errors import Malformed
from notifications.domain.model import Device

MAX_TOKEN_LENGTH = 2_048  # real ones have some 160 characters
ADDRESSES = {  # by channel, its fields in the user's document, and what each is called for the channel
    "webhook": {"recap_webhook_url": "url", "recap_webhook_secret": "secret"},
    "email": {"recap_email": "address"},
}
UNSUBSCRIBED = "recap_unsubscribed"  # the address that the user has ended the mails of, whoever writes it again
ADDRESS_FIELDS = [*(name for fields in ADDRESSES.values() for name in fields), UNSUBSCRIBED]
MAX_ADDRESS_LENGTH = 2_048


def device_from(layout: Layout, key: str, doc: object, version: object) -> Device | None:
    """The device; None if the document holds neither token nor fid. Raises Malformed if it has no good one."""
    if not isinstance(doc, Mapping):
        raise Malformed(f"device {key} is not a map.")
    ids, flaw = {}, None
    for kind, name in (("token", layout.token), ("fid", FID)):
        try:
            ids[kind] = _token(value_at(doc, name))
        except Malformed as malformed:
            flaw = malformed
    device = Device(ids.get("token", ""), key, version, ids.get("fid", ""))
    if flaw is not None and not device.ids:
        raise flaw
    return device if device.ids else None


def devices_from(layout: Layout, rows: Iterable[tuple[str, object, object]]) -> tuple[list[Device], int]:
    """The devices of (key, document, version), and how many documents were malformed."""
    devices, malformed = [], 0
    for row in rows:
        try:
            device = device_from(layout, *row)
        except Malformed:
            malformed += 1
        else:
            devices += [device] if device else []
    return devices, malformed


def _token(value: object) -> str:
    try:
        token = text(value)
    except UnicodeEncodeError:
        raise Malformed("a device's token holds half of a surrogate pair.") from None
    if len(token) > MAX_TOKEN_LENGTH or not token.isprintable() or " " in token:
        raise Malformed("a device's token is no token.")
    return token


def select_devices(devices: list[Device], user: object) -> list[Device]:
    """Each token and each fid once: the document with both counts, else the last; the legacy field if there is none."""
    if not devices:
        try:
            legacy = _token(user.get(LEGACY_TOKEN)) if isinstance(user, Mapping) else ""
        except Malformed:
            legacy = ""
        return [Device(legacy, None, legacy)] if legacy else []
    kept: dict[tuple[str, str], int] = {}
    for at in sorted(range(len(devices)), key=lambda at: (not (devices[at].token and devices[at].fid), -at)):
        ids = [pair for pair in (("token", devices[at].token), ("fid", devices[at].fid)) if pair[1]]
        if not any(pair in kept for pair in ids):
            kept |= dict.fromkeys(ids, at)
    return [devices[at] for at in sorted(set(kept.values()))]


def addresses_from(doc: object, changes: Mapping[str, Any] = {}) -> dict[str, dict[str, str]]:
    """By channel, the addresses that the app set for the user; each channel checks its own.

    In place of an address that its owner has ended: `ended_by`, the field that says so. `changes`: fields of the
    document that are not stored yet.
    """
    given = {**(doc if isinstance(doc, Mapping) else {}), **changes}
    found: dict[str, dict[str, str]] = {}
    for channel, names in ADDRESSES.items():
        for name, meaning in names.items():
            value = given.get(name)
            if isinstance(value, str) and value.strip() and len(value) <= MAX_ADDRESS_LENGTH:
                found.setdefault(channel, {})[meaning] = value.strip()
    if "email" in found and found["email"]["address"] == given.get(UNSUBSCRIBED):
        found["email"] = {"ended_by": UNSUBSCRIBED}
    return found
