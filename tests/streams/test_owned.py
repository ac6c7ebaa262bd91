"""An owned partition: what it still writes after something failed, and what it never does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outlay.usage import encode_usage
from streams import partials as partials_module
from streams.batch import Batch
from streams.flush import Flush, Outgoing, Unit, cut
from streams.flush import Offsets as FlushOffsets
from streams.owned import Owned
from streams.writer import Fenced
from tests.streams.flat import entries, outputs
from tests.streams.test_totals import NOON, batch, new_partials, usage

USAGE = "outlay.usage"


class FailingWriter:
    """Fails the writes that it is told to, and remembers the others."""

    def __init__(self, fail_at: int, error: Exception) -> None:
        self.writes = 0
        self.first_write = asyncio.Event()
        self.offsets: FlushOffsets = {}
        self._fail_at, self._error = fail_at, error

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def write(self, flush: Flush) -> None:
        self.writes += 1
        self.first_write.set()
        if self.writes == self._fail_at:
            raise self._error
        for transaction in flush.transactions:
            self.offsets |= transaction.offsets


class OneStage:
    """A stage of one partition, on a given writer."""

    name, sources, changelogs = "partials", (USAGE,), ("changelog",)
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
    owned.begin({USAGE: 0}, {USAGE: 100}, fail)
    error = None
    try:
        await do(owned)
        error = await asyncio.wait_for(failed, 5)
    except ZeroDivisionError as raised:
        error = raised
    await owned.apply(
        batch((encode_usage([usage(NOON)]), NOON), start=owned.state.positions[USAGE])
    )
    await owned.close()
    return error


@pytest.mark.parametrize("error", [TimeoutError("slow"), Fenced("taken over"), OSError("gone")])
def test_after_a_failed_write_nothing_is_written_any_more(error: Exception) -> None:
    """The last flush would commit what the failed one did not write."""
    writer = FailingWriter(2, error)

    async def apply(owned: Owned) -> None:
        await writer.first_write.wait()
        await owned.apply(batch((encode_usage([usage(NOON)]), NOON)))

    assert asyncio.run(owned_after_failure(writer, apply)) is error
    assert writer.writes == 2
    assert writer.offsets == {(USAGE, 0): 0}


def test_after_a_failed_batch_nothing_is_written_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half a batch was counted, and the position stands behind the whole."""
    writer = FailingWriter(0, OSError())

    async def apply(owned: Owned) -> None:
        await writer.first_write.wait()
        with monkeypatch.context() as broken:
            broken.setattr(partials_module, "decode_plain", lambda *run: 1 // 0)
            await owned.apply(batch((encode_usage([usage(NOON)]), NOON)))

    assert isinstance(asyncio.run(owned_after_failure(writer, apply)), ZeroDivisionError)
    assert writer.offsets == {(USAGE, 0): 0}


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
        owned.begin({USAGE: 0}, {USAGE: 100}, _ignore)
        await writer.first_write.wait()
        monkeypatch.setattr(partials_module, "decode_plain", lambda *run: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await owned.apply(batch((encode_usage([usage(NOON)]), NOON)))
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
    state.begin({USAGE: 0}, {USAGE: 100})
    bad = b"[" + b",".join([b"1"] * 10_000) + b"]"
    rest: Batch | None = batch(*[(bad, NOON)] * 5, (encode_usage([usage(NOON)]), NOON))
    letters = parts = 0
    while rest is not None:
        rest = state.apply(rest)
        flush = state.flush(0)
        assert flush is not None
        count = sum("rejected" in m.topic for m in outputs(flush))
        assert count <= 2 * partials_module.REJECTED_MAX
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


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    """Heartbeats go on; the next one is not an hour away."""
    state = new_partials()
    state.begin({USAGE: 0}, {USAGE: 100})
    assert state.flush(7_200_000) is not None
    assert state.flush(3_600_000) is not None
    assert state.flush(3_600_500) is None
