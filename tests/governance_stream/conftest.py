"""What these tests share: an in-memory stream, and the watch over threads that are left."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from outlay import Budget
from outlay.governance.connection import Connection, Connections
from outlay.governance.service import GovernanceService
from outlay.testing import InMemoryStream
from tests.library.conftest import nothing_is_left  # noqa: F401 - it watches over every test here
from tests.library.library_fakes import FakeReader, FakeSender, FakeTopic

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def monthly(usd, **options):
    """A budget of so many USD a month."""
    return Budget(monthly_budget_usd=Decimal(usd), **options)


@pytest.fixture
def stream():
    """A whole stream in memory, at noon of 2026-11-21."""
    with InMemoryStream(NOW) as stream:
        yield stream


@pytest.fixture
def service(stream):
    """A service over that stream, not initialized."""
    return GovernanceService(gateway=stream.gateway, emitter=stream.emitter)


class World:
    """Connections to topics in memory; `made` counts how many there were."""

    def __init__(self):
        self.usage, self.decisions = FakeTopic(), FakeTopic()
        self.decisions.watermark()
        self.made = 0
        self.connections = Connections(self._connect)

    def _connect(self, settings):
        self.made += 1
        return Connection(
            settings,
            reader_factory=lambda: FakeReader(self.decisions),
            sender_factory=lambda: FakeSender(self.usage),
        )

    def service(self, **options):
        return GovernanceService(connections=self.connections, **options)
