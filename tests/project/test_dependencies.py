"""docs/dependencies.md has each direct dependency, under the licence that it declares; and all are free to use."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROWS = dict(re.findall(r"^\| `([a-z0-9-]+)` \| ([^|]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE))
SHORT = {
    "Apache Software License": "Apache-2.0", "MIT License": "MIT", "BSD License": "BSD-3-Clause",
    "Python Software Foundation License": "PSF-2.0", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
}  # fmt: skip
FREE = {"MIT", "MIT-0", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "PSF-2.0", "MPL-2.0", "Python-2.0", "CNRI-Python"}


def name_of(requirement: str) -> str:
    found = re.match(r"[a-z0-9_-]+", requirement.lower())
    assert found
    return found[0]


def licence(found: Distribution) -> str:
    """As the package declares it, in the short form."""
    told = found.metadata.json.get("license_expression")
    if told:
        return str(told)
    classified = [
        line.split("::")[-1].strip()
        for line in found.metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    said = classified or [str(found.metadata.json.get("license") or "?").splitlines()[0]]
    return " AND ".join(SHORT.get(one, one) for one in said)


def test_each_direct_dependency_has_its_row() -> None:
    direct = [name_of(one) for one in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["otel"])]
    assert sorted(ROWS) == sorted(direct)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_licence_is_the_one_that_is_declared(name: str) -> None:
    assert ROWS[name].strip() == licence(distribution(name))


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-otel.txt"])
def test_everything_that_comes_along_is_free_to_use(file: str) -> None:
    """What is not for this platform or Python is not installed here, and is looked at where it is."""
    seen = 0
    for line in (ROOT / file).read_text().splitlines():
        if "==" not in line or ";" in line:
            continue
        name = line.partition("==")[0].partition("[")[0]
        terms = set(re.split(r" (?:AND|OR) ", licence(distribution(name))))
        assert terms <= FREE, (name, terms)
        seen += 1
    assert seen > 40
