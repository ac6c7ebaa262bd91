"""The audit over HTTP, on chDB: whose it is, in which order, page by page."""

import asyncio
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.callers import Caller
from api.seams import ClickHouseHistory
from outlay.alert_config import AlertConfig
from outlay.budget import Budget
from schemas.settings import Settings
from streams.clickhouse import ClickHouse
from streams.clickhouse_errors import HistoryAway
from tests.api.fakes import NOW, FakeBudgets, FakeFeed, FakeHistory
from tests.history.contract import insert_audit
from tests.history.records import audit_record, audit_told

URL = "/api/v1/audit"
SECOND = timedelta(seconds=1)


@contextmanager
def _api(settings, history, caller=None):
    feed = FakeFeed()
    app = create_app(settings, feed=feed, budgets=FakeBudgets(feed), history=history)
    if caller is not None:
        app.state.authenticate = lambda request: caller
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Settings, and the history that holds nine entries of two organizations."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("audit"), clickhouse_dsn="")
    records = [
        audit_record(
            organization_id=organization_id,
            scope=f"organization:{organization_id}/agent:a{n % 2}",
            requested_at=NOW + n * SECOND,
            partition=n % 2,
            offset=n,
        )
        for organization_id, count in (("acme", 6), ("other", 3))
        for n in range(count)
    ]
    records[5] = msgspec.structs.replace(
        records[5],
        accepted=False,
        reason="the budget has version 3, not 2",
        version=3,
        before=Budget(daily_execution_limit=7, warning_threshold="0.5"),
        after=Budget(daily_execution_limit=7, warning_threshold="0.5"),
        requested_by="ops",
        alerts_after=AlertConfig(
            webhook_url="https://u:p@hooks.example/T0/secret", cooldown_minutes=5
        ).masked,
    )
    told = [audit_told(record, offset=n) for n, record in enumerate(records)]

    async def insert():
        clickhouse = ClickHouse(settings)
        await clickhouse.migrate()
        await insert_audit(clickhouse, *told)
        await clickhouse.close()

    asyncio.run(insert())
    history = ClickHouseHistory(settings)
    yield SimpleNamespace(settings=settings, history=history)
    asyncio.run(history.close())


@pytest.fixture
def ask(audited):
    """Asks as a caller; the answer."""

    def get(caller=None, **params):
        with _api(audited.settings, audited.history, caller) as client:
            return client.get(URL, params=params)

    return get


def _places(body):
    return [(item["organization_id"], item["offset"]) for item in body["items"]]


def _of(organization_id, *roles):
    return Caller("someone", organization_id, frozenset(roles))


def test_an_entry_says_who_asked_for_what_and_what_came_of_it(ask):
    """Amounts are decimal strings, and a budget is told with all its fields."""
    newest, before = ask(organization_id="acme", limit=2).json()["items"]
    kept, alerts = newest.pop("before"), newest.pop("alerts_after")
    assert newest.pop("after") == kept
    assert newest == {
        "request_id": "r5",
        "requested_at": "2026-11-21T12:00:05Z",
        "requested_by": "ops",
        "organization_id": "acme",
        "scope": "organization:acme/agent:a1",
        "action": "patch",
        "accepted": False,
        "reason": "the budget has version 3, not 2",
        "version": 3,
        "partition": 1,
        "offset": 5,
        "alerts_before": None,
    }
    assert (alerts["webhook_url"], alerts["cooldown_minutes"]) == ("https://hooks.example/…", 5)
    assert alerts["thresholds"] == ["0.5", "0.75", "0.9", "1"]
    assert (kept["daily_execution_limit"], kept["monthly_budget_usd"]) == (7, None)
    assert (kept["warning_threshold"], kept["degradation_threshold"]) == ("0.5", "0.90")
    assert before["before"] is None
    assert before["after"]["monthly_budget_usd"] == "5.00"
    assert before["after"]["enforcement_mode"] == "hard"


def test_pages_hold_everything_once_newest_first(ask):
    """The cursor of one leads to the next; the last has none."""
    found, cursor = [], {}
    while True:
        body = ask(organization_id="acme", limit=4, **cursor).json()
        found.append(_places(body))
        if body["next_cursor"] is None:
            break
        cursor = {"cursor": body["next_cursor"]}
    assert found == [[("acme", n) for n in (5, 4, 3, 2)], [("acme", 1), ("acme", 0)]]
    assert ask(organization_id="acme", limit=6).json()["next_cursor"] is None


def test_filters(ask):
    """By scope, and by a range that is half-open."""
    assert _places(ask(scope="organization:acme/agent:a1").json()) == [
        ("acme", n) for n in (5, 3, 1)
    ]
    of = {"from": "2026-11-21T12:00:01Z", "to": "2026-11-21T12:00:03Z"}
    assert _places(ask(organization_id="acme", **of).json()) == [("acme", 2), ("acme", 1)]
    assert len(_places(ask(**{"from": "2026-11-21"}).json())) == 9
    assert _places(ask(to="2026-11-21").json()) == []


def test_a_key_of_one_organization_sees_its_own(ask, assert_problem):
    """Without being asked, and nothing else by any parameter: 404, as for what does not exist."""
    operator = _of("acme", "operator")
    assert _places(ask(operator).json()) == [("acme", n) for n in range(5, -1, -1)]
    assert_problem(ask(operator, organization_id="other"), 404, "not-found")
    assert_problem(ask(operator, scope="organization:other/agent:a1"), 404, "not-found")
    body = ask(_of("acme", "admin"), scope="organization:acme/agent:a0").json()
    assert _places(body) == [("acme", n) for n in (4, 2, 0)]
    theirs = ask(_of(None, "operator"), organization_id="other", limit=1).json()["next_cursor"]
    assert {at for at, _ in _places(ask(operator, cursor=theirs).json())} <= {"acme"}


@pytest.mark.parametrize("role", ["viewer", "emitter"])
def test_the_audit_is_for_those_who_change_budgets(ask, assert_problem, role):
    """Whoever may only look at budgets need not know who changes them."""
    assert_problem(ask(_of("acme", role)), 403, "forbidden")


@pytest.mark.parametrize(
    ("params", "location"),
    [
        ({"scope": "organization:"}, "query.scope"),
        ({"scope": "acme"}, "query.scope"),
        ({"from": "soon"}, "query.from"),
        ({"from": "1066-10-14"}, "query.from"),
        ({"to": "2026-11-21T12:00:00"}, "query.to"),
        ({"to": "9999-12-31"}, "query.to"),
        ({"from": "2026-11-22", "to": "2026-11-21"}, "query.from"),
        ({"limit": "0"}, "query.limit"),
        ({"limit": "100000"}, "query.limit"),
        ({"cursor": "x"}, "query.cursor"),
        ({"cursor": "WyJhdWRpdCIsIjEuMiJd"}, "query.cursor"),  # ["audit","1.2"]
        ({"organization_id": ""}, "query.organization_id"),
    ],
)
def test_parameters_that_cannot_be_are_refused(api, assert_problem, params, location):
    """Naming the part, before ClickHouse is asked."""
    problem = assert_problem(api.client.get(URL, params=params), 422, "invalid-request")
    assert [error["location"] for error in problem["errors"]] == [location]
    assert api.history.asked == []


def test_clickhouse_away(assert_problem):
    """503, and a client may try again."""
    with _api(Settings(), FakeHistory(problem=HistoryAway("gone"))) as client:
        assert_problem(client.get(URL), 503, "history-unavailable")
