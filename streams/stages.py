"""The two stages, as ownership sees them: what they read, what they keep, who writes for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from outlay.topics import TopicNames, partition_of
from streams.decisions import AT_ONCE_MAX
from streams.owned import State
from streams.partials import Partials
from streams.saving import SAVE_INTERVAL_MS
from streams.totals_state import TotalsState
from streams.writer import Writer

SCOPES_CACHE_MAX = 16_384
"""How many scopes' totals partitions are kept ready; murmur2 in Python costs microseconds."""

NewWriter = Callable[[str, int], Writer]
"""Makes the writer of a stage's partition."""


@dataclass(frozen=True, slots=True)
class Changelogs:
    """The names of the tables' changelog topics."""

    app_id: str

    @property
    def partials(self) -> str:
        return f"{self.app_id}-partials-changelog"

    @property
    def totals(self) -> str:
        return f"{self.app_id}-totals-changelog"

    @property
    def budgets(self) -> str:
        return f"{self.app_id}-budgets-changelog"

    @property
    def alerts(self) -> str:
        return f"{self.app_id}-alerts-changelog"


@lru_cache(maxsize=16)
def totals_partition_of(totals_partitions: int) -> Callable[[str], int]:
    """The function from a scope's key to its totals partition, one for all who ask."""

    @lru_cache(maxsize=SCOPES_CACHE_MAX)
    def totals_partition(scope: str) -> int:
        return partition_of(scope.encode(), totals_partitions)

    return totals_partition


class PartialsStage:
    """Stage 1: usage and wants in, partials out; owned by partition of the usage topic."""

    name = "partials"
    comes_in_bursts = False

    def __init__(
        self,
        topics: TopicNames,
        changelogs: Changelogs,
        totals_partitions: int,
        new_writer: NewWriter,
        save_interval_ms: int = SAVE_INTERVAL_MS,
    ) -> None:
        self._save_interval_ms = save_interval_ms
        self.sources: tuple[str, ...] = (topics.usage, topics.wants)
        self.changelogs: tuple[str, ...] = (changelogs.partials,)
        self._topics = topics
        self._totals_partitions = totals_partitions
        self._new_writer = new_writer

    def new_state(self, partition: int) -> State:
        return Partials(
            partition,
            topics=self._topics,
            changelog=self.changelogs[0],
            totals_partitions=self._totals_partitions,
            save_interval_ms=self._save_interval_ms,
        )

    def new_writer(self, partition: int) -> Writer:
        return self._new_writer(self.name, partition)


class TotalsStage:
    """Stage 2: partials, budget requests in, decisions, alerts, wants out; owned by scopes."""

    name = "totals"
    comes_in_bursts = True

    def __init__(
        self,
        topics: TopicNames,
        changelogs: Changelogs,
        totals_partitions: int,
        usage_partitions: int,
        refresh_ms: int,
        new_writer: NewWriter,
        at_once_max: int = AT_ONCE_MAX,
        save_interval_ms: int = SAVE_INTERVAL_MS,
    ) -> None:
        self._save_interval_ms = save_interval_ms
        self.sources: tuple[str, ...] = (topics.partials, topics.budgets)
        self.changelogs: tuple[str, ...] = (
            changelogs.totals,
            changelogs.budgets,
            changelogs.alerts,
        )
        self._topics = topics
        self._totals_partitions = totals_partitions
        self._usage_partitions = usage_partitions
        self._totals_partition = totals_partition_of(totals_partitions)
        self._refresh_ms = refresh_ms
        self._at_once_max = at_once_max
        self._new_writer = new_writer

    def new_state(self, partition: int) -> State:
        return TotalsState(
            partition,
            topics=self._topics,
            totals_changelog=self.changelogs[0],
            budgets_changelog=self.changelogs[1],
            alerts_changelog=self.changelogs[2],
            partition_of=self._totals_partition,
            partitions=self._totals_partitions,
            usage_partitions=self._usage_partitions,
            refresh_ms=self._refresh_ms,
            at_once_max=self._at_once_max,
            save_interval_ms=self._save_interval_ms,
        )

    def new_writer(self, partition: int) -> Writer:
        return self._new_writer(self.name, partition)
