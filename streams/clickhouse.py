"""The history's database: a ClickHouse server, or chDB in this process. The same code for both.

The client is synchronous (chDB's has no other form), so each `ClickHouse` has one thread of its
own and everything runs there, in order; the event loop goes on meanwhile. chDB opens one path at a
time in a process, and one process at a time may open a path; within it several `ClickHouse`
objects share the engine, so that a report need not wait for an insert.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import clickhouse_connect

from schemas.settings import Settings
from streams.clickhouse_errors import HistoryRefused, sorted_error
from streams.clickhouse_migrations import migrate
from streams.clickhouse_queries import HistoryTotal, Query, WholeHistory

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 60
"""How long one insert or query may go without an answer, in seconds."""

QUERY_TIME_MAX_S = 30
"""How long ClickHouse may work on one report, in seconds."""

_SETTINGS = {
    "async_insert": 0,  # an insert has happened when it returns; the sink makes batches
    # Months are partitions, and one message may hold records of more than the 100 that are allowed
    # by default: refused, it would be tried again for ever.
    "max_partitions_per_insert_block": 0,
}

_TLS_SCHEMES = frozenset({"clickhouses", "https"})
_SCHEMES = _TLS_SCHEMES | {"clickhouse", "http"}


def check_dsn(settings: Settings) -> None:
    """Make sure that the DSN names a kind of ClickHouse; the driver takes any scheme for HTTP.

    Raises:
        HistoryRefused: it does not; the DSN, which may hold a password, is not repeated.
    """
    if not settings.history_is_embedded and _scheme(settings.history_dsn) not in _SCHEMES:
        raise HistoryRefused(
            "OUTLAY_CLICKHOUSE_DSN must start with clickhouse://, http:// (clickhouses://, https://"
            " with TLS) or chdb:///"
        )


def connect(settings: Settings) -> Any:
    """A client whose database exists and is chosen. Blocks.

    Raises:
        HistoryError: it cannot be reached, or it refuses.
    """
    check_dsn(settings)
    try:
        return _connect_chdb(settings) if settings.history_is_embedded else _connect(settings)
    except HistoryRefused:
        raise
    except Exception as error:
        raise sorted_error(error) from error


def _connect(settings: Settings) -> Any:
    options: dict[str, Any] = {
        "dsn": settings.history_dsn,
        "secure": _scheme(settings.history_dsn) in _TLS_SCHEMES,
        "settings": _SETTINGS,
        "autogenerate_session_id": False,  # a session would refuse two requests at a time
        "connect_timeout": CONNECT_TIMEOUT_S,
        "send_receive_timeout": REQUEST_TIMEOUT_S,
        "client_name": "outlay",
    }
    client = clickhouse_connect.get_client(**options, database="default")
    database = _database_in(settings.history_dsn) or settings.clickhouse_database
    try:
        client.command(f"CREATE DATABASE IF NOT EXISTS {_quoted(database)}")
    except BaseException:
        client.close()
        raise
    client.database = database
    return client


def _connect_chdb(settings: Settings) -> Any:
    path = settings.history_dsn.removeprefix("chdb:").removeprefix("//")
    if not path.startswith("/") or set("?#") & set(path):
        raise HistoryRefused(f"write chdb:///absolute/directory, without ? and #, not {path!r}")
    Path(path).mkdir(parents=True, exist_ok=True)
    try:
        client = clickhouse_connect.get_client(interface="chdb", path=path, settings=_SETTINGS)
    except clickhouse_connect.driver.exceptions.ProgrammingError as error:
        raise HistoryRefused(
            f"chDB cannot open {path}: does another process have it open, or this process"
            f" another path? ({error})"
        ) from error
    client.command(f"CREATE DATABASE IF NOT EXISTS {_quoted(settings.clickhouse_database)}")
    client.database = settings.clickhouse_database
    return client


def _scheme(dsn: str) -> str:
    scheme, separator, _ = dsn.partition("://")
    return scheme.lower() if separator else ""


def _database_in(dsn: str) -> str:
    return unquote(urlsplit(dsn).path).strip("/")


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


class ClickHouse:
    """A connection with a thread of its own, made by the first use and made again after a loss.

    All methods raise `HistoryAway` when the same later may work, and `HistoryRefused` when not.
    """

    def __init__(self, settings: Settings, *, name: str = "clickhouse") -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._client: Any = None

    async def run(self, work: Callable[[Any], T]) -> T:
        """What `work` makes of the client, in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[Any], T]) -> T:
        if self._client is None:
            self._client = connect(self._settings)
        try:
            return work(self._client)
        except Exception as error:
            raise sorted_error(error) from error

    async def migrate(self) -> list[str]:
        """Bring the schema up to date; the names of the files that were applied now."""
        return await self.run(migrate)

    async def ping(self) -> None:
        """Ask for a sign of life."""
        await self.run(lambda client: client.command("SELECT 1"))

    async def insert(self, table: str, columns: Sequence[tuple[str, str, Sequence[Any]]]) -> None:
        """Insert columns, each a name, a type and values of one length.

        When it fails, some of the rows may be in; inserting them again does no harm.
        """
        names, types, values = zip(*columns, strict=True)
        await self.run(
            lambda client: client.insert(
                table,
                values,
                column_names=names,
                column_type_names=types,
                column_oriented=True,
            )
        )

    async def ask(self, query: Query[T]) -> list[T]:
        """The rows of a query's answer."""
        limits = {"max_execution_time": QUERY_TIME_MAX_S}
        sql, parameters = query.to_sql(), query.parameters()
        answer = await self.run(lambda client: client.query(sql, parameters, settings=limits))
        return [query.row(values) for values in answer.result_rows]

    async def total(self, organization_id: str | None = None) -> HistoryTotal:
        """Everything that the history holds, or of one organization."""
        return (await self.ask(WholeHistory(organization_id)))[0]

    async def close(self) -> None:
        """Let go of the connection, after what still runs; nothing happens the second time."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.shutdown(wait=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()
