"""The spec that the code cites is in the repository, and each citation is to a heading that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CITED = re.compile(r"docs/protocol\.md, sections? ((?:\d+(?:, | and )?)+)(?:, step (\d+))?")
SOURCES = sorted(path for folder in ("notifications", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def sections() -> dict[str, str]:
    """The number of each section, and its text."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    return dict(re.findall(r"^## (\d+)\. (.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def citations(path: Path) -> list[tuple[str, str]]:
    """Each section that a module cites, and the step of it."""
    found = CITED.findall(path.read_text())
    return [(section, step) for listed, step in found for section in re.findall(r"\d+", listed)]


def test_each_citation_is_to_a_section_and_step_that_exist() -> None:
    for path in SOURCES:
        for section, step in citations(path):
            assert section in sections(), path
            assert not step or re.search(rf"^{step}\. ", sections()[section], re.MULTILINE), path


def test_no_module_cites_the_protocol_in_another_way() -> None:
    """A citation that this test can't read would be one that nobody checks."""
    pattern = re.compile(r'protocol\.md(?!"|, sections? \d)|\bPROTOCOL\b')
    odd = [path.name for path in SOURCES if path.name != "test_spec.py" and pattern.search(path.read_text())]
    assert odd == []


def test_the_stories_cite_their_sections() -> None:
    assert ("5", "") in citations(ROOT / "notifications" / "run" / "user.py")
    assert ("6", "") in citations(ROOT / "notifications" / "run" / "tick.py")


def glossary() -> list[tuple[str, str]]:
    """The words that open the protocol, and what each means."""
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    table = text.split("## Glossary\n")[1].split("\n\n")[0]
    return re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[1:]


def test_each_word_of_the_glossary_is_defined_once_in_one_sentence() -> None:
    words = [word for word, _ in glossary()]
    assert len(words) > 20
    assert sorted(set(words)) == sorted(words)
    assert [meaning for _, meaning in glossary() if ". " in meaning or not 20 < len(meaning) < 125] == []
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [word for word in words if page.count(f"\n| {word} | ") != 1] == []


def test_each_word_of_the_glossary_is_used() -> None:
    pages = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").split("## 1. ")[1]
    used = pages + "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if "notifications" in path.parts)
    unused = [word for word, _ in glossary() if not re.search(rf"\b{word}s?\b", used, re.IGNORECASE)]
    assert unused == []
