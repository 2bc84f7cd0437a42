"""Which addresses a user's webhook may reach. Checked is what is connected to, whatever a name or a URL says."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from notifications.adapters.daemon_task import DaemonTask

MAX_URL = 2_000  # characters
RECEIVE_BUFFER = 4_096  # bytes: an answer is short, and one without end is not to fill every turn of the event loop
NOT_PUBLIC = errno.EACCES  # of the OSError in place of a connection to an address that is not public
UNICAST = ip_network("2000::/3")  # all of IPv6 that is given out: no NAT64, site-local or IPv4-compatible address
NEVER_PUBLIC = (  # though Python 3.11 calls them global, or some of them
    ip_network("192.0.0.0/24"),  # protocols; a metadata server of Oracle's
    ip_network("192.88.99.0/24"),  # relays of 6to4
    ip_network("168.63.129.16/32"),  # Azure's own, from within
    ip_network("2001::/23"),  # Teredo, ORCHID and other protocols
    ip_network("2002::/16"),  # 6to4: any IPv4 address
    ip_network("3fff::/20"),  # documentation
)


def is_public(host: str) -> bool:
    """Whether the host is the literal of one public unicast address, in its usual form and without a zone."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    if address.version == 6 and (address not in UNICAST or "%" in host):
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in NEVER_PUBLIC)


def checked_sockets(may_connect: Callable[[str], bool]) -> Callable[[Any], socket.socket]:
    """A connector's socket factory; it raises OSError (NOT_PUBLIC) for an address that may not be connected to."""

    def make(info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        if not may_connect(info[4][0]):
            raise OSError(NOT_PUBLIC, "not a public address")
        made = socket.socket(*info[:3])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return made

    return make


def is_usable(url: str) -> bool:
    """Whether a user's URL is https on port 443, without a user or a password. Its host is judged when it is known."""
    if len(url) > MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = URL(url)
        return (parts.scheme, parts.port, parts.user, parts.password) == ("https", 443, None, None) and bool(parts.host)
    except ValueError:
        return False


class UserHostResolver(AbstractResolver):
    """Looks each host up in a daemon thread of its own: a slow name server delays no other work, and no exit."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Its addresses; none at all is an OSError."""
        infos: list[Any] = []

        def look_up() -> None:
            infos.extend(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))

        await DaemonTask(look_up).wait()  # an error, whatever a host's letters lead to, is that nothing is found
        if not infos:
            raise OSError(errno.ENOENT, "no such host")
        return [
            ResolveResult(hostname=host, host=address[0], port=address[1], family=kind, proto=protocol, flags=0)
            for kind, _, protocol, _, address in infos
        ]

    async def close(self) -> None:
        """Do nothing: the threads end by themselves."""
