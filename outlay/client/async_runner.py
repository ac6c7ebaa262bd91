"""The runner of `AsyncClient`: does what a conversation asks for, and awaits it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import httpx2

from outlay.client.calls import Answer, Call, Page
from outlay.client.errors import ApiError
from outlay.client.following import Following, Subscription
from outlay.client.retries import Retries, conversation
from outlay.client.wire import Wire, is_event_stream

T = TypeVar("T")


class AsyncRunner:
    """Runs calls on an `httpx2.AsyncClient`, in one event loop."""

    def __init__(
        self,
        wire: Wire,
        retries: Retries,
        transport: httpx2.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[object]],
        clock: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._retries = retries
        self._sleep = sleep
        self._clock = clock
        self._http = httpx2.AsyncClient(transport=transport, follow_redirects=False)

    async def run(self, call: Call[T]) -> T:
        """What a call returns."""
        steps = conversation(call, self._retries, self._clock)
        step = next(steps)
        try:
            while True:
                if isinstance(step, float):
                    await self._sleep(step)
                    step = steps.send(None)
                else:
                    step = steps.send(await self._outcome(step))
        except StopIteration as ended:
            returned: T = ended.value
            return returned

    async def pages(
        self, call_for: Callable[[str | None], Call[Page[T]]]
    ) -> AsyncGenerator[T, None]:
        """The items of all pages."""
        page = await self.run(call_for(None))
        for item in page.items:
            yield item
        while (cursor := page.next_cursor) is not None:
            page = await self.run(call_for(cursor))
            for item in page.items:
                yield item

    async def follow(self, call: Call[None], what: Subscription[T]) -> AsyncGenerator[T, None]:
        """The events of a stream, over all its connections."""
        following = Following(call, what.read, what.last_event_id)
        while True:
            try:
                async with aclosing(self._connection(following)) as events:
                    async for event in events:
                        yield event
                error: ApiError = following.ended()
            except ApiError as failure:
                error = failure
            await self._sleep(following.pause_after(error, self._retries))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _connection(self, following: Following[T]) -> AsyncGenerator[T, None]:
        call, deadline_s = following.begin(), self._wire.deadline_s()
        with self._wire.naming(call):
            response = await self._http.send(self._wire.request(call, stream=True), stream=True)
            try:
                if not is_event_stream(response):
                    raise following.refused(await self._read(call, response, deadline_s))
                async for chunk in response.aiter_bytes():
                    for event in following.feed(chunk):
                        yield event
            finally:
                await response.aclose()

    async def _outcome(self, call: Call[Any]) -> Answer | ApiError:
        deadline_s = self._wire.deadline_s()
        try:
            with self._wire.naming(call):
                response = await self._http.send(self._wire.request(call), stream=True)
                try:
                    return await self._read(call, response, deadline_s)
                finally:
                    await response.aclose()
        except ApiError as error:
            return error

    async def _read(self, call: Call[Any], response: httpx2.Response, deadline_s: float) -> Answer:
        body = self._wire.body(call, response, deadline_s)
        async for chunk in response.aiter_bytes():
            body.add(chunk)
        return body.answer
