"""The API over outlay in memory: the real rules, feed and messages, without a broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

from fastapi.testclient import TestClient

from api.app import create_app
from api.callers import ANYONE, Caller
from outlay.testing import InMemoryBudgets, InMemoryStream
from schemas.settings import Settings
from tests.api.fakes import FakeHistory

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BUDGETS = "/api/v1/budgets"
ACME = f"{BUDGETS}/organization:acme"
SEARCH = f"{ACME}/team:search"
OPERATOR = Caller("ops", "acme", frozenset({"operator"}))


@contextmanager
def serving(
    stream: InMemoryStream, caller: Caller = ANYONE, budgets: InMemoryBudgets | None = None
) -> Iterator[SimpleNamespace]:
    """One API process: `client`, and `be`, which says who asks from now on."""
    app = create_app(
        Settings(),
        feed=stream.feed,
        budgets=budgets or stream.budgets,
        history=FakeHistory(),
        now=lambda: stream.clock.now,
    )

    def be(caller: Caller) -> None:
        app.state.authenticate = lambda request: caller

    be(caller)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield SimpleNamespace(app=app, client=client, be=be, stream=stream)


def version_of(stream: InMemoryStream, key: str = "organization:acme/team:search") -> int:
    """The version of a scope's budget; 0: there is none."""
    known = stream.feed.decisions.get(key)
    return 0 if known is None else known.decision.version
