"""The app on stand-ins, and one helper for the one shape of errors."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from outlay.apikey import ROLES
from outlay.budget import Budget
from outlay.keyfile import KeyFile
from outlay.scope import Scope
from schemas.settings import Settings
from tests.api.fakes import NOW, FakeBudgets, FakeFeed, FakeHistory
from tests.api.live_api import live_api


@pytest.fixture
def api() -> Iterator[SimpleNamespace]:
    """`client`, and the stand-ins behind it: `feed`, `budgets`, `history`."""
    feed, history = FakeFeed(), FakeHistory()
    budgets = FakeBudgets(feed)
    app = create_app(Settings(), feed=feed, budgets=budgets, history=history, now=lambda: NOW)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield SimpleNamespace(app=app, client=client, feed=feed, budgets=budgets, history=history)


@pytest.fixture
def live():
    """The app over an in-memory stream, at noon of 2026-11-21."""
    with live_api() as made:
        yield made


@pytest.fixture
def keyed(tmp_path):
    """An API with keys of two organizations; `key[organization, role]` are theirs."""
    file = KeyFile(tmp_path / "keys.json")
    key = {
        (organization, role): file.create(f"{organization}-{role}", organization, (role,))[1]
        for organization in ("acme", "globex", None)
        for role in ROLES
    }
    settings = Settings(api_keys_file=str(file.path))
    feed, history = FakeFeed(), FakeHistory()
    for organization in ("acme", "globex"):
        feed.set(Scope(organization, agent_id="a1"), Budget(daily_execution_limit=5))
    budgets = FakeBudgets(feed)
    app = create_app(settings, feed=feed, budgets=budgets, history=history, now=lambda: NOW)
    with TestClient(app, "http://outlay.example", raise_server_exceptions=False) as client:

        def ask(key, path, method="GET", **options):
            headers = options.pop("headers", {}) | (
                {"Authorization": f"Bearer {key}"} if key else {}
            )
            return client.request(method, path, headers=headers, **options)

        yield SimpleNamespace(
            app=app, client=client, ask=ask, key=key, file=file, feed=feed, budgets=budgets,
            history=history,
        )  # fmt: skip


@pytest.fixture
def assert_problem():
    """Asserts that an answer is a problem of a kind; its body, without what each has of its own."""

    def check(response, status, kind):
        body = response.json()
        assert (response.status_code, body.get("type")) == (status, f"urn:outlay:problem:{kind}")
        assert response.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "instance"} <= set(body)
        assert body["status"] == status
        assert body["instance"] == response.request.url.path
        assert body.pop("request_id") == response.headers["x-request-id"]
        if status == 503:
            assert int(response.headers["retry-after"]) > 0
        return body

    return check
