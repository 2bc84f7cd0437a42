"""The design that people have today, for comparison: nothing here is used by the product.

A default thread pool, one plain SET NX EX, every zone's users read anew each minute, one
synchronous client each.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import openai
import redis
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

store = firestore.Client(project=os.environ["GOOGLE_CLOUD_PROJECT"], credentials=AnonymousCredentials())
locks = redis.Redis.from_url(os.environ["REDIS_URL"])
llm = openai.OpenAI(api_key="none", base_url=os.environ["OPENAI_BASE_URL"])
FCM = f"{os.environ['FCM_BASE_URL']}/v1/projects/p/messages:send"
read = 0


def zoned_users() -> list[Any]:
    """Every zone's users, in groups of thirty zones, each minute."""
    global read
    zones = sorted(available_timezones())
    found: list[Any] = []
    for start in range(0, len(zones), 30):
        query = store.collection("users").where(
            filter=firestore.FieldFilter("time_zone", "in", zones[start : start + 30])
        )
        found += list(query.stream())
    read += len(found)
    return found


def due(user: Any, now: datetime) -> bool:
    doc = user.to_dict()
    return bool(now.astimezone(ZoneInfo(doc["time_zone"])).hour == doc["daily_summary_hour_local"])


def recap(user: Any) -> None:
    uid, day = user.id, date.fromisoformat(os.environ["PLAIN_DATE"])
    if not locks.set(f"users:{uid}:daily_summary_lock:{day}", "1", nx=True, ex=7200):
        return
    since = datetime.now(UTC) - timedelta(days=1)
    talks = user.reference.collection("conversations").where(filter=firestore.FieldFilter("created_at", ">=", since))
    notes = "\n".join(json.dumps(talk.to_dict(), default=str) for talk in talks.stream())
    answer = llm.chat.completions.create(model="m", messages=[{"role": "user", "content": notes}])
    text = json.loads(answer.choices[0].message.content or "{}")
    overview = " ".join(sentence["text"] for sentence in text["overview"])
    user.reference.collection("daily_summaries").document(str(day)).set({"date": str(day), **text})
    for device in user.reference.collection("fcm_tokens").stream():
        tag = hashlib.sha256(overview.encode()).hexdigest()[:32]
        message = {"token": device.to_dict()["token"], "data": {"text": overview, "tag": tag}}
        requests.post(FCM, json={"message": message}, timeout=30)


def main() -> None:
    now = datetime.now(UTC)
    users = [user for user in zoned_users() if due(user, now)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(recap, users))
    print(json.dumps({"users": len(users), "documents_read": read}))


if __name__ == "__main__":
    main()
