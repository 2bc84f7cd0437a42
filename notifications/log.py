"""Log events: JSON with `severity` for Cloud Logging, or readable lines on a terminal.

Events are contracts: dotted names, facts as keys, units in the keys' names. Conversation
text, whole tokens and keys never go in.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from notifications.domain.text import printable

SEVERITY = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "critical": "CRITICAL"}


def _severity(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["severity"] = SEVERITY.get(str(event.pop("level", "info")), "DEFAULT")
    event["message"] = event.get("event", "")
    return event


def _printable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """On a terminal a uid or a server's word must not steer it; JSON escapes by itself."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value)
    return event


def _without_zeros(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For a person, what did not happen is no news; a machine's columns stay whole."""
    return {name: value for name, value in event.items() if value not in (0, "", {}, None) or value is False}


def configure(log_format: str, *, on_platform: bool, stream: TextIO | None = None) -> None:
    """Set structlog up for this process. `log_format`: auto, json or console; auto asks the platform."""
    stream = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and (on_platform or not stream.isatty()))
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        rendering: list[Any] = [
            _severity,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        plain = structlog.dev.plain_traceback
        colors = stream.isatty() and not os.environ.get("NO_COLOR")  # no-color.org
        console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
        rendering = [_without_zeros, _printable, console]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    for chatty in ("google", "grpc", "httpx", "openai", "aiohttp"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # they log requests, addresses and headers
