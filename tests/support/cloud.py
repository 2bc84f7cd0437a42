"""A project with a fake gcloud, deploy/setup.sh on it; and the real gcloud's parser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.support import gcloud
from tests.support.web import LoopbackServer

ROOT = Path(__file__).parents[2]
KEY, REDIS = "sk-not-for-any-log", "redis://10.0.0.3:6379/0"
UNCOUNTED = ("calls", "fail_at", "lost", "log", "asked")
INHERITED = {
    "usesAncestorConfig": True,
    "indexes": [
        {"queryScope": "COLLECTION", "fields": [{"fieldPath": "*", "order": "ASCENDING"}], "state": "READY"},
        {"queryScope": "COLLECTION", "fields": [{"fieldPath": "*", "order": "DESCENDING"}], "state": "READY"},
        {"queryScope": "COLLECTION", "fields": [{"fieldPath": "*", "arrayConfig": "CONTAINS"}], "state": "READY"},
    ],
}
IMAGE = "europe-west1-docker.pkg.dev/my-app/daily-recap/daily-recap:given"


class FirestoreAdmin(LoopbackServer):
    """The part of Firestore's REST API that gcloud has no command for, over the same memory."""

    def __init__(self, file: Path) -> None:
        self._file = file
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer a-token"
        state, fails = gcloud.counted(self._file, [request.method, request.path_qs])
        if fails and not state["lost"]:
            return web.json_response({}, status=503)
        *_, group, _fields, name = request.path.split("/")
        known = state["fields"].get(f"{group}/{name}", {"indexConfig": INHERITED})
        if request.method == "PATCH":
            assert request.query == {"updateMask": "indexConfig"}
            known = state["fields"][f"{group}/{name}"] = await request.json()
            self._file.write_text(json.dumps(state))
        return web.json_response(known, status=503 if fails else 200)


class Cloud:
    """A project, and setup.sh run on it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "cloud.json"
        self.bin = folder / "bin"
        self.bin.mkdir()
        paths = f"{ROOT}:{Path(yaml.__file__).parents[1]}"
        python = f'PYTHONPATH="{paths}" exec "{sys.executable}" -S'  # a quick start: hundreds of calls are made
        imported = "-c 'import sys; from tests.support.gcloud import main; main(sys.argv[1:])'"  # compiled once
        for name, what in (("gcloud", imported), ("python3", "")):
            shim = self.bin / name
            shim.write_text(f'#!/bin/sh\n{python} {what} "$@"\n')
            shim.chmod(0o755)
        self.admin = FirestoreAdmin(self.file)
        self.begin({})

    def begin(self, state: dict[str, Any], **more: Any) -> None:
        self.file.write_text(json.dumps(gcloud.EMPTY | state | {"images": [IMAGE]} | more))

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    @property
    def made(self) -> dict[str, Any]:
        """All that exists."""
        return {name: what for name, what in self.state.items() if name not in UNCOUNTED}

    def setup(self, **changes: str | None) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}", "PROJECT": "my-app", "REGION": "europe-west1",
            "REDIS_URL": REDIS, "OPENAI_API_KEY": KEY, "IMAGE": IMAGE, "FAKE_GCLOUD": str(self.file),
            "SETUP_PAUSE_SECONDS": "0", "FIRESTORE_ADMIN_URL": self.admin.url,
            "SETTINGS": str(self.file.parent / "settings.env"),
        }  # fmt: skip
        kept = {name: value for name, value in (env | changes).items() if value is not None}
        return subprocess.run([ROOT / "deploy/setup.sh"], env=kept, capture_output=True, text=True, check=False)

    def resume(self) -> None:
        """As the page's last step does."""
        minute = {name: one | {"state": "ENABLED"} for name, one in self.state["minute"].items()}
        self.file.write_text(json.dumps(self.state | {"minute": minute}))

    def again(self) -> None:
        self.file.write_text(json.dumps(self.state | {"fail_at": None, "calls": 0, "log": []}))


def problems_of(commands: Iterable[str], folder: Path) -> dict[str, str]:
    """What the real command line's own parser finds wrong, by command; nothing is sent anywhere."""
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": one} for one in commands]))
    real = [shutil.which("gcloud") or "", "meta", "lint-gcloud-commands", f"--commands-file={file}"]
    done = subprocess.run(real, capture_output=True, text=True, check=True, timeout=120)
    return {one["command_string"]: one["error_message"] for one in json.loads(done.stdout) if not one["success"]}


def as_typed(arguments: list[str]) -> str:
    """A call's arguments as one line."""
    return " ".join(["gcloud", *map(_quoted, arguments)])


def _quoted(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f'{name}="{value}"' if equals and argument.startswith("--") else argument
