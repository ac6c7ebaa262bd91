"""The wire: what both clients have in common on httpx2, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from outlay.client.addresses import base_address
from outlay.client.calls import Answer, Call
from outlay.client.errors import AnswerTimedOut, NoAnswer, UnreadableAnswer

CONNECT_TIMEOUT_S = 5.0
"""How long a connection may take to be made, in seconds."""

TIMEOUT_S = 30.0
"""How long an answer may take, from the request to its last byte, in seconds."""

STREAM_SILENCE_S_MAX = 45.0
"""How long a stream may be silent, in seconds; the API says something every 15."""

ANSWER_BYTES_MAX = 67_108_864
"""The largest answer that is read, in bytes: a report of 100,000 rows has under half of that."""

USER_AGENT = "outlay-client"

_NEVER_LEFT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
_KEY_ADVICE = (
    "a key has visible ASCII characters alone: is there a space or a line break at an end?"
)


class Wire:
    """Writes requests, names what goes wrong, and collects answers within their bounds.

    Raises:
        ValueError: an address or a key that cannot be, or a timeout that is no time.
    """

    def __init__(
        self, url: str, key: str | None, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        if not timeout_s > 0:
            raise ValueError("a timeout is above 0")
        if key is not None and (not key or any(not "!" <= c <= "~" for c in key)):
            raise ValueError(_KEY_ADVICE)
        self.address = base_address(url)
        try:
            httpx2.URL(self.address)
        except httpx2.InvalidURL:
            raise ValueError("the address of the API is no URL") from None
        self._timeout_s = timeout_s
        self._clock = clock
        self._key = {} if key is None else {"authorization": f"Bearer {key}"}

    def request(self, call: Call[Any], *, stream: bool = False) -> httpx2.Request:
        """The request of a call."""
        silence_s = STREAM_SILENCE_S_MAX if stream else self._timeout_s
        connect_s = min(CONNECT_TIMEOUT_S, self._timeout_s)
        timeout = httpx2.Timeout(
            connect=connect_s, read=silence_s, write=self._timeout_s, pool=self._timeout_s
        )
        headers = {
            "accept": "text/event-stream" if stream else "*/*",
            "accept-encoding": "identity",  # so that what is counted is what comes in
            "user-agent": USER_AGENT,
            **self._key,
            **call.headers,
        }
        return httpx2.Request(
            call.method,
            self.address + call.target,
            headers=[(name.encode(), _bytes(value)) for name, value in headers.items()],
            content=call.ask.content,
            extensions={"timeout": timeout.as_dict()},
        )

    @contextmanager
    def naming(self, call: Call[Any]) -> Iterator[None]:
        """Have the errors of httpx2 inside the block be those of this client."""
        try:
            yield
        except (httpx2.TransportError, httpx2.StreamError) as error:
            timed_out = isinstance(error, httpx2.TimeoutException)
            kind = AnswerTimedOut if timed_out else NoAnswer
            # By its kind: what its text holds is not known.
            text = f"no answer from {self.address}: {type(error).__name__}"
            arrived = not isinstance(error, _NEVER_LEFT)
            raise kind(text, may_have_arrived=arrived, **call.names()) from error

    def deadline_s(self) -> float:
        """Until when an answer to what is sent now may take."""
        return self._clock() + self._timeout_s

    def body(self, call: Call[Any], response: httpx2.Response, deadline_s: float) -> Body:
        """Collects the body of an answer."""
        return Body(call, response, deadline_s, self._clock)


class Body:
    """The body of one answer, as it comes in.

    Raises:
        UnreadableAnswer: it is too large, or packed although nobody asked for that.
        AnswerTimedOut: it comes too slowly.
    """

    def __init__(
        self,
        call: Call[Any],
        response: httpx2.Response,
        deadline_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._call = call
        self._head = Answer(response.status_code, _headers(response), b"")
        self._deadline_s = deadline_s
        self._clock = clock
        self._content = bytearray()
        encoding = self._head.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise self._unreadable("it is packed, which was not asked for")
        declared = self._head.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > ANSWER_BYTES_MAX:
            raise self._too_large()

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if len(self._content) + len(chunk) > ANSWER_BYTES_MAX:
            raise self._too_large()
        if self._clock() > self._deadline_s:
            text = "the answer came too slowly"
            raise AnswerTimedOut(text, may_have_arrived=True, **self._call.names(self._head))
        self._content += chunk

    @property
    def answer(self) -> Answer:
        """The answer, when all of it is there."""
        return self._head._replace(content=bytes(self._content))

    def _too_large(self) -> UnreadableAnswer:
        return self._unreadable(f"it is over {ANSWER_BYTES_MAX} bytes")

    def _unreadable(self, why: str) -> UnreadableAnswer:
        text = f"the answer of status {self._head.status} is not read: {why}"
        return UnreadableAnswer(text, status=self._head.status, **self._call.names(self._head))


def is_event_stream(response: httpx2.Response) -> bool:
    """Whether an answer is a stream of events, to be read while it comes."""
    media_type: str = response.headers.get("content-type", "")
    packed = response.headers.get("content-encoding", "identity") != "identity"
    is_events = media_type.partition(";")[0].strip().lower() == "text/event-stream"
    return response.status_code == 200 and is_events and not packed


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
