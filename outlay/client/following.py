"""Following: a stream of events that goes on where it broke off. Pure: it is told what happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import msgspec

from outlay.client.calls import Answer, Ask, Call
from outlay.client.errors import ApiError, NoAnswer, Problem, UnreadableAnswer
from outlay.client.events import EventParser, ServerEvent
from outlay.client.retries import Retries, is_worth_another, refusal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subscription(Generic[T]):
    """What is followed: what to ask, how to read an event (None: one that nobody knows), and where
    to go on, empty for the beginning."""

    ask: Ask[None]
    read: Callable[[ServerEvent], T | None] = field(repr=False)
    last_event_id: str = ""


class Following(Generic[T]):
    """One stream, over all its connections."""

    def __init__(
        self, call: Call[None], read: Callable[[ServerEvent], T | None], last_event_id: str
    ) -> None:
        self._call = call
        self._read = read
        self._parser = EventParser(last_event_id)
        self._failures = 0
        self._has_told = False  # this connection, an event

    def begin(self) -> Call[None]:
        """The request of the next connection."""
        self._parser.begin()
        self._has_told = False
        last_id = self._parser.last_event_id
        if not last_id:
            return self._call
        headers = {**self._call.ask.headers, "last-event-id": last_id.encode()}
        return replace(self._call, ask=replace(self._call.ask, headers=headers))

    def feed(self, chunk: bytes) -> list[T]:
        """What the next bytes tell.

        Raises:
            UnreadableAnswer: they are no such events.
        """
        try:
            told = [self._read(event) for event in self._parser.feed(chunk)]
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            text = f"the stream is not one of the API: {error}"
            raise UnreadableAnswer(text, status=200, **self._call.names()) from None
        known = [each for each in told if each is not None]
        self._has_told = self._has_told or bool(known)
        return known

    def refused(self, answer: Answer) -> ApiError:
        """The error that an answer is which is no stream."""
        if answer.status != 200:
            return refusal(self._call, answer)
        text = "the answer is no stream of events"
        return UnreadableAnswer(text, status=200, **self._call.names(answer))

    def ended(self) -> NoAnswer:
        """The error that the end of a stream is: it has none of its own accord."""
        return NoAnswer("the stream has ended", may_have_arrived=True, **self._call.names())

    def pause_after(self, error: ApiError, retries: Retries) -> float:
        """How long to wait until the next connection, in seconds.

        Raises:
            ApiError: that error, where another try is not worth it, or there were too many.
        """
        self._failures = 0 if self._has_told else self._failures + 1
        pause_s = retries.pause_after(max(self._failures, 1), error)
        if (
            self._failures >= retries.stream_attempts_max
            or not is_worth_another(error)
            or pause_s is None
        ):
            raise error
        if isinstance(error, Problem) or self._parser.retry_s is None:
            return pause_s
        return max(self._parser.retry_s, pause_s)
