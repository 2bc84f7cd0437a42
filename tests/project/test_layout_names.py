"""Names of an app's collections and fields stand in the layout and in the modules that read documents, nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from notifications.adapters.stores import layout, recipients
from notifications.adapters.stores.conversation_text import TRANSCRIPT
from notifications.adapters.stores.layout import read_layout

ROOT = Path(__file__).parents[2]
STORES = ROOT / "notifications/adapters/stores"
# What reads, checks and makes documents. A line of an import is a form of its own, whatever the layout.
MAY = {*(STORES / f"{name}.py" for name in ("layout", "documents", "recipients", "conversation_text", "imports"))}
LINES = ROOT / "notifications/commands/import_users.py"
COLLECTIONS = re.compile(r"\busers/|\b(recap_deliveries|recap_parts|recap_clock|daily_summaries|fcm_tokens)\b")
# Fields that others have, too: ledgers, summaries, answers of the LLM, log events, other servers.
COMMON = {"created_at", "language", "status", "text", "title", "token", "overview", "deleted"}


def names() -> set[str]:
    """The fields of an app's documents, each part of a dotted one by itself."""
    usual = read_layout(None)
    fields = {*usual.user_fields, *usual.conversation_fields, usual.token, *usual.text, usual.title}
    fields |= {layout.LEGACY_TOKEN, TRANSCRIPT, *recipients.ADDRESS_FIELDS}
    return {part for name in fields for part in name.split(".")} - COMMON


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The texts in a module, but for docstrings."""
    tree = ast.parse(path.read_bytes())
    docs = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
            yield node.lineno, node.value


def test_a_layouts_names_stand_in_no_other_module() -> None:
    known, wrong = names(), []
    modules = [*(ROOT / "notifications").rglob("*.py"), ROOT / "job.py", *(ROOT / "deploy").glob("*.py")]
    for path in modules:
        if path in MAY or "testing" in path.parts:
            continue
        for line, text in strings(path):
            if (text in known or COLLECTIONS.search(text)) and not (path == LINES and text == "fcm_tokens"):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {text}")
    assert wrong == []


def test_the_setup_takes_them_from_the_indexes_of_the_layout() -> None:
    text = (ROOT / "deploy/setup.sh").read_text()
    assert [name for name in names() | {"recap_deliveries", "recap_parts", "daily_summaries"} if name in text] == []
