"""The Claims port: Redis.

Its client loads OpenTelemetry where that is installed, SDK and all, for metrics that nobody switched on: 44 ms
of every idle tick. It is kept from seeing it here, before anything else of this folder is loaded.
"""

from __future__ import annotations

import sys

UNSEEN = "opentelemetry"

_is_new = UNSEEN not in sys.modules
if _is_new:
    sys.modules[UNSEEN] = None  # type: ignore[assignment]  # what an import takes for "not installed"
try:
    import redis.asyncio  # noqa: F401
finally:
    if _is_new:
        del sys.modules[UNSEEN]
