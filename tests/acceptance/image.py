"""`make image`: the Dockerfile built without a daemon, and the image started as its platform starts it.

Needs root and buildah. `--base IMAGE` (BASE=… for make): where no registry is reached, a base of your own making, such
as a folder that debootstrap filled, committed by buildah. Prints a line for each thing that was seen; exit 1 at the
first that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.web import FakeLLM

ROOT = Path(__file__).parents[2]
UID = 10001
STOP_SECONDS = 10
ENV = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}  # no overlay and no namespaces of its own are needed
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
INSIDE = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && mount -t tmpfs -o size=64m,mode=1777 none "$1/tmp" &&
mount -t proc none "$1/proc" && mount --rbind /dev "$1/dev" && folder=$1 && shift &&
exec chroot --userspec=%d:%d "$folder" /usr/bin/env -i %s "$@"
"""


def buildah(*words: str) -> str:
    return subprocess.run(
        ["buildah", *words], env=os.environ | ENV, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@contextmanager
def built(base: str | None) -> Iterator[tuple[Path, dict[str, object]]]:
    """The image's root folder, and its configuration."""
    with tempfile.NamedTemporaryFile() as name:
        given = ["--build-arg", f"PYTHON_IMAGE={base}"] if base else []
        mounted = ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if Path(CERTIFICATES).exists() else []
        buildah("build", "--quiet", "--network", "host", *given, *mounted, "--iidfile", name.name, str(ROOT))
        image = Path(name.name).read_text().strip()
    container = buildah("from", image)
    try:
        config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
        yield Path(buildah("mount", container)), config
    finally:
        buildah("rm", container)


def start(folder: Path, config: dict[str, object], *command: str, **env: str) -> subprocess.Popen[str]:
    """As the platform does: the image's environment and user, a root that can't be written, a /tmp that can."""
    told = [*config["Env"], *(f"{name}={value}" for name, value in env.items())]  # type: ignore[misc]
    inside = INSIDE % (UID, UID, " ".join(f"'{one}'" for one in told))
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", inside, "sh", str(folder), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seen(what: str, holds: bool, told: object = "") -> None:
    print(f"{'seen' if holds else 'NOT SO'}: {what} {told}".rstrip(), flush=True)
    if not holds:
        sys.exit(1)


def ends(process: subprocess.Popen[str], what: str) -> None:
    """SIGTERM reaches the job itself: `unshare`, `sh` and `chroot` have each become the next."""
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=STOP_SECONDS + 5)
    took = time.monotonic() - begun
    seen(f"SIGTERM {what}: ends within {STOP_SECONDS} s", took < STOP_SECONDS, f"({took:.1f} s, {process.returncode})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base")
    with built(parser.parse_args().base) as (folder, config):
        entry = list(config["Entrypoint"])  # type: ignore[call-overload]
        seen("the configuration: user and entry point", config["User"] == str(UID), f"{config['User']} {entry}")
        probe = "import os; print(os.getuid(), os.access('/app', os.W_OK), os.access('/tmp', os.W_OK))"
        out, err = start(folder, config, "python", "-c", probe).communicate()
        seen("uid 10001, a root that can't be written, a /tmp that can", out.split() == ["10001", "False", "True"], err)
        out, err = start(folder, config, *entry, "--help").communicate()
        seen("--help", "python job.py" in out, err)
        out, err = start(folder, config, *entry).communicate()
        seen("a tick, everything local", " sent" in out, out.strip().splitlines()[-1] if out else err)
        seen("no pip beside the job", not list(folder.glob("venv/bin/pip*")))
        process = start(folder, config, *entry, "--every-minute")
        _wait_for(process, "sent")
        ends(process, "between two ticks")
        llm = FakeLLM()
        llm.latency = 60
        process = start(folder, config, *entry, OPENAI_API_KEY="none", OPENAI_BASE_URL=f"{llm.url}/v1")
        while not llm.at_once:
            time.sleep(0.05)
        ends(process, "in the midst of the LLM's calls")
        llm.stop()
    return 0


def _wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"{word!r} was not said")


if __name__ == "__main__":
    sys.exit(main())
