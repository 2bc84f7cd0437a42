"""Where a recap is delivered, and what came of it: targets of all channels (docs/protocol.md, sections 4 and 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from notifications.domain.model import Device, Ledger, OpenTarget
from notifications.domain.push import PushResult

MAX_WAIT = timedelta(minutes=30)  # a `due` further ahead was stamped by a clock that was wrong: it counts as now
SAMPLE_TOKEN = "sample-token-"  # noqa: S105 - the beginning of each sample user's device
REFUSED, GAVE_UP = "refused", "gave_up"  # beside accepted and gone, how a target ends in a ledger


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one channel. Neither the address nor the secret is ever logged.

    `ids`: its names in ledgers and logs; the first is the one that is written. `device`: its document, which is deleted
    when it is gone. `is_users_own`: a server that the user chose; its failures say nothing about the channel.
    """

    channel: str
    address: str = field(repr=False)
    ids: tuple[str, ...]
    device: Device | None = field(default=None, repr=False)
    secret: str = field(default="", repr=False)
    is_users_own: bool = False

    @property
    def id(self) -> str:
        return self.ids[0]


def target(channel: str, address: str, secret: str = "", *, is_users_own: bool = False) -> Target:
    """A target that is no device. Its id: 16 hex digits of the SHA-256 of channel and address."""
    name = hashlib.sha256(f"{channel}|{address}".encode()).hexdigest()[:16]
    return Target(channel, address, (name,), secret=secret, is_users_own=is_users_own)


def device_targets(channel: str, devices: Sequence[Device]) -> list[Target]:
    """The user's devices as targets, under the ids that ledgers have always had."""
    return [Target(channel, device.fid or device.token, device.ids, device) for device in devices]


@dataclass(frozen=True, slots=True)
class Recipient:
    """What channels may know of a user. `addresses`: by channel, the fields that the app set for it."""

    uid: str
    devices: Sequence[Device] = ()
    addresses: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    zone: str = ""  # IANA name; empty if unknown
    language: str | None = None

    @property
    def is_sample(self) -> bool:
        """Whether it is a sample user, whose recaps stay on this machine."""
        return bool(self.devices) and all(device.token.startswith(SAMPLE_TOKEN) for device in self.devices)


@dataclass(frozen=True, slots=True)
class TargetResult:
    """What came of one target in one pass. `due`: when it may be tried again.

    `has_reached_peer`: another target of its channel has the recap.
    """

    result: PushResult
    code: str = ""
    due: datetime | None = None
    has_reached_peer: bool = False


def still_open(targets: Sequence[Target], ledger: Ledger) -> list[Target]:
    """The targets that the ledger has not ended."""
    return [target for target in targets if not any(name in ledger.devices for name in target.ids)]


def kept(target: Target, ledger: Ledger) -> OpenTarget:
    """What the ledger keeps of an open target."""
    return next((ledger.targets[name] for name in target.ids if name in ledger.targets), OpenTarget())


def time_until_due(target: Target, ledger: Ledger, now: datetime) -> timedelta:
    """How long the target still waits; zero if it may be tried now."""
    due = kept(target, ledger).due
    wait = due - now if due is not None else timedelta(0)
    return wait if timedelta(0) < wait <= MAX_WAIT else timedelta(0)


def without_gone(targets: Sequence[Target], before: Sequence[Ledger]) -> list[Target]:
    """Leave out addresses that were gone in these ledgers. A device has a document instead, which is deleted."""
    gone = {name for ledger in before for name, result in ledger.devices.items() if result == PushResult.GONE}
    return [target for target in targets if target.device is not None or target.id not in gone]
