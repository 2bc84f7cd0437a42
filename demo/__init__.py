"""What a newcomer starts: `make run` is `python -m demo.first_run`, `make demo` is `python -m demo`."""

from __future__ import annotations

import os
import sys

# As a person types it.
PYTHON = min(sys.executable, os.path.relpath(sys.executable), key=len)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 push, 2 pushes."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
