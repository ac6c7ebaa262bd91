"""Streams, and requests that are cut off: nothing is lost and nothing stays held."""

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from decimal import Decimal
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from outlay.integrations.fastapi import BudgetCall
from tests.integrations.serving import Serving, http_scope, warnings_of

CHUNKS = 4


class Client:
    """The server's side of one request; its client leaves when it is told to."""

    def __init__(self, app, spec_version="2.3"):
        self.app = app
        self.spec_version = spec_version
        self.left = asyncio.Event()
        self.sent = []
        self._asked = False

    async def receive(self):
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self.left.is_set():
            raise OSError("the client has left")
        self.sent.append(message)

    async def ask(self, path="/invoke/a1"):
        scope = http_scope(path, spec_version=self.spec_version)
        await self.app(scope, self.receive, self.send)


def streams(serving, before_chunk=None, say=lambda call, n: call.spent("0.1")):
    """A route that streams chunks and says what each has cost."""
    budget = serving.require()

    @serving.app.post("/invoke/{agent_id}")
    async def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]):
        async def chunks():
            for n in range(CHUNKS):
                if before_chunk is not None:
                    await before_chunk(n)
                say(call, n)
                yield f"{n}\n"

        return StreamingResponse(chunks())


def test_what_a_stream_costs_is_said_while_it_runs():
    """The estimate is held until its last chunk, and the record made after it."""
    seen = []
    with Serving() as serving:

        async def look(n):
            seen.append((serving.open, len(serving.records)))

        streams(serving, look)
        answer = serving.post()
        assert answer.text.split() == ["0", "1", "2", "3"]
        assert seen == [(1, 0)] * CHUNKS
        assert serving.spent == [(Decimal("0.4"), True)]


def test_generator_handlers_stream_too():
    """FastAPI's own streams, of items as JSON lines: the same."""
    with Serving() as serving:
        budget = serving.require()

        @serving.app.post("/invoke/{agent_id}")
        async def invoke(
            agent_id: str, call: Annotated[BudgetCall, Depends(budget)]
        ) -> AsyncIterable[int]:
            for n in range(CHUNKS):
                call.spent("0.1")
                yield n

        assert serving.post().text.split() == ["0", "1", "2", "3"]
        assert serving.spent == [(Decimal("0.4"), True)]


def test_a_stream_that_fails_is_recorded_with_what_it_said():
    """As no success."""

    async def fail(n):
        if n == 2:
            raise RuntimeError("the model is down")

    with Serving() as serving:
        streams(serving, fail)
        serving.post()
        assert serving.spent == [(Decimal("0.2"), False)]


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize("says", [True, False])
def test_a_client_that_leaves_a_stream_is_recorded(caplog, spec_version, says):
    """With what was said until then, or as estimated; servers tell of it in two ways."""
    with Serving() as serving:

        async def run():
            client = Client(serving.app, spec_version)

            async def leave(n):
                if n == 2:
                    client.left.set()
                    await asyncio.sleep(0.01)

            say = (lambda call, n: call.spent("0.1")) if says else (lambda call, n: None)
            streams(serving, leave, say)
            with suppress(ClientDisconnect):
                await client.ask()

        asyncio.run(run())
        ((cost, _),) = serving.spent
        assert cost in ((Decimal("0.2"), Decimal("0.3")) if says else (Decimal(1),))
        assert len(warnings_of(caplog)) == (not says)


@pytest.mark.parametrize(("said", "cost"), [(None, "1"), ("0.25", "0.25")])
def test_a_cancelled_call_counts_as_estimated(caplog, said, cost):
    """How far it came is not known: as no success, with a warning; what it said is kept."""
    with Serving() as serving:
        budget = serving.require()

        async def run():
            begun = asyncio.Event()

            @serving.app.post("/invoke/{agent_id}")
            async def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]):
                if said:
                    call.spent(said)
                begun.set()
                await asyncio.sleep(60)

            task = asyncio.create_task(Client(serving.app).ask())
            await begun.wait()
            assert serving.open == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert serving.spent == [(Decimal(cost), False)]
        assert len(warnings_of(caplog)) == (said is None)


def test_a_request_cancelled_before_its_handler_leaves_nothing():
    """While another dependency was still waited for."""
    with Serving() as serving:
        budget = serving.require()

        async def run():
            begun = asyncio.Event()

            async def slow():
                begun.set()
                await asyncio.sleep(60)

            @serving.app.post("/invoke/{agent_id}", dependencies=[Depends(budget), Depends(slow)])
            async def invoke(agent_id: str):
                raise AssertionError("it never comes here")

            task = asyncio.create_task(Client(serving.app).ask())
            await begun.wait()
            assert serving.open == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert serving.records == ()


def test_background_tasks_are_part_of_the_call():
    """They run before it ends, and may say what they cost."""
    with Serving() as serving:
        budget = serving.require()

        @serving.app.post("/invoke/{agent_id}")
        def invoke(
            agent_id: str, tasks: BackgroundTasks, call: Annotated[BudgetCall, Depends(budget)]
        ):
            call.spent("0.1")
            tasks.add_task(call.spent, "0.2")

        serving.post()
        assert serving.spent == [(Decimal("0.3"), True)]


def test_an_estimate_that_has_expired_is_still_settled():
    """A stream that takes longer than its estimate is held: the money is spent."""
    with Serving() as serving:

        async def wait(n):
            serving.stream.clock.advance(seconds=301)

        streams(serving, wait)
        serving.post()
        assert serving.spent == [(Decimal("0.4"), True)]
