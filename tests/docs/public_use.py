"""How users write against the library, for mypy --strict; it is checked and not run."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, FastAPI

from outlay import (
    Amounts,
    Budget,
    BudgetClient,
    BudgetExceededError,
    BudgetGateway,
    CheckResult,
    Decision,
    DecisionFeed,
    Delivered,
    Explanation,
    OutlayError,
    Reservation,
    Scope,
    TopicNames,
    UsageEmitter,
    UsageRecord,
)
from outlay.client import (
    AsyncClient,
    CheckAnswer,
    Client,
    DecisionEvent,
    Page,
    Problem,
    Retries,
    ScopeBudget,
    WrittenBudget,
)
from outlay.governance import (
    BudgetAlertConfig,
    BudgetCheckResult,
    BudgetScope,
    BudgetStatus,
    BudgetStore,
    BudgetUsageRecord,
    ExternalAgentBudget,
    ExternalAgentBudgetConfig,
    ExternalAgentBudgetEnforcer,
    ExternalAgentService,
    GovernanceService,
    InMemoryBudgetStore,
    StreamBudgetStore,
    set_default_invoker,
)
from outlay.integrations.fastapi import BudgetCall, budget_responses, require_budget
from outlay.testing import InMemoryStream
from outlay.training import BudgetEnforcer, TrainingBudget, TrainingReport, check_budget


def told(details: Delivered, /) -> None:
    print(details.partition, details.offset, [record.id for record in details.records])


def agents() -> None:
    names = TopicNames("mine")
    with UsageEmitter("kafka:9092", topics=names, on_delivered=told) as emitter:
        taken: bool = emitter.emit(organization_id="acme", agent_id="a", cost_usd=0.1)
        record = UsageRecord.new(
            organization_id="acme",
            agent_id="a",
            cost_usd=Decimal("0.1"),
            occurred_at=datetime.now(UTC),
            metadata={"trace": "t"},
        )
        emitter.emit(record)
        print(taken, emitter.stats.sent, emitter.flush(1.0))


def gateways(emitter: UsageEmitter) -> Decimal | None:
    with BudgetGateway("kafka:9092", emitter=emitter) as gateway:
        gateway.wait_ready(5)
        result: CheckResult = gateway.check(organization_id="acme", estimated_cost_usd="0.5")
        explanation: Explanation = gateway.explain(organization_id="acme", agent_id="a")
        for scope in explanation.scopes:
            for limit in scope.limits:
                print(scope.scope, limit.kind, limit.remaining)
        try:
            with gateway.reserve(organization_id="acme", agent_id="a") as call:
                held: Reservation = call
                held.settle("0.4", input_tokens=5)
        except BudgetExceededError as error:
            print(error.result)

        @gateway.guard(organization_id="acme", agent_id="a", actual=lambda answer: answer)
        def ask(prompt: str) -> Decimal:
            return Decimal(len(prompt))

        cost: Decimal = ask("?")
        print(cost)
        return result.remaining_usd


async def budgets() -> Amounts:
    async with DecisionFeed("kafka:9092") as feed, BudgetClient("kafka:9092", feed) as client:
        await feed.await_ready()
        scope = Scope("acme", team_id="search")
        decision: Decision = await client.aput(scope, Budget(monthly_budget_usd=Decimal(5)))
        try:
            await client.apatch(scope, {"daily_token_limit": 5}, expected_version=decision.version)
        except OutlayError as error:
            print(error)
        return decision.used(datetime.now(UTC).toordinal())[0]


async def governance(feed: DecisionFeed, emitter: UsageEmitter) -> None:
    config = ExternalAgentBudgetConfig(warning_threshold=0.5, timezone="Europe/Berlin")
    memory: BudgetStore = InMemoryBudgetStore()
    production: BudgetStore = StreamBudgetStore(feed, emitter)
    enforcer = ExternalAgentBudgetEnforcer(config, memory)
    budget = ExternalAgentBudget("agent-001", monthly_budget_usd=1000.0, monthly_spent_usd=0.0)
    result: BudgetCheckResult = await enforcer.check_budget(budget, estimated_cost=10.0)
    budget = await enforcer.record_usage(budget, actual_cost=9.5, execution_success=True)
    status: BudgetStatus = await enforcer.get_budget_status("agent-001", BudgetScope("acme"))
    await memory.record_usage(BudgetUsageRecord("run-1", "agent-001", BudgetScope("acme")))
    print(result.reason, status.cost_remaining, production, BudgetAlertConfig())
    service = GovernanceService()
    await service.initialize()
    answer = await service.check_budget("agent-001", "acme", estimated_cost=1)
    await service.record_invocation_cost("agent-001", "acme", 0.5, True, metadata={"ms": 5})
    await service.close()
    print(answer.allowed)


async def run(agent_id: str, request: object) -> dict[str, object]:
    return {"actual_cost": 0.5, "agent": agent_id, "request": request}


async def services() -> None:
    set_default_invoker(run)
    async with ExternalAgentService() as service:
        await service.invoke("agent-001", "user-001", "acme", {"input": "?"})
        allowed, info = await service.check_budget("agent-001", "acme", 10.0)
        print(allowed, f"{info['remaining_budget_usd']:.2f}")


def over_http() -> Decimal | None:
    with Client("http://outlay", key="outlay_sk_x", retries=Retries(attempts_max=2)) as outlay:
        written: WrittenBudget = outlay.budgets.put(Scope("acme"), Budget())
        outlay.budgets.patch("organization:acme", {"daily_token_limit": 5}, if_version=1)
        found: list[ScopeBudget] = list(outlay.budgets.list(state="ok"))
        page: Page[ScopeBudget] = outlay.budgets.page(cursor="c")
        event: DecisionEvent = next(outlay.decisions.stream(scope=Scope("acme")))
        outlay.usage.report({"organization_id": "acme", "agent_id": "a", "cost_usd": 0.1})
        try:
            answer: CheckAnswer = outlay.check(organization_id="acme", estimated_cost_usd="1")
        except Problem as error:
            print(error.type, error.errors, error.request_id)
            return None
        print(written.version, found, page.next_cursor, event.kind, outlay.ready().checks)
        return answer.remaining_usd


async def over_http_in_a_loop() -> Decimal:
    async with AsyncClient("http://outlay") as outlay:
        written: WrittenBudget = await outlay.budgets.put(Scope("acme"), Budget())
        async for budget in outlay.budgets.list(kind="team"):
            print(budget.state, written.created)
        async for event in outlay.decisions.stream():
            print(event.kind)
            break
        return (await outlay.reports.spend("2026-11-01", "2026-12-01")).total.cost_usd


def trainings(emitter: UsageEmitter, gateway: BudgetGateway) -> TrainingReport:
    enforcer = BudgetEnforcer(Decimal(100))
    enforcer.add_cost(Decimal("33.333333"))
    print(enforcer.get_status()["status"], check_budget(Decimal(5), Decimal(6)))
    with TrainingBudget(
        enforcer, emitter=emitter, gateway=gateway, organization_id="acme", agent_id="trainer"
    ) as training:
        training.step(0.1)
    return training.report


app = FastAPI(responses=budget_responses())
budget = require_budget(who={"organization_id": "acme"}, estimate="0.05")


@app.post("/invoke/{agent_id}")
async def invoke(agent_id: str, call: Annotated[BudgetCall, Depends(budget)]) -> dict[str, str]:
    call.settle("0.04")
    return {"agent": agent_id}


def tests() -> None:
    with InMemoryStream(datetime(2026, 11, 21, tzinfo=UTC)) as stream:
        stream.budgets.put(Scope("acme"), Budget(monthly_budget_usd=Decimal(1)))
        gateways(stream.emitter)
        trainings(stream.emitter, stream.gateway)
        stream.clock.advance(hours=1)
