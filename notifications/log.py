"""Log events: JSON with `severity` for Cloud Logging, or readable lines on a terminal.

Events are contracts: dotted names, facts as keys, units in the keys' names. Conversation
text, whole tokens and keys never go in.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from notifications.domain.text import ANY_LENGTH, COLUMNS, printable, wrapped

MAX_SHOWN = 5  # events of one kind that a terminal shows; the others are counted
INDENT = 9
COLORS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m", "info": "\x1b[32m"}
RESET = "\x1b[0m"
_seen: Counter[str] = Counter()
SEVERITY = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "critical": "CRITICAL"}


def _severity(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["severity"] = SEVERITY.get(str(event.pop("level", "info")), "DEFAULT")
    event["message"] = event.get("event", "")
    return event


def _first_few(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """On a terminal, show the first events of a kind; count the others for log_suppressed_counts()."""
    name = str(event.get("event", ""))
    _seen[name] += 1
    if _seen[name] > MAX_SHOWN:
        raise structlog.DropEvent
    return event


def log_suppressed_counts() -> None:
    """Log how many more of each event a terminal did not show."""
    more = {name.replace(".", "_"): count - MAX_SHOWN for name, count in sorted(_seen.items()) if count > MAX_SHOWN}
    _seen.clear()
    if more:
        structlog.get_logger().info("more of these (RECAP_LOG_FORMAT=json has each)", **more)
        _seen.clear()


class _Console:
    """Renders an event as lines of 80 columns: time, level, name, facts. Terminal control characters are escaped."""

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> str:
        time, level = str(event.pop("timestamp", ""))[11:19], str(event.pop("level", "info"))
        name, trace = str(event.pop("event", "")), event.pop("exception", "")
        facts = " ".join(f"{key}={value}" for key, value in event.items())
        line = f"{time} {level:7} {name}  {facts}"
        head, *rest = wrapped(printable(line, ANY_LENGTH), COLUMNS, indent=INDENT)
        if self._colors:
            head = head.replace(level, f"{COLORS.get(level, '')}{level}{RESET}", 1)
        trace_lines = [printable(line, ANY_LENGTH) for line in str(trace).split("\n")] if trace else []
        return "\n".join([head, *rest, *trace_lines])


def _without_zeros(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop zeros and empty values, which only tell a person that something did not happen."""
    return {name: value for name, value in event.items() if value not in (0, "", {}, None) or value is False}


def configure(log_format: str, *, on_platform: bool, stream: TextIO | None = None) -> None:
    """Set structlog up for this process. `log_format`: auto, json or console; auto depends on the platform."""
    stream = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and (on_platform or not stream.isatty()))
    shared: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    if as_json:
        rendering: list[Any] = [_severity, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        colors = stream.isatty() and not os.environ.get("NO_COLOR")  # no-color.org
        limiting = [_first_few] if stream.isatty() else []  # a file gets all events
        rendering = [*limiting, _without_zeros, structlog.processors.format_exc_info, _Console(colors=colors)]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    for library in ("google", "grpc", "httpx", "openai", "aiohttp", "opentelemetry", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they log requests, addresses and headers
