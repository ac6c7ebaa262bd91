"""A history on the real engine. chDB opens one path at a time, so every test closes its own."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from schemas.settings import Settings
from streams.clickhouse import ClickHouse

T = TypeVar("T")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an installation in a directory of its own."""
    return Settings(data_dir=tmp_path, clickhouse_dsn="", history_flush_interval_s=0.1)


@pytest.fixture
def with_clickhouse(
    settings: Settings,
) -> Callable[[Callable[[ClickHouse], Awaitable[T]]], T]:
    """Runs a coroutine function with an open, migrated ClickHouse, and closes it: a restart."""

    def run(work: Callable[[ClickHouse], Awaitable[T]]) -> T:
        async def main() -> T:
            clickhouse = ClickHouse(settings)
            try:
                await clickhouse.migrate()
                return await work(clickhouse)
            finally:
                await clickhouse.close()

        return asyncio.run(main())

    return run
