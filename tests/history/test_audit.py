"""The audit on its way into the history: rows, the query's text, and the sinks side by side."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from outlay.alert_config import AlertConfig
from schemas.settings import Settings
from streams.clickhouse_audit import AuditLog, AuditPlace
from streams.clickhouse_errors import HistoryAway, HistoryRefused
from streams.history_audit import AuditBatch
from streams.history_lanes import LANES
from streams.history_rows import OCCURRED_AT_MAX, Message
from streams.history_sinks import HistorySinks
from tests.history.records import (
    NOW,
    alert,
    alert_told,
    audit_batch,
    audit_record,
    audit_told,
    delivery,
    delivery_told,
    message,
    usage,
)
from tests.history.test_sink import Source, Store


def _row(message: Message) -> dict[str, object]:
    return {name: values[0] for name, _, values in audit_batch(message).columns(ingested_at_ms=7)}


def test_every_field_of_a_record_is_kept():
    """And where the record stood on the audit topic, beside where the request did."""
    record = audit_record(
        partition=1,
        offset=5,
        accepted=False,
        reason="no",
        version=3,
        alerts_after=AlertConfig(cooldown_minutes=5),
    )
    assert _row(audit_told(record, offset=41, partition=2)) == {
        "organization_id": "acme",
        "requested_at": int(NOW.timestamp() * 1000),
        "request_partition": 1,
        "request_offset": 5,
        "request_id": "r5",
        "requested_by": "ann",
        "scope": "organization:acme",
        "action": "patch",
        "accepted": False,
        "reason": "no",
        "version": 3,
        "budget_before": "",
        "budget_after": '{"monthly_budget_usd":"5.00"}',
        "alerts_before": "",
        "alerts_after": '{"thresholds":["0.5","0.75","0.9","1"],"cooldown_minutes":5}',
        "kafka_partition": 2,
        "kafka_offset": 41,
        "ingested_at": 7,
    }


def test_what_a_newer_version_says_is_kept():
    """Fields and actions that are not known here must not make holes in the audit."""
    value = audit_told(audit_record()).value
    newer = value.replace(b'"patch"', b'"roll_over"').replace(b'"after":{', b'"after":{"new":[1],')
    row = _row(Message(0, 0, 0, newer.replace(b'"scope"', b'"why":"x","scope"')))
    assert row["action"] == "roll_over"
    assert row["budget_after"] == '{"new":[1],"monthly_budget_usd":"5.00"}'


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 2**63},
        {"partition": 2**31},
        {"version": -1},
        {"requested_at": "2026-11-21T12:00:00"},
        {"scope": None},
        {"accepted": "yes"},
    ],
)
def test_what_clickhouse_could_not_hold_is_left_out_and_counted(change):
    """It would stop the sink for good."""
    told = msgspec.json.decode(audit_told(audit_record()).value) | change
    batch = AuditBatch()
    for value in (msgspec.json.encode(told), b"{", b"\xff", b"[" * 5000, None):
        batch.add(Message(0, 0, 0, value))
    assert (len(batch), batch.rejected) == (0, 5)


def test_a_time_beyond_what_clickhouse_holds_stands_at_the_edge():
    """As it does for usage."""
    record = audit_record(requested_at=datetime(9998, 1, 1, tzinfo=UTC))
    edge = (OCCURRED_AT_MAX - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert _row(audit_told(record))["requested_at"] == edge


def test_the_query_names_what_is_asked_for_and_nothing_else():
    """Values go in as parameters, times in whole milliseconds, of any zone."""
    assert "AND" not in AuditLog(5).to_sql()
    assert AuditLog(5).parameters() == {"limit": 5}
    place = AuditPlace(1_795_262_400_250, 1, 77)
    zone = timezone(timedelta(hours=2))
    start = (NOW + timedelta(microseconds=1)).astimezone(zone)
    query = AuditLog(5, "acme", "organization:acme", start, NOW + timedelta(days=1), place)
    now_ms = int(NOW.timestamp() * 1000)
    assert query.parameters() == {
        "limit": 5,
        "organization_id": "acme",
        "scope": "organization:acme",
        "start": now_ms + 1,  # what was asked at NOW is before it
        "end": now_ms + 86_400_000,
        "at": place.requested_at_ms,
        "partition": 1,
        "offset": 77,
    }
    sql = query.to_sql()
    for condition in ("organization_id = {organization_id:String}", "scope = {scope:String}"):
        assert f"\n  AND {condition}" in sql
    assert "acme" not in sql


def test_a_place_is_read_back_from_its_text():
    """Cursors carry it."""
    for place in (AuditPlace(0, 0, 0), AuditPlace(-5, 2**31 - 1, 10**18 - 1)):
        assert AuditPlace.parse(str(place)) == place


@pytest.mark.parametrize("text", ["", "1.2", "1.2.3.4", "1.2.x", f"1.{2**31}.3", f"{10**14}.1.1"])
def test_what_is_no_place_is_refused(text):
    """ClickHouse would be asked for what it has no numbers for."""
    with pytest.raises(ValueError, match="not a place"):
        AuditPlace.parse(text)


@pytest.mark.parametrize("year", [1899, 2300])
def test_times_that_clickhouse_does_not_know_are_refused(year):
    """As reports do it."""
    with pytest.raises(ValueError, match="1900 to 2299"):
        AuditLog(1, start=datetime(year, 6, 1, tzinfo=UTC))


def _sinks(*, stop=True, audit_failures=(), until=lambda *events: True):
    """Run all sinks on stand-ins until their events satisfy `until`; the events, and the sinks."""

    async def main():
        told = [
            message(usage(), offset=7),
            audit_told(audit_record(), offset=3),
            alert_told(alert(), offset=5),
            delivery_told(delivery(), offset=6),
        ]
        events = [[] for _ in told]
        sources = [Source([[one]], each) for one, each in zip(told, events, strict=True)]
        stores = [Store(each) for each in events]
        stores[1].failures += audit_failures
        settings = Settings(history_flush_interval_s=0.02)
        sinks = HistorySinks(settings, stores=stores, sources=sources)
        task = asyncio.create_task(sinks.run())
        async with asyncio.timeout(10):
            while not task.done() and not until(*events):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            state = sinks.state, sinks.problem
            if stop:
                sinks.stop()
            await task
        return events, state, sinks

    return asyncio.run(main())


def test_all_topics_are_read_inserted_and_committed_apart():
    """Each into its own table, each with its own offsets and metrics; a stop ends them all."""
    offsets = (7, 3, 5, 6)
    events, state, sinks = _sinks(
        until=lambda *events: all(
            ("commit", {0: offset + 1}) in each
            for offset, each in zip(offsets, events, strict=True)
        )
    )
    for offset, each in zip(offsets, events, strict=True):
        done = [("insert", [offset]), ("commit", {0: offset + 1})]
        assert each == ["open", *done, "close", "store closed"]
    assert state == ("running", "")
    assert sinks.state == "stopped"
    rows = {
        sample.name: sample.value
        for metric in sinks.metrics.registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_rows_total")
    }
    names = ("history", "audit", "alert_history", "delivery_history")
    assert rows == {f"outlay_{name}_rows_total": 1 for name in names}


def test_each_topic_is_read_in_a_group_of_its_own():
    """So that none waits for another's rebalance; those of usage and audit keep their names."""
    settings = Settings(app_id="app", topic_prefix="own")
    sources = [lane.source(settings) for lane in LANES]
    assert [(source._topic, source._group_id) for source in sources] == [
        ("own.usage", "app-history"),
        ("own.audit", "app-history-audit"),
        ("own.alerts", "app-history-alerts"),
        ("own.alerts.deliveries", "app-history-deliveries"),
    ]


def test_usage_goes_on_while_the_audit_waits():
    """And the state is that of the one that waits, with what it was told."""
    away = [HistoryAway("gone")] * 1000
    events, state, _ = _sinks(
        audit_failures=away,
        until=lambda usage, audit, *_: ("commit", {0: 8}) in usage and "failed" in audit,
    )
    assert state == ("waiting", "gone")
    assert not [event for event in events[1] if event[0] == "commit"]


def test_when_one_gives_up_the_others_commit_and_end():
    """So that the process exits, and says why."""
    with pytest.raises(HistoryRefused, match="no such column"):
        _sinks(
            stop=False,
            audit_failures=[HistoryRefused("no such column")],
            until=lambda *events: False,
        )
