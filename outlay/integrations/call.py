"""Call: what a call that is served has used, said while it runs and recorded at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from outlay.errors import ReservationClosed
from outlay.guarding import Actual
from outlay.integrations.fallbacks import Ending, Fallbacks, logger
from outlay.money import Money, to_nano, to_usd
from outlay.reservation import Reservation
from outlay.standing import CheckResult
from outlay.usage import UsageRecord


class BudgetCall:
    """A call that the budgets have let through, and what is said of it until it ends.

    Say what it has used with `settle`, once, or with `spent`, in parts as it goes on. That is
    recorded when the call ends, well or not: only then is it known whether it succeeded. Until
    then the estimate is held. May be used from any thread.

    Attributes:
        result: the answer of the check; `degraded` where the call should be made cheaper.
    """

    def __init__(self, reservation: Reservation) -> None:
        self.result: CheckResult = reservation.result
        self._reservation = reservation
        self._lock = threading.Lock()
        self._used: dict[str, Any] | None = None
        self._closed = ""  # by what, where nothing more can be said

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
    ) -> None:
        """Say all that the call has used, USD, tokens and executions (by default those asked).

        A call that fails afterwards is recorded with `success=False` all the same.

        Raises:
            ReservationClosed: it was settled or released, has ended, or is said in parts.
            ValueError: an amount that cannot be; nothing is said then.
        """
        used = checked_usage(
            cost_usd,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            executions=1 if executions is None else executions,
            provider=provider,
            model=model,
            metadata=metadata,
        )
        if executions is not None:
            used["executions"] = executions
        with self._lock:
            self._refuse_closed()
            if self._used is not None:
                raise ReservationClosed("the call is said in parts: go on with `spent`")
            self._used = used | {"success": success}
            self._closed = "settled"

    def spent(
        self,
        cost_usd: Money,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        provider: str | None = None,
        model: str | None = None,
    ) -> None:
        """Say what a part of the call has used, in USD and tokens; the parts add up.

        They are one record in the end. Its provider and model are those of the parts, where all
        parts have the same.

        Raises:
            ReservationClosed: the call was settled or released, or has ended.
            ValueError: an amount, or a sum, that cannot be; the part is not added.
        """
        part = checked_usage(
            cost_usd,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            provider=provider,
            model=model,
        )
        with self._lock:
            self._refuse_closed()
            self._used = part if self._used is None else _sum(self._used, part)

    def release(self) -> None:
        """Give the estimate back: nothing was run, or what was is reported by somebody else.

        Nothing is recorded then, however the call ends.

        Raises:
            ReservationClosed: something was said, or it has ended.
        """
        with self._lock:
            self._refuse_closed()
            if self._used is not None:
                raise ReservationClosed("the call has spent: that is to be recorded")
            self._closed = "released"
            self._reservation.release()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ReservationClosed(f"the call was {self._closed} before")

    # -- what an integration does at the end

    def end(self, ending: Ending, tell: Callable[[], Actual | None], fallbacks: Fallbacks) -> None:
        """Record the call, once, and hold it no more.

        Args:
            tell: asked for what it has used where nothing was said; None when that is not known.
            fallbacks: what counts where nobody has said it.
        """
        try:
            if not self._closed and self._used is None and ending != "not run":
                self._ask(tell)
            with self._lock:
                closed, self._closed = self._closed, self._closed or "ended"
                used = self._used
            if closed == "released" or (used is None and ending == "not run"):
                return
            used = fallbacks.used(ending) if used is None else used
            success = ending == "completed" and used.get("success", True)
            if not self._reservation.settle(**used | {"success": success}):
                fallbacks.log.warning("the emitter, full or closed, did not take what a call used")
        finally:
            self._reservation.release()  # does nothing where it is settled

    def _ask(self, tell: Callable[[], Actual | None]) -> None:
        """What is told counts as said. What cannot be is logged: the call itself is over."""
        try:
            told = tell()
            if isinstance(told, Mapping):
                self.settle(**told)
            elif told is not None:
                self.settle(told)
        except Exception:
            logger.exception("what a call has used could not be told")


def checked_usage(
    cost_usd: Money,
    *,
    input_tokens: int = 0,
    output_tokens: int = 0,
    executions: int = 1,
    provider: str | None = None,
    model: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What was said, as it is now and as a record takes it.

    Raises:
        ValueError: no record takes it.
    """
    try:
        record = UsageRecord.new(
            organization_id="any",
            agent_id="any",
            cost_usd=cost_usd,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            executions=executions,
            provider=provider,
            model=model,
            metadata=metadata,
        )
    except TypeError as error:
        raise ValueError(str(error)) from None
    used = {
        "cost_usd": record.cost_usd,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "provider": provider,
        "model": model,
    }
    return used | {"metadata": msgspec.json.decode(record.metadata)} if metadata else used


def _sum(used: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Two parts as one; what names they do not share it has not."""
    provider, model = (
        used[name] if used[name] == part[name] else None for name in ("provider", "model")
    )
    return checked_usage(
        to_usd(to_nano(used["cost_usd"]) + to_nano(part["cost_usd"])),
        input_tokens=used["input_tokens"] + part["input_tokens"],
        output_tokens=used["output_tokens"] + part["output_tokens"],
        provider=provider,
        model=model,
    )
