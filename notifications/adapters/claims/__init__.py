"""The Claims port: Redis.

If OpenTelemetry is installed, the Redis client loads its SDK, for metrics that are not switched on: 44 ms of every idle
tick. So OpenTelemetry is hidden while the client is imported here, before any other module of this folder.
"""

from __future__ import annotations

import sys

HIDDEN = "opentelemetry"

if HIDDEN in sys.modules:
    import redis.asyncio
else:
    sys.modules[HIDDEN] = None  # type: ignore[assignment]  # an import then fails as if it were not installed
    try:
        import redis.asyncio  # noqa: F401
    finally:
        del sys.modules[HIDDEN]
