"""The floor: exactly the vendor calls of a user, through the same clients, with none of our code.

`python -m benchmarks.floor USERS CONCURRENCY sent|silent|calls`, in the environment of a rig that was filled. `sent`
and `silent` are on the emulator; `calls` are a sent user's without store and Redis: both questions and the push. What
the job's CPU per user is a multiple of: the rest is what our code costs. The questions are as long as the job's.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import openai
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore import AsyncClient, FieldFilter
from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.rig import uid_of
from notifications.recap import prompt, verify

CLAIM = """
redis.call('TIME')
local value = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', 9999999)
return value
"""
NAME = "__name__"
NOTES = "who={uid} talked about the garden. " * 40
QUESTIONS = (("daily_recap", prompt.INSTRUCTIONS, prompt.SCHEMA), (verify.NAME, verify.INSTRUCTIONS, verify.SCHEMA))
DOC: dict[str, Any] = dict.fromkeys(("headline", "overview", "title", "body", "summary_id", "by"), "word " * 8)
FIELDS = ("created_at", "started_at", "finished_at", "discarded", "is_locked", "language", "structured", "geolocation")


class Floor:
    """The clients, and one user's calls in the order of the protocol's section 5."""

    def __init__(self, concurrency: int) -> None:
        pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=max(4, concurrency // 8))
        self.redis = Redis(connection_pool=pool)
        self.script = self.redis.register_script(CLAIM)
        self.store = AsyncClient(os.environ.get("GOOGLE_CLOUD_PROJECT", "none"), AnonymousCredentials())
        connections = openai.DefaultAioHttpClient()
        base = os.environ["OPENAI_BASE_URL"]
        self.llm = openai.AsyncOpenAI(api_key="none", base_url=base, max_retries=0, http_client=connections)
        self.push = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency))
        self.now = datetime.now(UTC)
        self.day = self.now.date().isoformat()

    async def user(self, uid: str, *, silent: bool) -> None:
        """The claim; what is read; the LLM; the fence; the push; the report; the claim's end."""
        await self.script(keys=[f"users:{uid}:daily_summary_lock:{self.day}"], args=["{}"])
        mine = self.store.collection("users").document(uid)
        ledger = mine.collection("recap_deliveries").document(self.day)
        await self._read(mine, ledger)
        if silent:
            await self._commit(mine, ledger, None)
        else:
            await self._ask(uid)
            await mine.collection("fcm_tokens").select(["token"]).limit(500).get()
            summaries = mine.collection("daily_summaries")
            await summaries.where(filter=FieldFilter("date", "==", self.day)).limit(1).get()
            written = await self._commit(mine, ledger, summaries.document(self.day))
            await self._push(uid)
            option = self.store.write_option(last_update_time=written)
            await ledger.update({"state": "sent", "sent_at": firestore.SERVER_TIMESTAMP}, option=option)
        await self.script(keys=[f"users:{uid}:daily_summary_lock:{self.day}"], args=["{}"])

    async def _read(self, mine: Any, ledger: Any) -> None:
        below = mine.collection("recap_deliveries").where(filter=FieldFilter(NAME, ">=", ledger))
        await below.where(filter=FieldFilter(NAME, "<=", ledger)).get()
        await mine.collection("daily_summaries").where(filter=FieldFilter("date", "==", self.day)).limit(1).get()
        talks = mine.collection("conversations").where(
            filter=FieldFilter("created_at", ">=", self.now - timedelta(days=2))
        )
        talks = talks.where(filter=FieldFilter("created_at", "<", self.now)).order_by("created_at", "DESCENDING")
        for found in await talks.select(FIELDS).limit(500).get():
            found.to_dict()

    async def calls(self, uid: str) -> None:
        """Both questions and the push."""
        await self._ask(uid)
        await self._push(uid)

    async def _ask(self, uid: str) -> None:
        """The recap, and the second look at it."""
        for name, instructions, schema in QUESTIONS:
            notes = {"role": "user", "content": NOTES.format(uid=uid)}
            messages: Any = [{"role": "system", "content": instructions}, notes]
            shape: Any = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
            answer = await self.llm.chat.completions.with_raw_response.create(
                model="loopback", messages=messages, response_format=shape, timeout=60
            )
            json.loads(json.loads(answer.content)["choices"][0]["message"]["content"])

    async def _commit(self, mine: Any, ledger: Any, summary: Any) -> Any:
        @firestore.async_transactional  # type: ignore[untyped-decorator]
        async def begun(transaction: firestore.AsyncTransaction) -> None:
            async for found in self.store.get_all([ledger, mine], transaction=transaction):
                found.to_dict()
            transaction.set(ledger, {**DOC, "state": "sending", "sending_at": firestore.SERVER_TIMESTAMP})
            if summary is not None:
                transaction.create(summary, {**DOC, "date": self.day})

        transaction = self.store.transaction()
        await begun(transaction)
        return transaction.write_results[0].update_time

    async def _push(self, uid: str) -> None:
        note = {"title": "A day", "body": "It went well. " * 8}
        message = {"message": {"token": f"token-{uid}-0", "notification": note, "data": {"uid": uid}}}
        address = f"{os.environ['FCM_BASE_URL']}/v1/projects/p/messages:send"
        async with self.push.post(address, json=message) as answer:
            await answer.read()

    async def aclose(self) -> None:
        """Everything closed."""
        await self.llm.close()
        await self.push.close()
        await self.redis.aclose()


async def main(users: int, concurrency: int, kind: str) -> None:
    """All of them, as many at once as asked."""
    floor = Floor(concurrency)
    free = asyncio.Semaphore(concurrency)

    async def served(uid: str) -> None:
        async with free:
            await (floor.calls(uid) if kind == "calls" else floor.user(uid, silent=kind == "silent"))

    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(served(uid_of(number)))
            if number < concurrency:
                await asyncio.sleep(2 / concurrency)
    await floor.aclose()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
