"""Alert configurations: the owner of a scope tells those who deliver, and those who detect.

Whoever delivers alerts reads whole configurations from their own topic, secrets and all. The other
totals partitions are told what detection needs of an organization's, which is not secret. Both are
told before the decision that carries the version, and all of it again after a take-over.
"""

from __future__ import annotations

from collections.abc import Iterator

from outlay.alert_config import AlertConfigRecord, encode_config_record
from outlay.detection import detection_of
from outlay.topics import TopicNames
from schemas.messages import AlertDefaults, PartialsMessage
from streams import messages
from streams.alert_defaults import organization_scope
from streams.budgets import NO_BUDGET, Budgets, BudgetState
from streams.flush import Message, Outgoing

DEFAULTS_PER_MESSAGE_MAX = 100
"""How many organizations' defaults one message tells: each has four kilobytes at most."""


class AlertConfigs:
    """Which configurations of one totals partition are to be told."""

    def __init__(
        self, partition: int, budgets: Budgets, topics: TopicNames, partitions: int
    ) -> None:
        self._partition = partition
        self._budgets = budgets
        self._topics = topics
        self._partitions = partitions
        self._changed: set[str] = set()
        self._told: dict[str, int] = {}
        self._has_begun = False

    def changed(self, scope: str) -> None:
        """A request for a scope was decided, maybe once more."""
        self._changed.add(scope)

    def publish(self) -> Iterator[Outgoing]:
        """What is to be written now; it counts as published."""
        if not self._has_begun:  # what a crash cut off is published again
            self._has_begun = True
            states = self._budgets.states.items()
            self._changed.update(scope for scope, state in states if state.alerts_version)
        records: list[Message] = []
        defaults: dict[str, AlertDefaults] = {}
        for scope in self._changed:
            state = self._budgets.states.get(scope)  # a deleted one may be forgotten by now
            if state is not None and self._told.get(scope, 0) == state.alerts_version:
                continue
            self._keep(scope, state)
            records.append(_record(scope, state or NO_BUDGET))
            if state is not None and organization_scope(scope) == scope:
                defaults[scope] = _defaults(state)
        self._changed.clear()
        if records:
            yield Outgoing(self._topics.alert_configs, self._partition, records)
        yield from self._tell(defaults)

    def _keep(self, scope: str, state: BudgetState | None) -> None:
        if state is None:
            self._told.pop(scope, None)
        else:
            self._told[scope] = state.alerts_version

    def _tell(self, defaults: dict[str, AlertDefaults]) -> Iterator[Outgoing]:
        """The same to all totals partitions, this one among them, on the way of the partials."""
        items = list(defaults.items())
        for start in range(0, len(items), DEFAULTS_PER_MESSAGE_MAX):
            part = dict(items[start : start + DEFAULTS_PER_MESSAGE_MAX])
            value = messages.encode(PartialsMessage(0, 0, None, alert_defaults=part))
            for partition in range(self._partitions):
                yield Outgoing(self._topics.partials, partition, [(None, value)])


def _record(scope: str, state: BudgetState) -> Message:
    if state.alerts is None:
        return scope.encode(), None
    record = AlertConfigRecord(scope, state.alerts_version, state.alerts)
    return scope.encode(), encode_config_record(record)


def _defaults(state: BudgetState) -> AlertDefaults:
    detection = None if state.alerts is None else detection_of(state.alerts)
    return AlertDefaults(state.alerts_version, state.day, detection)
