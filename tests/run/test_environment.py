"""Whose keys these are: of what a store is, never of how it is reached."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from notifications.domain.claim import environment_of
from notifications.domain.errors import DependencyDown
from notifications.settings import Settings
from notifications.wiring import environment


async def test_an_environment_is_a_project_and_its_database() -> None:
    given = [
        Settings(project="p"),
        Settings(project="q"),
        Settings(project="p", firestore_database="other"),
        Settings(project="p", firestore_emulator="127.0.0.1:8080"),
    ]
    assert len({await environment(settings) for settings in given}) == 4
    assert await environment(Settings(project="p", firestore_emulator="localhost:1")) == await environment(given[-1])
    assert await environment(Settings(project="p", redis_url="redis://h", data_dir=Path("/x"))) == environment_of(
        "firestore", "p", "(default)"
    )
    assert environment_of("a", "bc") != environment_of("ab", "c")
    assert environment_of("emulator", "p", "(default)") == "6e1f78b06b50"


async def test_a_data_folders_id_is_made_once_and_moves_along(tmp_path: Path) -> None:
    here = tmp_path / "here"
    found = await asyncio.gather(*(environment(Settings(data_dir=here)) for _ in range(5)))
    assert len(set(found)) == 1
    there = here.rename(tmp_path / "there")
    assert await environment(Settings(data_dir=there)) == found[0]
    assert await environment(Settings(data_dir=here)) != found[0]
    assert (there / "environment").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("odd", [b"", b"\xff", b"0123456789abcdef\n", b"x" * 16])
async def test_an_id_that_is_none_is_made_anew(tmp_path: Path, odd: bytes) -> None:
    (tmp_path / "environment").write_bytes(odd)
    made = await environment(Settings(data_dir=tmp_path))
    assert await environment(Settings(data_dir=tmp_path)) == made
    assert len((tmp_path / "environment").read_text()) == 16


async def test_a_folder_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "environment").mkdir()
    with pytest.raises(DependencyDown, match="can't be used"):
        await environment(Settings(data_dir=tmp_path))
