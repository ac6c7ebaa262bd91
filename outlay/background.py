"""One daemon thread with an event loop of its own, shared by all emitters and feeds of a process.

Kafka's client lives on one loop, while users call from threads and from loops that come and go.
The thread starts when the first user acquires it and ends when the last one has released it.

A forked child (gunicorn with preload, Celery) has no such thread: users that it makes get a thread
of its own, and those that it inherits find theirs gone. Their calls do nothing, at once: what they
hold is the parent's, and so are the sockets of the loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

STOP_TIMEOUT_S = 5.0
"""How long tasks that are left over may take to end, and then how long the thread may."""

_T = TypeVar("_T")


class BackgroundEnded(TimeoutError):
    """The background thread has ended while its answer was waited for: its users have closed."""

    def __init__(self) -> None:
        super().__init__("the background thread has ended: it was closed meanwhile")


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that still finds hosts while the interpreter exits."""

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().getaddrinfo(*args, **kwargs)
        except RuntimeError:
            # Executors take no more work by then, and the last records still have to get out.
            return socket.getaddrinfo(*args, **kwargs)


class Background:
    """The thread and its loop; get it with `acquire`, and give it back with `release`."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = _Loop()
        self._users = 0
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._body, name="outlay-background", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine on the loop, from any thread; returns at once."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        """What the coroutine returns; for synchronous code.

        Raises:
            TimeoutError: it took over `timeout_s` seconds and was cancelled; or it would take for
                ever, as the thread is that of a parent process, or has ended meanwhile.
            RuntimeError: called on the background thread itself, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a callback must not wait: use the async form")
        self._check_here(coroutine)
        future = self._submitted(coroutine, timeout_s)
        try:
            return future.result(timeout_s + STOP_TIMEOUT_S)
        except CancelledError:
            raise BackgroundEnded from None

    async def arun(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        """The same for code in any event loop."""
        self._check_here(coroutine)
        future = self._submitted(coroutine, timeout_s)
        try:
            async with asyncio.timeout(timeout_s + STOP_TIMEOUT_S):
                return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise BackgroundEnded from None  # nobody has cancelled the one who waits

    def _submitted(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> Future[_T]:
        bounded = _bounded(coroutine, timeout_s)
        try:
            return self.submit(bounded)
        except RuntimeError:  # the loop is closed
            bounded.close()
            coroutine.close()
            raise BackgroundEnded from None

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called on the loop, from any thread; returns at once."""
        if self._gone:
            return  # to wake the loop would wake the parent's
        self.loop.call_soon_threadsafe(function)

    @property
    def _gone(self) -> bool:
        """Whether this is a forked child: the thread is its parent's."""
        return os.getpid() != self._pid

    def _check_here(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        if self._gone:
            coroutine.close()
            raise TimeoutError("this was made before a fork and works in the parent process only")

    def release(self) -> None:
        """Give it back; the last user's call ends the thread, within `STOP_TIMEOUT_S`."""
        global _shared
        if self._gone:
            return
        with _lock:
            self._users -= 1
            if self._users > 0:
                return
            if _shared is self:
                _shared = None
        self.call(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * STOP_TIMEOUT_S)

    async def arelease(self) -> None:
        """The same for code in an event loop, which goes on meanwhile."""
        await asyncio.to_thread(self.release)

    def _body(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=STOP_TIMEOUT_S))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


async def _bounded(coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
    async with asyncio.timeout(timeout_s):
        return await coroutine


_lock = threading.Lock()
_shared: Background | None = None


def acquire() -> Background:
    """The process's background thread, started if need be; each user releases it once."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = Background()
        _shared._users += 1
        return _shared


def _forget() -> None:
    """In a forked child: only the thread that forked is here, and the lock may be held for ever."""
    global _lock, _shared
    _lock = threading.Lock()
    _shared = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end, whatever it ends with."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # seen, so that the loop does not report it
