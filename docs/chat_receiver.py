"""Passes each recap on to Telegram, to ntfy, or to both: a receiver of the webhook.

.venv/bin/python -m pip install standardwebhooks
RECAP_WEBHOOK_SECRET=whsec_… TELEGRAM_TOKEN=… TELEGRAM_CHAT=… NTFY_TOPIC=… .venv/bin/python docs/chat_receiver.py
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

try:
    from standardwebhooks import Webhook, WebhookVerificationError
except ModuleNotFoundError:
    sys.exit("standardwebhooks is missing; type .venv/bin/python -m pip install standardwebhooks.")

ENV, DONE = os.environ, set()  # what was passed on: (webhook-id, service), since an event may come twice


def pass_on(event_id: str, data: dict) -> None:  # noqa: D103
    recap, services = data["recap"] or {}, {}
    text = f"{recap.get('overview') or data['body']}".encode()[:3_500].decode(errors="ignore")  # both take 4,096
    if "TELEGRAM_TOKEN" in ENV:
        url = f"{ENV.get('TELEGRAM_URL', 'https://api.telegram.org')}/bot{ENV['TELEGRAM_TOKEN']}/sendMessage"
        services[url] = {"chat_id": ENV["TELEGRAM_CHAT"], "text": f"{data['title']}\n\n{text}"}
    if "NTFY_TOPIC" in ENV:
        message = {"topic": ENV["NTFY_TOPIC"], "title": data["title"], "message": text, "sequence_id": event_id}
        services[ENV.get("NTFY_URL", "https://ntfy.sh")] = message
    for url, body in services.items():
        if (event_id, url) not in DONE:
            headers = {"Content-Type": "application/json"}
            urlopen(Request(url, json.dumps(body).encode(), headers), timeout=10).close()  # noqa: S310
            DONE.add((event_id, url))


class Receiver(BaseHTTPRequestHandler):  # noqa: D101
    def do_POST(self) -> None:
        status, body = 204, self.rfile.read(min(20_000, int(self.headers["Content-Length"])))
        try:
            event = Webhook(ENV["RECAP_WEBHOOK_SECRET"]).verify(body, dict(self.headers))
            if event["type"] == "recap.created":
                pass_on(self.headers["webhook-id"], event["data"])
        except (WebhookVerificationError, ValueError):
            status = 401
        except HTTPError as refused:  # 4xx: the token, the chat or the topic is wrong
            status = 503 if refused.code == 429 or refused.code >= 500 else 422
        except OSError:  # not reached
            status = 503
        self.send_response(status)
        self.end_headers()


def missing() -> str:  # noqa: D103
    if not ENV.get("RECAP_WEBHOOK_SECRET", "").startswith("whsec_"):
        return "RECAP_WEBHOOK_SECRET is missing, or does not begin with whsec_; set it as for the job."
    if "TELEGRAM_TOKEN" in ENV and "TELEGRAM_CHAT" not in ENV:
        return "TELEGRAM_CHAT is missing; set the number of the chat that the bot writes into."
    return "" if ENV.keys() & {"TELEGRAM_TOKEN", "NTFY_TOPIC"} else "Set TELEGRAM_TOKEN, NTFY_TOPIC, or both."


if __name__ == "__main__":
    if sentence := missing():
        sys.exit(sentence)
    ThreadingHTTPServer(("127.0.0.1", int(ENV.get("PORT", "8008"))), Receiver).serve_forever()
