"""Stand-ins for what the API needs of alerts, and an API over outlay in memory with them."""

from contextlib import contextmanager
from types import SimpleNamespace

from fastapi.testclient import TestClient

from api.app import create_app
from api.callers import ANYONE
from outlay.alert_config import AlertConfig, AlertConfigRecord
from outlay.errors import FeedNotReady
from outlay.scope import Scope
from schemas.settings import Settings
from tests.api.fakes import FakeHistory
from tests.library.library_fakes import FakeSender, FakeTopic

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
OTHER_SECRET = "whsec_" + "b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldC0x"
URL = "https://user:pass@hooks.example/services/T0/very-secret"
SHOWN_URL = "https://hooks.example/…"


class FakeOwnAlerts:
    """The configurations as far as they are known; `lagging` are published, and known later."""

    def __init__(self):
        self.records = {}
        self.lagging = {}
        self.ready = True
        self.stuck = False
        self.problem = ""

    def set(self, scope, config, version=1):
        """Have a scope an own configuration."""
        self.records[scope.key] = AlertConfigRecord(scope.key, version, config)

    def get(self, scope_key):
        """What is known of a scope."""
        return self.records.get(scope_key)

    async def await_current(self, timeout_s):
        """Know what was published."""
        if self.stuck:
            raise FeedNotReady("the alert configurations are not known after 5 s")
        for key, config in self.lagging.items():
            if config is None:
                self.records.pop(key, None)
            else:
                self.records[key] = AlertConfigRecord(key, 1, config)
        self.lagging.clear()


class AlertBudgets:
    """The budgets of a stream, whose alert configurations are published with each change."""

    def __init__(self, stream, own):
        self._stream = stream
        self._own = own
        self.asked = []

    def __getattr__(self, name):
        return getattr(self._stream.budgets, name)

    async def aput_alerts(self, scope, config, **options):
        """As the client does; what is published is known when somebody asks for what is current."""
        assert isinstance(config, AlertConfig)
        self.asked.append((config, options))
        decision = await self._stream.budgets.aput_alerts(scope, config, **options)
        self._own.lagging[Scope.parse(str(scope)).key] = config
        return decision

    async def adelete_alerts(self, scope, **options):
        """The same."""
        decision = await self._stream.budgets.adelete_alerts(scope, **options)
        self._own.lagging[Scope.parse(str(scope)).key] = None
        return decision


@contextmanager
def alerting(stream, caller=ANYONE):
    """One API process: `client`, `own`, `budgets`, the `topic` of alerts, and `be`."""
    own, topic = FakeOwnAlerts(), FakeTopic(2)
    budgets = AlertBudgets(stream, own)
    app = create_app(
        Settings(),
        feed=stream.feed,
        budgets=budgets,
        history=FakeHistory(),
        own_alerts=own,
        alert_sender=lambda: FakeSender(topic),
        now=lambda: stream.clock.now,
    )

    def be(caller):
        app.state.authenticate = lambda request: caller

    be(caller)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield SimpleNamespace(
            app=app, client=client, own=own, budgets=budgets, topic=topic, be=be, stream=stream
        )
