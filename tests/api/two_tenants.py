"""An app on parts in memory with keys of two tenants, all of whose names nobody can guess."""

import base64
from contextlib import contextmanager
from decimal import Decimal
from types import SimpleNamespace

import msgspec
from fastapi.testclient import TestClient

from api.app import create_app
from outlay.alert import encode_alert
from outlay.alert_config import AlertConfig
from outlay.budget import Amounts, Budget
from outlay.keyfile import KeyFile
from outlay.scope import Scope
from outlay.testing import InMemoryStream
from schemas.settings import Settings
from streams.clickhouse_alerts import AlertLog, AlertRow, DeliveryLog, DeliveryRow
from streams.clickhouse_audit import AuditLog, AuditPlace, AuditRow
from streams.clickhouse_log import Place
from streams.clickhouse_queries import ScopeUsage, SpendReport, SpendRow
from tests.api.alert_parts import AlertBudgets, FakeOwnAlerts
from tests.api.fakes import NOW
from tests.history.records import alert
from tests.library.library_fakes import FakeSender, FakeTopic

NOW_MS = int(NOW.timestamp() * 1000)


class Tenant:
    """One of the two: its organization, and the mark that every name and sum of it has."""

    def __init__(self, name, mark, number):
        self.mark = mark
        self.number = number
        """How many input tokens its agent has used: a sum that is found nowhere else."""
        self.organization = f"{name}-{mark}"
        self.agent, self.team, self.user = f"agent-{mark}", f"team-{mark}", f"user-{mark}"
        own = self.organization
        self.scopes = [
            Scope(own),
            Scope(own, agent_id=self.agent),
            Scope(own, team_id=self.team),
            Scope(own, user_id=self.user),
            Scope(own, team_id=self.team, user_id=self.user),
        ]
        self.key = ""

    def told_in(self, text):
        """Whether a text says anything of the tenant."""
        return self.mark in text or str(self.number) in text


class TenantHistory:
    """What ClickHouse would hold of tenants; a query of no organization gets the rows of all."""

    def __init__(self, tenants):
        self._tenants = tenants
        self._rows = {
            SpendReport: self._spend,
            AuditLog: self._audit,
            AlertLog: self._alerts,
            DeliveryLog: self._deliveries,
        }

    async def ask(self, query):
        """The rows that the statement of the query would find."""
        if isinstance(query, ScopeUsage):
            asked = query.scope.organization_id
            number = sum(each.number for each in self._tenants if each.organization == asked)
            return [Amounts(5, 1, number, 0)]
        rows = self._rows[type(query)]
        own = (None, query.organization_id)
        found = [
            row
            for place, each in enumerate(self._tenants)
            if query.organization_id in (None, each.organization)
            for row in rows(place, each)
        ]
        assert own[1] is None or all(_organization_of(row) in own for row in found)
        return found

    async def ping(self):
        """It is there."""

    def _spend(self, place, tenant):
        amounts = Amounts(7, 1, tenant.number, 0)
        return [SpendRow("2026-11-21", tenant.organization, tenant.agent, amounts, 1)]

    def _audit(self, place, tenant):
        budget = msgspec.json.encode(Budget(monthly_token_limit=tenant.number)).decode()
        return [
            AuditRow(
                organization_id=tenant.organization,
                scope=scope.key,
                request_id=f"request-{tenant.mark}-{n}",
                requested_by=f"admin-{tenant.mark}",
                action="put",
                accepted=True,
                reason="",
                version=1,
                before=None,
                after=budget,
                place=AuditPlace(NOW_MS, place, n),
            )
            for n, scope in enumerate(tenant.scopes)
        ]

    def _alerts(self, place, tenant):
        told = [
            alert(
                alert_id=f"alt_{tenant.mark}_{n}",
                scope=scope.key,
                organization_id=tenant.organization,
                used=str(tenant.number),
                limit_kind="tokens",
            )
            for n, scope in enumerate(tenant.scopes)
        ]
        rows = [(encode_alert(each), NOW_MS, each.alert_id) for each in told]
        return [AlertLog(1).row(row) for row in rows]

    def _deliveries(self, place, tenant):
        return [
            DeliveryRow(
                organization_id=tenant.organization,
                delivery_id=f"alt_{tenant.mark}_{n}",
                alert_ids=(f"alt_{tenant.mark}_{n}",),
                scope=scope.key,
                event="budget.threshold",
                channel="email",
                target=f"ann@{tenant.mark}.example",
                attempt=1,
                status="failed",
                code=None,
                reason=f"no answer of {tenant.mark}",
                duration_ms=tenant.number,
                next_attempt_at=None,
                test=False,
                place=Place(NOW_MS, f"{place}.{n}"),
            )
            for n, scope in enumerate(tenant.scopes)
        ]


def _organization_of(row):
    return row.alert.organization_id if isinstance(row, AlertRow) else row.organization_id


@contextmanager
def two_tenants(directory):
    """`client`, `stream`, and the `tenants`, each of which has budgets, usage and an admin key."""
    tenants = [Tenant("acme", "q7x2mzkf0w", 61803398), Tenant("globex", "v9j4htrb3s", 27182818)]
    file = KeyFile(directory / "keys.json")
    for each in tenants:
        _, each.key = file.create(f"key-{each.mark}", each.organization, ("admin",))
    with InMemoryStream(NOW) as stream:
        own_alerts = FakeOwnAlerts()
        for each in tenants:
            _plant(stream, each)
            own_alerts.set(each.scopes[0], _alerts_of(each))
        app = create_app(
            Settings(api_keys_file=str(file.path)),
            feed=stream.feed,
            budgets=AlertBudgets(stream, own_alerts),
            own_alerts=own_alerts,
            alert_sender=lambda: FakeSender(FakeTopic(2)),
            history=TenantHistory(tenants),
            usage_sender=lambda: FakeSender(FakeTopic(2)),
            gateway=stream.gateway,
            now=lambda: stream.clock.now,
        )
        with TestClient(app, "http://outlay.example", raise_server_exceptions=False) as client:
            yield SimpleNamespace(app=app, client=client, stream=stream, tenants=tenants)


def _alerts_of(tenant):
    mark = tenant.mark
    return AlertConfig(
        webhook_url=f"https://{mark}.example/{mark}",
        webhook_secrets=("whsec_" + base64.b64encode(mark.encode() * 3).decode(),),
        email_recipients=(f"ann@{mark}.example",),
    )


def _plant(stream, tenant):
    for scope in tenant.scopes:
        limits = {"monthly_budget_usd": Decimal(10), "monthly_token_limit": tenant.number * 2}
        stream.budgets.put(scope, Budget(**limits))
    stream.budgets.put_alerts(tenant.scopes[0], _alerts_of(tenant))
    assert stream.emitter.emit(
        organization_id=tenant.organization,
        agent_id=tenant.agent,
        team_id=tenant.team,
        user_id=tenant.user,
        cost_usd="0.01",
        input_tokens=tenant.number,
    )
