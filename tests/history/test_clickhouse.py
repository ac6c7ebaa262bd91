"""The history on the real engine, chDB."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_audit import AuditLog
from streams.clickhouse_errors import HistoryAway, HistoryRefused, sorted_error
from streams.clickhouse_queries import SpendReport
from tests.history import contract
from tests.history.records import columns_of, message, usage


def test_the_contract(with_clickhouse):
    """Replays show once, sums are exact, reports are right: before any merge."""
    with_clickhouse(contract.holds_the_contract)


def test_it_holds_after_merges_and_a_restart(with_clickhouse):
    """Merging changes no answer, and what was inserted is there again."""

    async def merge(clickhouse):
        await contract.holds_the_contract(clickhouse)
        before = await clickhouse.total()
        audit = await clickhouse.ask(AuditLog(100))
        for table in ("usage_rows", "audit_rows"):
            optimize = f"OPTIMIZE TABLE {table} FINAL"
            await clickhouse.run(lambda client, say=optimize: client.command(say))
        assert await clickhouse.ask(AuditLog(100)) == audit
        return before, await clickhouse.total()

    async def total(clickhouse):
        return await clickhouse.total()

    before, merged = with_clickhouse(merge)
    assert merged == before == with_clickhouse(total)
    assert before.records > 1000


def test_dates_at_the_edges_are_reported_in_their_windows(with_clickhouse):
    """ClickHouse's own Date would put 1900 into 2079."""

    async def work(clickhouse):
        old = usage(occurred_at=datetime(2, 3, 4, tzinfo=UTC))
        recent = usage(occurred_at=datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
        await contract.insert(clickhouse, message(old, recent))
        start, end = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
        return await clickhouse.ask(SpendReport(start, end, "day"))

    windows = [(row.window, row.records) for row in with_clickhouse(work)]
    assert windows == [("1900-01-01", 1), ("1999-12-31", 1)]


def test_one_message_may_hold_records_of_any_number_of_months(with_clickhouse):
    """ClickHouse's own bound is 100 partitions an insert, and ours are months."""

    async def work(clickhouse):
        months = [datetime(2000 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in range(240)]
        await contract.insert(clickhouse, message(*(usage(occurred_at=at) for at in months)))
        return (await clickhouse.total()).records

    assert with_clickhouse(work) == 240


def test_a_sink_and_a_reader_share_the_engine(settings):
    """Two connections of one process, used at the same time, see the same rows."""

    async def work():
        writer, reader = ClickHouse(settings), ClickHouse(settings)
        await writer.migrate()
        inserts = [contract.insert(writer, message(usage(), offset=n)) for n in range(20)]
        await asyncio.gather(*inserts, *(reader.total() for _ in range(20)))
        total = await reader.total()
        await writer.close()
        await reader.ping()  # still open
        await reader.close()
        return total.records

    assert asyncio.run(work()) == 20


_INSERT_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from tests.history.contract import insert
from tests.history.records import message, usage

async def main():
    clickhouse = ClickHouse(Settings(data_dir=Path(sys.argv[1]), clickhouse_dsn=""))
    await clickhouse.migrate()
    await insert(clickhouse, message(usage(id=sys.argv[2]), usage()))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_what_was_inserted_survives_a_kill(settings, with_clickhouse):
    """An insert that returned is there after SIGKILL, the path can be opened, a replay is one."""
    record = usage()
    died = subprocess.run(
        [sys.executable, "-c", _INSERT_AND_DIE, str(settings.data_dir), record.id], check=False
    )
    assert died.returncode == -9

    async def replay(clickhouse):
        await contract.insert(clickhouse, message(record))
        return (await clickhouse.total()).records

    assert with_clickhouse(replay) == 2


def test_a_path_that_another_process_holds_is_said_plainly(settings, with_clickhouse):
    """chDB's own message does not say it."""
    code = "import sys; from streams.clickhouse import connect; from schemas.settings import *\n"
    code += "connect(Settings(data_dir=Path(sys.argv[1]), clickhouse_dsn=''))"

    async def second_process(clickhouse):
        await clickhouse.ping()
        argv = [sys.executable, "-c", code, str(settings.data_dir)]
        return await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True)

    second = with_clickhouse(second_process)
    assert second.returncode == 1
    assert "HistoryRefused: chDB cannot open" in second.stderr
    assert "does another process have it open" in second.stderr


@pytest.mark.parametrize("dsn", ["chdb:///a?b", "chdb:///a#b", "chdb://relative", "chdb://memory"])
def test_paths_that_chdb_would_misread_are_refused(dsn):
    """It takes what follows a question mark for options."""
    with pytest.raises(HistoryRefused, match="write chdb"):
        asyncio.run(ClickHouse(Settings(clickhouse_dsn=dsn)).ping())


@pytest.mark.parametrize("dsn", ["foo://u:secret@x", "u:secret@x:8123", "x", "CHDB:///x", "://x"])
def test_a_dsn_of_an_unknown_kind_is_refused(dsn):
    """The driver would take it for HTTP, and it would be retried for ever."""
    with pytest.raises(HistoryRefused, match="must start with clickhouse://") as refused:
        asyncio.run(ClickHouse(Settings(clickhouse_dsn=dsn)).ping())
    assert "secret" not in str(refused.value)


def test_the_history_process_ends_at_a_dsn_of_an_unknown_kind():
    """With a reason, before it asks Kafka for anything."""
    ended = subprocess.run(
        [sys.executable, "-m", "streams.history"],
        env=os.environ | {"OUTLAY_CLICKHOUSE_DSN": "foo://x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "must start with clickhouse://" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("dsn", "url"),
    [
        ("clickhouse://h", "http://h:8123"),
        ("http://h:8124", "http://h:8124"),
        ("clickhouse://h:8443", "https://h:8443"),
        ("clickhouses://h", "https://h:8443"),
        ("HTTPS://h:9440/db", "https://h:9440"),
    ],
)
def test_a_dsn_that_says_tls_gets_tls(monkeypatch, dsn, url):
    """The driver goes by the port alone, and would send the password in the clear."""
    asked = []

    def remember(interface, host, port, *args, **kwargs):
        asked.append(f"{interface}://{host}:{port}")
        raise ConnectionError

    monkeypatch.setattr("clickhouse_connect.driver.HttpClient", remember)
    with pytest.raises(HistoryAway):
        asyncio.run(ClickHouse(Settings(clickhouse_dsn=dsn)).ping())
    assert asked == [url]


def test_a_server_that_is_away_is_worth_waiting_for(tmp_path: Path):
    """Nobody listens there, and the next attempt connects anew."""

    async def work():
        clickhouse = ClickHouse(Settings(clickhouse_dsn="clickhouse://127.0.0.1:1/outlay"))
        for _ in range(2):
            with pytest.raises(HistoryAway):
                await clickhouse.ping()
        await clickhouse.close()

    asyncio.run(work())


def test_errors_are_sorted_by_what_helps(with_clickhouse):
    """A missing table needs a person; a bug is not taken for a network problem."""

    async def work(clickhouse):
        columns = columns_of(message(usage()))
        with pytest.raises(HistoryRefused, match="no_such_table"):
            await clickhouse.insert("no_such_table", columns)
        with pytest.raises(HistoryRefused, match="TypeError"):
            await clickhouse.run(lambda client: client())
        with pytest.raises(HistoryAway, match="TIMEOUT_EXCEEDED"):
            await clickhouse.run(_takes_too_long)

    with_clickhouse(work)
    assert isinstance(sorted_error(ConnectionError("x")), HistoryAway)


def _takes_too_long(client):
    return client.query(
        "SELECT sum(sleepEachRow(0.1)) FROM numbers(100) SETTINGS max_block_size = 1",
        settings={"max_execution_time": 0.2},
    )
