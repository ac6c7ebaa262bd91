"""The totals stage: one partition of totals, budgets, decisions and alerts, in one state.

It reads the partials and the budget requests of its partition; what it writes goes in one flush.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from outlay.topics import TopicNames
from outlay.window import DAY_RETENTION_DAYS
from schemas.messages import AuditRecord
from streams import messages
from streams.alert_configs import AlertConfigs
from streams.audit import audit_message
from streams.batch import Batch, SourceRecord, unseen
from streams.budgets import Budgets, RequestError, showable
from streams.counts import Count
from streams.crossings import Crossings
from streams.dead_letters import DeadLetters
from streams.decisions import AT_ONCE_MAX, Decisions
from streams.flush import Flush, Outgoing, Unit, apart, cut
from streams.saving import SAVE_INTERVAL_MS, Saves
from streams.totals import Totals

DIRTY_MAX = 500_000
"""How many entries may wait for a save before the stage stops reading, counted anew each time that
they are told."""

AUDITS_MAX = 10_000
"""How many audit records may wait for a flush before the stage stops reading."""


class TotalsState:
    """The state of one partition of the totals stage.

    Its life: `load` for each batch of a changelog, `begin`, then `apply` and `flush` in turn.
    """

    def __init__(
        self,
        partition: int,
        *,
        topics: TopicNames,
        totals_changelog: str,
        budgets_changelog: str,
        alerts_changelog: str,
        partition_of: Callable[[str], int],
        partitions: int,
        usage_partitions: int,
        refresh_ms: int,
        at_once_max: int = AT_ONCE_MAX,
        save_interval_ms: int = SAVE_INTERVAL_MS,
    ) -> None:
        self.partition = partition
        self.totals = Totals()
        self.budgets = Budgets(partition, partition_of)
        self.decisions = Decisions(
            self.totals, self.budgets, refresh_ms=refresh_ms, at_once_max=at_once_max
        )
        self.crossings = Crossings(self.totals, self.budgets)
        self._configs = AlertConfigs(partition, self.budgets, topics, partitions)
        self.positions: dict[str, int] = {}
        """The next offset to apply, by source topic."""
        self._counts: Counter[Count] = Counter()
        self._topics = topics
        self._usage_partitions = usage_partitions
        self._changelogs: dict[str, Totals | Budgets | Crossings] = {
            totals_changelog: self.totals,
            budgets_changelog: self.budgets,
            alerts_changelog: self.crossings,
        }
        self._committed: dict[str, int] = {}
        self._saves = Saves(partition, save_interval_ms)
        self._owes_commit = False
        self._hold: dict[str, int] = {}
        self._rejected = DeadLetters(partition)
        self._audits: list[AuditRecord] = []

    # -- recovery

    def load(self, changelog: str, records: Sequence[SourceRecord]) -> None:
        """Take over records of a changelog, in their order."""
        self._changelogs[changelog].load(records)

    def begin(self, positions: dict[str, int], ends: dict[str, int]) -> None:
        """Start to apply at the committed offsets; publish only from `ends` on."""
        self.positions = dict(positions)
        self._committed = dict(positions)
        self._hold = ends
        self.totals.begin()
        self.budgets.begin(self.totals.wants_taken(self._usage_partitions))
        for scope in self.budgets.awaited:
            for answer in self.budgets.states[scope].recent:  # none may be published yet
                self.decisions.answered(scope, answer)

    @property
    def reaches(self) -> dict[int, int]:
        """The highest offset that this state has counted, by usage partition."""
        return self.totals.reaches

    @property
    def decided(self) -> dict[str, int]:
        """The highest offset that this state has decided, by source topic."""
        return {self._topics.budgets: self.budgets.reaches}

    @property
    def holds(self) -> bool:
        """Whether what was there at the take-over has not all been read yet."""
        return any(self.positions[topic] < end for topic, end in self._hold.items())

    # -- reading

    def apply(self, batch: Batch) -> Batch | None:
        """Take over a batch of partials or of budget requests, always the whole of it.

        Raises:
            GapError: messages before it are missing.
        """
        position = self.positions[batch.topic]
        take = self._partials if batch.topic == self._topics.partials else self._request
        records = unseen(batch, position)
        self._counts["messages"] += len(records)
        for record in records:
            take(record)
        self.positions[batch.topic] = max(position, batch.end)
        return None

    def _partials(self, record: SourceRecord) -> None:
        try:
            message = messages.decode_partials(record.value)
        except messages.MessageError as error:
            self._reject(self._topics.partials, record, record.value, str(error))
            return
        windows = self.totals.merge(message)
        states = self.budgets.states
        concerned = set(filter(states.__contains__, message.entries.scopes)) if states else set()
        if windows and concerned:
            self.decisions.moved(concerned)
            if message.asked:  # as where a budget was made: its past windows are not looked at
                self.crossings.changed(concerned)
            else:
                for window in windows:
                    self.crossings.moved(window, concerned)
        if self.budgets.awaited:
            self._arrive()
        if message.alert_defaults:
            newer = self.crossings.defaults.take(message.alert_defaults)
            self.crossings.told_defaults(newer)

    def _arrive(self) -> None:
        """Those budgets are in force from now on whose totals have arrived from everywhere."""
        taken = self.totals.wants_taken(self._usage_partitions)
        arrived = self.budgets.awaited.take_arrived(taken)
        self.decisions.moved(arrived)
        self.crossings.changed(arrived)

    def _request(self, record: SourceRecord) -> None:
        try:
            decided = self.budgets.decide(record.value, record.offset, record.timestamp)
        except RequestError as error:
            self._reject(self._topics.budgets, record, showable(record.value), str(error))
            return
        if decided.scope in self.budgets.states:  # else it belongs to another partition
            self.decisions.moved({decided.scope})
        self.crossings.changed({decided.scope})
        self._configs.changed(decided.scope)
        if decided.answer is not None:
            self.decisions.answered(decided.scope, decided.answer)
        if decided.audit is not None:
            self._audits.append(decided.audit)

    def _reject(self, topic: str, record: SourceRecord, shown: bytes | None, reason: str) -> None:
        self._counts["rejected"] += 1
        self._rejected.reject(topic, record, reason, shown)

    # -- writing

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a flush that reading should pause."""
        return (
            self.totals.unsaved >= DIRTY_MAX
            or self._rejected.is_full
            or len(self._audits) >= AUDITS_MAX
        )

    def take_counts(self) -> Mapping[Count, int]:
        """What was seen since the last time; a replay counts again."""
        counts, self._counts = self._counts, Counter()
        counts["late"], self.totals.late = self.totals.late, 0
        return counts

    def flush(self, now_ms: int, *, last: bool = False) -> Flush | None:
        """What is to be written now, taken over as written; None when there is nothing to say.

        What was decided goes out each time; the totals' changelog and the offsets can wait for the
        next save, or for the `last` flush.

        The input is committed only up to what the published decisions contain and alerts tell of:
        while a decision waits for its refresh, a window to be looked at, or everything for the end
        of the take-over, nothing is.
        """
        configs = [] if self.holds else list(self._configs.publish())
        outputs = [] if self.holds else self._publications(now_ms)
        outputs += self._audit() + self._wants()
        waits = self.holds or self.decisions.waiting or self.crossings.waiting
        saves = last or self.is_full or self._is_save_due(now_ms, waits=waits)
        changelog = list(self._changes(saves))
        letters = self._rejected.to(self._topics.rejected)
        settled = saves and not waits and self.positions != self._committed
        if not (configs or outputs or changelog or letters or settled):
            return None
        self._rejected.clear()
        if saves:
            self._saves.done(now_ms)
            self._owes_commit = waits
        offsets = {}
        if settled:
            self._committed = dict(self.positions)
            offsets = {(topic, self.partition): at for topic, at in self.positions.items()}
        plan = cut(_units([*outputs, *letters], changelog), offsets)
        if not configs:
            return plan
        # By themselves: within a transaction no topic waits for another, and whoever reads of a
        # version in a decision is to find the configuration.
        told = cut((Unit(outputs=[part]) for each in configs for part in apart(each)), {})
        return Flush([*told.transactions, *plan.transactions])

    def _is_save_due(self, now_ms: int, *, waits: bool) -> bool:
        """Whether to save now; while something waits, rather in the flush that commits, too."""
        if waits:
            return self._saves.are_overdue(now_ms)
        return self._owes_commit or self._saves.are_due(now_ms)

    def _publications(self, now_ms: int) -> list[Outgoing]:
        published = {
            self._topics.decisions: list(self.decisions.publish(now_ms)),
            self._topics.alerts: list(self.crossings.detect(now_ms)),
        }
        return [Outgoing(topic, self.partition, told) for topic, told in published.items() if told]

    def _audit(self) -> list[Outgoing]:
        """The records of what was decided since the last flush, also after a take-over.

        They step back behind nothing, and the changelog of this flush says that their requests
        were decided: no replay would publish them later.
        """
        records = [audit_message(record) for record in self._audits]
        self._audits.clear()
        return [Outgoing(self._topics.audit, self.partition, records)] if records else []

    def _wants(self) -> list[Outgoing]:
        """What the budgets that were decided since the last flush want; see `_audit`."""
        awaited = self.budgets.awaited
        return awaited.take_wants(self._topics.wants, self.partition, self._usage_partitions)

    def _changes(self, saves: bool) -> Iterable[Outgoing]:
        if saves and self.totals.floor.rose:
            before_day = self.totals.floor.day - DAY_RETENTION_DAYS
            self.budgets.forget(before_day)
            # A day earlier: a version of a budget made after a forgotten one is to be the newer.
            self.crossings.forget(before_day + 1)
        for changelog, table in self._changelogs.items():
            if isinstance(table, Totals):
                for message in table.take_changes() if saves else ():
                    yield Outgoing(changelog, self.partition, [message])
            elif changes := list(table.take_changes()):
                yield Outgoing(changelog, self.partition, changes)


def _units(outputs: list[Outgoing], changelog: list[Outgoing]) -> Iterable[Unit]:
    """All outputs first: what the changelog shows has been published."""
    for output in outputs:
        for part in apart(output):
            yield Unit(outputs=[part])
    for each in changelog:
        for part in apart(each):
            yield Unit(changelog=[part])
