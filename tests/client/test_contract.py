"""What both clients do with the real API, served by uvicorn on loopback."""

import uuid
from contextlib import closing
from datetime import date
from decimal import Decimal

import pytest

from outlay import Budget, CheckResult, Scope, UsageRecord
from outlay.alert_config import AlertConfig
from outlay.client import (
    AsyncClient,
    BodyTooLarge,
    Client,
    InvalidRequest,
    NotFound,
    VersionMismatch,
)
from outlay.client.operations import Operation, Resource, Stream
from outlay.judging import decode_usage
from tests.api.alert_parts import SECRET
from tests.api.fakes import NOW

ODD = "a/b:%2F ?#é+&\"'{}\\~.. explain"


@pytest.fixture
def org():
    """An organization that nobody else has."""
    return f"o-{uuid.uuid4().hex}"


def declared(resource):
    """The operations of a client: (method, path)."""
    found = set()
    for name in dir(type(resource)):
        each = getattr(type(resource), name)
        if isinstance(each, Operation | Stream):
            found.add((each.method, each.path))
    for each in vars(resource).values():
        if isinstance(each, Resource):
            found |= declared(each)
    return found


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_operation_of_the_api_is_covered(kind, world):
    """The OpenAPI document names no operation without a method, and no method is of another."""
    paths = world.app.openapi()["paths"]
    wanted = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert declared(kind("http://api.example")) == wanted


class TestBudgets:
    """`budgets`: all scopes, versions, pages, explanations."""

    def test_a_budget_from_making_it_to_its_end(self, outlay, org):
        """put, get, patch and delete of one budget, with the versions that lead on."""
        scope, budget = Scope(org, team_id="search"), Budget(monthly_budget_usd=Decimal("100.5"))
        made = outlay.budgets.put(scope, budget)
        assert (made.created, made.version, made.state, made.kind) == (True, 1, "ok", "team")
        assert made.budget == budget
        assert type(made.budget) is Budget
        assert made.windows.month.remaining.cost_usd == Decimal("100.5")
        changed = outlay.budgets.patch(
            scope.key, {"daily_budget_usd": 0.1, "monthly_execution_limit": 5}, if_version=1
        )
        assert (changed.created, changed.version) == (False, 2)
        assert changed.budget.daily_budget_usd == Decimal("0.1")
        found = outlay.budgets.get(scope, min_version=2)
        assert found.budget == changed.budget
        assert found.scope == f"organization:{org}/team:search"
        assert outlay.budgets.delete(scope, if_version=2) is None
        with pytest.raises(NotFound) as none:
            outlay.budgets.get(scope)
        assert none.value.type == "urn:outlay:problem:not-found"

    def test_another_version_changes_nothing(self, outlay, org):
        """Neither a wrong one, nor 0 where there is a budget, nor any where there is none."""
        scope = Scope(org)
        with pytest.raises(VersionMismatch) as none:
            outlay.budgets.put(scope, Budget(), if_version="any")
        assert none.value.version == 0
        assert outlay.budgets.put(scope, Budget(), if_version=0).created
        for wrong in (0, 2):
            with pytest.raises(VersionMismatch) as other:
                outlay.budgets.patch(scope, {"daily_token_limit": 1}, if_version=wrong)
            assert other.value.version == 1
        with pytest.raises(VersionMismatch):
            outlay.budgets.delete(scope, if_version=7)
        for wrong in (-1, True, 1.5, "3"):
            with pytest.raises(ValueError, match="if_version"):
                outlay.budgets.delete(scope, if_version=wrong)
        assert outlay.budgets.patch(scope, {"daily_token_limit": 1}, if_version="any").version == 2

    def test_a_limit_below_what_is_used_says_so(self, outlay, org, world):
        """In the answer of the write, with the amounts as decimals."""
        world.stream.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.03")
        outlay.budgets.put(Scope(org), {"monthly_budget_usd": "1"})
        world.stream.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.03")
        written = outlay.budgets.patch(Scope(org), {"monthly_budget_usd": Decimal("0.02")})
        (warning,) = written.warnings
        assert (warning.field, warning.limit) == ("monthly_budget_usd", Decimal("0.02"))
        assert (warning.used, written.state) == (Decimal("0.06"), "exceeded")

    @pytest.mark.parametrize("name", [ODD, "..", ".", "explain", "a/explain", "%", "a%2Fb", "/"])
    def test_ids_of_any_characters(self, outlay, org, name):
        """They arrive as they are, in every place of a path or a query."""
        scope = Scope(org, agent_id=name)
        made = outlay.budgets.put(scope, Budget(daily_execution_limit=3))
        assert (made.agent_id, made.scope) == (name, scope.key)
        assert outlay.budgets.explain(scope).scope == scope.key
        assert outlay.agents.budget(name, organization_id=org).external_agent_id == name
        assert outlay.agents.check(name, organization_id=org).scope in ("", scope.key)
        odd = Scope(f"{org}{ODD}", team_id=name, user_id=name)
        outlay.budgets.put(odd, Budget())
        assert [each.scope for each in outlay.budgets.list(organization_id=f"{org}{ODD}")] == [
            odd.key
        ]
        assert [each.scope for each in outlay.audit.list(scope=odd, organization_id=f"{org}{ODD}")]

    def test_a_list_goes_over_its_pages(self, outlay, org, world):
        """All that fit the filters, each once, whatever a page holds; and from a cursor on."""
        scopes = [Scope(org, team_id=f"t{n}") for n in range(5)]
        for scope in (*scopes, Scope(org)):
            outlay.budgets.put(scope, Budget())
        asked = len(world.server.seen)
        keys = [
            each.scope
            for each in outlay.budgets.list(organization_id=org, kind="team", page_size=2)
        ]
        assert keys == [scope.key for scope in scopes]
        assert len(world.server.seen) - asked == 3
        first = outlay.budgets.page(organization_id=org, kind="team", page_size=2)
        rest = outlay.budgets.list(organization_id=org, kind="team", cursor=first.next_cursor)
        assert [each.scope for each in rest] == keys[2:]
        assert list(outlay.budgets.list(organization_id=org, state="exceeded")) == []

    def test_an_explanation(self, outlay, org, world):
        """Limits in their units, what decided, and the usage that it contains."""
        scope = Scope(org, agent_id="a")
        outlay.budgets.put(scope, Budget(daily_budget_usd=Decimal("0.5"), daily_token_limit=100))
        world.stream.emitter.emit(organization_id=org, agent_id="a", cost_usd="0.4", input_tokens=7)
        told = outlay.budgets.explain(scope, estimated_cost_usd=Decimal("0.2"))
        assert (told.rule.allowed, told.rule.decided_by) == (False, "limit")
        limits = {each.kind: each for each in told.windows[0].limits}
        assert limits["cost"].remaining == Decimal("0.1")
        assert type(limits["tokens"].used) is int
        assert limits["tokens"].used == 7
        assert told.windows[0].offsets  # of the one partition that its usage is in
        assert told.transitions[0].to_state == "warning"

    def test_a_key_of_ones_own_writes_once(self, outlay, org):
        """The same again under it changes nothing; something else is refused."""
        scope, key = Scope(org), uuid.uuid4().hex
        first = outlay.budgets.put(scope, Budget(daily_token_limit=5), idempotency_key=key)
        again = outlay.budgets.put(scope, Budget(daily_token_limit=5), idempotency_key=key)
        assert first.version == again.version == 1
        with pytest.raises(InvalidRequest) as reused:
            outlay.budgets.put(scope, Budget(daily_token_limit=6), idempotency_key=key)
        assert reused.value.type.endswith("idempotency-key-reused")

    def test_what_is_wrong_is_named(self, outlay, org):
        """By its place, and before anything is sent where the client can know."""
        with pytest.raises(InvalidRequest) as wrong:
            outlay.budgets.patch(Scope(org), {"daily_token_limit": -1, "of_tomorrow": 1})
        assert {each.location for each in wrong.value.errors} >= {
            "body.daily_token_limit",
            "body.of_tomorrow",
        }
        for value in (float("nan"), Decimal("Infinity")):
            with pytest.raises(ValueError, match="finite"):
                outlay.budgets.patch(Scope(org), {"daily_budget_usd": value})
        with pytest.raises(ValueError, match="canonical"):
            outlay.budgets.get(f"organization:{org}/agent:a b")


class TestUsage:
    """`usage`: records in, each once."""

    def arrived(self, world, org):
        """The records of an organization on the topic."""
        found = []
        for _, _, value in world.topic.messages():
            usages, rejections = decode_usage(value, int(world.stream.clock.time() * 1000))
            assert not rejections
            found += [usage.record for usage in usages if usage.record.organization_id == org]
        return found

    def test_records_arrive_as_they_are(self, outlay, world, org):
        """Given as a record, as its fields, or many of both; with their ids."""
        record = UsageRecord.new(
            organization_id=org, agent_id="a", cost_usd="0.000000001", metadata={"deep": [1]}
        )
        fields = {"organization_id": org, "agent_id": "b", "cost_usd": 0.1, "occurred_at": NOW}
        accepted = outlay.usage.report([record, fields])
        assert (accepted.accepted, accepted.replayed) == (2, False)
        assert accepted.records[0].id == record.id
        assert outlay.usage.report(fields).accepted == 1
        arrived = {each.id: each for each in self.arrived(world, org)}
        assert len(arrived) == 3
        assert arrived[record.id] == record
        assert arrived[accepted.records[1].id].cost_usd == "0.10"

    def test_many_go_packed(self, outlay, world, org):
        """A thousand records in one body, which is small on the way; one more is too many."""
        fields = {"organization_id": org, "agent_id": "a", "cost_usd": "0.01"}
        assert outlay.usage.report([fields] * 1000).accepted == 1000
        _, headers = world.server.seen[-1]
        assert headers["content-encoding"] == "gzip"
        assert int(headers["content-length"]) < 100_000
        assert len(self.arrived(world, org)) == 1000
        with pytest.raises((InvalidRequest, BodyTooLarge)):
            outlay.usage.report([fields] * 1001)

    def test_under_one_key_they_count_once(self, outlay, world, org):
        """And the answer says that it is of before."""
        record = UsageRecord.new(organization_id=org, agent_id="a", cost_usd=1, occurred_at=NOW)
        key = uuid.uuid4().hex
        assert not outlay.usage.report(record, idempotency_key=key).replayed
        assert outlay.usage.report(record, idempotency_key=key).replayed
        assert len(self.arrived(world, org)) == 1

    def test_what_is_wrong_is_not_sent(self, outlay, world, org):
        """A record that cannot be is said at once."""
        asked = len(world.server.seen)
        with pytest.raises(ValueError, match="finite"):
            outlay.usage.report({"organization_id": org, "agent_id": "a", "cost_usd": "nan"})
        with pytest.raises(TypeError):
            outlay.usage.report({"organization_id": org, "agent_id": "a", "costs_usd": 1})
        assert len(world.server.seen) == asked


class TestChecks:
    """`check`, `agents.check` and `ext_authz`: one answer."""

    def test_the_three_say_the_same(self, outlay, org):
        """Yes with what is left, and no with the reason, and when to come back."""
        outlay.budgets.put(Scope(org), Budget(daily_budget_usd=Decimal("0.5")))
        who = {"organization_id": org, "team_id": "t", "user_id": "ü 1"}

        def ask(cost):
            return (
                outlay.check(agent_id="a", estimated_cost_usd=cost, **who),
                outlay.agents.check("a", estimated_cost_usd=cost, **who),
                outlay.ext_authz("/v1/chat", agent_id="a", estimated_cost_usd=cost, **who),
            )

        for answer in ask("0.5"):
            assert isinstance(answer, CheckResult)
            assert (answer.allowed, answer.state) == (True, "ok")
            assert answer.remaining_usd == Decimal("0.5")
        blocked = ask(Decimal("0.6"))
        for answer in blocked:
            assert (answer.allowed, answer.scope) == (False, f"organization:{org}")
            assert "0.60" in answer.reason
        assert blocked[0] == blocked[1]
        assert blocked[0].retry_after_s is None  # no reset helps
        outlay.budgets.patch(Scope(org), {"daily_execution_limit": 0, "daily_budget_usd": None})
        assert not outlay.ext_authz(agent_id="a", **who).allowed
        assert outlay.check(agent_id="a", **who).resets_at.day > NOW

    def test_what_a_header_cannot_hold_is_refused(self, outlay, org):
        """Before it becomes another header, or another id."""
        for wrong in ("a\r\nx-outlay-team: t", " a", ""):
            with pytest.raises(ValueError, match="header"):
                outlay.ext_authz(agent_id=wrong, organization_id=org)


class TestAgents:
    """`agents`: the resources of external agents."""

    def test_a_budget_is_configured_and_read(self, outlay, org):
        """Amounts are decimals, digit by digit, though the API writes numbers."""
        configured = outlay.agents.configure(
            "a", {"monthly_budget_usd": Decimal("0.300000003")}, organization_id=org
        )
        assert configured.budget_limit_monthly == Decimal("0.300000003")
        status = outlay.agents.budget("a", organization_id=org)
        assert (status.period, status.cost_remaining) == ("monthly", Decimal("0.300000003"))
        governed = outlay.agents.governance_status("a", organization_id=org)
        assert governed.budget.monthly_budget_usd == Decimal("0.300000003")
        unlimited = outlay.agents.budget("b", organization_id=org)
        assert (unlimited.cost_used, unlimited.cost_limit) == (Decimal("0.300000003"), None)


class TestDecisions:
    """`decisions.stream`: events that go on."""

    def test_changes_come_and_go_on_after_a_cut(self, outlay, clients, world, org):
        """Everything first, then what changes; a connection that ends is opened again."""
        scope = Scope(org, team_id="t")
        outlay.budgets.put(scope, Budget(daily_execution_limit=9))
        outlay.budgets.put(Scope(f"{org}-other"), Budget())
        world.server.cut_next_stream(messages=4)  # `retry`, `reset`, a decision, `synced`
        with closing(outlay.decisions.stream(scope=Scope(org))) as events:
            assert next(events).kind == "reset"
            first = next(events)
            assert (first.kind, first.scope) == ("decision", scope.key)
            assert first.decision.budget == Budget(daily_execution_limit=9)
            known = next(events)
            assert known.kind == "synced"
            assert known.id
            # The cut: it comes back with that id, and is told what it lacks.
            again = next(events)
            while again.kind != "synced":
                assert again.kind == "decision"  # and no `reset`
                again = next(events)
            assert clients.pauses == [2.0]  # as the stream says itself
            assert world.server.seen[-1][1]["last-event-id"] == known.id
            outlay.budgets.delete(scope)
            gone = next(events)
            assert (gone.kind, gone.scope) == ("deleted", scope.key)

    def test_a_later_stream_goes_on_from_an_id(self, outlay, org):
        """Of one's own keeping."""
        outlay.budgets.put(Scope(org), Budget())
        with closing(outlay.decisions.stream(organization_id=org)) as events:
            last = next(event for event in events if event.kind == "synced")
        with closing(outlay.decisions.stream(organization_id=org, last_event_id=last.id)) as events:
            assert next(events).kind != "reset"


class TestHistory:
    """`reports` and `audit`."""

    def test_a_spend_report(self, outlay, org):
        """Decimals, and times with their zone."""
        report = outlay.reports.spend(date(2026, 11, 1), NOW, group_by="model", organization_id=org)
        assert report.start.isoformat() == "2026-11-01T00:00:00+00:00"
        assert (report.end, report.group_by) == (NOW, "model")
        assert report.total.cost_usd == report.rows[0].cost_usd == Decimal("0.300000003")
        assert report.rows[0].group is None
        with pytest.raises(ValueError, match="zone"):
            outlay.reports.spend(NOW.replace(tzinfo=None), NOW)

    def test_the_audit_over_its_pages(self, outlay, org):
        """The newest first, budgets like any other."""
        entries = list(outlay.audit.list(organization_id=org, start="2026-11-01", page_size=2))
        assert [each.offset for each in entries] == [4, 3, 2, 1, 0]
        assert entries[0].after == Budget(monthly_budget_usd=Decimal("7.5"))
        assert entries[0].before is None
        page = outlay.audit.page(organization_id=org, page_size=2)
        assert len(page.items) == 2
        assert page.next_cursor is not None


class TestAlerts:
    """`alerts`: whose configuration holds, and trying it."""

    def test_a_configuration_from_setting_it_to_its_end(self, outlay, org):
        """Without its secrets; a test goes where it says; then the default holds again."""
        scope = Scope(org, team_id="a/b")
        version = outlay.budgets.put(scope, Budget()).version
        config = AlertConfig(
            webhook_url="https://hooks.example/secret",
            webhook_secrets=[SECRET],
            email_recipients=("ann@example.com",),
            thresholds=(Decimal("0.5"), Decimal("2")),
        )
        held = outlay.alerts.put(scope, config, if_version=version)
        assert (held.source, held.version, held.webhook_secret_count) == ("budget", version + 1, 1)
        assert held.alerts.thresholds == config.thresholds
        assert "secret" not in str(held.alerts)
        assert outlay.alerts.get(scope, min_version=held.version) == held
        kept = outlay.alerts.put(scope, {"cooldown_minutes": 5}, if_version="any")
        assert (kept.alerts.cooldown_minutes, kept.webhook_secret_count) == (5, 1)
        assert outlay.alerts.put(scope, {"webhook_secrets": []}).webhook_secret_count == 0
        outlay.alerts.put(scope, config)
        tested = outlay.alerts.test(scope)
        assert (tested.scope, set(tested.channels)) == (scope.key, {"webhook", "email"})
        with pytest.raises(VersionMismatch):
            outlay.alerts.delete(scope, if_version=version)
        outlay.alerts.delete(scope)
        assert outlay.alerts.get(scope).source == "default"

    def test_logs_of_alerts(self, outlay, org):
        """Their filters are those of the API."""
        which = {"organization_id": org, "scope": Scope(org), "start": NOW, "end": "2026-12-01"}
        assert list(outlay.alerts.list(event="budget.exceeded", window="2026-11", **which)) == []
        delivered = outlay.alerts.deliveries(
            status="failed", channel="webhook", alert_id="alt_1", **which
        )
        assert list(delivered) == []


class TestHealth:
    """What needs no key."""

    def test_alive_ready_and_measured(self, clients, world):
        """Without a key."""
        anyone = clients(world.server.url)
        assert anyone.alive() is True
        readiness = anyone.ready()
        assert (readiness.ready, readiness.checks["feed"].ok) == (True, True)
        assert "outlay_" in anyone.metrics()

    def test_not_ready_is_an_answer(self, clients, world):
        """That names what is not in order, and at once."""
        history = world.app.state.services.history
        world.app.state.services.history = _Away()
        try:
            readiness = clients(world.server.url).ready()
        finally:
            world.app.state.services.history = history
        assert (readiness.ready, readiness.checks["clickhouse"].ok) == (False, False)
        assert readiness.checks["clickhouse"].detail == "it is away"
        assert clients.pauses == []


class _Away:
    async def ping(self):
        from streams.clickhouse_errors import HistoryAway

        raise HistoryAway("it is away")
