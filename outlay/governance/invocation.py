"""Invocation: one run of an agent, recorded exactly once with what it tells of its cost."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from outlay.errors import OutlayError
from outlay.money import Money
from outlay.reservation import Reservation

Actual = Callable[[Any], Money | Mapping[str, Any]]
"""Given what an invoker returned: its cost in USD, or a mapping with `actual_cost` and the like."""

COST = "actual_cost"
DETAILS = ("input_tokens", "output_tokens", "provider", "model")
"""What may be told beside the cost."""

logger = logging.getLogger("outlay.governance")


class Invocation:
    """Runs what a reservation was made for, and settles it with what the run has used.

    Args:
        reservation: what is held for it.
        actual: says what a result has cost; by default it says so itself.
    """

    def __init__(self, reservation: Reservation, actual: Actual | None) -> None:
        self._reservation = reservation
        self._actual = actual
        self._lock = threading.Lock()
        self._running = self._abandoned = False

    def run(self, invoker: Callable[[str, Any], Any], agent_id: str, request_data: Any) -> Any:
        """Call a function and settle; an awaitable that it returns is still to be run."""
        with self._lock:
            if self._abandoned:
                return None
            self._running = True
        try:
            result = invoker(agent_id, request_data)
        except BaseException as error:
            self._fail(error)
            raise
        if not isinstance(result, Awaitable):
            self._succeed(result)
            return result
        with self._lock:
            self._running = False
            if self._abandoned:
                self._reservation.release()
                if inspect.iscoroutine(result):
                    result.close()
        return result

    def abandon(self) -> None:
        """Nobody waits any more: what has not begun does not begin."""
        with self._lock:
            self._abandoned = True
            if not self._running:
                self._reservation.release()

    async def arun(self, running: Awaitable[Any]) -> Any:
        """Wait for a result and settle."""
        try:
            result = await running
        except BaseException as error:
            self._fail(error)
            raise
        self._succeed(result)
        return result

    def _succeed(self, result: Any) -> None:
        """Settle with what the result tells.

        Raises:
            OutlayError: it tells no cost, or what cannot be; it is recorded without that.
        """
        try:
            problem = self._settle(self._told(result), success=True)
        except Exception as error:  # of `actual`, which the caller gave
            problem = error
            self._settle({}, success=True)
        if problem is not None:
            raise OutlayError(
                f"the call was made, but what it tells of its cost cannot be recorded: {problem}"
            ) from problem

    def _told(self, result: Any) -> Mapping[str, Any]:
        if self._actual is None:
            return _read(result)
        actual = self._actual(result)
        return actual if isinstance(actual, Mapping) else {COST: actual}

    def _fail(self, error: BaseException) -> None:
        """Settle a run that has failed; without a cost that its error tells it cost nothing."""
        try:
            told = _read(error)
        except Exception:  # of an attribute: the caller is to see the error itself
            told = {}
        self._settle({COST: 0} | told, success=False)

    def _settle(self, told: Mapping[str, Any], *, success: bool) -> Exception | None:
        """Settle with as much of what is told as can be; why it is not all, or None."""
        cost = told.get(COST)
        details = {name: told[name] for name in DETAILS if told.get(name) is not None}
        problem: Exception | None = None
        if cost is None:
            problem = ValueError(f"it has no {COST}")
        else:
            for known in (details, {}):
                try:
                    taken = self._reservation.settle(cost, success=success, **known)
                except ValueError as error:
                    problem = problem or error
                else:
                    _warn_unless(taken)
                    return problem
        _warn_unless(self._reservation.settle(0, success=success, metadata={"cost": "unknown"}))
        return problem


def _warn_unless(taken: bool) -> None:
    if not taken:
        logger.warning(
            "what a call has used is not recorded: the emitter's buffer is full, or it is closed"
        )


def _read(source: Any) -> dict[str, Any]:
    """What is told by the keys of a mapping, or by attributes; nothing that is None."""
    names = (COST, *DETAILS)
    if isinstance(source, Mapping):
        told = {name: source.get(name) for name in names}
    else:
        told = {name: getattr(source, name, None) for name in names}
    return {name: value for name, value in told.items() if value is not None}
