"""The sink's order of doing things, on a source and a store that only remember."""

import asyncio
import logging
from dataclasses import dataclass, field

import pytest
import structlog

from schemas.settings import Settings
from streams import history_delivery, history_sink
from streams.clickhouse_errors import HistoryAway, HistoryRefused
from streams.history_rows import Message
from streams.history_sink import HistorySink
from tests.history.records import message, usage


@dataclass
class Source:
    """Hands out what it was given, one list a read, and then nothing."""

    fetches: list[list[Message]]
    events: list[object]
    generation: int = 0
    accepts: bool = True
    on_commit: object = None

    async def open(self):
        self.events.append("open")

    async def read(self, timeout_s):
        if self.fetches:
            return self.fetches.pop(0)
        await asyncio.sleep(timeout_s)
        return []

    async def commit(self, offsets):
        self.events.append(("commit", dict(offsets)))
        return self.accepts

    def lags(self, applied):
        return dict.fromkeys(applied, 0)

    async def close(self):
        self.events.append("close")


@dataclass
class Store:
    """Remembers the offsets of the rows of each insert; `failures` are raised first."""

    events: list[object]
    failures: list[Exception] = field(default_factory=list)
    on_insert: object = None

    async def migrate(self):
        return []

    async def insert(self, table, columns):
        if self.on_insert is not None:
            self.on_insert()
        if self.failures:
            failure = self.failures.pop(0)
            self.events.append("failed")
            raise failure
        offsets = next(values for name, _, values in columns if name == "kafka_offset")
        self.events.append(("insert", list(offsets)))

    async def close(self):
        self.events.append("store closed")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(history_delivery, "PAUSE_MIN_S", 0.001)
    monkeypatch.setattr(history_sink, "READ_S_MAX", 0.01)
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    yield
    structlog.reset_defaults()


def _run(fetches, *, until, failures=(), rows_max=100, prepare=None):
    """Run a sink over fetches until the events satisfy `until`; the events and the sink."""

    async def main():
        events = []
        source, store = Source(list(fetches), events), Store(events, list(failures))
        settings = Settings(history_flush_interval_s=0.02, history_batch_rows_max=rows_max)
        sink = HistorySink(settings, store=store, source=source)
        if prepare is not None:
            prepare(sink, source, store)
        task = asyncio.create_task(sink.run())
        async with asyncio.timeout(10):
            while not task.done() and not until(events):  # noqa: ASYNC110  # a plain list
                await asyncio.sleep(0.005)
            sink.stop()
            await task
        return events, sink

    return asyncio.run(main())


def _commits(events):
    return [event[1] for event in events if event[0] == "commit"]


ONE = [message(usage(), offset=7)]


def test_offsets_are_committed_after_the_insert_only():
    """Otherwise a crash in between would lose the rows."""
    fetch = [message(usage(), offset=7), message(usage(), usage(), offset=3, partition=1)]
    events, sink = _run([fetch], until=_commits)
    assert events == [
        "open",
        ("insert", [7, 3, 3]),
        ("commit", {0: 8, 1: 4}),
        "close",
        "store closed",
    ]
    assert sink.metrics.rows._value.get() == 3
    assert sink.state == "stopped"


def test_while_clickhouse_is_away_nothing_is_lost_or_read_on():
    """The same rows are tried until they are in, and only then committed."""
    away = [HistoryAway("connection refused")] * 3
    second = [message(usage(), offset=8)]
    events, sink = _run([ONE, second], until=lambda e: {0: 9} in _commits(e), failures=away)
    assert events[1:4] == ["failed"] * 3
    inserted = [event for event in events if event[0] == "insert"]
    assert [offset for _, offsets in inserted for offset in offsets] == [7, 8]
    assert events.index(("insert", inserted[0][1])) < events.index(("commit", _commits(events)[0]))
    assert sink.metrics.failures._value.get() == 3


def test_what_waiting_cannot_help_ends_the_sink():
    """So that the process exits non-zero, and its rows stay uncommitted."""
    with pytest.raises(HistoryRefused, match="no such column"):
        _run([ONE], until=lambda e: False, failures=[HistoryRefused("no such column")])


def test_rows_of_a_partition_that_was_taken_away_are_not_committed():
    """Their new owner reads them from the last commit; ours must not move past them."""

    def prepare(sink, source, store):
        store.on_insert = lambda: setattr(source, "generation", 1)

    events, sink = _run([ONE], until=lambda e: len(e) >= 2, prepare=prepare)
    assert ("insert", [7]) in events
    assert _commits(events) == []
    assert sink.metrics.discarded._value.get() == 1


def test_what_was_read_before_a_rebalance_is_not_mixed_with_what_comes_after():
    """A fetch is cut by a full batch, and the partitions go while it is inserted."""
    fetch = [message(usage(), offset=offset) for offset in (7, 8, 9)]
    after = [message(usage(), offset=2, partition=1)]

    def prepare(sink, source, store):
        store.on_insert = lambda: setattr(source, "generation", 1)

    events, _ = _run([fetch, after], until=_commits, rows_max=1, prepare=prepare)
    assert _commits(events) == [{1: 3}]


def test_rows_after_a_rebalance_do_not_go_with_those_before_it():
    """Those before are dropped, and those after are inserted and committed."""

    def prepare(sink, source, store):
        read = source.read

        async def read_and_rebalance(timeout_s):
            source.generation = int(len(source.fetches) < 2)  # with the second fetch
            return await read(timeout_s)

        source.read = read_and_rebalance

    after = [message(usage(), offset=2, partition=1)]
    events, sink = _run([ONE, after], until=_commits, prepare=prepare)
    assert events[1:3] == [("insert", [2]), ("commit", {1: 3})]
    assert sink.metrics.discarded._value.get() == 1


def test_a_stop_after_a_rebalance_commits_nothing():
    """What is pending is someone else's by then."""

    def prepare(sink, source, store):
        sink._settings = sink._settings.model_copy(update={"history_flush_interval_s": 60.0})

        def rebalance_and_stop():
            source.generation += 1
            sink.stop()

        asyncio.get_running_loop().call_later(0.1, rebalance_and_stop)

    events, _ = _run([ONE], until=lambda e: False, prepare=prepare)
    assert events == ["open", "close", "store closed"]


def test_a_refused_commit_is_no_error():
    """The group has moved on; the rows are read again and show once."""

    def prepare(sink, source, store):
        source.accepts = False

    _, sink = _run([ONE], until=_commits, prepare=prepare)
    assert sink.metrics.rows._value.get() == 0
    assert sink.metrics.discarded._value.get() == 1


def test_a_stop_while_clickhouse_is_away_ends_without_a_commit():
    """The rows are read again at the next start."""
    away = [HistoryAway("gone")] * 1000
    events, _ = _run([ONE], until=lambda e: "failed" in e, failures=away)
    assert _commits(events) == []
    assert events[-1] == "store closed"


def test_a_stop_flushes_what_is_pending():
    """Also when it is not due yet."""

    def prepare(sink, source, store):
        sink._settings = sink._settings.model_copy(update={"history_flush_interval_s": 60.0})
        asyncio.get_running_loop().call_later(0.1, sink.stop)

    events, _ = _run([ONE], until=lambda e: False, prepare=prepare)
    assert _commits(events) == [{0: 8}]


def test_a_full_batch_does_not_wait():
    """The bound on rows cuts a large fetch into several inserts."""
    fetch = [message(usage(), usage(), offset=offset) for offset in range(4)]
    events, _ = _run([fetch], until=lambda e: {0: 4} in _commits(e), rows_max=3)
    assert [event for event in events if event[0] == "insert"] == [
        ("insert", [0, 0, 1, 1]),
        ("insert", [2, 2, 3, 3]),
    ]


def test_messages_without_rows_are_committed_without_an_insert():
    """Rejected or empty ones must not be read for ever."""
    events, sink = _run([[Message(0, 4, 0, b"{"), Message(0, 5, 0, b"[]")]], until=_commits)
    assert events[1] == ("commit", {0: 6})
    assert sink.metrics.rejected._value.get() == 1


def _slow_insert(store, gate):
    """Have inserts wait for a gate, and say when they begin."""
    insert = store.insert

    async def wait_and_insert(table, columns):
        store.events.append("insert begins")
        await gate.wait()
        await insert(table, columns)

    store.insert = wait_and_insert


def test_the_next_batch_is_read_while_one_is_inserted_and_leaves_after_it():
    """One core for ClickHouse and one for Python, and never two inserts or commits at a time."""

    def prepare(sink, source, store):
        gate, read = asyncio.Event(), source.read
        _slow_insert(store, gate)

        async def read_and_open(timeout_s):
            messages = await read(timeout_s)
            if messages and messages[0].offset == 8:  # read before the first is in
                asyncio.get_running_loop().call_later(0.05, gate.set)
            return messages

        source.read = read_and_open

    fetches = [[message(usage(), offset=offset)] for offset in (7, 8, 9)]
    events, _ = _run(fetches, until=lambda e: {0: 10} in _commits(e), rows_max=1, prepare=prepare)
    assert [event for event in events if event != "insert begins"] == [
        "open",
        *(step for o in (7, 8, 9) for step in (("insert", [o]), ("commit", {0: o + 1}))),
        "close",
        "store closed",
    ]


def test_a_stop_while_a_batch_is_inserted_commits_it_and_the_one_behind_it():
    """In their order; neither is left to the next start when ClickHouse takes them."""

    def prepare(sink, source, store):
        gate = asyncio.Event()
        _slow_insert(store, gate)
        sink._settings = sink._settings.model_copy(update={"history_flush_interval_s": 60.0})
        asyncio.get_running_loop().call_later(0.1, sink.stop)
        asyncio.get_running_loop().call_later(0.2, gate.set)

    first = [message(usage(), usage(), offset=7)]
    fetches = [first, [message(usage(), offset=8)]]
    events, _ = _run(fetches, until=lambda e: False, rows_max=2, prepare=prepare)
    assert _commits(events) == [{0: 8}, {0: 9}]


def test_what_stands_behind_a_batch_that_cannot_be_inserted_is_not_committed():
    """A stop while ClickHouse is away: the second would otherwise be committed past the first."""
    away = [HistoryAway("gone")] * 1000

    def prepare(sink, source, store):
        asyncio.get_running_loop().call_later(0.1, sink.stop)

    fetches = [[message(usage(), offset=offset)] for offset in (7, 8)]
    events, _ = _run(fetches, until=lambda e: False, rows_max=1, failures=away, prepare=prepare)
    assert _commits(events) == []
    assert not [event for event in events if event[0] == "insert"]


def test_a_refusal_ends_the_sink_though_nothing_more_is_read():
    """The insert is apart from the reading, and its error must not wait for the next batch."""

    def prepare(sink, source, store):
        sink._settings = sink._settings.model_copy(update={"history_flush_interval_s": 60.0})

    refused = [HistoryRefused("no such column")]
    with pytest.raises(HistoryRefused, match="no such column"):
        _run([ONE], until=lambda e: False, rows_max=1, failures=refused, prepare=prepare)


def test_a_rebalance_gives_up_the_batch_under_way_and_the_one_behind_it():
    """Both were read under the old assignment; what comes after it is inserted and committed."""

    def prepare(sink, source, store):
        gate = asyncio.Event()
        _slow_insert(store, gate)

        def rebalance():
            source.generation = 1
            source.fetches.append([message(usage(), offset=2, partition=1)])
            gate.set()

        asyncio.get_running_loop().call_later(0.1, rebalance)

    fetches = [[message(usage(), offset=offset)] for offset in (7, 8)]
    events, sink = _run(fetches, until=_commits, rows_max=1, prepare=prepare)
    assert _commits(events) == [{1: 3}]
    assert sink.metrics.discarded._value.get() == 2
