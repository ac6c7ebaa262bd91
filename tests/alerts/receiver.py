"""A real HTTP receiver on loopback that behaves as badly as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FLOOD_BYTES_MAX = 128 * 1_048_576


@dataclass
class Received:
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answers` is what each request is answered with, by path; the last one again and again.

    A number is a status, bytes are sent as they are, `hang` and `reset` are that, a `flood` is a
    body that does not end, and a tuple is a status and headers.
    """

    answers: dict[str, Sequence[Any]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    connections: int = 0
    flooded: int = 0

    async def __aenter__(self):
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, path="/hook", host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    async def _accepted(self, reader, writer):
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = head[0].split(" ")[1]
        headers = {}
        for line in filter(None, head[1:]):
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.received.append(Received(path, headers, body))
        answers = self.answers.get(path, [200])
        answer = answers[min(self.times[path], len(answers) - 1)]
        self.times[path] += 1
        if answer == "hang":
            await asyncio.Event().wait()
        if answer == "reset":
            writer.transport.abort()
            return False
        if answer == "flood":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
            while self.flooded < FLOOD_BYTES_MAX:
                self.flooded += 65_536
                writer.write(bytes(65_536))
                await writer.drain()
            return False
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            return False
        status, extra = answer if isinstance(answer, tuple) else (answer, {})
        lines = [f"HTTP/1.1 {status} X", "content-length: 0"]
        lines += [f"{name}: {value}" for name, value in extra.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        return True
