"""An LLM that bills like the real one, in a process of its own: `python -m benchmarks.billing 0.05 0.05 0.01`.

Tokens are four bytes of what is sent and answered; a prefix that was sent before is cheaper from 1,024 tokens on, in
steps of 128; hidden reasoning is paid as written. `POST /mode` with a mode's name changes how it behaves. It answers
with the notes' own sentences, so that every check of the text lets them pass. Prices: OpenAI's of the job's
default model, 2026.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections import Counter
from typing import Any

from aiohttp import web

from benchmarks.servers import Loopback, serve
from notifications.testing.answers import item, verdicts_answer

PRICES = {"default": (0.10, 0.01, 0.50), "flex": (0.05, 0.005, 0.25)}  # USD for a million tokens: in, cached, out
BYTES_A_TOKEN = 4
REASONING = 192  # tokens, at low effort
CACHED_FROM, CACHED_STEP = 1_024, 128
EVERY = 10  # call is refused, and every one after it useless, where it `retries`
NO_FLEX_EVERY = 50  # calls of which one finds no capacity in the cheaper tier
MODES = ("well", "long", "retries", "no join")
MARKER = re.compile(r"The marker of this day: (\w+)")
NOTE = re.compile(r"^\[([\d, ]+)\]")
WHOLE = re.compile(r"\w+ \[\d+\] (?:\w+ \S+ )?\d\d:\d\d, ")  # notes as they are, not what parts gave
HEAD = re.compile(r"\[\d+\] .*\d\d:\d\d, ")  # of a whole note; a fact of a part stands behind its number at once
SENTENCE = re.compile(r"(?<=[.!?。！？।])\s*")
MOST = {"daily_recap": 8, "daily_notes": 25}  # sentences of an answer
MOST_LONG = 36  # of a `long` one: as many tokens as a strong model wrote of the evaluation days


class Billing(Loopback):
    """The loopback servers, with a bill."""

    def reset(self) -> None:
        super().reset()
        self.bill = self.parts_twice = 0.0
        self.tokens: Counter[str] = Counter()
        self.answered: set[str] = set()
        self.known: set[bytes] = set()
        self.asked = 0
        self.mode = MODES[0]

    async def complete(self, request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        number = self.asked = self.asked + 1  # its own: calls that wake together are no burst
        await asyncio.sleep(self.llm_seconds)
        name = asked["response_format"]["json_schema"]["name"]
        notes = asked["messages"][1]["content"]
        joins = name == "daily_recap" and not WHOLE.search(notes)
        tier = asked.get("service_tier", "default")
        if self.mode == "no join" and joins:
            return _refusal(503, "overloaded")
        if self.mode == "retries" and number % EVERY == 0:
            return _refusal(503, "overloaded")
        if tier == "flex" and number % NO_FLEX_EVERY == 0:
            return _refusal(429, "resource_unavailable")
        useless = self.mode == "retries" and number % EVERY == 1
        looks = name == "second_look"
        most = MOST_LONG if self.mode == "long" else MOST.get(name, 0)
        said = verdicts_answer(notes) if looks else _answer(name, notes, most)
        answer = "I can't say." if useless else json.dumps(said, ensure_ascii=False)
        return web.json_response(self._billed(asked, name, notes, answer, tier))

    def _billed(self, asked: Any, name: str, notes: str, answer: str, tier: str) -> dict[str, Any]:
        sent = (json.dumps(asked["response_format"]) + "".join(one["content"] for one in asked["messages"])).encode()
        tokens_in, written = len(sent) // BYTES_A_TOKEN, len(answer.encode()) // BYTES_A_TOKEN + REASONING
        cached = self._cached(sent)
        read, again, out = PRICES[tier]
        usd = ((tokens_in - cached) * read + cached * again + written * out) / 1_000_000
        self.bill += usd
        self.tokens.update({"in": tokens_in, "cached": cached, "out": written, "calls": 1})
        marker = MARKER.search(notes)
        question = hashlib.sha256(f"{name}{notes.replace(marker[1], '') if marker else notes}".encode()).hexdigest()
        self.parts_twice += usd if name == "daily_notes" and question in self.answered else 0.0
        self.answered.add(question)
        return {
            "id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "service_tier": tier,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
            "usage": {
                "prompt_tokens": tokens_in, "completion_tokens": written, "total_tokens": tokens_in + written,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": REASONING},
            },
        }  # fmt: skip

    def _cached(self, sent: bytes) -> int:
        """Tokens of the longest prefix that was sent before."""
        found, told = 0, hashlib.sha256()
        step = CACHED_STEP * BYTES_A_TOKEN
        for end in range(step, len(sent) + 1, step):
            told.update(sent[end - step : end])
            found = end // BYTES_A_TOKEN if told.digest() in self.known else found
            self.known.add(told.digest())
        return found if found >= CACHED_FROM else 0

    async def stats(self, request: web.Request) -> web.Response:
        told = {"bill": self.bill, "parts_twice": self.parts_twice, **self.tokens, "pushes": self.pushes.total()}
        if request.query.get("reset"):
            self.reset()
        return web.json_response({**told, "first_call": self.first_call})

    async def change(self, request: web.Request) -> web.Response:
        """Behave otherwise from now on."""
        self.mode = await request.text()
        assert self.mode in MODES
        return web.Response()


def _refusal(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"message": code, "code": code, "type": code}}, status=status)


def _answer(name: str, notes: str, most: int) -> dict[str, Any]:
    marker = MARKER.search(notes)
    assert marker
    lines = [line.removeprefix(f"{marker[1]} ") for line in notes.splitlines() if line.startswith(marker[1])]
    numbers: list[int] = []
    told: list[dict[str, Any]] = []
    for line in lines:
        words, _, quote = line.partition(" Quote: ")
        if found := NOTE.match(words):
            numbers = [int(one) for one in found[1].split(",")]
            words = "" if HEAD.match(line) else words[found.end() :]
        sentences = [one.strip("- ") for one in SENTENCE.split(words) if len(one) > 20]
        told += [item(one, quote or one, numbers) for one in sentences[: max(2, most // 6)]]
    told = told[:most] or [item(lines[-1], lines[-1], numbers)]
    if name == "daily_notes":
        return {"facts": told}
    half = len(told) // 2
    headline = told[0]["text"][:60]
    return {
        "highlights": [{"topic": "The day", "emoji": "🌤️", "items": told[half:]}], "decisions": [], "open_questions": [],
        "worth_knowing": [], "overview": told[:half] or told, "headline": headline.rpartition(" ")[0] or headline,
        "push": told[0]["text"][:130], "day_emoji": "🌤️",
    }  # fmt: skip


if __name__ == "__main__":
    billing = Billing(*map(float, sys.argv[1:4]))
    asyncio.run(serve(billing, ("/mode", billing.change)))
