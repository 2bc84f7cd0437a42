"""`job.py` as a process of its own, forked from one that has imported the client libraries.

A start costs over a second of imports, and a sweep starts a thousand. The forked process runs the
same `main` and is killed, frozen and awaited like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

PRELOADED = (
    "job",
    "notifications.adapters.channels.email",
    "notifications.adapters.channels.fcm",
    "notifications.adapters.channels.webhook",
    "notifications.adapters.stores.firestore",
    "notifications.adapters.llm.openai",
    "notifications.adapters.local.sqlite",
    "tests.support.warm",
)
FULL = "/dev/full"  # a terminal on which nothing can be written
fork_server = multiprocessing.get_context("forkserver")
fork_server.set_forkserver_preload([*PRELOADED])


def _run(arguments: list[str], env: dict[str, str], folder: str, said: tuple[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for descriptor, name in ((0, os.devnull), (1, said[0]), (2, said[1])):
        opened = os.open(name, os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    import job

    code = job.main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class PreloadedJob:
    """As much of Popen as the tests use."""

    def __init__(self, arguments: list[str], env: dict[str, str], folder: Path, *, broken: bool = False) -> None:
        said = [FULL if broken else tempfile.mkstemp(dir=folder)[1] for _ in range(2)]
        self._out, self._err = map(Path, said)
        # not daemonic: such a process could not have children; it is stopped by its test
        self._process = fork_server.Process(target=_run, args=(arguments, env, str(folder), tuple(said)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number where one ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The return code, if it ended."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Unless it ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # ended and reaped, and not yet told here
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless it ended."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Until it ended, or for that long: the return code."""
        self._process.join(timeout)
        return self.poll()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and what it said. Raises TimeoutExpired."""
        if self.wait(timeout) is None:
            raise subprocess.TimeoutExpired("job.py", timeout or 0.0)
        if self._out == Path(FULL):
            return "", ""
        said = self._out.read_text(), self._err.read_text()
        self._out.unlink()
        self._err.unlink()
        return said
