"""Conversations as an app of this layout writes them: each field with the type and the form that it has there."""

from __future__ import annotations

import base64
import json
import os
import zlib
from datetime import datetime, timedelta
from typing import Any

from tests.support.worlds import Doc


def segments(*texts: str) -> list[Doc]:
    """What was said, by two speakers in turn."""
    return [
        {
            "id": f"segment-{n}",
            "text": text,
            "speaker": f"SPEAKER_0{n % 2}",
            "speaker_id": n % 2,
            "is_user": n % 2 == 0,
            "person_id": None,
            "start": 8.0 * n,
            "end": 8.0 * n + 7,
            "translations": [],
        }
        for n, text in enumerate(texts)
    ]


def compressed(said: list[Doc]) -> bytes:
    """How it is stored for most users, an empty one too."""
    return zlib.compress(json.dumps(said).encode())


def encrypted(said: list[Doc]) -> str:
    """How it is stored for users of `enhanced` protection: nonce, ciphertext and tag, in base64; noise to us."""
    return base64.b64encode(os.urandom(12 + 2 * len(compressed(said)) + 16)).decode()


def structured(**changes: Any) -> Doc:
    """Empty as it is at a conversation's start, but for the changes."""
    empty: Doc = {"title": "", "overview": "", "emoji": "🧠", "category": "other", "sections": []}
    return empty | {"action_items": [], "events": []} | changes


def task(description: str, at: datetime, **changes: Any) -> Doc:
    """One thing to do."""
    times = {"created_at": at, "updated_at": at, "due_at": None, "completed_at": None}
    return {"description": description, "completed": False, "conversation_id": None} | times | changes


def conversation(key: str, at: datetime, minutes: int = 20, **changes: Any) -> Doc:
    """One that has ended. A live one has the time of its start as `created_at`, an upload that of its recording."""
    return {
        "id": key,
        "created_at": at,
        "started_at": at,
        "finished_at": at + timedelta(minutes=minutes),
        "source": "omi",
        "language": "en",
        "structured": structured(),
        "transcript_segments": compressed([]),
        "transcript_segments_compressed": True,
        "geolocation": None,
        "audio_files": [],
        "private_cloud_sync_enabled": False,
        "apps_results": [],
        "plugins_results": [],
        "suggested_summarization_apps": [],
        "external_data": None,
        "app_id": None,
        "discarded": False,
        "visibility": "private",
        "starred": False,
        "processing_conversation_id": None,
        "status": "completed",
        "is_locked": False,
        "deferred": False,
        "data_protection_level": "standard",
        "folder_id": None,
        "client_device_id": None,
        "client_platform": None,
    } | changes


def live_stub(key: str, at: datetime) -> Doc:
    """A conversation that somebody is having: nothing is known of it yet."""
    return conversation(key, at, 0, status="in_progress")


def user(**changes: Any) -> Doc:
    """A user document with what an app keeps there beside the job's fields."""
    return {
        "time_zone": "Europe/Berlin",
        "daily_summary_enabled": True,
        "daily_summary_hour_local": 21,
        "language": "en",
        "data_protection_level": "standard",
        "store_recording_permission": False,
        "onboarding": {"completed": True},
    } | changes
