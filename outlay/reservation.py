"""Reservation: what a call may cost is held until what it did cost is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from outlay.asking import Ids
from outlay.errors import ReservationClosed
from outlay.holds import Hold, Holds
from outlay.money import Money
from outlay.standing import CheckResult
from outlay.usage import UsageRecord
from outlay.watching import SpendWatcher

ReservationState = Literal["open", "settled", "released", "expired"]


class Emits(Protocol):
    """What a gateway needs of an emitter: `UsageEmitter`, or the one of `outlay.testing`."""

    def emit(self, record: UsageRecord | None = None, /) -> bool: ...

    def watch(self, watcher: SpendWatcher, /) -> None: ...

    def unwatch(self, watcher: SpendWatcher, /) -> None: ...


class Reservation:
    """Room in the budgets of a call, from its check on: settled, released or expired, once.

    Made by `BudgetGateway.reserve`. It counts as spent until `settle` says what the call has
    really used, `release` gives it back, or its time is over. A `with` (or `async with`) block
    releases at its end what is not settled by then.

    Attributes:
        result: the answer of the check; `degraded` where the call should be made cheaper.
    """

    def __init__(
        self,
        result: CheckResult,
        hold: Hold,
        holds: Holds,
        emitter: Emits | None,
        clock: Callable[[], float],
        ids: Ids,
        executions: int,
    ) -> None:
        self.result = result
        self._hold = hold
        self._holds = holds
        self._emitter = emitter
        self._clock = clock
        self._ids = ids
        self._executions = executions
        self._closed: Literal["settled", "released"] | None = None

    @property
    def state(self) -> ReservationState:
        """What has become of it."""
        if self._closed is not None:
            return self._closed
        self._holds.expire()
        return "open" if self._hold.is_open else "expired"

    def settle(
        self,
        cost_usd: Money,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        executions: int | None = None,
        success: bool = True,
        provider: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Say what the call has used, in place of what was reserved for it.

        It is emitted through the gateway's emitter, and counts from now on as all that is. With a
        gateway that has none only the reservation ends, and to report the usage is the caller's.
        What has expired can still be settled: the money is spent.

        Returns:
            Whether the emitter has taken it; True without one.

        Raises:
            ReservationClosed: it was settled or released before.
            ValueError: an amount that cannot be; the reservation goes on.
        """
        organization_id, team_id, user_id, agent_id = self._ids
        try:
            record = UsageRecord.new(
                organization_id=organization_id,
                agent_id=agent_id or "unnamed",  # without one nothing is emitted
                team_id=team_id,
                user_id=user_id,
                cost_usd=cost_usd,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                executions=self._executions if executions is None else executions,
                success=success,
                provider=provider,
                model=model,
                occurred_at=datetime.fromtimestamp(self._clock(), UTC),
                metadata=metadata,
            )
        except TypeError as error:
            raise ValueError(str(error)) from None
        with self._holds.lock:
            if self._closed is not None:
                raise ReservationClosed(f"the reservation was {self._closed} before")
            self._closed = "settled"
        try:  # in this order: for a moment both count, but never neither
            return self._emitter is None or self._emitter.emit(record)
        finally:
            self._holds.let_go(self._hold)

    def release(self) -> bool:
        """Give it back: the call was not made, or has cost nothing.

        Returns:
            Whether it was still open.
        """
        with self._holds.lock:
            if self._closed is not None or not self._holds.let_go(self._hold):
                return False
            self._closed = "released"
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
