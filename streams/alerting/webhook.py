"""Webhook: one attempt to deliver a message over HTTP."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import suppress
from urllib.parse import urljoin

import httpcore2
import httpx2
import structlog
from standardwebhooks import Webhook

from outlay.alert_config import AlertConfig
from streams.alerting.connecting import CheckedNetwork, Resolve
from streams.alerting.cooldown import Message
from streams.alerting.dead_letter import at
from streams.alerting.retrying import Outcome, retry_after_ms
from streams.alerting.slack_body import SLACK_HOST, slack_body
from streams.alerting.targets import Allowed, TargetRefused
from streams.alerting.text import shown
from streams.alerting.webhook_body import webhook_body

REDIRECTS_MAX = 2
"""How many redirects are followed, to the same scheme, host and port only."""

ANSWER_BYTES_MAX = 4_096
"""How much of an answer's body is read, in bytes."""

ANSWER_WAIT_S = 1.0
"""How long an answer's body is waited for after its status, in seconds."""

CONNECT_TIMEOUT_S = 5.0
POOLS = 64
"""Over how many pools the receivers are spread: a pool looks at all it has for each request."""

KEPT_ALIVE_MAX = 16
KEPT_ALIVE_S = 15.0
"""How many idle connections a pool keeps, and for how long."""

_RETRIED = (408, 425, 429)
_UNREACHED = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.RemoteProtocolError,
    httpcore2.ConnectionNotAvailable,
    ssl.SSLError,
    OSError,
)

log = structlog.get_logger("outlay.alerts")


class WebhookSender:
    """Sends messages to webhooks, each within `timeout_s` seconds, redirects included.

    `tls` is what certificates are verified with; without it, by what the system trusts.
    """

    def __init__(
        self,
        resolve: Resolve,
        allowed: Allowed,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        verified = ssl.create_default_context() if tls is None else tls
        network = CheckedNetwork(resolve, allowed)
        # Without a client around them there are no proxies, cookies, or decompression.
        self._pools = [
            httpcore2.AsyncConnectionPool(
                ssl_context=verified,
                max_connections=None,  # each endpoint has its own bound
                max_keepalive_connections=KEPT_ALIVE_MAX,
                keepalive_expiry=KEPT_ALIVE_S,
                network_backend=network,
            )
            for _ in range(POOLS)
        ]

    async def send(
        self, config: AlertConfig, delivery_id: str, alerts: Message, now_ms: int
    ) -> Outcome:
        """One attempt. Never raises for what the receiver does, or where it is."""
        assert config.webhook_url is not None
        try:
            url = httpx2.URL(config.webhook_url)
            body = body_of(config, url.host, delivery_id, alerts)
            headers = headers_of(config, delivery_id, body, now_ms) | _credentials(url)
            async with asyncio.timeout(self._timeout_s):
                return await self._post(url, headers, body, now_ms)
        except TargetRefused as error:
            return Outcome("failed", f"refused: {error}")
        except TimeoutError:
            return Outcome("retry", f"no answer within {self._timeout_s:g} s", is_away=True)
        except _UNREACHED as error:
            return Outcome("retry", _problem(error), is_away=True)
        except (httpx2.InvalidURL, httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol):
            return Outcome("failed", "its URL cannot be used")
        except (ValueError, ArithmeticError):
            return Outcome("failed", "it cannot be told")
        except Exception as error:  # one receiver must not end the delivery to all others
            log.error("an attempt failed in a new way", error=type(error).__name__)
            return Outcome("retry", f"it failed with {type(error).__name__}", is_away=True)

    async def _post(
        self, url: httpx2.URL, headers: dict[str, str], body: bytes, now_ms: int
    ) -> Outcome:
        for _ in range(REDIRECTS_MAX + 1):
            async with self._pool_of(url).stream(
                "POST",
                httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=list(headers.items()),
                content=body,
                extensions={
                    "timeout": dict.fromkeys(("read", "write", "pool"), self._timeout_s)
                    | {"connect": min(CONNECT_TIMEOUT_S, self._timeout_s)}
                },
            ) as response:
                said = await _said(response)
            location = _header(response, b"location")
            if response.status not in (307, 308) or location is None:
                return _judged(response, said, now_ms)
            target = httpx2.URL(urljoin(str(url), location))
            if _origin(target) != _origin(url):
                return Outcome("failed", "it redirects to elsewhere", response.status)
            url = target
        return Outcome("failed", f"over {REDIRECTS_MAX} redirects", response.status)

    def _pool_of(self, url: httpx2.URL) -> httpcore2.AsyncConnectionPool:
        return self._pools[hash(_origin(url)) % POOLS]

    async def close(self) -> None:
        """Close the connections."""
        for pool in self._pools:
            await pool.aclose()


def body_of(config: AlertConfig, host: str, delivery_id: str, alerts: Message) -> bytes:
    """The body in the configuration's format; `auto` is Slack's for Slack's host."""
    wanted = config.webhook_format
    if wanted == "slack" or (wanted == "auto" and host.lower() == SLACK_HOST):
        return slack_body(alerts)
    return webhook_body(delivery_id, alerts)


def headers_of(config: AlertConfig, delivery_id: str, body: bytes, now_ms: int) -> dict[str, str]:
    """Standard Webhooks' headers: the id, the time of this attempt, and a signature a secret."""
    sent_at = at(now_ms)
    headers = {
        "content-type": "application/json",
        "user-agent": "outlay-alerts",
        "accept": "*/*",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(now_ms // 1000),
    }
    if config.webhook_secrets:
        text = body.decode()
        headers["webhook-signature"] = " ".join(
            Webhook(secret).sign(delivery_id, sent_at, text) for secret in config.webhook_secrets
        )
    return headers


def _credentials(url: httpx2.URL) -> dict[str, str]:
    if not url.userinfo:
        return {}
    pair = f"{url.username}:{url.password}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


async def _said(response: httpcore2.Response) -> bytes:
    """The beginning of the body: the status has decided, and nobody need wait for the rest."""
    said = b""
    with suppress(TimeoutError, *_UNREACHED):
        async with asyncio.timeout(ANSWER_WAIT_S):
            async for part in response.aiter_stream():
                said += part[: ANSWER_BYTES_MAX - len(said)]
                if len(said) >= ANSWER_BYTES_MAX:
                    break
    return said


def _judged(response: httpcore2.Response, said: bytes, now_ms: int) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return Outcome("delivered", code=status)
    reason = f"HTTP {status}: {shown(said)}" if said else f"HTTP {status}"
    if status == 410:
        return Outcome("gone", reason, status)
    if status in _RETRIED or status >= 500:
        after_ms = retry_after_ms(_header(response, b"retry-after"), now_ms)
        return Outcome("retry", reason, status, after_ms, is_away=status >= 500)
    return Outcome("failed", reason, status)


def _header(response: httpcore2.Response, name: bytes) -> str | None:
    for key, value in response.headers:
        if key.lower() == name:
            return value.decode("latin-1")
    return None


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host.lower(), url.port or {"http": 80, "https": 443}.get(url.scheme)


def _problem(error: BaseException) -> str:
    """What went wrong below HTTP, without what the receiver has sent."""
    if isinstance(error, httpcore2.RemoteProtocolError):
        return "its answer is no HTTP"
    if isinstance(error, httpcore2.TimeoutException):
        return "it was not reached in time"
    return shown(str(error) or type(error).__name__)
