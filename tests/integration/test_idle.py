"""A tick with nothing to do: no heavy imports, three round trips to Redis at most, no document read."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from redis import Redis

from notifications.domain.schedule import latest_slot
from tests.support.jobs import JOB, Stage, complete_other_shards, latest_hour, on_firestore
from tests.support.servers import ThreadedServer, pump

HEAVY = (
    *("google", "grpc", "openai", "aiohttp", "sqlite3", "notifications.adapters.stores.firestore"),
    *("opentelemetry.sdk", "opentelemetry.exporter", "notifications.recap.evidence", "notifications.run.user"),
    "notifications.adapters.stores.layout",
)

PROBE = """
import runpy, sys
sys.argv = ["job.py"]
try:
    runpy.run_path({job!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 0, end.code
print("HEAVY", sorted(name for name in {heavy!r} if name in sys.modules))
"""


class CountingProxy(ThreadedServer):
    """Passes bytes on to Redis; a round trip is a message from the client that follows an answer."""

    def __init__(self, port: int) -> None:
        self._target, self.round_trips = port, 0
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._count(reader, downstream), pump(upstream, writer), return_exceptions=True)

    async def _count(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                self.round_trips += 1
                sink.write(data)
        finally:
            sink.close()


@on_firestore
def test_an_idle_tick_loads_and_asks_next_to_nothing(stage: Stage, tmp_path: Path) -> None:
    hour = latest_hour("UTC", stage.now)
    with Redis(port=stage.redis.port) as client:  # the next cohort too, if its slot comes while this runs
        complete_other_shards(client, stage.world.environment, {latest_slot("UTC", hour, stage.now).at}, {hour})
    stage.add_user("ann")
    assert stage.run().code == 0
    proxy = CountingProxy(stage.redis.port)
    nowhere = ("OPENAI_BASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "FCM_BASE_URL")
    dead = dict.fromkeys(nowhere, "http://127.0.0.1:1") | {
        "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",  # reading any document would fail
        "RECAP_LAYOUT": "/nowhere/layout.toml",  # and so would reading a layout
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(job=str(JOB), heavy=HEAVY)],
        env=stage.env(**dead, PYTHONPATH=str(JOB.parent)),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    proxy.stop()
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    assert "nothing to do" in done.stdout
    assert proxy.round_trips == 2  # TIME, and the pipelined GETs
