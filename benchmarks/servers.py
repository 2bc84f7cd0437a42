"""An LLM and an FCM with set latencies, in a process of their own: `python -m benchmarks.servers 5 2 0.05`.

The seconds are those of a recap, of a second look and of a push. Prints the port; /stats tells calls per user, pushes
per token, and when the first call came.
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

from notifications.testing.answers import item, verdicts_answer

WHO = re.compile(rb"who=([\w-]+)")
QUOTE = "talked about the garden"  # stands in what every user of a benchmark said
ITEMS = [item(text, QUOTE) for text in ("You talked about the garden and more.", "It went well.")]
RECAP = {
    "highlights": [{"topic": "The garden", "emoji": "💬", "items": ITEMS[1:]}],
    "decisions": [],
    "open_questions": [],
    "worth_knowing": [],
    "overview": ITEMS[:1],
    "headline": "A good day",
    "push": "You talked about the garden and more.",
    "day_emoji": "🌤️",
}
LOOK = b'"second_look"'


def completion(answer: object, tokens_in: int, tokens_out: int) -> bytes:
    """A chat completion, as bytes."""
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    message = {"role": "assistant", "content": json.dumps(answer)}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "loopback"}
    return json.dumps({**body, "choices": choices, "usage": usage}).encode()


COMPLETION = completion(RECAP, 900, 400)


class Loopback:
    def __init__(self, llm_seconds: float, look_seconds: float, fcm_seconds: float) -> None:
        self.llm_seconds, self.look_seconds, self.fcm_seconds = llm_seconds, look_seconds, fcm_seconds
        self.reset()

    def reset(self) -> None:
        self.calls: Counter[str] = Counter()
        self.pushes: Counter[str] = Counter()
        self.first_call = 0.0

    async def complete(self, request: web.Request) -> web.Response:
        asked = await request.read()
        found = WHO.search(asked)
        self.calls[found[1].decode() if found else "nobody"] += 1
        self.first_call = self.first_call or time.time()
        looks = LOOK in asked
        await asyncio.sleep(self.look_seconds if looks else self.llm_seconds)
        body = COMPLETION
        if looks:
            body = completion(verdicts_answer(json.loads(asked)["messages"][1]["content"]), 1_200, 150)
        return web.Response(body=body, content_type="application/json")

    async def push(self, request: web.Request) -> web.Response:
        token = json.loads(await request.read())["message"]["token"]
        await asyncio.sleep(self.fcm_seconds)
        self.pushes[token] += 1
        return web.Response(body=b'{"name":"x"}', content_type="application/json")

    async def stats(self, request: web.Request) -> web.Response:
        told = {
            "calls": self.calls.total(),
            "users": len(self.calls),
            "pushes": self.pushes.total(),
            "devices": len(self.pushes),
            "first_call": self.first_call,
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
    asyncio.run(serve(Loopback(*map(float, sys.argv[1:4]))))
