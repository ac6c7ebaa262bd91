"""An app over an in-memory stream, asked without a server; and what its tests share."""

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import httpx
from fastapi import FastAPI

from outlay import Budget, Scope
from outlay.integrations.fastapi import require_budget
from outlay.testing import InMemoryStream

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACME, AGENT = Scope("acme"), Scope("acme", agent_id="a1")
WHO = {"organization_id": "acme"}


class Serving:
    """An app, and a stream that its gateway goes by; at the end nothing may be held."""

    def __init__(self, budget=None, scope=ACME, **stream_options):
        self.stream = InMemoryStream(NOW, **stream_options)
        self.gateway = self.stream.gateway
        self.app = FastAPI()
        if budget is not None:
            self.stream.budgets.put(scope, budget)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.stream.close()
        if error is None:
            assert self.open == 0

    def require(self, **options):
        return require_budget(self.gateway, **{"who": WHO, "estimate": 1} | options)

    @property
    def open(self):
        return self.gateway.stats.reservations

    @property
    def records(self):
        return self.stream.records

    @property
    def spent(self):
        """What was recorded of each call: its cost, and whether it succeeded."""
        return [(Decimal(record.cost_usd), record.success) for record in self.records]

    @asynccontextmanager
    async def client(self, raises=False):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=raises)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client

    def post(self, path="/invoke/a1", *, raises=False, **options):
        """One request, by itself; `raises` what a server would log."""

        async def ask():
            async with self.client(raises) as client:
                return await client.post(path, **options)

        return asyncio.run(ask())


def monthly(usd, **options):
    return Budget(monthly_budget_usd=Decimal(usd), **options)


def warnings_of(caplog):
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "outlay.integrations" and each.levelno >= logging.WARNING
    ]


def http_scope(path, *, spec_version="2.3"):
    """An ASGI scope of a POST without a body, for tests that are the server."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
