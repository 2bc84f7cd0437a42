"""Writes docs/cost.md (`make docs`): what a month costs, from prices and from the unit figures of docs/scale.md."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from notifications.adapters.llm.prices import DEFAULT_TIER, FLEX, price_listed
from notifications.settings import Settings

PAGE = Path(__file__).parent / "cost.md"
PRICED_ON = "29 November 2026"
HOURS = 730  # of a month
DAYS = Decimal(HOURS) / 24

# USD, list prices of us-central1 on that date; the free amounts are those of a month.
VCPU_SECOND, FREE_VCPU_SECONDS = Decimal("0.000018"), 240_000
GIB_SECOND, FREE_GIB_SECONDS = Decimal("0.000002"), 450_000
LEAST_SECONDS = 60  # that a task of a Cloud Run job is billed for
REDIS_STANDARD, REDIS_BASIC = Decimal("0.064"), Decimal("0.049")  # a GB-hour; 1 GB is the smallest
SECRET_ACCESS, FREE_ACCESSES, SECRETS = Decimal("0.000003"), 10_000, 2
SCHEDULER_JOB = Decimal("0.10")
READ, WRITE, DELETE = Decimal("0.0000003"), Decimal("0.0000009"), Decimal("0.0000001")  # twice that in a multi-region
SMALL_VM, DISK, ADDRESS = (
    Decimal("0.016751"),
    Decimal("0.40"),
    Decimal("0.005"),
)  # e2-small an hour; 10 GB; IPv4 an hour

# The job's, each for one user and day of docs/scale.md, where 30 % have something to tell.
READS, WRITES, DELETES, RECAPS, CPU_SECONDS = Decimal("10.6"), Decimal("1.6"), 1, Decimal("0.3"), Decimal("0.0081") * 2
WRITING, JUDGING = (2_470, 1_275), (2_375, 487)  # tokens in and out of a recap, and of the second look at it
MEMORY_GIB = Decimal("0.5")
USERS = (0, 1_000, 100_000, 1_000_000)


def runs(minutes: int) -> Decimal:
    """USD a month of the runs, if one is started that often and none takes longer than a minute."""
    seconds = HOURS * 60 // minutes * LEAST_SECONDS
    cpu = max(0, seconds - FREE_VCPU_SECONDS) * VCPU_SECOND
    return cpu + max(Decimal(0), seconds * MEMORY_GIB - FREE_GIB_SECONDS) * GIB_SECOND


def around(minutes: int) -> Decimal:
    """USD a month of the scheduler's job, and of reading the secrets at each start."""
    accesses = HOURS * 60 // minutes * SECRETS
    return SCHEDULER_JOB + max(0, accesses - FREE_ACCESSES) * SECRET_ACCESS


def recap(*calls: tuple[int, int], tier: str = DEFAULT_TIER) -> Decimal:
    """USD of one recap by the default model. Raises LookupError if its price is not known."""
    price = price_listed(Settings.openai_model, tier)
    if price is None:
        raise LookupError(Settings.openai_model)
    return sum((price.tokens_in * read + price.tokens_out * written for read, written in calls), Decimal(0)) / 1_000_000


def lines_of(users: int) -> Mapping[str, Decimal]:
    """USD a month by line, for that many users."""
    days = users * DAYS
    return {
        "Cloud Run, a run each minute": runs(1),
        "Redis (Memorystore, 1 GB, standard)": REDIS_STANDARD * HOURS,
        "scheduler and secrets": around(1),
        "Firestore": days * (READS * READ + WRITES * WRITE + DELETES * DELETE),
        "Cloud Run, the work itself": days * CPU_SECONDS * (VCPU_SECOND + GIB_SECOND * MEMORY_GIB),
        "the LLM, with the second look": days * RECAPS * recap(WRITING, JUDGING),
    }


def usd(amount: Decimal) -> str:
    """To the cent below ten USD, else to the dollar."""
    return f"${amount:,.2f}" if 0 < amount < 10 else f"${amount:,.0f}"


def table() -> str:
    """The month by number of users."""
    columns = [lines_of(users) for users in USERS]
    rows = [f"| {name} | {' | '.join(usd(column[name]) for column in columns)} |" for name in columns[0]]
    sums = " | ".join(f"**{usd(sum(column.values(), Decimal(0)))}**" for column in columns)
    head = " | ".join(f"{users:,} users" for users in USERS)
    return "\n".join([f"| a month | {head} |", "|---|---|---|---|---|", *rows, f"| **together** | {sums} |"])


TEXT = """\
# What it costs a month

List prices of `us-central1` in USD, looked up on {priced_on}; other regions and contracts differ. What a user costs
is counted in `docs/scale.md`: 30 % of the users have something to tell on a day, 1.3 devices each. FCM is free. What
Cloud Run and Secret Manager give for nothing is taken off; what Firestore gives is not, since the app uses it. Not in
it: storage (a recap is some 5 KB, and stays), logs beyond 50 GiB, and mail or network where those channels are used.
`make docs` writes this page; the prices are in `docs/cost.py`.

{table}

## The floor

**With no user at all it is {floor}.** A task of a Cloud Run job is billed for at least a minute, and a run is started
each minute: an idle tick takes a second or two and is billed as sixty. So one vCPU and 512 MB are paid for the month,
{each_minute}. The smallest Redis of Memorystore has 1 GB, {standard} with a replica; a million users need a tenth.

Cheaper, from the least change to the largest:

| what | a month | what it changes |
|---|---|---|
{cheaper}

## Each user

A thousand users cost {firestore} of Firestore a month (twice that in a multi-region as `nam5` or `eur3`), and {llm} of
the LLM at its default. At ten thousand users the LLM is more than all the rest, from a hundred thousand on nine tenths.

| a recap | USD | a month for 1,000 users |
|---|---|---|
{recaps}

`RECAP_DAILY_BUDGET_USD` holds the LLM's part: beyond it the extract is sent. What a day really cost is in `audit`, and
what a recap did in `show`. An `audit` reads each user's document, ledger and recap: {audit} for a million users.
"""


def cheaper() -> str:
    """The rows of what costs less."""
    vm, address = usd(SMALL_VM * HOURS + DISK), usd(ADDRESS * HOURS)
    both = usd(runs(5) + around(5) + REDIS_BASIC * HOURS)
    rows = (
        (
            "`SCHEDULE='*/5 * * * *' deploy/setup.sh`",
            f"runs {usd(runs(5))} in place of {usd(runs(1))}",
            "recaps come up to five minutes after the hour, and a retry waits as long",
        ),
        (
            "Redis with `--tier=basic`",
            f"{usd(REDIS_BASIC * HOURS)} in place of {usd(REDIS_STANDARD * HOURS)}",
            "without a replica an update forgets all: LLM calls are paid again, nobody is pushed to twice",
        ),
        ("both", f"{both} with no user, in place of {usd(sum(lines_of(0).values(), Decimal(0)))}", "as above"),
        ("a Redis that the app has already", "nothing for it", "it must not evict; `doctor` looks"),
        (
            "a small VM (e2-small, 10 GB) with `--every-minute` and Valkey on it: `deploy/systemd/daily-recap.service`",
            f"{vm}, and {address} for an address of its own, in place of runs, Redis, scheduler and secrets",
            "while the machine is away nobody is served; back within two hours, it catches up",
        ),
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def recaps() -> str:
    """The rows of what a recap costs."""
    rows = {
        "the default model, with the second look": recap(WRITING, JUDGING),
        "the same with `OPENAI_SERVICE_TIER=flex`, where none is refused": recap(WRITING, JUDGING, tier=FLEX),
        "`RECAP_VERIFY=off`": recap(WRITING),
        "`RECAP_SUMMARIZER=extract`": Decimal(0),
    }
    return "\n".join(f"| {name} | {each:.5f} | {usd(each * RECAPS * DAYS * 1000)} |" for name, each in rows.items())


def written() -> str:
    """The page's text."""
    thousand = lines_of(1_000)
    return TEXT.format(
        priced_on=PRICED_ON,
        table=table(),
        floor=usd(sum(lines_of(0).values(), Decimal(0))),
        each_minute=usd(runs(1)),
        standard=usd(REDIS_STANDARD * HOURS),
        cheaper=cheaper(),
        firestore=usd(thousand["Firestore"]),
        llm=usd(thousand["the LLM, with the second look"]),
        recaps=recaps(),
        audit=usd(READ * 3 * 1_000_000),
    )


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
