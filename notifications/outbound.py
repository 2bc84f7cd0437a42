"""How requests leave this machine: one rule for every client, written into the environment that each of them reads.

Proxies are as the environment says, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY in either case; gRPC's own
`grpc_proxy` too. This machine and Google's metadata server are never asked through one.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from notifications.domain.errors import ConfigFault
from notifications.domain.text import LOOPBACK

NEVER = (*LOOPBACK, "metadata.google.internal", "169.254.169.254")
SCHEMES = ("http_proxy", "https_proxy")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
FOLDERS = ("SSL_CERT_DIR",)


def outbound(env: Mapping[str, str]) -> dict[str, str]:
    """What the environment has to say so that each client keeps to the rule; "" where a variable must be unset.

    Raises ConfigFault: one sentence that names the variable, and never its value, which may hold a password.
    """
    _check_certificates(env)
    everywhere = _proxy(env, "all_proxy")
    found = {name: _proxy(env, name) or everywhere for name in SCHEMES}
    grpc = _proxy(env, "grpc_proxy")
    if not any(found.values()) and not grpc:
        return {}
    _, excepted = _either(env, "no_proxy")
    hosts = [one.strip() for one in excepted.split(",") if one.strip()]
    if "*" in hosts:  # gRPC does not know it
        found, grpc = dict.fromkeys(found, ""), ""
    own = env.get("GCE_METADATA_HOST", "").strip().rpartition(":")
    hosts += [one for one in (*NEVER, own[0] or own[2]) if one and one not in hosts]
    told = {**found, "all_proxy": "", "no_proxy": ",".join(hosts)}
    return {**{name: value for one, value in told.items() for name in (one, one.upper())}, "grpc_proxy": grpc}


def _either(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable's name as it is written there, and its value; the lower case goes first, even if it is empty."""
    there = name if name in env else name.upper()
    return there, env.get(there, "").strip()


def _proxy(env: Mapping[str, str], name: str) -> str:
    there, told = _either(env, name)
    if not told:
        return ""
    url = told if "://" in told else f"http://{told}"
    with suppress(ValueError):
        parts = urlsplit(url)
        plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme == "http" and parts.hostname and parts.port != 0 and plain and parts.path in ("", "/"):
            return url
    raise ConfigFault(f"{there} is no proxy that every client here can use; write http://host:port, or unset it.")


def _check_certificates(env: Mapping[str, str]) -> None:
    """What OpenSSL and its users read and write by themselves: a file that can't be used is a traceback of theirs."""
    for name in BUNDLES:
        if path := env.get(name, "").strip():
            try:
                if not Path(path).is_dir():
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except (OSError, ValueError) as cause:  # an SSLError is an OSError
                raise ConfigFault(f"{name} names no file of certificates that can be read; {_mend(cause)}.") from None
    for name in FOLDERS:
        if (path := env.get(name, "").strip()) and not Path(path).is_dir():
            raise ConfigFault(f"{name} names no folder; check its name, or unset it.")
    if path := env.get("SSLKEYLOGFILE", "").strip():
        try:
            Path(path).open("ab").close()
        except (OSError, ValueError):
            raise ConfigFault("SSLKEYLOGFILE names a file that can't be written; unset it.") from None


def _mend(cause: Exception) -> str:
    return "it is no PEM" if isinstance(cause, ssl.SSLError) else "check its name and its owner, or unset it"
