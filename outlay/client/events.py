"""Server-sent events: bytes in, events out, however the bytes were cut. Pure.

As the HTML standard has it (section 9.2.6): lines end with CR, LF or both; a field may come several
times, and lines of `data` are put together; what starts with a colon is a comment; an event that is
not ended by an empty line is none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

EVENT_BYTES_MAX = 1_048_576
"""The largest event, in bytes as it comes in."""

RETRY_MS_MAX = 60_000
"""Up to what a stream's own `retry` is gone by, in milliseconds."""

_END = re.compile(rb"\r\n|\n|\r")
_is_retry = re.compile(rb"[0-9]{1,12}").fullmatch
_BOM = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """One event; `id` is the last that was said up to it, empty where none was."""

    name: str
    data: str
    id: str


class EventParser:
    """Reads one stream.

    Attributes:
        last_event_id: what to come back with.
        retry_s: what the stream says to wait before that, in seconds; None where it does not.

    Raises:
        ValueError: an event is over `EVENT_BYTES_MAX`.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_s: float | None = None
        self._data: list[bytes] = []
        self._size = 0  # of the block that is read
        self.begin()

    def begin(self) -> None:
        """A new connection: what the last one left unfinished is forgotten."""
        self._rest = bytearray()
        self._searched = 0
        self._is_first = True
        self._skips_newline = False
        self._forget_block(self.last_event_id)

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are whole with these bytes."""
        if self._skips_newline and chunk:  # a CR ended the last chunk: its LF ends nothing more
            chunk = chunk.removeprefix(b"\n")
            self._skips_newline = False
        self._rest += chunk
        events = []
        start = 0
        for end in _END.finditer(self._rest, self._searched):
            self._skips_newline = end.end() == len(self._rest) and end[0] == b"\r"
            event = self._line(bytes(self._rest[start : end.start()]))
            start = end.end()
            if event is not None:
                events.append(event)
        del self._rest[:start]
        self._searched = len(self._rest)
        self._bound(len(self._rest))
        return events

    def _line(self, line: bytes) -> ServerEvent | None:
        if self._is_first:
            line, self._is_first = line.removeprefix(_BOM), False
        if not line:
            return self._dispatch()
        self._size += len(line)
        self._bound(0)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and _is_retry(value):
            self.retry_s = min(int(value), RETRY_MS_MAX) / 1000
        return None

    def _dispatch(self) -> ServerEvent | None:
        self.last_event_id = self._id
        data, name = self._data, self._name
        self._forget_block(self._id)
        if not data:
            return None
        text = b"\n".join(data).decode("utf-8", "replace")
        return ServerEvent(name.decode("utf-8", "replace") or "message", text, self.last_event_id)

    def _forget_block(self, last_id: str) -> None:
        self._data = []
        self._name = b""
        self._id = last_id
        self._size = 0

    def _bound(self, more: int) -> None:
        if self._size + more > EVENT_BYTES_MAX:
            raise ValueError(f"an event is over {EVENT_BYTES_MAX} bytes")
