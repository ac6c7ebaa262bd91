"""Alerts and deliveries on their way into the history: rows, and the texts of their queries."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from outlay.alert import Forecast
from streams.clickhouse_alerts import AlertLog, DeliveryLog
from streams.clickhouse_log import Place
from streams.history_alerts import AlertBatch, DeliveryBatch
from streams.history_rows import Message
from tests.history.records import NOW, alert, alert_told, delivery, delivery_told, filled

NOW_MS = int(NOW.timestamp() * 1000)


def _row(batch, message):
    columns = filled(batch, message).columns(ingested_at_ms=7)
    return {name: values[0] for name, _, values in columns}


def test_an_alert_is_kept_as_it_was_published():
    """Whole, beside what it is asked for by; a forecast has no threshold."""
    told = alert_told(alert(), offset=41, partition=2)
    row = _row(AlertBatch(), told)
    assert row.pop("alert").encode() == told.value
    assert row == {
        "organization_id": "acme",
        "window": "2026-11",
        "alert_id": alert().alert_id,
        "detected_at": NOW_MS,
        "event": "budget.threshold",
        "scope": "organization:acme",
        "limit_kind": "cost",
        "threshold": "0.5",
        "test": False,
        "kafka_partition": 2,
        "kafka_offset": 41,
        "ingested_at": 7,
    }
    forecast = alert(event="budget.forecast", threshold=None, forecast=Forecast("12.5", 10, 20))
    row = _row(AlertBatch(), alert_told(forecast))
    assert row["threshold"] == ""
    assert AlertLog(1).row((row["alert"], NOW_MS, "x")).alert.forecast.projected == "12.5"


def test_an_attempt_is_kept_with_all_it_says():
    """What is absent has a value that nothing else has."""
    row = _row(DeliveryBatch(), delivery_told(delivery(), offset=4))
    assert row == {
        "organization_id": "acme",
        "attempted_at": NOW_MS,
        "delivery_id": "alt_1",
        "channel": "webhook",
        "attempt": 1,
        "alert_ids": ["alt_1"],
        "scope": "organization:acme",
        "event": "budget.threshold",
        "target": "https://hooks.example",
        "status": "delivered",
        "code": 204,
        "reason": "",
        "duration_ms": 12,
        "next_attempt_at": 0,
        "test": False,
        "kafka_partition": 0,
        "kafka_offset": 4,
        "ingested_at": 7,
    }
    assert _row(DeliveryBatch(), delivery_told(delivery(code=None)))["code"] == 0


def test_what_a_newer_version_says_is_kept():
    """Fields, events and channels that are not known here break nothing."""
    value = alert_told(alert()).value.replace(b'"budget.threshold"', b'"budget.frozen"')
    row = _row(AlertBatch(), Message(0, 0, 0, value.replace(b'"used"', b'"why":[1],"used"')))
    assert (row["event"], '"why":[1]' in row["alert"]) == ("budget.frozen", True)
    assert AlertLog(1).row((row["alert"], NOW_MS, "x")).alert.event == "budget.frozen"
    value = delivery_told(delivery()).value.replace(b'"webhook"', b'"pager","why":{}')
    assert _row(DeliveryBatch(), Message(0, 0, 0, value))["channel"] == "pager"


_NONE = (b"{", b"\xff", b"[" * 5000, None)


@pytest.mark.parametrize(
    "change",
    [{"alert_id": ""}, {"version": -1}, {"detected_at": "2026-11-21"}, {"scope": None},
     {"window": "x" * 65}, {"threshold": 0.5}, {"episode": 2**63}, {"organization_id": 5}],
)  # fmt: skip
def test_an_alert_that_clickhouse_or_an_answer_could_not_hold_is_left_out(change):
    """And counted: it would stop the sink, or every page that it is on."""
    told = msgspec.json.decode(alert_told(alert()).value) | change
    wrong = [Message(0, 0, 0, value) for value in (msgspec.json.encode(told), *_NONE)]
    batch = filled(AlertBatch(), *wrong)
    assert (len(batch), batch.rejected) == (0, 5)


@pytest.mark.parametrize(
    "change",
    [{"delivery_id": "x" * 129}, {"attempt": 2**31}, {"code": 2**15}, {"attempted_at": None},
     {"alert_ids": ["x"] * 10_001}, {"duration_ms": -1}],
)  # fmt: skip
def test_an_attempt_that_clickhouse_could_not_hold_is_left_out(change):
    """And counted."""
    told = msgspec.json.decode(delivery_told(delivery()).value) | change
    wrong = [Message(0, 0, 0, value) for value in (msgspec.json.encode(told), *_NONE)]
    batch = filled(DeliveryBatch(), *wrong)
    assert (len(batch), batch.rejected) == (0, 5)


@pytest.mark.parametrize("log", [AlertLog, DeliveryLog])
def test_a_query_names_what_is_asked_for_and_nothing_else(log):
    """Values go in as parameters."""
    assert "AND" not in log(5).to_sql()
    assert log(5).parameters() == {"limit": 5}
    query = log(5, "acme", "organization:acme", start=NOW + timedelta(microseconds=1), end=NOW)
    assert query.parameters() == {
        "limit": 5,
        "organization_id": "acme",
        "scope": "organization:acme",
        "start": NOW_MS + 1,
        "end": NOW_MS,
    }
    assert "acme" not in query.to_sql()
    behind = log(5, behind=Place(NOW_MS, "alt_1"))
    assert behind.parameters() == {"limit": 5, "at": NOW_MS, "name": "alt_1"}
    assert "alt_1" not in behind.to_sql()
    with pytest.raises(ValueError, match="1900 to 2299"):
        log(1, end=datetime(2300, 1, 1, tzinfo=UTC))


def test_a_place_is_read_back_from_its_text():
    """Cursors carry it, whatever the name has in it."""
    for place in (Place(0, "alt_1"), Place(-5, "a.b\nwebhook\n0000000001")):
        assert Place.parse(str(place)) == place


@pytest.mark.parametrize("text", ["", "1", "1.", "x.alt_1", f"{10**14}.alt_1"])
def test_what_is_no_place_is_refused(text):
    """ClickHouse would be asked for what it has no numbers for."""
    with pytest.raises(ValueError, match="not a place"):
        Place.parse(text)
