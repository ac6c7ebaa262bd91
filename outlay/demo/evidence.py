"""What the demo has found out, what it concludes from it, and the report. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from outlay.budget import STATES, State
from outlay.decision import Decision
from outlay.demo.alarms import Alarms
from outlay.demo.ledger import Sum
from outlay.demo.probe import Latency
from outlay.emitter import EmitterStats
from outlay.gateway import GatewayStats
from outlay.money import to_usd
from outlay.scope import Scope
from outlay.window import Window

REPORTED = ("organization", "team", "agent")
"""The kinds of scope that the history is asked for."""


class Check(NamedTuple):
    """One question that the demo asks about itself, and the answer."""

    name: str
    ok: bool
    said: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found: what was sent by the demo's own books, and what others say.

    All by scope key: `sent` of every scope, `counted` of those with a budget, `history` of the
    organization, its teams and its agents.
    """

    broker: str
    organization_key: str
    emitter: EmitterStats
    gateway: GatewayStats
    sent: Mapping[str, Sum]
    counted: Mapping[str, Sum]
    history: Mapping[str, Sum]
    states_seen: Collection[State]
    latency: Latency
    alarms: Alarms

    def checks(self) -> list[Check]:
        """All of the demo's questions about itself."""
        return [
            _check_delivery(self.emitter, self.sent.get(self.organization_key, Sum())),
            _check_equal("counted by the stream", self._sent_with_budget, self.counted),
            _check_equal("in the history", self._sent_in_reports, self.history),
            _check_states(self.states_seen),
            Check(
                "the gateway blocked calls",
                self.gateway.blocked > 0,
                f"{self.gateway.blocked:,} of {self.gateway.checks:,}",
            ),
            Check("each threshold arrived once, signed", self.alarms.ok, self.alarms.said),
        ]

    @property
    def _sent_with_budget(self) -> dict[str, Sum]:
        return {key: self.sent.get(key, Sum()) for key in self.counted}

    @property
    def _sent_in_reports(self) -> dict[str, Sum]:
        return {key: total for key, total in self.sent.items() if Scope.parse(key).kind in REPORTED}

    def report(self) -> dict[str, Any]:
        """The report, ready for JSON; amounts are decimal strings, times in milliseconds."""
        sent, counted, history = (
            sums.get(self.organization_key, Sum())
            for sums in (self.sent, self.counted, self.history)
        )
        return {
            "broker": self.broker,
            "records_sent": sent.records,
            "records_counted": counted.records,
            "cost_usd_sent": to_usd(sent.cost_nano),
            "cost_usd_counted": to_usd(counted.cost_nano),
            "history_rows": history.records,
            "history_cost_usd": to_usd(history.cost_nano),
            "states_seen": [state for state in STATES if state in self.states_seen],
            "calls_checked": self.gateway.checks,
            "calls_blocked": self.gateway.blocked,
            "alerts": self.alarms.report(),
            "decision_latency_ms": {"p50": self.latency.p50_ms, "p99": self.latency.p99_ms},
            "ok": all(check.ok for check in self.checks()),
        }


def counted_in(decision: Decision, months: Collection[str]) -> Sum:
    """What a decision has counted in some months; each record of the demo is one execution."""
    total = Sum()
    for name, usage in decision.windows.items():
        if Window(name).kind == "month" and name in months:
            total += Sum(usage.executions, usage.amounts.cost_nano)
    return total


def _check_delivery(stats: EmitterStats, sent: Sum) -> Check:
    lost = stats.failed + stats.dropped + stats.invalid + stats.buffered
    ok = not lost and stats.sent == stats.emitted == sent.records > 0
    return Check(
        "every record was delivered",
        ok,
        f"{stats.sent:,} of {stats.emitted:,}; failed {stats.failed}, dropped {stats.dropped}, "
        f"invalid {stats.invalid}, left {stats.buffered}",
    )


def _check_equal(where: str, sent: Mapping[str, Sum], found: Mapping[str, Sum]) -> Check:
    """Whether both name the same scopes with the same sums; the first difference is told."""
    name = f"sent = {where}"
    for key in sorted({*sent, *found}):
        mine, theirs = sent.get(key), found.get(key)
        if mine != theirs:
            return Check(name, False, f"{key}: sent {_said(mine)}, {where} {_said(theirs)}")
    if not sent:
        return Check(name, False, "there is nothing to compare")
    return Check(name, True, f"exactly, in {len(sent)} scopes")


def _said(total: Sum | None) -> str:
    if total is None:
        return "nothing"
    return f"{total.records:,} records, {to_usd(total.cost_nano)} USD"


def _check_states(seen: Collection[State]) -> Check:
    missing = [state for state in STATES if state not in seen]
    said = "all four" if not missing else f"not {', '.join(missing)}"
    return Check("every state was seen", not missing, said)
