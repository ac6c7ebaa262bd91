"""The probe: how long it takes from `emit` to a decision that contains the record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import uuid_utils

from outlay.decision import Decision
from outlay.demo.driver import Deployment
from outlay.demo.plan import PROBE_AGENT_ID
from outlay.emitter import Delivered
from outlay.scope import Scope

PROBE_INTERVAL_S = 0.13
"""Not a divisor of the stream's own intervals, so that all of their phases are met."""

PROBE_COST_USD = "0.000001"
SAMPLES_MAX = 10_000


class Latency(NamedTuple):
    """Of some samples, in milliseconds: the median, and what 99 in 100 stay within."""

    p50_ms: float | None
    p99_ms: float | None


class Probe:
    """An agent with a budget of its own that reports a tiny cost now and then.

    Its `delivered` is to be called for each delivered message, and its `decided` for each change
    of a decision. A sample ends when the decision of the probe's own scope has counted up to the
    offset at which its record was delivered.
    """

    def __init__(
        self,
        deployment: Deployment,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deployment = deployment
        self._scope_key = Scope(deployment.organization_id, agent_id=PROBE_AGENT_ID).key
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: dict[str, float] = {}
        self._placed: dict[str, tuple[int, int]] = {}
        self._reached: dict[int, int] = {}
        self._samples_s: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outlay-probe", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Report no more; samples under way still end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(PROBE_INTERVAL_S * 10)

    def _run(self) -> None:
        while not self._stopping.wait(PROBE_INTERVAL_S):
            self.report()

    def report(self) -> None:
        """Ask and emit one record, as every agent does, and begin a sample."""
        organization_id = self._deployment.organization_id
        verdict = self._deployment.gateway.check(
            organization_id=organization_id,
            agent_id=PROBE_AGENT_ID,
            estimated_cost_usd=PROBE_COST_USD,
        )
        if not verdict.allowed:  # the whole organization is over its budget
            return
        record_id = str(uuid_utils.uuid7())
        with self._lock:
            self._waiting[record_id] = self._monotonic()
        self._deployment.emitter.emit(
            id=record_id,
            organization_id=organization_id,
            agent_id=PROBE_AGENT_ID,
            cost_usd=PROBE_COST_USD,
        )

    def delivered(self, details: Delivered) -> None:
        """An `on_delivered` of the emitter."""
        with self._lock:
            for record in details.records:
                # An offset of -1: the broker does not tell where it is.
                if record.id in self._waiting and details.offset >= 0:
                    self._placed[record.id] = (details.partition, details.offset)
            self._end_samples()

    def decided(self, scope_key: str, decision: Decision | None) -> None:
        """A listener of the decisions feed."""
        if scope_key != self._scope_key or decision is None:
            return
        with self._lock:
            for usage in decision.windows.values():
                self._reach(usage.offsets)
            self._end_samples()

    def _reach(self, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            self._reached[partition] = max(self._reached.get(partition, -1), offset)

    def _end_samples(self) -> None:
        now_s = self._monotonic()
        for record_id, (partition, offset) in list(self._placed.items()):
            if offset <= self._reached.get(partition, -1):
                del self._placed[record_id]
                began_s = self._waiting.pop(record_id)
                if len(self._samples_s) < SAMPLES_MAX:
                    self._samples_s.append(now_s - began_s)

    @property
    def latency(self) -> Latency:
        """Of all samples that have ended."""
        with self._lock:
            samples_s = sorted(self._samples_s)
        return Latency(_percentile_ms(samples_s, 50), _percentile_ms(samples_s, 99))


def _percentile_ms(sorted_s: list[float], percent: int) -> float | None:
    """The nearest rank; None without samples."""
    if not sorted_s:
        return None
    rank = -(-len(sorted_s) * percent // 100)
    return round(sorted_s[rank - 1] * 1000, 1)
