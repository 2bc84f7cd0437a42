"""The README's drawing is the table's; its settings are all there."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from docs.diagram import redrawn
from notifications.limits import Limits

ROOT = Path(__file__).parents[2]


def test_the_drawing_of_the_claim_states_is_the_tables() -> None:
    text = (ROOT / "README.md").read_text()
    assert redrawn(text) == text


def test_every_number_and_its_default_is_in_the_settings_list() -> None:
    listed = (ROOT / ".env.example").read_text()
    for one in fields(Limits):
        assert f"# RECAP_{one.name.upper()}={one.default:g}" in listed
