"""Which hosts the API is: without keys, a page in a browser must not reach it by another name.

A name that an attacker's server first answers for and then points to 127.0.0.1 makes the browser
take this API for that server. Its `Host` header gives it away.

Known are the names of loopback and `OUTLAY_API_HOST`. `OUTLAY_API_ALLOW_REMOTE` adds every IP
address, which no page can point elsewhere, and `api`, the name of the service in compose. Other
names stay unknown: compose publishes the port on 127.0.0.1, where a browser can be sent. Behind a
proxy with a name of its own, have it ask with an address or one of these names.
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import problem
from schemas.settings import Settings

SERVICE_NAME = "api"
"""What other containers of the compose file call this one."""


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, for sure."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(header: str) -> str:
    """The host in a `Host` header, without its port: `localhost`, `::1`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _host(scope: Scope) -> str:
    return host_of(Headers(scope=scope).get("host", ""))


def is_known(host: str, settings: Settings) -> bool:
    """Whether a request for this host is one for us."""
    if is_loopback(host) or host == settings.api_host.lower():
        return True
    return settings.api_allow_remote and (host == SERVICE_NAME or _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class KnownHosts:
    """ASGI middleware: requests for another host are refused."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a problem."""
        if scope["type"] != "http" or is_known(_host(scope), self._settings):
            await self._app(scope, receive, send)
            return
        refusal = problem(scope["path"], "misdirected", "the Host header names another host")
        await refusal(scope, receive, send)
