"""`make demo`: the job on a bad evening. Real processes are killed and frozen, Redis is flushed, and all is counted.

Everything is local and nothing is staged: real `job.py` processes, a real server for the claims, SQLite, and a file in
place of phones. Each blow waits for a number of pushes, never for a time. Exit code 0: each user has their recap, and
each repeated push is one that `docs/guarantees.md` allows.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from redis import Redis

from demo import PYTHON, counted
from notifications.adapters.local.embedded_redis import EmbeddedRedis
from notifications.adapters.local.samples import language_of, talks_of
from notifications.adapters.stores.imports import user_to
from notifications.adapters.stores.layout import read_layout
from notifications.domain.schedule import Slot, latest_slot, zone
from notifications.settings import ON_A_PLATFORM
from notifications.variables import OUR_PREFIXES

ROOT = Path(__file__).parents[1]
FOLDER = ".recap-demo"
USERS = 40
ZONES = ("UTC", "Europe/Berlin", "Africa/Lagos", "Asia/Kolkata", "America/Sao_Paulo", "Asia/Tokyo", "America/New_York")
TICK_SECONDS = 1.0  # between two starts; a scheduler takes a minute
GAP_SECONDS = "0.08"  # between two users of a run that is to be struck
GIVE_UP_SECONDS = 240.0
POLL_SECONDS = 0.001
SCALED = {  # a minute of the protocol is a second or two; each stays in its relation to the others
    "RECAP_USER_DEADLINE_SECONDS": "5",
    "RECAP_USER_LEASE_SECONDS": "11",
    "RECAP_PUSH_DEADLINE_SECONDS": "1.5",
    "RECAP_STORE_TIMEOUT_SECONDS": "2",
    "RECAP_SENDING_STALE_SECONDS": "4",
    "RECAP_SHARD_LEASE_SECONDS": "3",
    "RECAP_SHARD_RENEW_SECONDS": "0.9",
    "RECAP_SHARD_RETRY_MIN_SECONDS": "0.2",
    "RECAP_SHARD_RETRY_MAX_SECONDS": "1",
    "RECAP_PROVIDER_RETRY_SECONDS": "0.2",
    "RECAP_PUSH_RETRY_SECONDS": "0.2",
}
PLAIN = {"stored", "due", "sent"}  # what audit says of a day on which nothing happened
KILLED = "run 1 was killed after the push and before it was recorded (R1)"
FROZEN = "run 2 was frozen between the push and its record (R3)"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STALLED = "a run stood still for over {stale} s around the push (R3)"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off the signals that end the demo until the block's end."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda got, _: came.append(got)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])


class OutOfLuck(Exception):
    """This machine stalled for so long that a run ended before it could be struck."""


class Evening:
    """The data folder, its users, and the runs that are started on it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self._redis_url = redis_url
        self._runs: list[subprocess.Popen[bytes]] = []
        self._started_at = time.monotonic()
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith((*OUR_PREFIXES, *ON_A_PLATFORM))
        }
        self._env = inherited | SCALED | {"RECAP_DATA_DIR": str(folder), "RECAP_LOG_FORMAT": "json"}

    def say(self, what: str) -> None:
        """Print one line, with the time since the start."""
        print(f"{time.monotonic() - self._started_at:5.1f} s  {what}", flush=True)

    def job(self, *arguments: str) -> str:
        """Run a command to its end. Returns its stdout. Raises CalledProcessError if it could not do its work."""
        run = self._start(arguments, self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = run.communicate()
        if run.returncode not in (0, 1):
            raise subprocess.CalledProcessError(run.returncode, run.args, out, err)
        return out.decode()

    def start(self, *, slowly: bool) -> subprocess.Popen[bytes]:
        """Start a tick. `slowly`: users begin GAP_SECONDS apart, so that it can be struck in their midst."""
        env = self._env | ({"RECAP_START_GAP_SECONDS": GAP_SECONDS} if slowly else {})
        with (self.folder / "runs.log").open("ab") as log:
            return self._start((), env, stdout=log, stderr=log)

    def _start(self, arguments: Sequence[str], env: dict[str, str], **streams: Any) -> subprocess.Popen[bytes]:
        with undisturbed():  # a process that is not in the list yet would be left behind
            self._runs.append(subprocess.Popen([sys.executable, str(ROOT / "job.py"), *arguments], env=env, **streams))
        return self._runs[-1]

    def start_until_it_pushes(self, count: int) -> subprocess.Popen[bytes]:
        """Start ticks as a scheduler does, until one of them has made that many pushes; it is still at work.

        Raises OutOfLuck if a run ends with everybody served.
        """
        before = len(self.pushes())
        while True:
            run, began = self.start(slowly=True), time.monotonic()
            while run.poll() is None:
                if len(self.pushes()) >= before + count:
                    return run
                time.sleep(POLL_SECONDS)
            if len(self.served()) == USERS:
                raise OutOfLuck
            self.wait_for_next_tick(began)

    def wait_for_next_tick(self, began: float) -> None:
        """Sleep until the scheduler's next start. Raises TimeoutError if the demo takes far too long."""
        if time.monotonic() > self._started_at + GIVE_UP_SECONDS:
            raise TimeoutError
        time.sleep(max(0.0, began + TICK_SECONDS - time.monotonic()))

    def pushes(self) -> list[str]:
        """The uid of each push so far, in their order."""
        try:
            lines = (self.folder / "outbox.jsonl").read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line)["uid"] for line in lines if line]

    def served(self) -> set[str]:
        """Who has been pushed to."""
        return set(self.pushes())

    def flush_redis(self) -> None:
        with Redis.from_url(self._redis_url) as client:
            client.flushall()

    def freeze(self, run: subprocess.Popen[bytes]) -> None:
        """SIGSTOP, while the run has neither the database's lock nor the outbox's, for which all others would wait."""
        with (self.folder / "outbox.jsonl").open("rb") as outbox:
            fcntl.flock(outbox, fcntl.LOCK_EX)
            database = sqlite3.connect(self.folder / "recap.sqlite3", timeout=30, isolation_level=None)
            try:
                database.execute("BEGIN IMMEDIATE")
                run.send_signal(signal.SIGSTOP)
                os.waitpid(run.pid, os.WUNTRACED)  # until it stands still
                database.execute("ROLLBACK")
            finally:
                database.close()

    def end_all(self) -> None:
        """Leave no process behind, frozen ones included."""
        for run in self._runs:
            if run.poll() is None:
                run.kill()
                run.wait()


def import_users(evening: Evening) -> date:
    """Import users whose hour has come, in zones that have the same recap date now. Returns that date."""
    now, layout = datetime.now(UTC), read_layout(None)
    slots: dict[str, tuple[int, Slot]] = {}
    for name in ZONES:
        hour = now.astimezone(zone(name)).hour
        slots[name] = hour, latest_slot(name, hour, now)
    day = slots["UTC"][1].recap_date
    names = [name for name, (_, slot) in slots.items() if slot.recap_date == day and now - slot.at < timedelta(hours=1)]
    with (evening.folder / "users.jsonl").open("w", encoding="utf-8") as file:
        for number in range(1, USERS + 1):
            hour, slot = slots[names[number % len(names)]]
            user = user_to(layout, names[number % len(names)], True, hour, language_of(number))
            uid, devices = f"user-{number:02}", {"phone": {layout.token: f"token-of-{number}"}}
            talks = talks_of(layout, number, slot.at)
            line = {"uid": uid, "user": user, "fcm_tokens": devices, "conversations": talks}
            file.write(json.dumps(line, default=datetime.isoformat) + "\n")
    evening.job("import", str(evening.folder / "users.jsonl"))
    return day


def play(evening: Evening) -> int:
    """The evening, blow by blow. Returns the exit code."""
    day = import_users(evening)
    evening.say(f"{USERS} users are imported; their hour has come")

    run = evening.start_until_it_pushes(USERS // 5)
    run.kill()
    run.wait()
    pushed_at_kill = len(evening.pushes())
    evening.say(f"run 1: SIGKILL amid its pushes; {_progress(evening)}")

    frozen = evening.start_until_it_pushes((USERS - pushed_at_kill) // 4)
    evening.freeze(frozen)
    pushed_at_freeze = len(evening.pushes())
    evening.say(f"run 2: SIGSTOP amid its pushes, it stays frozen; {_progress(evening)}")

    evening.start_until_it_pushes((USERS - len(evening.served())) // 3)
    evening.flush_redis()
    evening.say(f"run 3 beside it: Redis is flushed amid its pushes; {_progress(evening)}")

    ticks = _tick_until_all_sent(evening, day)
    evening.say(f"{counted(ticks, 'more run')}: the others, and what was left open; {_progress(evening)}")

    before = len(evening.pushes())
    frozen.send_signal(signal.SIGCONT)
    frozen.wait(GIVE_UP_SECONDS)
    evening.say(f"run 2: SIGCONT, it goes on; {counted(len(evening.pushes()) - before, 'push', 'pushes')}")

    before = len(evening.pushes())
    evening.start(slowly=False).wait(GIVE_UP_SECONDS)
    evening.say(f"a last run looks at all {USERS} again; {counted(len(evening.pushes()) - before, 'push', 'pushes')}")
    return _account(evening, day, pushed_at_kill, pushed_at_freeze)


def _progress(evening: Evening) -> str:
    return f"{len(evening.served())} of {USERS} have a push"


def _tick_until_all_sent(evening: Evening, day: date) -> int:
    """Start runs as a scheduler does until the ledgers say that each day has ended. Returns how many it took."""
    ticks = 0
    while len(evening.served()) < USERS or len(_audit(evening, day)) < USERS:
        began, ticks = time.monotonic(), ticks + 1
        evening.start(slowly=False).wait(GIVE_UP_SECONDS)
        evening.wait_for_next_tick(began)
    return ticks


def _audit(evening: Evening, day: date) -> dict[str, set[str]]:
    """What `audit --json` says of each user whose recap is sent."""
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in evening.job("audit", "--date", f"{day}", "--json").split("\n") if line
    ]
    return {row["uid"]: set(row["kinds"]) for row in rows if "sent" in row.get("kinds", ())}


def _account(evening: Evening, day: date, pushed_at_kill: int, pushed_at_freeze: int) -> int:
    """Print what the audit says, and the repeats with their reasons. Returns 1 if one of them is not allowed."""
    sent, pushes = _audit(evening, day), evening.pushes()
    lost = USERS - len(sent.keys() & set(pushes))
    print(f"\n$ {PYTHON} job.py audit --date {day}\n{evening.job('audit', '--date', f'{day}')}")
    repeated = [uid for index, uid in enumerate(pushes) if uid in pushes[:index]]
    print(f"{len(sent)} sent, {lost} lost, {counted(len(repeated), 'repeat')}.")
    for uid in repeated:
        first = pushes.index(uid)
        why = KILLED if first < pushed_at_kill else FROZEN if first < pushed_at_freeze else STALLED
        print(f"  {uid} was pushed to twice: {why.format(stale=SCALED['RECAP_SENDING_STALE_SECONDS'])}")
    if repeated:
        print("  The second has the same text and collapse id: a phone shows one of the two.")
    unlisted = {uid for uid in repeated if sent.get(uid, PLAIN) <= PLAIN}
    if lost or unlisted:
        print(f"That should never happen. Keep {evening.folder}, and report it.", file=sys.stderr)
        return 1
    look_at = repeated[0] if repeated else pushes[0]
    print(f"Look yourself: RECAP_DATA_DIR={evening.folder} {PYTHON} job.py why {look_at} {day}")
    return 0


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Make the folder anew. Raises BlockingIOError if another demo is at work in it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (folder / "users.jsonl").exists():  # of an earlier demo
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        yield


def demonstrate(folder: Path) -> int:
    """One evening, with a server for the claims that outlives each run."""
    with asyncio.Runner() as runner:
        redis = EmbeddedRedis(folder)
        evening = Evening(folder, redis.url)
        try:
            with undisturbed():
                runner.run(redis.__aenter__())
            return play(evening)
        finally:
            with undisturbed():
                evening.end_all()
                runner.run(redis.__aexit__(None, None, None))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description="The job on a bad evening.")
    parser.add_argument("--folder", type=Path, default=Path(FOLDER), help="made anew each time")
    folder: Path = parser.parse_args().folder
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that the runs are ended
    print(f"{USERS} users, one recap each, on a bad evening. It takes some 20 seconds, and nothing")
    print("leaves this machine. Times are scaled down: a lease of 11 minutes is 11 seconds,")
    print("and a run is started each second in place of each minute.\n")
    for _ in range(3):
        try:
            with own_folder(folder):
                return demonstrate(folder)
        except BlockingIOError:
            print(f"Another demo is at work in {folder}; wait for its end.", file=sys.stderr)
            return 1
        except OutOfLuck:
            print("This machine stalled, and a run had ended before it could be struck. From the start:")
        except KeyboardInterrupt:
            print("Stopped; no process is left.", file=sys.stderr)
            return 130
        except FileExistsError:
            print(f"{folder} is there already, and is no demo's; name another with --folder.", file=sys.stderr)
            return 1
        except (TimeoutError, subprocess.SubprocessError) as error:
            print(f"The demo could not be played ({error}); see {folder / 'runs.log'}.", file=sys.stderr)
            return 1
    print("It stalled three times; try again when this machine has less to do.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
