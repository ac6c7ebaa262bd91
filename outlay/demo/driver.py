"""Driving the fleet: threads of agents that ask before each call and report after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from outlay.demo.workload import PlannedCall, Workload
from outlay.emitter import UsageEmitter
from outlay.gateway import BudgetGateway
from outlay.money import to_decimal

DRIVER_THREADS = 4
JOIN_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """What every agent has at hand."""

    organization_id: str
    gateway: BudgetGateway
    emitter: UsageEmitter


class Driver:
    """Runs a workload in real time, each agent in one of `DRIVER_THREADS` threads.

    An agent knows what its prompt costs, asks for that, and learns the whole cost from the answer:
    so a budget can be passed by the calls that were under way, as in life.
    """

    def __init__(self, deployment: Deployment, workload: Workload) -> None:
        self._deployment = deployment
        self._stopping = threading.Event()
        self._started_s = 0.0
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(
                target=self._drive,
                args=(workload.calls(part, DRIVER_THREADS),),
                name=f"outlay-fleet-{part}",
                daemon=True,
            )
            for part in range(DRIVER_THREADS)
        ]

    def start(self) -> None:
        """Begin."""
        self._started_s = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        """Whether some agents still have calls to make."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """End it, if it has not ended by itself; raises what ended an agent's thread, if any."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(JOIN_TIMEOUT_S)
        if self._errors:
            raise self._errors[0]

    def _drive(self, calls: Iterator[PlannedCall]) -> None:
        try:
            for call in calls:
                wait_s = self._started_s + call.due_s - time.monotonic()
                if self._stopping.wait(wait_s) if wait_s > 0 else self._stopping.is_set():
                    return
                self._attempt(call)
        except BaseException as error:  # told by `stop`
            self._errors.append(error)

    def _attempt(self, call: PlannedCall) -> None:
        who, organization_id = call.who, self._deployment.organization_id
        verdict = self._deployment.gateway.check(
            organization_id=organization_id,
            team_id=who.team_id,
            user_id=who.user_id,
            agent_id=who.agent_id,
            estimated_cost_usd=to_decimal(call.prompt_nano),
        )
        if not verdict.allowed:
            return
        self._deployment.emitter.emit(
            organization_id=organization_id,
            team_id=who.team_id,
            user_id=who.user_id,
            agent_id=who.agent_id,
            provider="demo",
            model=call.model,
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            cost_usd=to_decimal(call.cost_nano),
            occurred_at=call.occurred_at or datetime.now(UTC),
        )
