"""Calls: what one request of the API asks for, and how its answer is read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import msgspec

from outlay.apikey import without_keys

PATIENCE_S = 30.0
"""How long the pauses of one call's retries may take together, in seconds."""

REQUEST_ID_HEADER = "x-request-id"

REQUEST_ID_LENGTH_MAX = 200
"""The longest id of a request that is taken from an answer, in characters."""

JSON = "application/json"

T = TypeVar("T")


class Answer(NamedTuple):
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def reading(kind: type[T]) -> Callable[[Answer], T]:
    """Reads JSON into a type; members that the type does not know are passed over."""
    decode = msgspec.json.Decoder(kind).decode

    def read(answer: Answer) -> T:
        return decode(answer.content)

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Generic[T]):
    """What a request carries beside its method and path.

    Attributes:
        read: makes of an answer what is returned; it raises `ValueError` where it cannot.
        path: what stands in the placeholders of the path, percent-encoded.
        query: the parameters; those of None are left out.
        headers: further headers; those of None are left out. A value of bytes goes as it is.
        content: the body.
        media_type: of the body.
        read_kinds: the problems that are answers here, and are read, too.
        patience_s: how long the pauses of its retries may take together, in seconds.
    """

    read: Callable[[Answer], T]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    headers: Mapping[str, str | bytes | None] = field(default_factory=dict)
    content: bytes | None = None
    media_type: str = JSON
    read_kinds: frozenset[str] = frozenset()
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, ready to be sent, and again; `target` is the path with the query, encoded."""

    method: str
    target: str
    request_id: str
    ask: Ask[T] = field(repr=False)

    @property
    def headers(self) -> dict[str, str | bytes]:
        """Those of this request alone."""
        given = {name: value for name, value in self.ask.headers.items() if value is not None}
        body = {} if self.ask.content is None else {"content-type": self.ask.media_type}
        return {REQUEST_ID_HEADER: self.request_id, **body, **given}

    def names(self, answer: Answer | None = None) -> dict[str, str]:
        """What an error says of the request: an answer may have given it another id."""
        told = "" if answer is None else answer.headers.get(REQUEST_ID_HEADER, "")
        if not told.isprintable() or len(told) > REQUEST_ID_LENGTH_MAX:
            told = ""
        return {
            "method": self.method,
            "path": without_keys(self.target.partition("?")[0]),
            "request_id": told or self.request_id,
        }


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items of a list; `next_cursor` asks for those behind them, None: there are none."""

    items: tuple[T, ...]
    next_cursor: str | None = None


def reading_page(kind: type[T], cursor: str | None) -> Callable[[Answer], Page[T]]:
    """Reads a page that was asked for with a cursor.

    One that names the same cursor again is not as it should be: it would be read for ever.
    """
    decode = msgspec.json.Decoder(Page[kind]).decode  # type: ignore[valid-type]  # at run time

    def read(answer: Answer) -> Page[T]:
        page: Page[T] = decode(answer.content)
        if page.next_cursor is not None and page.next_cursor == cursor:
            raise ValueError("the cursor of the next page is that of this one")
        return page

    return read
