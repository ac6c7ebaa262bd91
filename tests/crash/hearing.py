"""A webhook receiver and a mail server that remember what arrives, from threads of their own."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from outlay.embedded.ports import free_port

Crossing = tuple[str, str, str, Decimal]
"""Scope, window, kind of limit, threshold."""


@dataclass
class Heard:
    """What has arrived: `messages` by the webhook's id, `mails` by the Message-ID."""

    secret: str
    bodies: dict[str, set[bytes]] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    mails: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def crossings(self) -> dict[str, tuple[str, Crossing]]:
        """By the id of the alert: the webhook's id that told it, and what it tells."""
        found: dict[str, tuple[str, Crossing]] = {}
        for webhook_id, bodies in list(self.bodies.items()):
            (raw,) = bodies  # constant over retries
            body = json.loads(raw, parse_float=Decimal)
            for each in (body, *body["merged"]):
                threshold = Decimal(each["threshold"])
                crossing = (body["scope"], each["window"], each["limit_kind"], threshold)
                known = found.setdefault(each["alert_id"], (webhook_id, crossing))
                assert known == (webhook_id, crossing), "an alert under two ids"
        return found


class Hearing:
    """Runs both while it is entered; `url` and `smtp_port` are where they are."""

    def __init__(self, secret: str) -> None:
        self.heard = heard = Heard(secret)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # who sent it was killed
                    self.close_connection = True
                    return
                _take(heard, dict(self.headers.items()), body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._mail = Controller(_Mails(heard), hostname="127.0.0.1", port=free_port())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self.smtp_port = self._mail.port

    def __enter__(self) -> Hearing:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._mail.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._mail.stop()
        self._server.shutdown()
        self._server.server_close()


def _take(heard: Heard, headers: dict[str, str], body: bytes) -> None:
    try:
        Webhook(heard.secret).verify(body, headers)
    except Exception as error:
        heard.problems.append(repr(error))
    webhook_id = headers["webhook-id"]
    heard.bodies.setdefault(webhook_id, set()).add(body)
    heard.messages[webhook_id] += 1


class _Mails:
    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    async def handle_DATA(  # noqa: N802 - as aiosmtpd calls it
        self, server: Any, session: Any, envelope: Any
    ) -> str:
        mail = message_from_bytes(envelope.content)
        self._heard.mails[mail["Message-ID"].strip("<>").partition("@")[0]] += 1
        return "250 OK"
