"""What is a channel's own stands in its folder; elsewhere a channel is a name from wiring.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORDS = re.compile(r"fcm|webhook|smtp|e-?mail(?!.utils)", re.IGNORECASE)
MAY = (  # a channel's folder; settings; which adapter serves which port; the names in an app's documents
    *("notifications/adapters/channels/", "notifications/settings.py", "notifications/variables.py"),
    *("notifications/wiring.py", "notifications/adapters/stores/", "notifications/testing/"),
)
KNOWN = {  # whether phones are reached at all; what a line of an import holds; a domain's ending
    "job.py": {"fcm"},
    "notifications/commands/show.py": {"fcm"},
    "notifications/commands/import_users.py": {"fcm_tokens"},
    "notifications/domain/plain.py": {"email"},
}


def names_and_texts(path: Path) -> Iterator[str]:
    """All names of a module, and all texts but docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        for name in ("id", "attr", "name", "arg", "module", "asname"):
            if isinstance(found := getattr(node, name, None), str):
                yield found
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from node.value.split()


def test_no_word_of_a_channel_stands_outside_its_folder_and_the_places_that_choose() -> None:
    found: dict[str, set[str]] = {}
    for path in (ROOT / "job.py", *sorted((ROOT / "notifications").rglob("*.py"))):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith(MAY) and (words := {name for name in names_and_texts(path) if WORDS.search(name)}):
            found[place] = words
    assert found == KNOWN
