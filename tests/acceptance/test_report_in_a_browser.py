"""The report in a headless Chromium: on a phone and on a desk, dark and light, without an error or a request."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.test_pages import AT, DAY, put
from tests.support.jobs import Stage, on_sqlite

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--enable-logging=stderr"),
)
BROWSERS_OWN = (".google.com", ".googleapis.com")  # it looks for updates and accounts, whatever is told it
SCHEME = {"dark": 0, "light": 1}  # as Blink counts them

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@on_sqlite
@pytest.mark.timeout(180)
def test_it_opens_without_an_error_or_a_request(stage: Stage, tmp_path: Path) -> None:
    put(stage, "ann", state="sent", source="llm", sent_at=AT + timedelta(seconds=30), tokens=9, usd=0.1)
    put(stage, "bob<img src=//x.test/y>", state="dead", outcome="failures", reason="refusal", failures=4)
    page = tmp_path / "report.html"
    assert stage.run("report", "--date", DAY, "-o", str(page)).code == 0
    pictures = {(width, scheme): _opened(page, tmp_path, width, scheme) for width in (390, 1280) for scheme in SCHEME}
    for (width, _), picture in pictures.items():
        assert struct.unpack(">I", picture[16:20])[0] == width
    assert len(set(pictures.values())) == 4  # each of the four looks another


def _opened(page: Path, folder: Path, width: int, scheme: str) -> bytes:
    """A picture of it. Fails where the browser wrote to its console, or asked anybody for anything."""
    assert CHROMIUM is not None
    name = f"{width}-{scheme}"
    picture, log = folder / f"{name}.png", folder / f"{name}.json"
    told = [
        f"--user-data-dir={folder / name}",
        f"--window-size={width},1400",
        f"--blink-settings=preferredColorScheme={SCHEME[scheme]}",
        f"--log-net-log={log}",
        f"--screenshot={picture}",
    ]
    done = subprocess.run(
        [CHROMIUM, *QUIET, *told, page.as_uri()], capture_output=True, text=True, check=True, timeout=60
    )
    assert "CONSOLE" not in done.stderr
    asked = {url for event in json.loads(log.read_text())["events"] if (url := event.get("params", {}).get("url"))}
    hosts = {urlsplit(url).hostname or "" for url in asked if url.startswith(("http", "ws"))}
    assert {host for host in hosts if not host.endswith(BROWSERS_OWN)} == set()
    return picture.read_bytes()
