"""Connecting: the network below a webhook. It connects to exactly the address that was checked.

The name is resolved here, once, and every address that it has is checked; TLS is verified against
the name. So an answer of DNS that changes between check and use changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import httpcore2

from streams.alerting.targets import Address, Allowed, check_address

RESOLVERS_MAX = 32
"""How many names are resolved at a time: a slow name server holds up one of them."""

ADDRESSES_MAX = 4
"""How many addresses of a name are tried."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host, as text; raises OSError when there is none."""


class Resolver:
    """The system's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS_MAX, thread_name_prefix="alerts-resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to hosts whose addresses may all be gone to.

    Raises:
        TargetRefused: one of them must not.
        httpcore2.ConnectError, httpcore2.ConnectTimeout: nobody is there.
    """

    def __init__(self, resolve: Resolve, allowed: Allowed) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as it is called by httpcore2
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._addresses(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("its name was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError("its name cannot be resolved") from error
        for address in addresses:
            check_address(host, address, self._allowed)
        problem: Exception = httpcore2.ConnectError("its name has no address")
        for address in addresses[:ADDRESSES_MAX]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                problem = error
        raise problem

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            return [ipaddress.ip_address(host.strip("[]"))]
        except ValueError:
            return [ipaddress.ip_address(text) for text in await self._resolve(host, port)]

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as it is called by httpcore2
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise httpcore2.ConnectError("webhooks do not go to sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
