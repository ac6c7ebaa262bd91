"""An owned partition: what it still writes after something failed, and what it never does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outlay.usage import encode_usage
from streams import counting, dead_letters
from streams.batch import Batch
from streams.flush import TRANSACTION_BYTES_MAX, Flush, Outgoing, Unit, cut
from streams.flush import Offsets as FlushOffsets
from streams.messages import decode_partials
from streams.owned import Owned
from streams.saving import Saves
from streams.writer import Fenced
from tests.streams.flat import changelog, entries, outputs
from tests.streams.test_totals import NOON, batch, new_partials, usage

USAGE, WANTS = "outlay.usage", "outlay.wants"
USED = encode_usage([usage(NOON)])


class FailingWriter:
    """Fails the writes that it is told to, and remembers the others."""

    def __init__(self, fail_at: int, error: Exception) -> None:
        self.writes = 0
        self.first_write = asyncio.Event()
        self.wrote = asyncio.Event()
        self.offsets: FlushOffsets = {}
        self.told = -1
        """The progress that was told last."""
        self.rows = 0
        """How many messages went to the changelog."""
        self.fail_at, self._error = fail_at, error

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def write(self, flush: Flush) -> None:
        self.writes += 1
        self.first_write.set()
        if self.writes == self.fail_at:
            raise self._error
        self.rows += len(changelog(flush))
        for message in outputs(flush):
            progress = decode_partials(message.value).progress
            self.told = self.told if progress is None else progress
        for transaction in flush.transactions:
            self.offsets |= transaction.offsets
        self.wrote.set()


class OneStage:
    """A stage of one partition, on a given writer."""

    name, sources, changelogs = "partials", (USAGE, WANTS), ("changelog",)
    comes_in_bursts = False

    def __init__(self, writer: FailingWriter) -> None:
        self._writer = writer

    def new_state(self, partition: int) -> Any:
        return new_partials(partition)

    def new_writer(self, partition: int) -> Any:
        return self._writer


async def owned_after_failure(writer: FailingWriter, do: Any) -> BaseException | None:
    """Let it flush often, do something, and let it go after it has failed."""
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def fail(error: BaseException) -> None:
        failed.set_result(error)

    owned = Owned(OneStage(writer), 0, 0.01)
    owned.begin({USAGE: 0, WANTS: 0}, {USAGE: 100, WANTS: 0}, fail)
    error = None
    try:
        await do(owned)
        error = await asyncio.wait_for(failed, 5)
    except ZeroDivisionError as raised:
        error = raised
    await owned.apply(batch((USED, NOON), start=owned.state.positions[USAGE]))
    await owned.close()
    return error


@pytest.mark.parametrize("error", [TimeoutError("slow"), Fenced("taken over"), OSError("gone")])
def test_after_a_failed_write_nothing_is_written_any_more(error: Exception) -> None:
    """The last flush would commit what the failed one did not write."""
    writer = FailingWriter(2, error)

    async def apply(owned: Owned) -> None:
        await writer.first_write.wait()
        await owned.apply(batch((USED, NOON)))

    assert asyncio.run(owned_after_failure(writer, apply)) is error
    assert (writer.writes, writer.offsets) == (2, {(USAGE, 0): 0, (WANTS, 0): 0})


@pytest.mark.parametrize("fails_when_it_saves", [False, True])
def test_what_was_told_is_not_saved_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, fails_when_it_saves: bool
) -> None:
    """Whether telling failed or saving did: the offset stays where it was saved last."""
    due = [True]
    monkeypatch.setattr(Saves, "are_due", lambda self, now_ms: due[0])
    writer = FailingWriter(0, OSError("gone"))

    async def apply(owned: Owned) -> None:
        await apply_and_await(owned, writer)
        assert writer.offsets == {(USAGE, 0): 1, (WANTS, 0): 0}
        due[0] = False
        await apply_and_await(owned, writer)
        assert writer.offsets == {(USAGE, 0): 1, (WANTS, 0): 0}
        due[0] = fails_when_it_saves
        writer.fail_at = writer.writes + 1
        await owned.apply(batch((USED, NOON), start=owned.state.positions[USAGE]))

    assert isinstance(asyncio.run(owned_after_failure(writer, apply)), OSError)
    assert (writer.writes, writer.offsets) == (writer.fail_at, {(USAGE, 0): 1, (WANTS, 0): 0})


@pytest.mark.parametrize("is_due", [False, True])
def test_the_last_flush_saves_all(monkeypatch: pytest.MonkeyPatch, is_due: bool) -> None:
    """Who takes over has nothing to read again, and what was told is in the changelog."""
    monkeypatch.setattr(Saves, "are_due", lambda self, now_ms: is_due)

    async def run() -> FailingWriter:
        writer = FailingWriter(0, OSError())
        owned = Owned(OneStage(writer), 0, 0.01)
        owned.begin({USAGE: 0, WANTS: 0}, {USAGE: 100, WANTS: 0}, _ignore)
        await apply_and_await(owned, writer)
        assert bool(writer.offsets) == is_due
        await owned.close()
        return writer

    writer = asyncio.run(run())
    assert writer.offsets == {(USAGE, 0): 1, (WANTS, 0): 0}
    assert writer.rows == 2  # the floor, and a block of all entries


async def apply_and_await(owned: Owned, writer: FailingWriter) -> None:
    """Apply a message, and wait until a partials message tells of it."""
    position = owned.state.positions[USAGE]
    await owned.apply(batch((USED, NOON), start=position))
    async with asyncio.timeout(5):
        while writer.told < position:
            writer.wrote.clear()
            await writer.wrote.wait()


def test_after_a_failed_batch_nothing_is_written_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half a batch was counted, and the position stands behind the whole."""
    writer = FailingWriter(0, OSError())

    async def apply(owned: Owned) -> None:
        await writer.first_write.wait()
        with monkeypatch.context() as broken:
            broken.setattr(counting, "decode_plain", lambda *run: 1 // 0)
            await owned.apply(batch((USED, NOON)))

    assert isinstance(asyncio.run(owned_after_failure(writer, apply)), ZeroDivisionError)
    assert (writer.writes, writer.offsets) == (1, {(USAGE, 0): 0, (WANTS, 0): 0})


def test_a_batch_that_fails_during_a_write_is_never_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The write that goes well does not mend it."""

    class SlowWriter(FailingWriter):
        go_on = asyncio.Event()

        async def write(self, flush: Flush) -> None:
            await super().write(flush)
            await self.go_on.wait()

    async def run() -> int:
        writer = SlowWriter(0, OSError())
        writer.go_on = asyncio.Event()
        owned = Owned(OneStage(writer), 0, 0.01)
        owned.begin({USAGE: 0, WANTS: 0}, {USAGE: 100, WANTS: 0}, _ignore)
        await writer.first_write.wait()
        monkeypatch.setattr(counting, "decode_plain", lambda *run: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await owned.apply(batch((USED, NOON)))
        writer.go_on.set()
        await asyncio.sleep(0.05)
        await owned.close()
        return writer.writes

    assert asyncio.run(run()) == 1


async def _ignore(error: BaseException) -> None:
    pass


def test_a_batch_that_is_all_dead_letters_is_taken_in_parts() -> None:
    """Thousands of them wait for a flush at most, however many messages come at once."""
    state = new_partials()
    state.begin({USAGE: 0, WANTS: 0}, {USAGE: 100, WANTS: 0})
    bad = b"[" + b",".join([b"1"] * 10_000) + b"]"
    rest: Batch | None = batch(*[(bad, NOON)] * 5, (USED, NOON))
    letters = parts = 0
    while rest is not None:
        rest = state.apply(rest)
        flush = state.flush(0)
        assert flush is not None
        count = sum("rejected" in m.topic for m in outputs(flush))
        assert count <= 2 * dead_letters.REJECTED_MAX
        letters, parts = letters + count, parts + 1
    assert (letters, state.position) == (50_000, 6)
    assert parts > 1
    assert entries(state)["organization:acme", "2026-03"][1] == 1


def test_the_offsets_are_committed_with_the_last_of_several_transactions() -> None:
    """Otherwise a crash between them would lose what the others were to write."""
    units = [Unit([Outgoing("t", 0, [(None, b"x")])], []) for _ in range(120_000)]
    flush = cut(units, {("s", 0): 7})
    assert len(flush.transactions) == 3
    assert [t.offsets for t in flush.transactions] == [{}, {}, {("s", 0): 7}]


def test_a_transaction_holds_so_many_bytes() -> None:
    """Blocks are few and large; one that is larger than all may go is alone."""
    size_bytes = TRANSACTION_BYTES_MAX // 3
    sizes = [size_bytes, size_bytes, size_bytes, 1, 4 * size_bytes, 1, size_bytes]
    units = [Unit(changelog=[Outgoing("c", 0, [(b"k", bytes(n))])]) for n in sizes]
    found = [
        [len(value or b"") for out in transaction.changelog for _, value in out.messages]
        for transaction in cut(units, {}).transactions
    ]
    assert found == [sizes[:4], sizes[4:5], sizes[5:]]


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    """Heartbeats go on; the next one is not an hour away."""
    state = new_partials()
    state.begin({USAGE: 0, WANTS: 0}, {USAGE: 100, WANTS: 0})
    assert state.flush(7_200_000) is not None
    assert state.flush(3_600_000) is not None
    assert state.flush(3_600_500) is None
