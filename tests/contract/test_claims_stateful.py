"""The claim protocol against a plain model, on real Redis: hypothesis finds the sequence that differs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from notifications.adapters.claims.redis import RedisClaims, connect
from notifications.domain.claim import ABSENT, FINAL, Call, ClaimAnswer, ClaimState, Record, Verb, decide
from notifications.ports import ClaimTerms, Reply
from tests.support.servers import RedisServer

T = TypeVar("T")
KEY, HOUR = "users:ann:daily_summary_lock:2026-05-01", 3_600_000
tokens = st.sampled_from(["a", "b", "c"])
lanes = st.integers(0, 2)
leases = st.sampled_from([-1, 600_000])


class Claims(RuleBasedStateMachine):
    """Three runs, one key. The model is the table; what was won, lost and charged follows from it."""

    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.server.ask("FLUSHALL")
        self.server.ask("SCRIPT", "FLUSH")
        self.claims: RedisClaims = connect(self.server.url, connections=2, timeout_seconds=2)
        now = int(self.run(self.claims.now()).timestamp() * 1000)
        self.terms = ClaimTerms(KEY, 600_000, now + 3 * HOUR, now + 2 * HOUR, max_crashes=4, max_failures=3)
        self.model: Record = ABSENT

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def compare(self, ask: Call, reply: Reply) -> None:
        transition = decide(replace(ask, now=int(reply.now.timestamp() * 1000 + 0.5)), self.model)
        [stored] = self.run(self.claims.read([KEY]))
        assert (reply.answer, stored) == (transition.answer, transition.after)
        self.model = stored

    @rule(token=tokens, lane=lanes, lease=leases)
    def claim(self, token: str, lane: int, lease: int) -> None:
        before = self.model
        reply = self.run(self.claims.claim(replace(self.terms, lease_ms=lease), token, lane))
        self.compare(Call(Verb.CLAIM, token, 0, lease, lane=lane, max_crashes=4), reply)
        if before.state in FINAL:
            assert reply.answer is ClaimAnswer.DONE  # what has ended is never won again

    @rule(token=tokens)
    def renew(self, token: str) -> None:
        self.compare(Call(Verb.RENEW, token, 0, 600_000), self.run(self.claims.renew(self.terms, token)))

    @rule(token=tokens, outcome=st.sampled_from(sorted(FINAL)))
    def complete(self, token: str, outcome: ClaimState) -> None:
        reply = self.run(self.claims.complete(self.terms, token, outcome))
        self.compare(Call(Verb.COMPLETE, token, 0, outcome=outcome), reply)

    @rule(token=tokens)
    def free(self, token: str) -> None:
        self.compare(Call(Verb.FREE, token, 0), self.run(self.claims.free(self.terms, token)))

    @rule(token=tokens, state=st.sampled_from(sorted({*FINAL, ClaimState.CLAIMED, ClaimState.IDLE})))
    def forget(self, token: str, state: ClaimState) -> None:
        done = self.run(self.claims.delete_if_unchanged(KEY, Record(state, token)))
        transition = decide(Call(Verb.FORGET, token, 0, outcome=state), self.model)
        [self.model] = self.run(self.claims.read([KEY]))
        assert (done, self.model) == (transition.answer is ClaimAnswer.OK, transition.after)

    @rule(token=tokens, wait=st.sampled_from([0, HOUR]), counts=st.integers(0, 1))
    def fail(self, token: str, wait: int, counts: int) -> None:
        reply = self.run(self.claims.fail(self.terms, token, timedelta(milliseconds=wait), counts, "why"))
        until = self.terms.until_ms
        self.compare(
            Call(Verb.FAIL, token, 0, wait=wait, added_failures=counts, max_failures=3, until=until, reason="why"),
            reply,
        )

    @rule()
    def redis_forgets_everything(self) -> None:
        self.server.ask("FLUSHALL")
        self.model = ABSENT

    @rule()
    def redis_forgets_its_scripts(self) -> None:
        self.server.ask("SCRIPT", "FLUSH")

    @invariant()
    def every_record_expires(self) -> None:
        assert self.server.ask("PTTL", KEY) not in (b":-1",)

    def teardown(self) -> None:
        self.run(self.claims.aclose())
        self.loop.close()


def test_claims(tmp_path: Path) -> None:
    Claims.server = RedisServer(tmp_path, "--appendonly", "no")
    try:
        run_state_machine_as_test(Claims, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
    finally:
        Claims.server.kill()
