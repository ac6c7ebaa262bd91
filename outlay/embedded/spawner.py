"""One thread that starts every child process of this process.

Linux ends a child "with its parent" when the *thread* that started it ends, not the process. A
child started in a short-lived thread (`asyncio.to_thread`, a thread pool, a test's helper) would be
killed when that thread ends. So all are started by one daemon thread, which ends with the process.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")
_Task = tuple[Future[Any], Callable[[], Any]]

_lock = threading.Lock()
_thread: threading.Thread | None = None
_tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()


def in_spawner_thread(call: Callable[[], _T]) -> _T:
    """Run `call` in the long-lived thread and return what it returns, or raise what it raises."""
    future: Future[_T] = Future()
    _ensure_thread().put((future, call))
    return future.result()


def _ensure_thread() -> queue.SimpleQueue[_Task]:
    """The queue of a live thread; a new pair after a fork, where threads do not live on."""
    global _thread, _tasks
    with _lock:
        if _thread is None or not _thread.is_alive():
            _tasks = queue.SimpleQueue()
            _thread = threading.Thread(
                target=_serve, args=(_tasks,), name="outlay-spawner", daemon=True
            )
            _thread.start()
        return _tasks


def _serve(tasks: queue.SimpleQueue[_Task]) -> None:
    while True:
        future, call = tasks.get()
        try:
            future.set_result(call())
        except BaseException as error:  # the caller is waiting for it
            future.set_exception(error)
