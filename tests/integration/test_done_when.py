"""Fifty users, real servers, many processes: one of everything."""

from __future__ import annotations

from datetime import timedelta

from redis import Redis

from tests.support.jobs import Stage

ZONES = ("Europe/Paris", "America/New_York", "Asia/Tokyo", "Africa/Lagos", "Asia/Kolkata", "Asia/Kathmandu")


def test_fifty_due_users_get_one_of_everything_from_forty_processes(stage: Stage) -> None:
    slots = {f"user-{n}": stage.add_user(f"user-{n}", zone=ZONES[n % 6], devices=1 + n % 2) for n in range(50)}

    for _ in range(2):
        started = [stage.start() for _ in range(20)]
        ended = [stage.end(process, 240) for process in started]
        codes = [one.code for one in ended]
        print(ended[0].err)
        assert codes == [0] * 20

        assert stage.llm.calls == dict.fromkeys(slots, 1)
        tokens = [f"token-user-{n}-{device}" for n in range(50) for device in range(1 + n % 2)]
        assert stage.fcm.accepted == dict.fromkeys(tokens, 1)
        for uid, slot in slots.items():
            day = slot.recap_date.isoformat()
            assert [doc["date"] for doc in stage.world.summaries(uid).values()] == [day]
            assert {date: doc["state"] for date, doc in stage.world.ledgers(uid).items()} == {day: "sent"}

    with Redis(port=stage.redis.port) as client:
        keys = list(client.scan_iter("users:*:daily_summary_lock:*"))
        assert len(keys) == 50
        assert all(0 < client.ttl(key) <= timedelta(hours=3).total_seconds() for key in keys)
