"""ClickHouse away: it refuses, or takes connections and is silent. The rest of the API goes on."""

import asyncio
import contextlib
import socket
import threading
from contextlib import contextmanager
from decimal import Decimal
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from api import seams, services
from api.app import create_app
from api.seams import ClickHouseHistory
from outlay import Budget, Scope
from outlay.testing import InMemoryStream
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from tests.api.fakes import NOW
from tests.history.contract import insert
from tests.history.records import message, usage

BOUND_S = 0.3
A1 = Scope("acme", agent_id="a1")
SPEND = "/api/v1/reports/spend?from=2026-11-01&to=2026-12-01"
AUDIT = "/api/v1/audit"
NO_BUDGET = "/api/v1/external-agents/a2/budget?organization_id=acme"


class _Hanging:
    """A server that takes connections and says nothing, until it is cut."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._taken = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self):
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._socket.accept()[0])

    def cut(self):
        """End all connections, and take none any more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (self._socket, *self._taken):
            each.close()


@pytest.fixture(params=["refuses", "hangs"])
def port(request):
    """A port of loopback where no ClickHouse answers."""
    server = _Hanging()
    if request.param == "refuses":
        server.cut()
        yield server.port
    else:
        yield server.port
        server.cut()


@pytest.fixture
def bounds(monkeypatch):
    """Short ones."""
    for module, name in (
        (seams, "PING_TIMEOUT_S"),
        (seams, "REPORT_TIMEOUT_S"),
        (services, "STATUS_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, BOUND_S)


@contextmanager
def _api(settings, history):
    with InMemoryStream(NOW) as stream:
        stream.budgets.put(A1, Budget(monthly_budget_usd=Decimal(1)))
        app = create_app(
            settings,
            feed=stream.feed,
            budgets=stream.budgets,
            history=history,
            gateway=stream.gateway,
            now=lambda: stream.clock.now,
        )
        with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
            yield SimpleNamespace(client=client, stream=stream)


def _goes_on(client):
    """What needs no ClickHouse."""
    assert client.get(f"/api/v1/budgets/{A1.key}").status_code == 200
    assert client.patch(f"/api/v1/budgets/{A1.key}", json={"on_stale": "block"}).status_code == 200
    assert client.get(f"/api/v1/budgets/{A1.key}/explain").status_code == 200
    assert client.get("/api/v1/external-agents/a1/budget?organization_id=acme").status_code == 200
    asked = {"organization_id": "acme", "agent_id": "a1", "estimated_cost_usd": "0.5"}
    assert client.post("/api/v1/check", json=asked).json()["allowed"] is True
    assert client.get("/healthz").status_code == 200


def _is_said(client, assert_problem):
    """Of what needs it: which part is away."""
    for path in (SPEND, AUDIT, NO_BUDGET):
        problem = assert_problem(client.get(path), 503, "history-unavailable")
        assert "ClickHouse" in problem["detail"]
    problem = assert_problem(client.get("/readyz"), 503, "not-ready")
    assert [name for name, part in problem["checks"].items() if not part["ok"]] == ["clickhouse"]


def test_without_clickhouse_the_rest_goes_on(port, bounds, assert_problem):
    """Reports say what is away within their bound; budgets, checks and status are as ever."""
    settings = Settings(clickhouse_dsn=f"clickhouse://127.0.0.1:{port}")
    history = ClickHouseHistory(settings)
    with _api(settings, history) as api:
        reports = threading.Thread(target=api.client.get, args=(SPEND,))
        reports.start()  # what waits for it holds nobody up
        _goes_on(api.client)
        reports.join()
        _is_said(api.client, assert_problem)
    threading.Thread(target=asyncio.run, args=(history.close(),), daemon=True).start()


def test_it_is_found_when_it_is_back(port, bounds, tmp_path, assert_problem, monkeypatch):
    """The same process, and the same connections: first nobody answers, then the real engine."""
    away = Settings(clickhouse_dsn=f"clickhouse://127.0.0.1:{port}", data_dir=tmp_path)
    back = Settings(data_dir=tmp_path)
    history = ClickHouseHistory(away)

    async def write():
        writer = ClickHouse(back)
        await writer.migrate()
        await insert(writer, message(usage(cost_usd="0.25")))
        await writer.close()

    with _api(away, history) as api:
        _is_said(api.client, assert_problem)
        for name in ("REPORT_TIMEOUT_S", "PING_TIMEOUT_S"):
            monkeypatch.setattr(seams, name, 30.0)
        monkeypatch.setattr(services, "STATUS_TIMEOUT_S", 30.0)
        asyncio.run(write())
        for connection in (history._reports, history._quick):
            connection._settings = back
        assert api.client.get(SPEND).json()["total"]["cost_usd"] == "0.25"
        assert api.client.get(AUDIT).json()["items"] == []
        assert api.client.get(NO_BUDGET).status_code == 200
        assert api.client.get("/readyz").status_code == 200
    asyncio.run(history.close())


@pytest.mark.parametrize(
    ("dsn", "made"),
    [
        ("clickhouse://a:b@h:1/db", "clickhouse://a:b@h:1/db?send_receive_timeout=35"),
        ("clickhouse://h?verify=0", "clickhouse://h?verify=0&send_receive_timeout=35"),
        ("clickhouse://h?send_receive_timeout=5", "clickhouse://h?send_receive_timeout=5"),
        ("chdb:///x", "chdb:///x"),
        ("", ""),
    ],
)
def test_a_server_that_is_silent_is_given_up(dsn, made):
    """After the bound of a report, unless the DSN has one of its own; chDB is in the process."""
    assert seams._impatient(Settings(clickhouse_dsn=dsn), 35.0).clickhouse_dsn == made
