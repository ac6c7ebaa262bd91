"""What a usage message becomes: pure, without an engine."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from outlay.framing import encode_frame
from outlay.usage import encode_usage
from streams.history_rows import (
    OCCURRED_AT_MAX,
    OCCURRED_AT_MIN,
    Message,
    RowBatch,
    add_until_full,
)
from tests.history.records import NOW, batch_of, columns_of, message, usage


def _column(columns, name):
    return next(list(values) for column, _, values in columns if column == name)


def test_every_field_of_a_record_is_kept():
    """A row holds the record, its cost in nano-dollars, and where in Kafka it stood."""
    record = usage(
        team_id="t",
        user_id="u",
        provider="p",
        model="m",
        input_tokens=5,
        output_tokens=7,
        success=False,
        executions=2,
        source="s",
        sequence=9,
        metadata={"a": [1]},
        cost_usd="0.000000001",
    )
    columns = columns_of(message(usage(), record, offset=41, partition=3))
    row = {name: list(values)[1] for name, _, values in columns}
    assert row == {
        "id": record.id,
        "occurred_at": int(NOW.timestamp()) * 1_000_000,
        "organization_id": "acme",
        "team_id": "t",
        "user_id": "u",
        "agent_id": "a1",
        "provider": "p",
        "model": "m",
        "input_tokens": 5,
        "output_tokens": 7,
        "executions": 2,
        "cost_nano": 1,
        "success": False,
        "source": "s",
        "sequence": 9,
        "kind": "usage",
        "metadata": '{"a":[1]}',
        "late": False,
        "kafka_partition": 3,
        "kafka_offset": 41,
        "kafka_index": 1,
        "kafka_timestamp": int(NOW.timestamp()) * 1000,
        "ingested_at": 0,
    }


def test_absent_ids_are_empty_strings():
    """No id can be empty, so an empty one says that the record names none."""
    columns = columns_of(message(usage()))
    assert _column(columns, "team_id") == _column(columns, "model") == [""]
    assert _column(columns, "metadata") == ["{}"]


def test_a_record_is_late_when_its_day_is_forgotten():
    """Forty days back, by the message's own timestamp; no clock of ours takes part."""
    midnight = NOW.replace(hour=0)
    kept, late = midnight - timedelta(days=40), midnight - timedelta(days=40, microseconds=1)
    batch = batch_of(message(usage(occurred_at=kept), usage(occurred_at=late)))
    assert _column(batch.columns(0), "late") == [False, True]
    assert batch.late == 1
    for timestamp_ms in (-1, 10**17):  # none, and nonsense
        undated = RowBatch()
        undated.add(Message(0, 0, timestamp_ms, message(usage(occurred_at=late)).value))
        assert (len(undated), undated.late) == (1, 0)


def test_dates_that_clickhouse_cannot_hold_stand_at_the_edge():
    """A record of year 2 must not stop the sink; it counts, in 1900."""
    columns = columns_of(
        message(usage(occurred_at=datetime(2, 3, 4, tzinfo=UTC))),
        Message(0, 1, -1, message(usage(occurred_at=datetime(9998, 1, 1, tzinfo=UTC))).value),
    )
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    dates = [epoch + timedelta(microseconds=at) for at in _column(columns, "occurred_at")]
    assert dates == [OCCURRED_AT_MIN, OCCURRED_AT_MAX]


def test_what_does_not_count_is_left_out_and_counted():
    """The judge is the one of the totals; dead letters are theirs, too."""
    bad = message(usage(), usage()).value.replace(b'"agent_id":"a1"', b'"agent_id":""', 1)
    batch = batch_of(Message(0, 0, 0, b"{"), Message(0, 1, 0, None))
    assert (len(batch), batch.rejected) == (0, 2)
    batch = batch_of(Message(0, 2, int(NOW.timestamp() * 1000), bad))
    assert (len(batch), batch.rejected) == (1, 1)


def test_a_batch_stops_at_its_bound():
    """A message is taken whole, and none after the batch is full."""
    messages = [message(usage(), usage(), offset=offset) for offset in range(4)]
    batch = RowBatch()
    assert add_until_full(batch, messages, rows_max=3) == 2
    assert len(batch) == 4
    assert add_until_full(batch, messages[2:], rows_max=3) == 0
    assert add_until_full(RowBatch(), [], rows_max=3) == 0


@pytest.mark.parametrize(
    ("odd", "wrong"),
    [({}, {}), ({"kind": "correction", "cost_usd": "-1"}, {}), ({"metadata": {"a": 1}}, {}),
     ({"occurred_at": NOW + timedelta(days=3)}, {}),
     ({"occurred_at": NOW - timedelta(days=50)}, {}),
     ({}, {"cost_usd": "-1.00"}), ({}, {"input_tokens": -1}), ({}, {"executions": -1})],
    ids=["usual", "correction", "metadata", "ahead", "late", "negative", "tokens", "executions"],
)  # fmt: skip
def test_a_frame_makes_the_rows_that_json_makes(odd, wrong):
    """However many records travel in one message."""
    made = [usage(agent_id=f"a{n % 3}", user_id="u" if n % 2 else None) for n in range(5)]
    last = usage(model="m", success=False, source="s", sequence=3, **odd)
    made.append(msgspec.structs.replace(last, **wrong))
    timestamp_ms = int(NOW.timestamp() * 1000)
    framed = batch_of(Message(1, 7, timestamp_ms, encode_frame(made)))
    plain = batch_of(Message(1, 7, timestamp_ms, encode_usage(made)))
    assert framed.columns(5) != []
    assert [(n, t, list(v)) for n, t, v in framed.columns(5)] == [
        (n, t, list(v)) for n, t, v in plain.columns(5)
    ]
    assert (len(framed), framed.rejected, framed.late) == (len(plain), plain.rejected, plain.late)


def test_frames_and_json_stand_in_their_order():
    """Each row beside where it stood."""
    made = [[usage(agent_id=f"a{n}{i}") for i in range(2)] for n in range(4)]
    batch = RowBatch()
    for offset, (pack, encode) in enumerate(
        zip(made, (encode_usage, encode_frame, encode_usage, encode_frame), strict=True)
    ):
        batch.add(Message(0, offset, int(NOW.timestamp() * 1000), encode(pack)))
    columns = batch.columns(0)
    assert _column(columns, "agent_id") == [each.agent_id for pack in made for each in pack]
    assert _column(columns, "kafka_offset") == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(batch) == 8
