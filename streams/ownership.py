"""Ownership: which partitions of the stages this worker owns, from take-over to letting go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from streams import metrics
from streams.batch import Batch
from streams.owned import Owned, OwnershipError, Stage

TAKE_OVER_TIMEOUT_S = 60.0
"""How long fencing may take; beyond 90 s Faust's recovery would end silently."""

RECOVERY_STALL_TIMEOUT_S = 120.0
"""How long recovery may make no progress: Faust's own can end silently, and wait for ever."""

log = structlog.get_logger("outlay.streams")

TopicPartition = tuple[str, int]


class Ownership:
    """All that a worker owns under its present assignment.

    Faust calls it through the transport and the tables; `crash` ends the worker. Without
    `check_ends` the ends of topics are not relied on (Tansu tells where the last batch begins).
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        flush_interval_s: float,
        usage_topic: str,
        check_ends: bool,
        crash: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self._stages = stages
        self._interval_s = flush_interval_s
        self._usage_topic = usage_topic
        self._check_ends = check_ends
        self._crash = crash
        self._failed = False
        self._progress_at = time.monotonic()
        self.owned: dict[TopicPartition, Owned] = {}
        """By (topic, partition), of sources and changelogs alike."""

    # -- take-over

    def check_assignment(self, assigned: Iterable[Any]) -> None:
        """Each stage's topics must come together, partition by partition.

        Raises:
            OwnershipError: they do not, and totals would start again from nothing.
        """
        given = {(tp.topic, tp.partition) for tp in assigned}
        for stage in self._stages:
            topics = (*stage.sources, *stage.changelogs)
            for partition in {p for topic, p in given if topic in topics}:
                missing = [topic for topic in topics if (topic, partition) not in given]
                if missing:
                    raise OwnershipError(
                        f"partition {partition} of {missing} was not assigned with the others: "
                        "do all these topics have as many partitions, and all workers one version?"
                    )

    async def take_over(self, changelogs: Iterable[Any]) -> None:
        """Own these changelogs' partitions, fenced."""
        await self.let_go()
        self._progress_at = time.monotonic()
        assigned = {(tp.topic, tp.partition) for tp in changelogs}
        for stage in self._stages:
            for partition in {p for topic, p in assigned if topic in stage.changelogs}:
                owned = Owned(stage, partition, self._interval_s)
                for topic in (*stage.sources, *stage.changelogs):
                    self.owned[topic, partition] = owned
        async with asyncio.timeout(TAKE_OVER_TIMEOUT_S):
            await asyncio.gather(*(owned.writer.start() for owned in self.all()))
        self._tell_owned()

    def all(self) -> list[Owned]:
        """Each owned partition of a stage, once."""
        return list(dict.fromkeys(self.owned.values()))

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to apply, of each source partition owned."""
        return {
            (topic, owned.partition): position
            for owned in self.all()
            if owned.has_begun
            for topic, position in owned.state.positions.items()
        }

    def expect_starts(self, starts: Mapping[Any, int]) -> None:
        """Where logs begin: from there on each changelog has to be read."""
        for tp, start in starts.items():
            owned = self.owned.get((tp.topic, tp.partition))
            if owned is not None and tp.topic in owned.stage.changelogs:
                owned.loaded.setdefault(tp.topic, start)

    def expect_ends(self, ends: Mapping[Any, int]) -> None:
        """Where changelogs end: up to there they have to be read."""
        for tp, end in ends.items():
            owned = self.owned.get((tp.topic, tp.partition))
            if owned is not None and tp.topic in owned.stage.changelogs:
                owned.ends[tp.topic] = end

    def load(self, batch: Batch) -> None:
        """Take over a batch of a changelog, during recovery."""
        owned = self.owned.get((batch.topic, batch.partition))
        if owned is None or owned.has_begun:
            return  # of an assignment that is over
        self._progress_at = time.monotonic()
        try:
            owned.load(batch)
        except Exception as error:
            # Faust would log this once a record, and wait for ever.
            name = f"{batch.topic}-{batch.partition}"
            reason = OwnershipError(f"{name} cannot be read back: {error!r}")
            asyncio.ensure_future(self.fail(reason))  # noqa: RUF006 - it ends the process
            raise

    async def check_progress(self) -> None:
        """Fail when recovery stands still; to be called now and then."""
        silent_s = time.monotonic() - self._progress_at
        waits = [str(owned) for owned in self.all() if not owned.has_begun]
        if waits and silent_s > RECOVERY_STALL_TIMEOUT_S:
            await self.fail(
                OwnershipError(f"recovery of {waits} stands still for {silent_s:.0f} s")
            )

    def recovered(self, changelog: str) -> None:
        """All partitions of a changelog have been read."""
        for (topic, _), owned in self.owned.items():
            if topic == changelog:
                owned.recovered.add(changelog)

    @property
    def awaits_begin(self) -> bool:
        """Whether all that is owned has been recovered, and has not begun."""
        return bool(self.owned) and all(
            owned.recovered == set(owned.stage.changelogs) and not owned.has_begun
            for owned in self.all()
        )

    async def begin(
        self,
        positions: Mapping[Any, int],
        starts: Mapping[Any, int],
        ends: Mapping[Any, int],
    ) -> None:
        """Start to apply at these offsets, and to flush; the logs of the sources begin at `starts`.

        Raises:
            OwnershipError: a state has counted what the broker does not hold (any more).
        """
        at = {(tp.topic, tp.partition): offset for tp, offset in positions.items()}
        end = {(tp.topic, tp.partition): offset for tp, offset in ends.items()}
        start = {(tp.topic, tp.partition): offset for tp, offset in starts.items()}
        gone = [tp for tp, offset in at.items() if offset < start.get(tp, 0)]
        if gone and self._check_ends:
            raise OwnershipError(
                f"messages of {gone} were deleted before they were counted: to go on without them, "
                "set the group's offsets to the beginning of the log"
            )
        for owned in self.all():
            self._begin(owned, at, end)

    def _begin(
        self, owned: Owned, at: dict[TopicPartition, int], end: dict[TopicPartition, int]
    ) -> None:
        partition, sources = owned.partition, owned.stage.sources
        positions = {topic: at[topic, partition] for topic in sources}
        ends = {topic: end[topic, partition] for topic in sources}
        if self._check_ends:
            owned.check_loaded()
            beyond = [topic for topic in sources if positions[topic] > ends[topic]]
            beyond += [t for t, offset in owned.state.decided.items() if offset >= ends[t]]
            beyond += [
                f"{self._usage_topic}-{p}"
                for p, offset in owned.state.reaches.items()
                if offset >= end.get((self._usage_topic, p), 0) and offset >= 0
            ]
            if beyond:
                raise OwnershipError(
                    f"{owned} has counted beyond the end of {beyond}: was the topic made anew?"
                )
        owned.begin(positions, ends, self.fail)
        log.info("began", partition=str(owned), positions=positions)

    async def apply(self, batch: Batch) -> None:
        """Hand a batch to its partition's state; one of an assignment that is over is dropped."""
        owned = self.owned.get((batch.topic, batch.partition))
        if owned is None or not owned.has_begun:
            return
        try:
            await owned.apply(batch)
        except Exception as error:
            await self.fail(error)
        # Faust's events hold each other in cycles: the megabytes must not wait for the collector.
        batch.records = ()

    # -- the end

    async def let_go(self) -> None:
        """Flush for the last time and forget everything; never raises."""
        owned = self.all()
        self.owned = {}
        await asyncio.gather(*(one.close() for one in owned), return_exceptions=True)
        self._tell_owned()

    def _tell_owned(self) -> None:
        for stage in self._stages:
            metrics.owns(stage.name, sum(one.stage is stage for one in self.all()))

    async def fail(self, error: BaseException) -> None:
        """Something is wrong that no retry mends: the worker has to die."""
        if not self._failed:
            self._failed = True
            log.critical("worker fails", error=repr(error))
            await self._crash(error)
