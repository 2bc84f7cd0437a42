"""A tick with nothing to do: no heavy imports, three round trips to Redis at most, no document read."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

from redis import Redis

from notifications.domain.schedule import latest_slot
from tests.support.jobs import JOB, Stage, complete_other_shards, latest_hour, on_firestore

HEAVY = (
    *("google", "grpc", "openai", "aiohttp", "sqlite3", "notifications.adapters.stores.firestore"),
    *("opentelemetry.sdk", "opentelemetry.exporter", "notifications.domain.language.steering"),
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


class CountingProxy:
    """Passes bytes on to Redis; a round trip is a message from the client that follows an answer."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.round_trips = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with source, sink:
            while data := source.recv(65536):
                if counts:
                    self.round_trips += 1
                sink.sendall(data)

    def close(self) -> None:
        self._listener.close()


@on_firestore
def test_an_idle_tick_loads_and_asks_next_to_nothing(stage: Stage, tmp_path: Path) -> None:
    hour = latest_hour("UTC", stage.now)
    with Redis(port=stage.redis.port) as client:  # the next cohort too, if its slot comes while this runs
        complete_other_shards(client, stage.world.environment, {latest_slot("UTC", hour, stage.now).at}, {hour})
    stage.add_user("ann")
    assert stage.run().code == 0
    proxy = CountingProxy(stage.redis.port)
    dead = {
        "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
        "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",  # reading any document would fail
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "FCM_BASE_URL": "http://127.0.0.1:1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(job=str(JOB), heavy=HEAVY)],
        env=stage.env(**dead, PYTHONPATH=str(JOB.parent)),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    proxy.close()
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    assert "nothing to do" in done.stdout
    assert proxy.round_trips == 2  # TIME, and the pipelined GETs
