"""Standard Webhooks 1.0.0 (standardwebhooks.com): secrets, and the headers that sign a body."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)


def read_keys(secret: str) -> list[bytes]:
    """The key of a secret, or of two with a space between, for a rotation. Empty if any of it is malformed."""
    try:
        texts = [text.removeprefix(PREFIX) for text in secret.split(" ") if text.startswith(PREFIX)]
        keys = [b64decode(text + "=" * (-len(text) % 4), validate=True) for text in texts]
    except ValueError:
        return []
    usable = len(keys) == secret.count(" ") + 1 <= 2 and all(len(key) in KEY_BYTES for key in keys)
    return keys if usable else []


def signed_headers(keys: Sequence[bytes], message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The three headers of one try: one signature a key, over the id, the time of the try and the very bytes sent."""
    timestamp = str(int(now.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = (b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    signed = " ".join(f"v1,{signature}" for signature in signatures)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signed}
