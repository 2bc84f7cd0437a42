"""A process on a terminal of its own: what it wrote there, as a person saw it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from pathlib import Path
from typing import Self

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class OnATerminal:
    """Started at once; read to its end by a thread, since a full terminal stops who writes."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self._written = b""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                found = os.read(self._ours, 65_536)
            except OSError:  # EIO: nobody has the other end any more
                found = b""
            if not found:
                os.close(self._ours)
                return
            self._written += found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever came of it, nothing is left running."""
        self.process.kill()
        self.process.wait()
        self._reading.join(10)

    def end(self, seconds: float = 60) -> int:
        code = self.process.wait(seconds)
        self._reading.join(seconds)
        return code

    @property
    def raw(self) -> str:
        return self._written.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """Without colours; what was drawn over in place is a line each time."""
        return re.split(r"\r\n|\n|\r", ESCAPES.sub("", self.raw))
