"""The README and the other pages say what is: the drawing, the settings, the files that they name."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from docs import cost, settings
from docs.diagram import redrawn
from notifications.limits import Limits
from notifications.settings import Settings
from notifications.variables import OTHER_RECAP_SETTINGS

ROOT = Path(__file__).parents[2]
MODEL = re.compile(rb"\bgpt-\d[\w.]*-\w+")
PAGES = ("README.md", "SECURITY.md", *sorted(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md")))


def test_the_drawing_of_the_claim_states_is_the_tables() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    assert redrawn(text) == text


def test_the_default_model_is_named_in_the_code_once_and_in_the_settings_list() -> None:
    assert f"# OPENAI_MODEL={Settings.openai_model}\n" in (ROOT / ".env.example").read_text(encoding="utf-8")
    folders = ("notifications", "evals", "benchmarks", "deploy", "docs")
    files = [ROOT / "job.py", ROOT / "README.md", *(one for each in folders for one in (ROOT / each).rglob("*.*"))]
    files = [one for one in files if "__pycache__" not in one.parts]
    named = {str(one.relative_to(ROOT)) for one in files if MODEL.search(one.read_bytes())}
    assert named == {"notifications/settings.py"}


def test_the_page_of_settings_is_the_codes() -> None:
    """Each number once, with its default and its range; each other setting that the environment may hold."""
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings.written()
    assert {one.name for one in fields(Limits)} == {*settings.OFTEN, *settings.SELDOM}
    listed = {name for rows in settings.TEXTS.values() for name in rows}
    read = re.findall(
        r'(?:env\.get|_header|_maybe_one_of)\("([A-Z_]+)"', (ROOT / "notifications" / "settings.py").read_text()
    )
    by_the_platform = {"JOB_COMPLETION_INDEX", "CLOUD_RUN_JOB", "KUBERNETES_SERVICE_HOST"}
    assert {*OTHER_RECAP_SETTINGS, *read} - by_the_platform <= listed


def test_the_page_of_costs_is_what_its_prices_and_the_llms_come_to() -> None:
    assert (ROOT / "docs" / "cost.md").read_text(encoding="utf-8") == cost.written()


def test_the_costs_are_counted_by_the_figures_of_scale() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    per_user = re.findall(r"= (\d+\.\d) each", page) + re.findall(r"= (\d+\.\d) ms each", page)
    counted = (cost.READS, cost.WRITES, cost.CPU_SECONDS / 2 * 1000)
    assert [float(one) for one in per_user] == [float(one) for one in counted]
    tokens = re.findall(r"^\| tokens in, out of the .*? \| ([\d,]+), ([\d,]+) \|", page, re.MULTILINE)
    assert [tuple(int(one.replace(",", "")) for one in pair) for pair in tokens] == [cost.WRITING, cost.JUDGING]


def test_the_list_of_what_people_set_has_the_codes_defaults() -> None:
    listed = dict(re.findall(r"^# ([A-Z_]+)=(\S*)", (ROOT / ".env.example").read_text(), re.MULTILINE))
    numbers = {f"RECAP_{one.name.upper()}": one for one in fields(Limits)}
    for name, value in listed.items():
        if name in numbers:
            default = numbers[name].default
            assert value == ("" if default is None else f"{default:g}"), name
    every = {name for rows in settings.TEXTS.values() for name in rows} | {
        f"RECAP_{name.upper()}" for name in settings.OFTEN
    }
    assert set(listed) <= every  # none of the protocol's own numbers
    assert 20 <= len(listed) <= 40


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_test_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    for named in re.findall(r"`((?:notifications|docs|tests|deploy)/[\w./]+)`", text):
        assert (ROOT / named).exists(), named
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "notifications/testing").glob("*_suite.py")]
    tests = "\n".join(path.read_text() for path in files)
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name


NAMED_IN = re.compile(r"((?:`\w+`(?:, | and )?)+) in `((?:[\w.-]+/)*[\w.]+\.py)`")


def test_each_name_that_the_codes_page_gives_is_where_it_says() -> None:
    text = " ".join((ROOT / "docs" / "code.md").read_text(encoding="utf-8").split())
    pairs = [(name, path) for names, path in NAMED_IN.findall(text) for name in re.findall(r"`(\w+)`", names)]
    assert len(pairs) > 40
    source = {path: (ROOT / path).read_text(encoding="utf-8") for _, path in pairs}
    defined = r"^(?:\s*(?:async )?def |class |)%s\b(?:\(|:| =|, )"
    assert [(name, path) for name, path in pairs if not re.search(defined % name, source[path], re.MULTILINE)] == []


def test_each_path_that_the_codes_page_gives_exists_and_each_module_has_a_room() -> None:
    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([\w.-]+/[\w./-]*|[\w.]+\.(?:py|md|example))`", text)
    assert len(paths) > 70
    assert [path for path in paths if not (ROOT / path).exists()] == []
    folders = {path.parent.name for path in (ROOT / "notifications").glob("*/*.py")} - {"notifications"}
    assert {folder for folder in folders if f"**`notifications/{folder}/`**" not in text} == set()
