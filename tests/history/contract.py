"""What a history must answer, on chDB and on a server alike: one contract, run against both."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from outlay.budget import Amounts
from outlay.money import COST_NANO_MAX, to_decimal
from outlay.scope import Scope
from outlay.window import Window
from streams.clickhouse import ClickHouse
from streams.clickhouse_queries import ScopeUsage, SpendReport
from streams.history_rows import TABLE, Message
from tests.history.records import NOW, columns_of, message, usage

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


async def insert(clickhouse: ClickHouse, *messages: Message) -> None:
    """Insert messages as one batch."""
    await clickhouse.insert(TABLE, columns_of(*messages))


async def holds_the_contract(clickhouse: ClickHouse) -> None:
    """All of it, on an empty history."""
    await _shows_replays_once(clickhouse)
    await _keeps_different_records_apart(clickhouse)
    await _adds_up_exactly(clickhouse)
    await _answers_reports(clickhouse)


async def _shows_replays_once(clickhouse: ClickHouse) -> None:
    first = usage(organization_id="replays", cost_usd="0.000000001", metadata={"v": 1})
    second = usage(organization_id="replays", cost_usd="12.5", occurred_at=NOW - timedelta(days=90))
    batch = [message(first, offset=5), message(second, offset=6)]
    await insert(clickhouse, *batch)
    await insert(clickhouse, *batch)  # a replay, in the same grouping
    await insert(clickhouse, batch[1])  # and in another
    await insert(clickhouse, message(first, offset=90))  # the producer sent it again
    await insert(clickhouse, message(first, first, second, offset=91, partition=2))
    total = await clickhouse.total("replays")
    assert (total.records, total.ids, total.late) == (2, 2, 1)
    assert total.amounts.cost_nano == 12_500_000_001
    offsets = "SELECT toInt64(max(kafka_offset)) FROM usage WHERE organization_id = 'replays'"
    await insert(clickhouse, *batch)  # an older copy does not step in front of a newer one
    assert await clickhouse.run(lambda client: client.command(offsets)) == 91


async def _keeps_different_records_apart(clickhouse: ClickHouse) -> None:
    same = usage(organization_id="apart")
    other_organization = usage(organization_id="apart2", id=same.id)
    other_agent = usage(organization_id="apart", id=same.id, agent_id="a2")
    twin = usage(organization_id="apart")  # equal but for its id
    await insert(clickhouse, message(same, other_organization, other_agent, twin))
    assert (await clickhouse.total("apart")).records == 3
    assert (await clickhouse.total("apart2")).records == 1


async def _adds_up_exactly(clickhouse: ClickHouse) -> None:
    largest = to_decimal(COST_NANO_MAX)
    records = [
        usage(organization_id="sums", cost_usd=largest, input_tokens=10**12, executions=10**9)
        for _ in range(1000)
    ]
    records += [
        usage(organization_id="sums", cost_usd=Decimal("0.000000001"), input_tokens=1),
        usage(
            organization_id="sums",
            cost_usd=-largest,
            kind="correction",
            output_tokens=-7,
            executions=-1,
        ),
    ]
    await insert(clickhouse, message(*records))
    total = (await clickhouse.total("sums")).amounts
    assert total == Amounts(999 * COST_NANO_MAX + 1, 10**12, 10**15 + 1, -7)
    # executions: a thousand times 10**9, one by default, and the correction takes one back


async def _answers_reports(clickhouse: ClickHouse) -> None:
    await insert(
        clickhouse,
        message(
            usage(organization_id="r", team_id="t1", user_id="u1", model="m1", input_tokens=3),
            usage(organization_id="r", team_id="t1", user_id="u2", model="m1", agent_id="a2"),
            usage(organization_id="r", user_id="u1", cost_usd="0.5", occurred_at=START),
            usage(organization_id="r2", team_id="t1", model="m1", cost_usd="7"),
        ),
    )
    dollar = 1_000_000_000
    rows = await clickhouse.ask(SpendReport(START, END, "day", "team", "r"))
    assert [(row.window, row.group, row.amounts.cost_nano, row.records) for row in rows] == [
        ("2026-11-01", None, dollar // 2, 1),
        ("2026-11-21", "t1", 2 * dollar, 2),
    ]
    october = SpendReport(datetime(2026, 10, 1, tzinfo=UTC), START, organization_id="r")
    assert await clickhouse.ask(october) == []  # a range ends without its end
    rows = await clickhouse.ask(SpendReport(START, END, "month", "organization"))  # no constant
    assert [(row.organization_id, row.records) for row in rows if row.organization_id == "r2"] == [
        ("r2", 1)
    ]
    for group_by in ("organization", "team", "model"):  # constants alone make no row of nothing
        october = SpendReport(datetime(2026, 10, 1, tzinfo=UTC), START, "month", group_by, "r")
        assert await clickhouse.ask(october) == []
    rows = await clickhouse.ask(SpendReport(START, END, "month", "user", "r"))
    assert [(row.window, row.group, row.amounts.cost_nano) for row in rows] == [
        ("2026-11", "u1", 3 * dollar // 2),
        ("2026-11", "u2", dollar),
    ]
    rows = await clickhouse.ask(SpendReport(START, END, "month", "model"))
    assert [
        (row.organization_id, row.group, row.amounts.cost_nano) for row in rows if row.group
    ] == [(None, "m1", 9 * dollar)]
    for scope, cost_nano in [
        (Scope("r"), 5 * dollar // 2),
        (Scope("r", team_id="t1"), 2 * dollar),
        (Scope("r", user_id="u1"), 3 * dollar // 2),
        (Scope("r", team_id="t1", user_id="u1"), dollar),
        (Scope("r", agent_id="a2"), dollar),
        (Scope("r", agent_id="it's \\ nobody"), 0),
    ]:
        used = (await clickhouse.ask(ScopeUsage(scope, Window("2026-11"))))[0]
        assert used.cost_nano == cost_nano, scope
    day = (await clickhouse.ask(ScopeUsage(Scope("r"), Window("2026-11-21"))))[0]
    assert day == Amounts(2 * dollar, 2, 3, 0)
