"""The demo's webhook: an HTTP server on loopback that takes alerts and checks their signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from outlay.embedded.ports import LOOPBACK

BODY_BYTES_MAX = 65_536
"""The largest body that is read, in bytes: over three times what alerts have."""

ARRIVALS_MAX = 1_000
"""How many arrivals are kept; the demo has a handful."""

REQUEST_TIMEOUT_S = 10.0
"""How long a request may take to come in, in seconds."""

_SECRET_BYTES = 32
_PREFIX = "whsec_"


class Arrival(NamedTuple):
    """An alert that was received; `threshold` is None for a forecast.

    `verified` says that its signature is that of the secret, over what came.
    """

    delivery_id: str
    verified: bool
    event: str
    scope: str
    window: str
    threshold: Decimal | None
    used_share: Decimal | None

    @property
    def line(self) -> str:
        """What is said of it."""
        share = "" if self.used_share is None else f", {self.used_share * 100:.1f} % used"
        signed = "signature ok" if self.verified else "WRONG SIGNATURE"
        return f"webhook: {self.event} of {self.scope}, {_percent(self)}{share}; {signed}"


def _percent(arrival: Arrival) -> str:
    if arrival.threshold is None:
        return arrival.window
    return f"{arrival.threshold * 100:f} % of {arrival.window}".replace(".0 %", " %")


def new_secret() -> str:
    """A secret of Standard Webhooks, which nobody has had before."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a body is signed with a secret, as Standard Webhooks has it.

    The time in the headers is not compared with a clock: nobody but the demo can reach it.
    """
    signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode()
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    digest = hmac.new(key, signed + body, hashlib.sha256).digest()
    wanted = f"v1,{base64.b64encode(digest).decode()}"
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(each.encode(), wanted.encode()) for each in given)


def arrivals_in(delivery_id: str, body: bytes, verified: bool) -> list[Arrival]:
    """The alerts of a body: the first, and those that were merged with it.

    Raises:
        ValueError, KeyError, TypeError: it is no body of an alert.
    """
    told: dict[str, Any] = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    return [
        Arrival(
            delivery_id,
            verified,
            each["event"],
            told["scope"],
            each["window"],
            each["threshold"],
            each["current_usage_percentage"],
        )
        for each in (told, *told.get("merged", ()))
    ]


class Receiver:
    """The webhook, a context manager; `url` is where it is, `secret` what must sign."""

    def __init__(self) -> None:
        self.secret = new_secret()
        self._lock = threading.Lock()
        self._arrivals: list[Arrival] = []
        self._taken = 0
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="outlay-webhook", daemon=True
        )

    @property
    def url(self) -> str:
        """Where alerts are to be sent."""
        return f"http://{LOOPBACK}:{self._server.server_port}/alerts"

    @property
    def arrivals(self) -> list[Arrival]:
        """All that have arrived, in their order."""
        with self._lock:
            return list(self._arrivals)

    def take_new(self) -> list[Arrival]:
        """Those that have arrived since the last time."""
        with self._lock:
            new = self._arrivals[self._taken :]
            self._taken = len(self._arrivals)
            return new

    def receive(self, headers: Mapping[str, str], body: bytes) -> int:
        """Take a request in; the status to answer."""
        verified = is_signed(self.secret, headers, body)
        try:
            found = arrivals_in(headers.get("webhook-id", ""), body, verified)
        except (ValueError, KeyError, TypeError, AttributeError):
            return 400
        with self._lock:
            if len(self._arrivals) + len(found) > ARRIVALS_MAX:
                return 503
            self._arrivals += found
        return 204

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receive = self.receive

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_TIMEOUT_S

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                if length > BODY_BYTES_MAX:
                    self.send_error(413)
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(receive(headers, self.rfile.read(length)))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing: the demo does."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(REQUEST_TIMEOUT_S)
