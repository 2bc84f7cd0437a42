"""Writes docs/settings.md (`make docs`): defaults and ranges from the code, the descriptions from here."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from notifications.limits import Limits
from notifications.settings import Settings

PAGE = Path(__file__).parent / "settings.md"
HEAD = """\
# Settings

All settings, which are environment variables. `.env.example` lists those that people set. Unknown names, numbers out
of their range, and numbers that contradict each other are refused at the start. `make docs` writes this page.
"""
# By purpose: each setting, its default or an example, and what it does.
TEXTS: dict[str, dict[str, tuple[str, str]]] = {
    "Where things are": {
        "REDIS_URL": (
            "the embedded server",
            "`redis://host:6379/0`, `rediss://…`, `unix:///path`; `?cluster=true` for a cluster",
        ),
        "RECAP_KEY_PREFIX": (
            "",
            "before every key in Redis, as for staging; the app's own lock is then another key",
        ),
        "GOOGLE_CLOUD_PROJECT": ("SQLite in the data folder", "the project whose Firestore holds the users"),
        "FIRESTORE_EMULATOR_HOST": ("", "`127.0.0.1:8080`"),
        "FIRESTORE_DATABASE": (Settings.firestore_database, "a named database of the project"),
        "GOOGLE_APPLICATION_CREDENTIALS": ("the platform's own", "a service account's file"),
        "FCM_BASE_URL": (Settings.fcm_base_url, "an http:// loopback address needs no credentials"),
        "RECAP_LAYOUT": (
            "that of `docs/documents.md`",
            "a file that says where the app's documents are, and how their fields are called (`docs/your-app.md`)",
        ),
        "RECAP_STORE": (Settings.store, "`sqlite`: users in the data folder, on Cloud Run or Kubernetes too"),
        "RECAP_DATA_DIR": (".recap", "everything local; readable for its owner alone"),
        "CLOUD_RUN_TASK_INDEX": ("0", "set by the platform; `JOB_COMPLETION_INDEX` on Kubernetes"),
        "CLOUD_RUN_TASK_COUNT": ("1", "set by the platform"),
        "HTTPS_PROXY": ("", "and `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`: for each client, and never for this machine"),
    },
    "The LLM": {
        "OPENAI_API_KEY": ("no LLM: extracts", "or `OPENAI_BASE_URL`, for a server that needs no key"),
        "OPENAI_BASE_URL": ("OpenAI", "any server of the chat completions API (`docs/servers.md`)"),
        "OPENAI_MODEL": ("see `.env.example`", "the model that writes"),
        "OPENAI_VERIFY_MODEL": ("`OPENAI_MODEL`", "the model of the second look, by the same key and address"),
        "OPENAI_REASONING_EFFORT": ("low for models that reason", "none to max"),
        "OPENAI_SERVICE_TIER": ("the project's own", "`flex`: half the price for slower answers"),
        "RECAP_SUMMARIZER": (Settings.summarizer, "`extract`: recaps without an LLM, where a real project has none"),
        "RECAP_FALLBACK": (
            Settings.fallback,
            "where the LLM fails, the day's own sentences; `none`: no recap",
        ),
        "RECAP_VERIFY": ("on", "a second look at each written recap, one call more; or `off`"),
        "RECAP_STYLE": ("", "wishes for every recap: 500 characters, last among the prompt's rules"),
    },
    "Channels": {
        "RECAP_CHANNELS": (
            "those that are set",
            "`fcm`, `webhook`, `email`, with commas between; a data folder or an emulator reaches other machines "
            "by those alone that are named here (`docs/channels.md`)",
        ),
        "RECAP_WEBHOOK_URL": ("", "gets every recap; `https://`, or `http://` on this machine"),
        "RECAP_WEBHOOK_SECRET": ("", "`whsec_` and 24 to 64 bytes in base64; two with a space between to change it"),
    },
    "Mails": {
        "RECAP_SMTP_URL": (
            "no mails",
            "a relay, `smtp://user:password@host:587` (with STARTTLS) or `smtps://…`; needs the next three",
        ),
        "RECAP_EMAIL_FROM": ("", "`recap@example.com`, or `Recap <recap@example.com>`"),
        "RECAP_UNSUBSCRIBE_URL": (
            "",
            "https://, or http:// on this machine: the page that ends a user's mails (`docs/email.md`)",
        ),
        "RECAP_UNSUBSCRIBE_SECRET": ("", "32 characters or more, which that page knows too: `openssl rand -hex 32`"),
    },
    "Pushes, heartbeat and logs": {
        "RECAP_PUSH_TEXT": (
            Settings.push_text,
            "on lock screens too: `recap` (headline and a sentence), `headline`, or `none` of it",
        ),
        "RECAP_HEARTBEAT_URL": ("", "gets each tick's start (`/start`) and its exit code (`/0` to `/5`)"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": ("", "metrics and traces; needs `requirements-otel.txt`"),
        "RECAP_LOG_FORMAT": (Settings.log_format, "auto, json or console; `NO_COLOR=1` for a console without colour"),
    },
}
# The numbers of Limits that people set; the rest is the protocol's.
OFTEN = {
    "daily_budget_usd": "USD for a UTC day, over all processes; beyond it the extract is sent",
    "price_in_usd_per_mtok": "USD for a million tokens, of OPENAI_MODEL; unset: from a list of OpenAI's models",
    "price_out_usd_per_mtok": "the same for tokens out; both are set or neither",
    "min_words": "in a day without action items or events: less is no recap",
    "look_back_hours": "before the last recap: conversations of that time that could not be read then",
    "quiet_after_minutes": "a push that comes later after its hour makes no sound",
    "max_prompt_tokens": "of one call; a longer day is asked in parts",
    "max_parts": "of a long day; beyond, the shortest conversations enter as their extract",
    "concurrency": "users at a time, and so calls to the LLM",
    "shards": "16 from 100,000 users on; 62 at most",
    "stop_seconds": "what the platform gives from SIGTERM to SIGKILL; pushes get all but 5",
    "ledger_retention_days": "how long ledgers are kept",
}
SELDOM = {
    "user_deadline_seconds": "for one user, up to the fence",
    "user_lease_seconds": "of a user's claim; over the deadline, the push and twice the store",
    "push_deadline_seconds": "for all devices of a user",
    "store_timeout_seconds": "of one write, with its repeats",
    "sending_stale_seconds": "after which a sender counts as gone",
    "shard_lease_seconds": "of a shard's claim",
    "shard_renew_seconds": "under a third of the lease",
    "shard_retry_min_seconds": "before an open shard is served again",
    "shard_retry_max_seconds": "the same, at most",
    "item_retry_seconds": "after an item's own fault; three times as long after each further one",
    "provider_retry_seconds": "after a provider's fault, doubled at random",
    "push_retry_seconds": "after a push without an answer; five times as long after each further one",
    "refused_retry_seconds": "after a device that FCM refuses for good",
    "catch_up_seconds": "after a slot in which recaps are written",
    "grace_seconds": "after that, for the closing pass",
    "sweep_seconds": "between two sweeps for open deliveries that no cohort holds",
    "watchdog_seconds": "a stalled event loop ends its process after that",
    "redis_timeout_seconds": "of one call",
    "start_gap_seconds": "between the first users: 500 start over 2 s",
    "max_item_failures": "of one day, then it is dead",
    "max_crashes": "of one day, then it is dead",
    "max_pushes": "tries of one delivery",
    "max_provider_failures": "in a row, then nothing more is claimed",
    "shards_at_once": "that one run holds",
    "page_size": "users of one query",
}


def written() -> str:
    """The page's text."""
    lines = [HEAD]
    for title, rows in TEXTS.items():
        lines += [f"## {title}\n", "| setting | default | what |", "|---|---|---|"]
        lines += [f"| `{name}` | {default} | {what} |" for name, (default, what) in rows.items()]
        lines.append("")
    for title, numbers in (("Numbers that people set", OFTEN), ("The protocol's numbers: leave alone", SELDOM)):
        lines += [f"## {title}\n", "| setting | default | least | most | what |", "|---|---|---|---|---|"]
        lines += [_number(name, what) for name, what in numbers.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _number(name: str, what: str) -> str:
    [limit] = [field for field in fields(Limits) if field.name == name]
    default = "" if limit.default is None else f"{limit.default:g}"
    least, most = limit.metadata["least"], limit.metadata["most"]
    return f"| `RECAP_{name.upper()}` | {default} | {least:g} | {most:.12g} | {what} |"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
