"""The runner of `Client`: does what a conversation asks for, and waits for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import httpx2

from outlay.client.calls import Answer, Call, Page
from outlay.client.errors import ApiError
from outlay.client.following import Following, Subscription
from outlay.client.retries import Retries, conversation
from outlay.client.wire import Wire, is_event_stream

T = TypeVar("T")


class SyncRunner:
    """Runs calls on an `httpx2.Client`; safe to use from several threads."""

    def __init__(
        self,
        wire: Wire,
        retries: Retries,
        transport: httpx2.BaseTransport | None,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._retries = retries
        self._sleep = sleep
        self._clock = clock
        self._http = httpx2.Client(transport=transport, follow_redirects=False)

    def run(self, call: Call[T]) -> T:
        """What a call returns."""
        steps = conversation(call, self._retries, self._clock)
        step = next(steps)
        try:
            while True:
                if isinstance(step, float):
                    self._sleep(step)
                    step = steps.send(None)
                else:
                    step = steps.send(self._outcome(step))
        except StopIteration as ended:
            returned: T = ended.value
            return returned

    def pages(self, call_for: Callable[[str | None], Call[Page[T]]]) -> Iterator[T]:
        """The items of all pages."""
        page = self.run(call_for(None))
        yield from page.items
        while (cursor := page.next_cursor) is not None:
            page = self.run(call_for(cursor))
            yield from page.items

    def follow(self, call: Call[None], what: Subscription[T]) -> Generator[T, None, None]:
        """The events of a stream, over all its connections."""
        following = Following(call, what.read, what.last_event_id)
        while True:
            try:
                yield from self._connection(following)
                error: ApiError = following.ended()
            except ApiError as failure:
                error = failure
            self._sleep(following.pause_after(error, self._retries))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _connection(self, following: Following[T]) -> Generator[T, None, None]:
        call, deadline_s = following.begin(), self._wire.deadline_s()
        with self._wire.naming(call):
            response = self._http.send(self._wire.request(call, stream=True), stream=True)
            try:
                if not is_event_stream(response):
                    raise following.refused(self._read(call, response, deadline_s))
                for chunk in response.iter_bytes():
                    yield from following.feed(chunk)
            finally:
                response.close()

    def _outcome(self, call: Call[Any]) -> Answer | ApiError:
        deadline_s = self._wire.deadline_s()
        try:
            with self._wire.naming(call):
                response = self._http.send(self._wire.request(call), stream=True)
                try:
                    return self._read(call, response, deadline_s)
                finally:
                    response.close()
        except ApiError as error:
            return error

    def _read(self, call: Call[Any], response: httpx2.Response, deadline_s: float) -> Answer:
        body = self._wire.body(call, response, deadline_s)
        for chunk in response.iter_bytes():
            body.add(chunk)
        return body.answer
