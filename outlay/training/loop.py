"""Loop: a training that stops when its budget, or its team's, has no room for the next step."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from outlay.errors import BudgetExceededError
from outlay.money import Money, to_usd
from outlay.training.account import Account, checked_ids, checked_usage
from outlay.training.enforcer import BudgetEnforcer
from outlay.training.exact import nearest_nano, plain
from outlay.training.ledger import NO_USAGE, Usage
from outlay.training.lines import BudgetStatus, logger
from outlay.training.ports import Emitter, Gateway
from outlay.training.report import EndedBy, TrainingReport, as_fields, ended_by


class TrainingBudget:
    """Takes the steps of a training, as long as their cost fits; in any thread or event loop.

    Entered with `with` or `async with`; however the block is left, what was spent is reported: in
    `report`, to `on_end`, and as the event `training_ended` in the log of `outlay.training`. Where
    a framework has no block to enter, call `end` at the end. No method waits.

    With an emitter each step is reported to the stream, as one execution, and counts in the
    budgets of its organization, team, user and agent. The stream keeps nine decimals: what
    rounding leaves of one step goes with the next, so that the sum there is the rounded sum. What
    an emitter refuses is counted and logged, and goes with the next record that it takes. With a
    gateway those budgets are asked before each step, too. Give it the same emitter: then it
    counts at once what this training has spent.

    Args:
        enforcer: the training's own budget. Several trainings may share one.
        emitter: who takes the steps' usage, if anyone.
        gateway: who is asked before each step, if anyone.
        organization_id: whose the usage is; needed with an emitter or a gateway.
        agent_id: what spends; needed with an emitter.
        team_id: the team that it counts in, if any.
        user_id: the user that it counts in, if any.
        on_end: called once with the report at the end. A plain function; what it raises is
            logged, and does not hide what ended the training.

    Raises:
        ValueError: an id that is missing or cannot be, no enforcer, `on_end` is a coroutine.
    """

    def __init__(
        self,
        enforcer: BudgetEnforcer,
        *,
        emitter: Emitter | None = None,
        gateway: Gateway | None = None,
        organization_id: str | None = None,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        on_end: Callable[[TrainingReport], object] | None = None,
    ) -> None:
        if not isinstance(enforcer, BudgetEnforcer):
            raise ValueError(f"enforcer must be a BudgetEnforcer, not {enforcer!r}")
        if on_end is not None and (not callable(on_end) or inspect.iscoroutinefunction(on_end)):
            raise ValueError("on_end must be a plain function")
        self._enforcer = enforcer
        ids = checked_ids(
            organization_id,
            agent_id,
            team_id,
            user_id,
            for_gateway=gateway is not None,
            for_emitter=emitter is not None,
        )
        self._account = Account(ids, emitter, gateway)
        self._on_end = on_end
        self._lock = threading.RLock()  # a log handler may ask for the report
        self._refused_last = False
        self._entered = False
        self._ended: TrainingReport | None = None

    def step(
        self,
        cost_usd: Money,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> BudgetStatus:
        """Take a step if its cost fits; exactly the limit fits. The status after it.

        Call it before the step is made. `metadata` is for the history, with an emitter.

        Raises:
            BudgetExceededError: it does not fit this budget, or the gateway blocks it (`result`
                has its answer). Nothing was added or emitted.
            ValueError: an amount or a metadata that cannot be.
            RuntimeError: the training has ended.
        """
        usage = checked_usage(cost_usd, input_tokens, output_tokens, metadata)
        with self._lock:  # all of it: of two threads the second sees what the first has taken
            self._check_running()
            self._ask(usage, executions=1)
            fits, status = self._enforcer.try_add_cost(usage.cost_usd)
            if not fits:
                raise self._refusal(usage)
            self._count(usage, metadata)
            return status

    def record(
        self,
        cost_usd: Money,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> BudgetStatus:
        """Add a step that was made already, whose cost is known now. The status after it.

        It is added and emitted in any case: it was spent.

        Raises:
            BudgetExceededError: more was spent now than this budget, or one that the gateway
                knows, allows. Exactly the limit is not more.
            ValueError, RuntimeError: as for `step`; nothing was added.
        """
        usage = checked_usage(cost_usd, input_tokens, output_tokens, metadata)
        with self._lock:
            self._check_running()
            status = self._enforcer.add_cost(usage.cost_usd)
            self._count(usage, metadata)
            if status is BudgetStatus.EXCEEDED:
                raise self._refusal(NO_USAGE)
            self._ask(NO_USAGE, executions=0)
            return status

    @property
    def report(self) -> TrainingReport:
        """What was spent so far; after the end, what was spent in all."""
        with self._lock:
            return self._ended or self._report("running")

    def end(self, error: BaseException | None = None) -> TrainingReport:
        """End the training, by an error or without; leaving the block does this.

        A second call does nothing and returns the same report.

        Raises:
            ValueError: what is given is no error; the training goes on.
        """
        if error is not None and not isinstance(error, BaseException):
            raise ValueError(f"error must be what ended the training, not {error!r}")
        with self._lock:
            if self._ended is not None:
                return self._ended
            self._account.settle()
            report = self._ended = self._report(ended_by(error, self._refused_last))
        self._log_end(report)
        if self._on_end is not None:
            try:
                self._on_end(report)
            except Exception:
                logger.exception("on_end of a training failed")
        return report

    def __enter__(self) -> Self:
        with self._lock:
            self._check_running()
            if self._entered:
                raise RuntimeError("the training has begun already: each has a budget of its own")
            self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(error)

    # -- a step, with the lock held

    def _check_running(self) -> None:
        if self._ended is not None:
            raise RuntimeError("the training has ended")

    def _ask(self, usage: Usage, executions: int) -> None:
        answer = self._account.ask(usage, executions)
        if answer is not None and not answer.allowed:
            self._refused_last = True
            raise BudgetExceededError(f"training stopped: {answer.reason}", answer)

    def _count(self, usage: Usage, metadata: Mapping[str, Any] | None) -> None:
        self._refused_last = False
        self._account.count(usage, metadata)

    def _refusal(self, usage: Usage) -> BudgetExceededError:
        self._refused_last = True
        figures = self._enforcer.get_figures()
        asked = f" + {_usd(usage.cost_usd)} asked" if usage.cost_usd else ""
        return BudgetExceededError(
            f"training budget exceeded: {_usd(figures.current_cost_usd)} used{asked} "
            f"> {_usd(figures.max_budget_usd)} limit"
        )

    # -- the report

    def _report(self, ended: EndedBy) -> TrainingReport:
        figures = self._enforcer.get_figures()
        return TrainingReport(
            steps=self._account.ledger.steps,
            cost_usd=self._account.ledger.cost_usd,
            total_cost_usd=figures.current_cost_usd,
            max_budget_usd=figures.max_budget_usd,
            remaining_usd=figures.remaining_usd,
            status=figures.status,
            ended_by=ended,
            steps_not_emitted=self._account.not_emitted,
            cost_not_emitted_usd=self._account.ledger.owed_usd,
        )

    def _log_end(self, report: TrainingReport) -> None:
        quiet = report.ended_by == "completed" and not report.cost_not_emitted_usd
        logger.log(
            logging.INFO if quiet else logging.WARNING,
            "training ended (%s): $%s in %d steps, $%s left",
            report.ended_by,
            plain(report.cost_usd),
            report.steps,
            plain(report.remaining_usd),
            extra={"event": "training_ended", **self._account.ids, **as_fields(report)},
        )


def _usd(amount: Decimal) -> str:
    """For sentences: two to nine decimals, since a step's cost is often below a cent."""
    return f"${to_usd(nearest_nano(amount))}"
