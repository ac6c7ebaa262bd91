"""Encoded bodies: read with bounds on what is received, on what it unfolds to, and on the time.

A body that is packed unfolds piece by piece while it comes in, and each piece is counted before the
next is made: what is sent to fill the memory is stopped at the bound, however small it came.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.bodies import BODY_TIMEOUT_S
from api.problems import ProblemError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKED_BYTES_MAX = 1_048_576
"""The largest gzip or zstd body, in bytes as they come."""

BODY_BYTES_MAX = 4_194_304
"""The largest body, in bytes when it is unpacked."""

BODIES_BYTES_MAX = 67_108_864
"""How many bytes of bodies one process holds at once while it reads and parses them."""

BODIES_BYTES_PER_OWNER_MAX = BODIES_BYTES_MAX // 2
"""How many of them may be of one organization: what comes slowly, or unfolds, fills no more."""

MEMBERS_MAX = 16
"""How many gzip members, or zstd frames, one body may consist of."""

ZSTD_WINDOW_LOG_MAX = 23
"""The largest window of a zstd body, as a power of two: the 8 MiB that RFC 9659 allows."""

PIECE_BYTES = 65_536
"""How much is unpacked in one go."""

ENCODINGS = ("gzip", "zstd", "identity")


class BodyRoom:
    """How many bytes of bodies are held, and by whom; one for a process."""

    def __init__(
        self,
        bytes_max: int = BODIES_BYTES_MAX,
        owner_bytes_max: int = BODIES_BYTES_PER_OWNER_MAX,
    ) -> None:
        self._bytes_max = bytes_max
        self._owner_bytes_max = owner_bytes_max
        self._owned: dict[str | None, int] = {}  # of those alone that hold some
        self.held_bytes = 0

    def take(self, count: int, owner: str | None = None) -> None:
        """Hold so many more for an organization (None: for who has all of them).

        Raises:
            ProblemError: there is no room now.
        """
        owned = self._owned.get(owner, 0) + count
        if self.held_bytes + count > self._bytes_max or owned > self._owner_bytes_max:
            raise ProblemError("usage-busy", "too many bodies are being read now: send it again")
        self.held_bytes += count
        if owned:
            self._owned[owner] = owned

    def give_back(self, count: int, owner: str | None = None) -> None:
        """Hold so many less."""
        self.held_bytes -= count
        owned = self._owned.pop(owner, 0) - count
        if owned:
            self._owned[owner] = owned


@asynccontextmanager
async def whole_body(
    request: Request,
    room: BodyRoom,
    timeout_s: float = BODY_TIMEOUT_S,
    *,
    owner: str | None = None,
) -> AsyncIterator[bytes]:
    """The whole body of a request, unpacked; it counts as held inside the block.

    Raises:
        ProblemError: its encoding is another one, it is too large or too slow, or is not what its
            encoding says.
    """
    unpack = _unpacking(request)
    content = bytearray()
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await _fill(content, request, unpack, room, owner)
        except TimeoutError:
            detail = f"the body did not come within {timeout_s:g} s"
            raise ProblemError("request-timeout", detail) from None
        except ClientDisconnect:
            raise ProblemError("request-timeout", "the body broke off") from None
        yield bytes(content)
    finally:
        room.give_back(len(content), owner)


async def _fill(
    content: bytearray,
    request: Request,
    unpack: _Unpacking | None,
    room: BodyRoom,
    owner: str | None,
) -> None:
    received_max = BODY_BYTES_MAX if unpack is None else PACKED_BYTES_MAX
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > received_max:
        raise _too_large(received_max)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > received_max:
            raise _too_large(received_max)
        for piece in _pieces(unpack, chunk):
            if len(content) + len(piece) > BODY_BYTES_MAX:
                raise _too_large(BODY_BYTES_MAX)
            room.take(len(piece), owner)
            content += piece
    if unpack is not None and not unpack.ended:
        raise _broken("the body ends before its encoding does")


def _pieces(unpack: _Unpacking | None, chunk: bytes) -> Iterator[bytes]:
    if unpack is None:
        yield chunk
        return
    try:
        yield from unpack.pieces(chunk)
    except (zlib.error, zstd.ZstdError, EOFError):
        raise _broken("the body is not what its Content-Encoding says") from None


class _Unpacking(Protocol):
    """What is packed comes in by chunks, and goes out by pieces of at most `PIECE_BYTES`."""

    @property
    def ended(self) -> bool: ...

    def pieces(self, chunk: bytes) -> Iterator[bytes]: ...


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members = 1

    @property
    def ended(self) -> bool:
        return self._member.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:  # what a full piece leaves inside comes with the next bytes: a trailer follows
            if self._member.eof:
                self._members = _one_more(self._members)
                self._member = zlib.decompressobj(wbits=31)
            yield self._member.decompress(chunk, PIECE_BYTES)
            member = self._member
            chunk = member.unused_data if member.eof else member.unconsumed_tail


class _Zstd:
    def __init__(self) -> None:
        self._frame = _frame()
        self._frames = 1

    @property
    def ended(self) -> bool:
        return self._frame.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        more = bool(chunk)
        while more:
            if self._frame.eof:
                self._frames = _one_more(self._frames)
                self._frame = _frame()
            yield self._frame.decompress(chunk, PIECE_BYTES)
            if self._frame.eof:
                chunk = self._frame.unused_data
                more = bool(chunk)
            else:
                chunk = b""
                more = not self._frame.needs_input


def _frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX}
    )


def _one_more(count: int) -> int:
    if count >= MEMBERS_MAX:
        raise _broken(f"the body consists of over {MEMBERS_MAX} parts")
    return count + 1


def _unpacking(request: Request) -> _Unpacking | None:
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip"):
        return _Gzip()
    if encoding == "zstd":
        return _Zstd()
    refusal = ProblemError("unsupported-media-type", "Content-Encoding is one of gzip and zstd")
    refusal.headers = {"Accept-Encoding": ", ".join(ENCODINGS)}
    raise refusal


def _too_large(bytes_max: int) -> ProblemError:
    return ProblemError("body-too-large", f"the body is over {bytes_max} bytes")


def _broken(message: str) -> ProblemError:
    errors = [{"location": "body", "message": message}]
    return ProblemError("invalid-request", message, errors=errors)
