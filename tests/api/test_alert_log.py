"""Alerts and deliveries over HTTP, on chDB: whose they are, filters, page by page."""

import asyncio
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.callers import Caller
from api.seams import ClickHouseHistory
from outlay.alert import Forecast
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryAway
from tests.api.fakes import NOW, FakeBudgets, FakeFeed, FakeHistory
from tests.history.contract import insert_alerts, insert_deliveries
from tests.history.records import alert, alert_told, delivery, delivery_told

ALERTS = "/api/v1/alerts"
DELIVERIES = f"{ALERTS}/deliveries"
SECOND = timedelta(seconds=1)


@contextmanager
def _api(settings, history, caller=None):
    feed = FakeFeed()
    app = create_app(settings, feed=feed, budgets=FakeBudgets(feed), history=history)
    if caller is not None:
        app.state.authenticate = lambda request: caller
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


def _scope(organization_id, n):
    return f"organization:{organization_id}/agent:a{n % 2}"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Settings, and the history that holds alerts and deliveries of two organizations."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("alerts"), clickhouse_dsn="")
    ids = [(name, n) for name, count in (("acme", 5), ("other", 2)) for n in range(count)]
    alerts = [
        alert(
            organization_id=name,
            alert_id=f"alt_{name}_{n}",
            scope=_scope(name, n),
            event="budget.forecast" if n == 4 else "budget.warning",
            threshold=None if n == 4 else Decimal("0.75"),
            forecast=Forecast("12.50", 40, 100) if n == 4 else None,
            window=("2026-11", "2026-11-21")[n % 2],
            detected_at=NOW + n * SECOND,
        )
        for name, n in ids
    ]
    attempts = [
        delivery(
            organization_id=name,
            delivery_id=f"alt_{name}_{n}",
            scope=_scope(name, n),
            channel=("email", "webhook")[n % 2],
            status="failed" if n == 1 else "delivered",
            code=None if n == 1 else 200,
            reason="no answer" if n == 1 else "",
            attempted_at=NOW + n * SECOND,
        )
        for name, n in ids
    ]

    async def insert():
        clickhouse = ClickHouse(settings)
        await clickhouse.migrate()
        await insert_alerts(clickhouse, *(alert_told(a, n) for n, a in enumerate(alerts)))
        await insert_deliveries(clickhouse, *(delivery_told(d, n) for n, d in enumerate(attempts)))
        await clickhouse.close()

    asyncio.run(insert())
    history = ClickHouseHistory(settings)
    yield SimpleNamespace(settings=settings, history=history)
    asyncio.run(history.close())


@pytest.fixture
def ask(told):
    """Asks a path as a caller; the answer."""

    def get(path, caller=None, **params):
        with _api(told.settings, told.history, caller) as client:
            return client.get(path, params=params)

    return get


def _ids(answer, name="alert_id"):
    return [item[name].removeprefix("alt_") for item in answer.json()["items"]]


def _of(organization_id, *roles):
    return Caller("someone", organization_id, frozenset(roles))


def test_an_alert_says_what_was_crossed(ask):
    """All of it, as it was published; of a forecast what it rests on."""
    forecast, crossing = ask(ALERTS, organization_id="acme", limit=2).json()["items"]
    assert crossing == {
        "alert_id": "alt_acme_3",
        "event": "budget.warning",
        "scope": "organization:acme/agent:a1",
        "organization_id": "acme",
        "window": "2026-11-21",
        "window_kind": "month",
        "limit_kind": "cost",
        "threshold": "0.75",
        "used": "5.00",
        "limit": "10.00",
        "used_share": "0.5",
        "step": ["0.5"],
        "episode": 0,
        "repeat": 0,
        "version": 1,
        "enforcement_mode": "hard",
        "daily_spent_usd": "5.00",
        "daily_budget_usd": None,
        "monthly_spent_usd": "5.00",
        "monthly_budget_usd": "10.00",
        "forecast": None,
        "detected_at": "2026-11-21T12:00:03Z",
        "test": False,
    }
    assert forecast["forecast"] == {"projected": "12.50", "elapsed_s": 40, "window_s": 100}
    assert forecast["threshold"] is None


def test_an_attempt_says_what_became_of_it(ask):
    """Where it went, and what was answered."""
    (item,) = ask(DELIVERIES, organization_id="acme", status="failed").json()["items"]
    assert item == {
        "delivery_id": "alt_acme_1",
        "alert_ids": ["alt_acme_1"],
        "scope": "organization:acme/agent:a1",
        "organization_id": "acme",
        "event": "budget.threshold",
        "channel": "webhook",
        "target": "https://hooks.example",
        "attempt": 1,
        "status": "failed",
        "code": None,
        "reason": "no answer",
        "attempted_at": "2026-11-21T12:00:01Z",
        "duration_ms": 12,
        "next_attempt_at": None,
        "test": False,
    }


@pytest.mark.parametrize(("path", "name"), [(ALERTS, "alert_id"), (DELIVERIES, "delivery_id")])
def test_pages_hold_everything_once_newest_first(ask, path, name):
    """The cursor of one leads to the next; the last has none."""
    found, cursor = [], {}
    while True:
        answer = ask(path, organization_id="acme", limit=2, **cursor)
        found.append(_ids(answer, name))
        if answer.json()["next_cursor"] is None:
            break
        cursor = {"cursor": answer.json()["next_cursor"]}
    assert found == [["acme_4", "acme_3"], ["acme_2", "acme_1"], ["acme_0"]]


def test_filters(ask):
    """By what is said of an alert or of an attempt, and by a range that is half-open."""
    of_one = {"organization_id": "acme"}
    assert _ids(ask(ALERTS, scope="organization:acme/agent:a1")) == ["acme_3", "acme_1"]
    assert _ids(ask(ALERTS, event="budget.forecast")) == ["acme_4"]
    assert _ids(ask(ALERTS, window="2026-11-21", **of_one)) == ["acme_3", "acme_1"]
    within = {"from": "2026-11-21T12:00:01Z", "to": "2026-11-21T12:00:03Z"}
    assert _ids(ask(ALERTS, **of_one, **within)) == ["acme_2", "acme_1"]
    name = "delivery_id"
    assert _ids(ask(DELIVERIES, **of_one, **within), name) == ["acme_2", "acme_1"]
    assert _ids(ask(DELIVERIES, channel="email", **of_one), name) == ["acme_4", "acme_2", "acme_0"]
    assert _ids(ask(DELIVERIES, alert_id="alt_acme_2"), name) == ["acme_2"]
    assert _ids(ask(DELIVERIES, scope="organization:acme/agent:a0", limit=1), name) == ["acme_4"]


@pytest.mark.parametrize("path", [ALERTS, DELIVERIES])
def test_a_key_of_one_organization_sees_its_own(ask, assert_problem, path):
    """Viewers, too; nothing else by any parameter: 404, as for what does not exist."""
    viewer = _of("acme", "viewer")
    mine = {item["organization_id"] for item in ask(path, viewer).json()["items"]}
    assert mine == {"acme"}
    assert_problem(ask(path, viewer, organization_id="other"), 404, "not-found")
    assert_problem(ask(path, viewer, scope="organization:other"), 404, "not-found")
    assert ask(DELIVERIES, viewer, alert_id="alt_other_1").json()["items"] == []
    cursor = ask(path, _of(None, "viewer"), organization_id="other", limit=1).json()["next_cursor"]
    told = ask(path, viewer, cursor=cursor).json()["items"]
    assert {item["organization_id"] for item in told} <= {"acme"}
    assert_problem(ask(path, _of("acme", "emitter")), 403, "forbidden")


@pytest.mark.parametrize("path", [ALERTS, DELIVERIES])
@pytest.mark.parametrize(
    ("params", "location"),
    [
        ({"scope": "acme"}, "query.scope"),
        ({"from": "soon"}, "query.from"),
        ({"to": "9999-12-31"}, "query.to"),
        ({"from": "2026-11-22", "to": "2026-11-21"}, "query.from"),
        ({"limit": "0"}, "query.limit"),
        ({"cursor": "WyJhdWRpdCIsIjEuMiJd"}, "query.cursor"),  # of the audit
        ({"cursor": "WyJhbGVydHMiLCJ4Il0"}, "query.cursor"),  # ["alerts","x"]
    ],
)
def test_parameters_that_cannot_be_are_refused(api, assert_problem, path, params, location):
    """Naming the part, before ClickHouse is asked."""
    problem = assert_problem(api.client.get(path, params=params), 422, "invalid-request")
    assert [error["location"] for error in problem["errors"]] == [location]
    assert api.history.asked == []


@pytest.mark.parametrize("path", [ALERTS, DELIVERIES])
def test_clickhouse_away(assert_problem, path):
    """503 that names it, and a client may try again."""
    with _api(Settings(), FakeHistory(problem=HistoryAway("gone"))) as client:
        assert (
            "ClickHouse" in assert_problem(client.get(path), 503, "history-unavailable")["detail"]
        )
