"""The app on stand-ins, and one helper for the one shape of errors."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from schemas.settings import Settings
from tests.api.fakes import NOW, FakeBudgets, FakeFeed, FakeHistory


@pytest.fixture
def api() -> Iterator[SimpleNamespace]:
    """`client`, and the stand-ins behind it: `feed`, `budgets`, `history`."""
    feed, history = FakeFeed(), FakeHistory()
    budgets = FakeBudgets(feed)
    app = create_app(Settings(), feed=feed, budgets=budgets, history=history, now=lambda: NOW)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield SimpleNamespace(app=app, client=client, feed=feed, budgets=budgets, history=history)


@pytest.fixture
def assert_problem():
    """Asserts that an answer is a problem of a kind; returns its body."""

    def check(response, status, kind):
        body = response.json()
        assert (response.status_code, body.get("type")) == (status, f"urn:outlay:problem:{kind}")
        assert response.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "instance"} <= set(body)
        assert body["status"] == status
        assert body["instance"] == response.request.url.path
        if status == 503:
            assert int(response.headers["retry-after"]) > 0
        return body

    return check
