"""Both clients, and the API that they ask."""

import pytest
from structlog.testing import capture_logs

from outlay import Budget, Scope
from tests.client.world import Clients, Server, make_world


@pytest.fixture(params=["sync", "async"])
def clients(request):
    """Makes clients of a kind: every test runs for both."""
    made = Clients(request.param)
    yield made
    made.close()


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """The real app, served on loopback; tests keep to scopes of their own."""
    found = make_world(tmp_path_factory.mktemp("client"))
    # The server's thread would write beside what pytest captures.
    with capture_logs(), found.stream, Server(found.app) as server:
        found.server = server
        # So that ids of events are of a time when the stream of decisions was there already.
        found.stream.budgets.put(Scope("begin"), Budget())
        found.stream.clock.advance(hours=1)
        yield found


@pytest.fixture
def outlay(clients, world):
    """A client that may do everything, in all organizations."""
    return clients(world.server.url, key=world.keys[None, "admin"])
