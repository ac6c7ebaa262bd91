"""Health, metrics, and the one shape of errors."""

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.hosts import host_of, is_loopback
from api.problems import STATUS, Kind
from outlay.budget import Budget
from outlay.scope import Scope
from schemas.settings import Settings
from streams.clickhouse_errors import HistoryAway
from tests.api.fakes import FakeBudgets, FakeFeed, FakeHistory


def test_alive_and_ready(api):
    """Each thing is named."""
    assert api.client.get("/healthz").json() == {"status": "ok"}
    assert api.client.get("/readyz").json() == {
        "status": "ready",
        "checks": {
            "feed": {"ok": True, "detail": "caught up"},
            "clickhouse": {"ok": True, "detail": "answers"},
            "usage": {"ok": True, "detail": "0 records in flight"},
        },
    }


def _break_feed(api):
    api.feed.ready = False


def _silence_feed(api):
    api.feed.silent_s = 60


def _take_clickhouse_away(api):
    api.history.problem = HistoryAway("connection refused")


@pytest.mark.parametrize(
    ("breaks", "name", "detail"),
    [
        (_break_feed, "feed", "the decisions feed has not caught up"),
        (_silence_feed, "feed", "the decisions feed is stale: silent for 60 s"),
        (_take_clickhouse_away, "clickhouse", "connection refused"),
    ],
)
def test_not_ready_says_why(api, assert_problem, breaks, name, detail):
    """Alive all the same."""
    breaks(api)
    problem = assert_problem(api.client.get("/readyz"), 503, "not-ready")
    assert problem["checks"][name] == {"ok": False, "detail": detail}
    assert [check["ok"] for check in problem["checks"].values()].count(False) == 1
    assert api.client.get("/healthz").status_code == 200


def test_metrics_name_routes_and_no_ids(api):
    """Templates only: ids would make a series each, and tell who spends."""
    api.feed.set(Scope("acme", agent_id="secret-agent"), Budget())
    url = "/api/v1/external-agents/secret-agent/budget"
    api.client.get(url, params={"organization_id": "acme"})
    api.client.get("/nowhere/secret-agent")
    api.client.request("BREW", "/healthz")
    text = api.client.get("/metrics").text
    assert "secret-agent" not in text
    assert "acme" not in text
    template = "/api/v1/external-agents/{external_agent_id}/budget"
    assert f'outlay_api_requests_total{{method="GET",route="{template}",status="200"}} 1.0' in text
    assert 'outlay_api_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'method="other"' in text
    assert f'outlay_api_request_seconds_count{{method="GET",route="{template}"}} 1.0' in text
    assert "outlay_api_feed_age_seconds 0.5" in text
    assert "outlay_api_feed_ready 1.0" in text


def test_every_error_has_one_shape(api, assert_problem):
    """Also those of the framework, and a bug."""
    assert_problem(api.client.get("/nowhere"), 404, "not-found")
    wrong_method = api.client.delete("/api/v1/external-agents/a1/budget")
    assert_problem(wrong_method, 405, "method-not-allowed")
    assert wrong_method.headers["allow"] == "GET"
    api.feed.decisions = None
    bug = api.client.get("/api/v1/external-agents/a1/budget", params={"organization_id": "o"})
    problem = assert_problem(bug, 500, "internal-error")
    assert "NoneType" not in problem["detail"]


def test_another_hosts_name_is_refused(api, assert_problem):
    """A page that rebinds its name to 127.0.0.1 must not change budgets."""
    response = api.client.get("/healthz", headers={"Host": "evil.example:8000"})
    assert_problem(response, 421, "misdirected")
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert api.client.get("/healthz", headers={"Host": host}).status_code == 200, host


def test_any_host_is_taken_where_there_are_keys(tmp_path):
    """A proxy may pass its own name on; a page that rebinds a name has no key."""
    feed = FakeFeed()
    settings = Settings(api_host="0.0.0.0", api_keys_file=str(tmp_path / "keys.json"))
    app = create_app(settings, feed=feed, budgets=FakeBudgets(feed), history=FakeHistory())
    with TestClient(app) as client:
        headers = {"Host": "outlay.example:8000"}
        assert client.get("/healthz", headers=headers).status_code == 200
        assert client.get("/api/v1/reports/spend", headers=headers).status_code == 401


def test_without_keys_only_loopback_is_served():
    """No setting says otherwise."""
    with pytest.raises(ValueError, match=r"loopback only, not 10\.0\.0\.1"):
        create_app(Settings(api_host="10.0.0.1"))


def test_loopback_is_told_for_sure():
    """A name may point anywhere; only localhost is taken for what it says."""
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", ""]))
    assert host_of("[::1]:80") == "::1"


def test_every_kind_of_problem_has_a_status():
    """The list is complete."""
    assert set(STATUS) == set(Kind.__args__)


def test_the_description_names_all_endpoints(api):
    """OpenAPI can be made, with the body of a change."""
    described = api.client.get("/openapi.json").json()
    assert set(described["paths"]) >= {
        "/api/v1/external-agents/{external_agent_id}/budget",
        "/api/v1/external-agents/{external_agent_id}/governance-status",
        "/api/v1/external-agents/{external_agent_id}/budget/config",
        "/api/v1/reports/spend",
        "/healthz",
        "/readyz",
        "/metrics",
    }


def test_the_description_says_problems(api):
    """Every error that can occur, under its media type, and none in FastAPI's own shape."""
    described = api.client.get("/openapi.json").json()
    errors = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            found = {code: said for code, said in operation["responses"].items() if code[0] != "2"}
            errors[f"{method} {path.rpartition('/')[2]}"] = set(found)
            for said in found.values():
                assert list(said["content"]) == ["application/problem+json"]
                schema = said["content"]["application/problem+json"]["schema"]
                assert schema["required"] == ["type", "title", "status", "detail", "instance"]
    assert (
        errors
        | {
            "get budget": {"401", "403", "404", "421", "422", "429", "500", "503"},
            "get governance-status": {"401", "403", "404", "421", "422", "429", "500", "503"},
            "patch config": {
                *("401", "403", "404", "408", "409", "413"),
                *("421", "422", "429", "500", "503"),
            },
            "get spend": {"401", "403", "404", "421", "422", "429", "500", "503"},
            "get healthz": {"421", "500"},
            "get readyz": {"421", "500", "503"},
            "get metrics": {"421", "500"},
        }
        == errors
    )
    assert "HTTPValidationError" not in described["components"]["schemas"]
