"""Decisions: what is published of many budgets, and when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from outlay.decision import BudgetRequest, Decision, decode_decision, encode, window_usage
from outlay.topics import TopicNames
from schemas.messages import PartialsMessage
from streams import messages
from streams.batch import Batch
from streams.decisions import AT_ONCE_MAX
from streams.joined import TOGETHER_MAX
from streams.totals_state import TotalsState
from tests.streams.flat import Entry, block_of, outputs, total_of
from tests.streams.simulated_broker import Record

DAY, MONTH = "2026-03-01", "2026-03"
NOON_MS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
REFRESH_MS = 1_000
TOPICS = TopicNames()


class Owner:
    """A totals partition with so many users' budgets, each of ten executions a day."""

    def __init__(self, count: int, at_once_max: int = AT_ONCE_MAX) -> None:
        self.scopes = [f"organization:acme/user:u{number}" for number in range(count)]
        self.state = TotalsState(
            0,
            topics=TOPICS,
            totals_changelog="T",
            budgets_changelog="B",
            alerts_changelog="A",
            partition_of=lambda scope: 0,
            partitions=1,
            usage_partitions=2,
            refresh_ms=REFRESH_MS,
            at_once_max=at_once_max,
        )
        self.state.begin({TOPICS.partials: 0, TOPICS.budgets: 0}, {})
        changes = {"daily_execution_limit": 10}
        self._apply(
            TOPICS.budgets,
            [
                encode(BudgetRequest(request_id=scope, scope=scope, action="put", changes=changes))
                for scope in self.scopes
            ],
        )

    def tell(self, partition: int, entries: dict[str, Entry]) -> None:
        """A usage partition tells of a day, and of its month."""
        told = block_of({DAY: entries, MONTH: entries})
        self._apply(TOPICS.partials, [messages.encode(PartialsMessage(partition, 0, None, told))])

    def _apply(self, topic: str, values: list[bytes]) -> None:
        start = self.state.positions[topic]
        records = [Record(start + at, None, value, NOON_MS) for at, value in enumerate(values)]
        self.state.apply(Batch(topic, 0, records, start, start + len(records)))

    def publish(self, now_ms: int) -> dict[str, Decision]:
        """What a flush publishes, by scope."""
        flush = self.state.flush(now_ms)
        return {
            (m.key or b"").decode(): decode_decision(m.value or b"")
            for m in ([] if flush is None else outputs(flush))
            if m.topic == TOPICS.decisions and (m.key or b"").startswith(b"organization:")
        }


@pytest.mark.parametrize("count", [1, TOGETHER_MAX, 2 * TOGETHER_MAX + 1])
def test_each_of_many_says_its_own(count: int) -> None:
    """Also where they are more than are joined at a time."""
    owner = Owner(count)
    for partition, its in enumerate(
        [list(enumerate(owner.scopes)), list(enumerate(owner.scopes))[::2]]
    ):
        owner.tell(partition, {s: Entry(n + partition, n, n % 12) for n, s in its})
    decided = owner.publish(NOON_MS)
    assert decided.keys() == set(owner.scopes)
    for number, scope in enumerate(owner.scopes):
        total = total_of(owner.state.totals, scope, DAY)
        assert total is not None
        assert decided[scope].windows == {DAY: window_usage(*total), MONTH: window_usage(*total)}
        twice = number % 2 == 0
        assert total[1] == ({0: number, 1: number + 1} if twice else {0: number})
        assert total[0].executions == (number % 12) * (2 if twice else 1)
        assert (decided[scope].state == "exceeded") == (total[0].executions >= 10)


def test_of_many_that_moved_only_those_whose_state_changed_wait_for_no_refresh() -> None:
    owner = Owner(4, at_once_max=3)
    assert owner.publish(NOON_MS).keys() == set(owner.scopes)
    owner.tell(0, {scope: Entry(0, 5, 1) for scope in owner.scopes})
    assert owner.publish(NOON_MS + 1) == {}
    owner.tell(0, {owner.scopes[2]: Entry(1, 5, 10)})
    assert {s: d.state for s, d in owner.publish(NOON_MS + 2).items()} == {
        owner.scopes[2]: "exceeded"
    }
    refreshed = owner.publish(NOON_MS + REFRESH_MS)  # three are few enough at any time
    assert {s: d.windows[DAY].executions for s, d in refreshed.items()} == {
        scope: 1 for scope in owner.scopes if scope != owner.scopes[2]
    }
    owner.tell(1, {scope: Entry(0, 5, 1) for scope in owner.scopes})
    assert owner.publish(NOON_MS + REFRESH_MS + 1) == {}
    assert owner.publish(NOON_MS + 2 * REFRESH_MS).keys() == set(owner.scopes)


def test_few_that_moved_wait_for_no_refresh() -> None:
    owner = Owner(4, at_once_max=3)
    owner.publish(NOON_MS)
    owner.tell(0, {scope: Entry(0, 5, 1) for scope in owner.scopes[:3]})
    assert owner.publish(NOON_MS + 1).keys() == set(owner.scopes[:3])
