"""An LLM and an FCM with set latencies, in a process of their own: `python -m benchmarks.servers 5 0.05`.

Prints the port; /stats tells calls per user, pushes per token, and when the first push came.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter

from aiohttp import web
from aiohttp.typedefs import Handler

WHO = re.compile(rb"who=([\w-]+)")
RECAP = {
    "headline": "A good day",
    "overview": [{"text": "You talked about the garden and more. It went well.", "notes": [1]}],
    "day_emoji": "🌤️",
    "highlights": [{"topic": "Talk", "emoji": "💬", "summary": "A good one.", "notes": [1]}],
    "unresolved_questions": [],
    "decisions_made": [],
    "knowledge_nuggets": [],
}
MESSAGE = {"role": "assistant", "content": json.dumps(RECAP)}
COMPLETION = json.dumps(
    {
        "id": "c", "object": "chat.completion", "created": 1, "model": "loopback",
        "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 150, "total_tokens": 1050},
    }
).encode()  # fmt: skip


class Loopback:
    def __init__(self, llm_seconds: float, fcm_seconds: float) -> None:
        self.llm_seconds, self.fcm_seconds = llm_seconds, fcm_seconds
        self.reset()

    def reset(self) -> None:
        self.calls: Counter[str] = Counter()
        self.pushes: Counter[str] = Counter()
        self.first_push = 0.0

    async def complete(self, request: web.Request) -> web.Response:
        found = WHO.search(await request.read())
        self.calls[found[1].decode() if found else "nobody"] += 1
        await asyncio.sleep(self.llm_seconds)
        return web.Response(body=COMPLETION, content_type="application/json")

    async def push(self, request: web.Request) -> web.Response:
        token = json.loads(await request.read())["message"]["token"]
        await asyncio.sleep(self.fcm_seconds)
        self.first_push = self.first_push or time.time()
        self.pushes[token] += 1
        return web.Response(body=b'{"name":"x"}', content_type="application/json")

    async def stats(self, request: web.Request) -> web.Response:
        told = {
            "calls": self.calls.total(),
            "users": len(self.calls),
            "pushes": self.pushes.total(),
            "devices": len(self.pushes),
            "first_push": self.first_push,
        }
        if request.query.get("reset"):
            self.reset()
        return web.json_response(told)


async def serve(loopback: Loopback, *more: tuple[str, Handler]) -> None:
    """Print the port, and serve until killed. `more`: addresses to post to."""
    app = web.Application(client_max_size=10_000_000)
    app.router.add_post("/v1/chat/completions", loopback.complete)
    app.router.add_post("/v1/projects/{project}/messages:send", loopback.push)
    app.router.add_get("/stats", loopback.stats)
    for path, handler in more:
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Loopback(float(sys.argv[1]), float(sys.argv[2]))))
