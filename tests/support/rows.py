"""The long tables of tests/data, a list of rows by name: what people say in many languages, what servers answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"


def rows(table: str, name: str) -> list[Any]:
    found: list[Any] = json.loads((DATA / f"{table}.json").read_text(encoding="utf-8"))[name]
    return found
