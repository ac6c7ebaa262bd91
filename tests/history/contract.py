"""What a history must answer, on chDB and on a server alike: one contract, run against both."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from outlay.alert_config import AlertConfig
from outlay.budget import Amounts
from outlay.money import COST_NANO_MAX, to_decimal
from outlay.scope import Scope
from outlay.window import Window
from streams.clickhouse import ClickHouse
from streams.clickhouse_alerts import AlertLog, DeliveryLog
from streams.clickhouse_audit import AuditLog, AuditRow
from streams.clickhouse_queries import ScopeUsage, SpendReport
from streams.history_alerts import AlertBatch, DeliveryBatch
from streams.history_rows import TABLE, Message, Rows
from tests.history.records import (
    NOW,
    alert,
    alert_told,
    audit_batch,
    audit_record,
    audit_told,
    columns_of,
    delivery,
    delivery_told,
    filled,
    message,
    usage,
)

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
    await _tells_of_each_request_once(clickhouse)
    await _pages_through_the_audit(clickhouse)
    await _tells_of_each_alert_once(clickhouse)
    await _pages_through_alerts(clickhouse)
    await _tells_of_each_attempt_once(clickhouse)
    await _pages_through_attempts(clickhouse)


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


async def insert_audit(clickhouse: ClickHouse, *messages: Message) -> None:
    """Insert messages of the audit topic as one batch."""
    await _insert_rows(clickhouse, audit_batch(*messages))


async def insert_alerts(clickhouse: ClickHouse, *messages: Message) -> None:
    """Insert messages of the alerts topic as one batch."""
    await _insert_rows(clickhouse, filled(AlertBatch(), *messages))


async def insert_deliveries(clickhouse: ClickHouse, *messages: Message) -> None:
    """Insert messages of the deliveries topic as one batch."""
    await _insert_rows(clickhouse, filled(DeliveryBatch(), *messages))


async def _insert_rows(clickhouse: ClickHouse, batch: Rows) -> None:
    await clickhouse.insert(batch.table, batch.columns(ingested_at_ms=0))


async def _tells_of_each_request_once(clickhouse: ClickHouse) -> None:
    made = audit_record(organization_id="once", offset=4)
    refused = audit_record(
        organization_id="once", offset=5, accepted=False, reason="it's \\ no", before=made.after
    )
    batch = [audit_told(made, offset=10), audit_told(refused, offset=11)]
    await insert_audit(clickhouse, *batch)
    await insert_audit(clickhouse, *batch)  # the sink again
    told = AlertConfig(cooldown_minutes=5)
    again = msgspec.structs.replace(made, version=2, alerts_after=told)
    await insert_audit(clickhouse, audit_told(again, offset=12))  # the stream again: it counts
    await insert_audit(clickhouse, batch[0])
    rows = await clickhouse.ask(AuditLog(10, "once"))
    assert [(row.place.offset, row.version, row.accepted, row.reason) for row in rows] == [
        (5, 1, False, "it's \\ no"),
        (4, 2, True, ""),
    ]
    assert (rows[1].before, rows[1].after) == (None, '{"monthly_budget_usd":"5.00"}')
    assert rows[0].before == rows[0].after == rows[1].after
    assert (rows[1].alerts_before, rows[1].alerts_after) == (None, _text(told))
    assert rows[0].alerts_after is None
    assert (rows[1].scope, rows[1].request_id) == ("organization:once", "r4")
    assert (rows[1].requested_by, rows[1].action, rows[1].requested_at) == ("ann", "patch", NOW)


def _text(config: AlertConfig) -> str:
    return msgspec.json.encode(config).decode()


async def _pages_through_the_audit(clickhouse: ClickHouse) -> None:
    second = timedelta(seconds=1)
    places = [(at, p, o) for at in range(3) for p in range(2) for o in (9, 10)]
    records = [
        audit_record(
            organization_id="pages",
            scope=f"organization:pages/agent:a{p}",
            requested_at=NOW + at * second,
            partition=p,
            offset=o + 2 * at,
        )
        for at, p, o in places
    ]
    await insert_audit(clickhouse, *(audit_told(r, offset=n) for n, r in enumerate(records)))
    await insert_audit(clickhouse, audit_told(audit_record(organization_id="pages2")))
    want = [(r.requested_at, r.partition, r.offset) for r in reversed(records)]

    def told(rows: list[AuditRow]) -> list[tuple[datetime, int, int]]:
        return [(row.requested_at, row.place.partition, row.place.offset) for row in rows]

    found: list[AuditRow] = []
    for _ in range(4):  # the last one finds nothing
        behind = found[-1].place if found else None
        found += await clickhouse.ask(AuditLog(5, "pages", behind=behind))
    assert told(found) == want
    one = AuditLog(100, "pages", "organization:pages/agent:a1", NOW + second, NOW + 2 * second)
    assert told(await clickhouse.ask(one)) == [w for w in want if w[:2] == (NOW + second, 1)]
    everything = await clickhouse.ask(AuditLog(100))
    assert {row.organization_id for row in everything} == {"once", "pages", "pages2"}
    assert await clickhouse.ask(AuditLog(100, "it's \\ nobody")) == []
    ends = [datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)]
    assert len(await clickhouse.ask(AuditLog(100, "pages", start=ends[0], end=ends[1]))) == 12


async def _tells_of_each_alert_once(clickhouse: ClickHouse) -> None:
    first = alert(organization_id="told", alert_id="alt_1")
    second = alert(organization_id="told", alert_id="alt_2", scope="organization:told/team:t")
    batch = [alert_told(first, offset=4), alert_told(second, offset=5)]
    await insert_alerts(clickhouse, *batch)
    before = await clickhouse.ask(AlertLog(10, "told"))
    assert [row.alert.alert_id for row in before] == ["alt_2", "alt_1"]
    assert before[1].alert.used == "5.00"
    await insert_alerts(clickhouse, *batch)  # the sink again
    await insert_alerts(clickhouse, batch[1])
    later = {"detected_at": NOW + timedelta(days=40), "used": "6.00", "version": 9}
    again = msgspec.structs.replace(first, **later)  # the stream again, after a crash
    await insert_alerts(clickhouse, alert_told(again, offset=6), alert_told(second, offset=7))
    assert await clickhouse.ask(AlertLog(10, "told")) == before
    await clickhouse.run(lambda client: client.command("OPTIMIZE TABLE alert_rows FINAL"))
    assert await clickhouse.ask(AlertLog(10, "told")) == before
    await insert_alerts(clickhouse, alert_told(again, offset=8))  # a merge is not what it hangs on
    assert await clickhouse.ask(AlertLog(10, "told")) == before


async def _pages_through_alerts(clickhouse: ClickHouse) -> None:
    second = timedelta(seconds=1)
    alerts = [
        alert(
            organization_id="alerts",
            alert_id=f"alt_{at}{n}",
            scope=f"organization:alerts/agent:a{n}",
            event=("budget.exceeded", "budget.warning")[n],
            window=("2026-11", "2026-11-21")[at % 2],
            detected_at=NOW + at * second,
        )
        for at in range(3)
        for n in range(2)
    ]
    told = [alert_told(each, offset=n) for n, each in enumerate(alerts)]
    await insert_alerts(clickhouse, *told, alert_told(alert(organization_id="alerts2")))
    ids = [each.alert_id for each in reversed(alerts)]
    found = await clickhouse.ask(AlertLog(4, "alerts"))
    rest = await clickhouse.ask(AlertLog(4, "alerts", behind=found[-1].place))
    assert [row.alert.alert_id for row in (*found, *rest)] == ids
    assert await clickhouse.ask(AlertLog(4, "alerts", behind=rest[-1].place)) == []
    for query, want in [
        (AlertLog(9, "alerts", "organization:alerts/agent:a1"), ids[::2]),
        (AlertLog(9, "alerts", event="budget.exceeded"), ids[1::2]),
        (AlertLog(9, "alerts", window="2026-11-21"), ids[2:4]),
        (AlertLog(9, "alerts", start=NOW + second, end=NOW + 2 * second), ids[2:4]),
        (AlertLog(9, "it's \\ nobody"), []),
    ]:
        assert [row.alert.alert_id for row in await clickhouse.ask(query)] == want, query
    everyones = {row.alert.organization_id for row in await clickhouse.ask(AlertLog(100))}
    assert everyones == {"told", "alerts", "alerts2"}


async def _tells_of_each_attempt_once(clickhouse: ClickHouse) -> None:
    soon = NOW + timedelta(seconds=5)
    failed = delivery(
        organization_id="tried", status="retrying", code=None, reason="no", next_attempt_at=soon
    )
    worked = delivery(organization_id="tried", attempt=2, attempted_at=soon)
    redelivered = delivery(organization_id="tried", attempted_at=NOW + timedelta(days=1))
    both = delivery(organization_id="tried", channel="email", target="ann@example.com", code=250)
    batch = [delivery_told(e, offset=n) for n, e in enumerate((failed, worked, redelivered, both))]
    for part in (batch, batch, batch[1:2]):  # the sink again
        await insert_deliveries(clickhouse, *part)
    await insert_deliveries(clickhouse, delivery_told(failed, offset=9))  # told twice
    rows = await clickhouse.ask(DeliveryLog(10, "tried"))
    assert [(row.channel, row.attempt, row.attempted_at) for row in rows] == [
        ("webhook", 1, redelivered.attempted_at),
        ("webhook", 2, soon),
        ("webhook", 1, NOW),
        ("email", 1, NOW),
    ]
    assert (rows[2].code, rows[2].next_attempt_at, rows[2].reason) == (None, soon, "no")
    assert (rows[3].code, rows[3].next_attempt_at) == (250, None)


async def _pages_through_attempts(clickhouse: ClickHouse) -> None:
    attempts = [
        delivery(
            organization_id="tries",
            delivery_id=f"alt_{n}",
            alert_ids=(f"alt_{n}", "alt_merged") if n else ("alt_0",),
            channel=channel,
            scope=f"organization:tries/agent:a{n}",
            attempt=attempt,
            status="delivered" if attempt == 10 else "retrying",
        )
        for n in range(2)
        for channel in ("email", "webhook")
        for attempt in (1, 9, 10)
    ]
    told = [delivery_told(each, offset=n) for n, each in enumerate(attempts)]
    await insert_deliveries(clickhouse, *told, delivery_told(delivery(organization_id="tries2")))
    want = [(each.delivery_id, each.channel, each.attempt) for each in reversed(attempts)]

    async def ask(query: DeliveryLog) -> list[tuple[str, str, int]]:
        rows = await clickhouse.ask(query)
        return [(row.delivery_id, row.channel, row.attempt) for row in rows]

    found, behind = [], None
    for _ in range(4):  # the last one finds nothing
        page = await clickhouse.ask(DeliveryLog(5, "tries", behind=behind))
        behind = page[-1].place if page else behind
        found += [(row.delivery_id, row.channel, row.attempt) for row in page]
    assert found == want
    assert await ask(DeliveryLog(99, "tries", channel="email")) == want[3:6] + want[9:]
    assert await ask(DeliveryLog(99, "tries", status="delivered")) == want[::3]
    assert await ask(DeliveryLog(99, "tries", alert_id="alt_merged")) == want[:6]
    assert await ask(DeliveryLog(99, "tries", "organization:tries/agent:a0")) == want[6:]
    assert await ask(DeliveryLog(99, "tries", start=NOW, end=NOW)) == []
    assert len(await ask(DeliveryLog(99, "tries", start=NOW))) == 12
