"""Budget sending: takes budget requests to their topic, over one connection, until they arrive.

Everything here runs on the background loop.
"""

from __future__ import annotations

import asyncio

from outlay.connecting import START_TIMEOUT_S, Pauses
from outlay.decision import BudgetRequest, encode
from outlay.sending import Sender, SenderFactory
from outlay.topics import partition_of


class RequestSending:
    """Sends requests, and connects when there is one to be sent.

    `problem` is what was in the way the last time.
    """

    def __init__(self, sender_factory: SenderFactory) -> None:
        self.problem = "the broker has not answered yet"
        self._sender_factory = sender_factory
        self._sender: Sender | None = None
        self.begin()

    def begin(self) -> None:
        """Be used on another loop than before."""
        self._connecting = asyncio.Lock()

    async def send(self, request: BudgetRequest) -> None:
        """Send it until it has arrived: a request id is carried out once, however often it does."""
        key, pauses = request.scope.encode(), Pauses()
        while True:
            try:
                sender = await self._connected()
                partition = partition_of(key, sender.partitions)
                await (await sender.send(partition, key, encode(request)))
            except Exception as error:
                self.problem = repr(error)
                await self.stop()
                await pauses.pause()
            else:
                return

    async def _connected(self) -> Sender:
        async with self._connecting:
            if self._sender is None:
                sender = self._sender_factory()
                try:
                    async with asyncio.timeout(START_TIMEOUT_S):
                        await sender.start()
                except BaseException:
                    await sender.stop()
                    raise
                self._sender = sender
            return self._sender

    async def stop(self) -> None:
        """End the connection; the next request makes another."""
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.stop()
