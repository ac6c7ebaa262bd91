"""The history on a real ClickHouse server: the same contract as on chDB."""

import asyncio

import pytest

from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryRefused
from tests.history import contract


def test_the_contract_on_a_server(server_settings):
    """Replays show once, sums are exact, reports are right; before and after merges."""

    async def work():
        clickhouse = ClickHouse(server_settings)
        try:
            assert await clickhouse.migrate() == ["0001_usage.sql"]
            assert await clickhouse.migrate() == []
            await contract.holds_the_contract(clickhouse)
            before = await clickhouse.total()
            await clickhouse.run(lambda client: client.command("OPTIMIZE TABLE usage_rows FINAL"))
            assert await clickhouse.total() == before
        finally:
            await clickhouse.close()

    asyncio.run(work())


def test_two_processes_may_migrate_at_the_same_time(server_settings):
    """Statements are repeatable, and the note is one."""

    async def work():
        both = [ClickHouse(server_settings), ClickHouse(server_settings)]
        await asyncio.gather(*(clickhouse.migrate() for clickhouse in both))
        assert await both[0].migrate() == []
        await asyncio.gather(*(clickhouse.close() for clickhouse in both))

    asyncio.run(work())


def test_a_wrong_password_is_not_waited_for(server_settings):
    """It needs a person."""
    wrong = server_settings.clickhouse_dsn.replace("p%40ss%2Fword", "wrong")

    async def work():
        clickhouse = ClickHouse(Settings(clickhouse_dsn=wrong))
        with pytest.raises(HistoryRefused, match=r"AUTHENTICATION_FAILED|Authentication failed"):
            await clickhouse.ping()
        await clickhouse.close()

    asyncio.run(work())
