"""Proxy settings: one rule for every client, set in the environment that all of them read.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are read in either case, and gRPC's own `grpc_proxy`. This machine and
Google's metadata server are never reached through a proxy.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from notifications.domain.errors import ConfigFault
from notifications.domain.text import LOOPBACK

DIRECT_HOSTS = (*LOOPBACK, "metadata.google.internal", "169.254.169.254")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")


def outbound(env: Mapping[str, str]) -> dict[str, str]:
    """The variables to set so that each client follows the rule; "" if a variable must be unset.

    Raises ConfigFault: one sentence that names the variable, and never its value, which may hold a password.
    """
    _check_certificates(env)
    for_all = _proxy(env, "all_proxy")
    proxies = {name: _proxy(env, name) or for_all for name in ("http_proxy", "https_proxy")}
    grpc = _proxy(env, "grpc_proxy")
    if not any(proxies.values()) and not grpc:
        return {}
    _, excepted = _lookup(env, "no_proxy")
    hosts = [host.strip() for host in excepted.split(",") if host.strip()]
    if "*" in hosts:  # gRPC does not understand it
        proxies, grpc = dict.fromkeys(proxies, ""), ""
    metadata_host, _, port = env.get("GCE_METADATA_HOST", "").strip().rpartition(":")
    hosts += [host for host in (*DIRECT_HOSTS, metadata_host or port) if host and host not in hosts]
    values = {**proxies, "all_proxy": "", "no_proxy": ",".join(hosts)}
    both_cases = {case: value for name, value in values.items() for case in (name, name.upper())}
    return {**both_cases, "grpc_proxy": grpc}


def _lookup(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable's name in the case that is set, and its value. Lower case wins, even if it is empty."""
    set_name = name if name in env else name.upper()
    return set_name, env.get(set_name, "").strip()


def _proxy(env: Mapping[str, str], name: str) -> str:
    set_name, value = _lookup(env, name)
    if not value:
        return ""
    url = value if "://" in value else f"http://{value}"
    with suppress(ValueError):
        parts = urlsplit(url)
        plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme == "http" and parts.hostname and parts.port != 0 and plain and parts.path in ("", "/"):
            return url
    raise ConfigFault(f"{set_name} is no proxy that every client here can use; write http://host:port, or unset it.")


def _check_certificates(env: Mapping[str, str]) -> None:
    """Check the files that OpenSSL reads and writes by itself: an unusable one would end in a traceback."""
    for name in BUNDLES:
        if path := env.get(name, "").strip():
            try:
                if not Path(path).is_dir():
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except (OSError, ValueError) as error:  # an SSLError is an OSError
                no_pem = isinstance(error, ssl.SSLError)
                advice = "it is no PEM" if no_pem else "check its name and its owner, or unset it"
                raise ConfigFault(f"{name} names no file of certificates that can be read; {advice}.") from None
    if (path := env.get("SSL_CERT_DIR", "").strip()) and not Path(path).is_dir():
        raise ConfigFault("SSL_CERT_DIR names no folder; check its name, or unset it.")
    if path := env.get("SSLKEYLOGFILE", "").strip():
        try:
            Path(path).open("ab").close()
        except (OSError, ValueError):
            raise ConfigFault("SSLKEYLOGFILE names a file that can't be written; unset it.") from None
