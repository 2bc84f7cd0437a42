"""The environment's variables, one by one: how each is read, and what it may be. Each raises ConfigFault."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import fields
from urllib.parse import SplitResult, parse_qs, urlsplit

from notifications.domain.errors import ConfigFault
from notifications.domain.text import clean, printable
from notifications.limits import WHOLE, Limits

REDIS_OPTIONS = ("cluster",)
TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")
REDIS_CHOICES = {  # the allowed values: the client would misread others, or fail on them
    "cluster": (*TRUE, *FALSE),
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": (*TRUE, *FALSE),
}
REDIS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
REDIS_TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
DEFAULT_DATABASE = "(default)"
DATABASE = re.compile(r"[a-z][a-z0-9-]{2,61}[a-z0-9]", re.ASCII)  # as Firestore names them
KEY_PREFIX = re.compile(r"[A-Za-z0-9_:-]{0,64}", re.ASCII)
MAX_TASKS = 10_000
MAX_STYLE_LENGTH = 500  # characters of RECAP_STYLE
HOST = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63})*|[0-9a-f:]+", re.ASCII)
EMAIL_FROM = re.compile(r"(?:[^<>@]{1,100}<)?[\w.+-]{1,64}@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+>?", re.ASCII)
OTHER_RECAP_SETTINGS = (
    *("RECAP_DATA_DIR", "RECAP_LOG_FORMAT", "RECAP_SUMMARIZER", "RECAP_FALLBACK"),
    *("RECAP_SMTP_URL", "RECAP_EMAIL_FROM", "RECAP_UNSUBSCRIBE_URL", "RECAP_UNSUBSCRIBE_SECRET"),
    *("RECAP_HEARTBEAT_URL", "RECAP_STORE", "RECAP_PUSH_TEXT", "RECAP_KEY_PREFIX", "RECAP_STYLE", "RECAP_VERIFY"),
    *("RECAP_CHANNELS", "RECAP_WEBHOOK_URL", "RECAP_WEBHOOK_SECRET", "RECAP_LAYOUT"),
)
OUR_PREFIXES = (  # of the variables that this job reads
    *("RECAP_", "OPENAI_", "REDIS_URL", "GOOGLE_", "FIRESTORE_", "FCM_", "GCE_METADATA_"),
    *("CLOUD_RUN_TASK_", "JOB_COMPLETION_INDEX", "OTEL_EXPORTER_OTLP_ENDPOINT", "SSL_CERT_", "SSLKEYLOGFILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)


class Variables(dict[str, str]):
    """The environment variables that are set, and methods that parse them. Each method raises ConfigFault."""

    def reject_unknown_names(self) -> None:
        """A typo would silently keep the default."""
        known = [*(f"RECAP_{limit.name.upper()}" for limit in fields(Limits)), *OTHER_RECAP_SETTINGS]
        for name in self:
            if name.startswith("RECAP_") and name not in known:
                nearest = difflib.get_close_matches(name, known, 1, 0.0)[0]
                raise ConfigFault(f"{printable(name, 60)} is no setting; did you mean {nearest}?")

    def reject_quotes(self) -> None:
        """Reject quoted values: docker's --env-file keeps quotes that a shell removes. No value is shown."""
        for name, value in self.items():
            if name.startswith(OUR_PREFIXES) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                reason = "has quotes around its value, which an env file may keep; write it without them."
                raise ConfigFault(f"{name} {reason}")

    def whole(self, name: str, *, default: str, minimum: int = 0) -> int:
        text = self.get(name, default)
        if not WHOLE.fullmatch(text) or not minimum <= int(text) <= MAX_TASKS:
            wish = f"a whole number from {minimum} to {MAX_TASKS}"
            raise ConfigFault(f"{name} is {printable(text, 40)!r}; set it to {wish}.")
        return int(text)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        text = self.get(name)
        if text is not None and text not in choices:
            raise ConfigFault(f"{name} is {printable(text, 40)!r}; set it to one of {', '.join(choices)}.")
        return text

    def names(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(part.strip() for part in self[name].split(",")) if name in self else ()
        if not set(found) <= set(choices):
            raise ConfigFault(
                f"{name} is {printable(self[name], 40)!r}; set it to some of {', '.join(choices)}, with commas between."
            )
        return found

    def header(self, name: str) -> str | None:
        """Read a value that is sent in a header or an address: visible ASCII on one line. It is never shown."""
        text = self.get(name)
        if text is not None and not _is_visible_ascii(text):
            raise ConfigFault(
                f"{name} holds a space, a line break or a letter beyond ASCII; copy it again, without them."
            )
        return text

    def http_url(self, name: str) -> str | None:
        url = self.get(name)
        if url is None:
            return None
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigFault(f"{name} is malformed; write https://host or http://host:port.")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ConfigFault(f"{name} holds a user, a password or a fragment; write the address alone.")
        return url.rstrip("/")


def smtp_url(url: str | None) -> str | None:
    """Check the relay's URL. No part of it is shown: any may belong to a password not encoded."""
    parts = _split(url or "smtp://none")
    wish = "write a # / ? : @ or % of user and password as %23, %2F, %3F, %3A, %40 or %25"
    if parts is None or parts.scheme not in ("smtp", "smtps") or not HOST.fullmatch(parts.hostname or ""):
        raise ConfigFault(
            f"RECAP_SMTP_URL is malformed; write smtp://user:password@host:587, or smtps://…, and {wish}."
        )
    if parts.path.strip("/") or parts.query or parts.fragment or bool(parts.username) != bool(parts.password):
        raise ConfigFault(f"RECAP_SMTP_URL needs a user and a password, or neither; {wish}.")
    return url


def email_from(text: str) -> str:
    """Check the sender: an address, or `name <address>`."""
    if text and (not EMAIL_FROM.fullmatch(text) or ("<" in text) != (">" in text) or not text.isprintable()):
        raise ConfigFault("RECAP_EMAIL_FROM is no mail address; write recap@example.com, or Recap <recap@example.com>.")
    return text


def database(name: str) -> str:
    """Check the id of a Firestore database."""
    if name != DEFAULT_DATABASE and not DATABASE.fullmatch(name):
        raise ConfigFault(
            f"FIRESTORE_DATABASE is {printable(name, 70)!r}, which is no database id; "
            "it has 4 to 63 lower-case letters, digits and hyphens."
        )
    return name


def style(text: str) -> str:
    """Check the operator's instruction and make it one line. It is never shown in errors."""
    words = clean(text)
    if len(words) > MAX_STYLE_LENGTH:
        raise ConfigFault(f"RECAP_STYLE has {len(words)} characters; it may have {MAX_STYLE_LENGTH}.")
    return words


def key_prefix(prefix: str) -> str:
    """Check what goes before every key in Redis."""
    if not KEY_PREFIX.fullmatch(prefix):
        raise ConfigFault(
            f"RECAP_KEY_PREFIX is {printable(prefix, 40)!r}; set it to 64 letters, digits, -, _ and : at most."
        )
    return prefix


def redis_url(url: str | None) -> str | None:
    """Check that the client can use the URL. No part of it is shown: any may belong to a password not encoded."""
    if url is None:
        return None
    parts = _split(url)
    after_host = url
    if parts is not None:
        after_host = "" if parts.scheme == "unix" else f"{parts.path}?{parts.query}"
    if "#" in url or "@" in after_host:
        raise ConfigFault("REDIS_URL can't be read; write a # / ? or @ of its password as %23, %2F, %3F or %40.")
    if parts is None or not _names_a_server(parts):
        raise ConfigFault("REDIS_URL is malformed; write redis://host:6379/0, rediss://… for TLS, or unix:///path.")
    _check_redis_options(parts)
    return url


def _names_a_server(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return parts.hostname is None and len(parts.path) > 1
    return parts.scheme in ("redis", "rediss") and parts.hostname is not None


def _check_redis_options(parts: SplitResult) -> None:
    known = (*REDIS_OPTIONS, *(REDIS_TLS_OPTIONS if parts.scheme == "rediss" else ()))
    given = {name: values[-1].lower() for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if "ssl" in given:
        raise ConfigFault("REDIS_URL has ?ssl=…; write rediss:// for TLS.")
    if not given.keys() <= set(known):
        raise ConfigFault(
            f"REDIS_URL has an option that means nothing here; it may have {', '.join(known)}, "
            "and a ? of its password is written %3F."
        )
    for name, choices in REDIS_CHOICES.items():
        if given.get(name, choices[0]) not in choices:
            raise ConfigFault(f"The option {name} of REDIS_URL has a wrong value; set it to {' or '.join(choices)}.")
    for name, [path] in parse_qs(parts.query).items():
        if name in REDIS_FILES and not os.access(path, os.R_OK):
            raise ConfigFault(f"The option {name} of REDIS_URL names a file that can't be read; check the file.")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ConfigFault("REDIS_URL has an ssl_keyfile without an ssl_certfile; name both, or neither.")
    if parts.scheme != "unix" and parts.path not in ("", "/") and not WHOLE.fullmatch(parts.path[1:]):
        raise ConfigFault("REDIS_URL names a database that is no number; most have 0 to 15.")
    if given.get("cluster") not in TRUE:
        return
    if parts.scheme == "unix":
        raise ConfigFault("REDIS_URL has ?cluster=true and a unix:// socket; a Redis Cluster is reached by redis://.")
    if parts.path.strip("/0"):
        raise ConfigFault("REDIS_URL has ?cluster=true and a database; a Redis Cluster has database 0 alone.")


def _split(url: str) -> SplitResult | None:
    """Split a URL; None if it is malformed, not visible ASCII, or has an impossible port."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 and _is_visible_ascii(url) else None
    except ValueError:
        return None


def _is_visible_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
