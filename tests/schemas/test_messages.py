"""The JSON Schemas say what the code reads and writes."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from outlay import decision
from outlay.alert import decode_alert, encode_alert
from outlay.alert_config import decode_config_record, encode_config_record
from outlay.budget import LIMIT_FIELDS, Amounts, Budget
from outlay.budget_plan import read_budgets
from outlay.judging import decode_usage
from outlay.topics import TopicNames
from outlay.usage import UsageRecord, encode_usage
from schemas import generate
from schemas.messages import AlertDelivery, DeadLetter
from streams import messages
from streams.audit import audit_message, decode_audit
from streams.batch import Batch
from streams.budgets import Budgets
from streams.partials import Partials
from streams.wants import Awaited

EXAMPLES = Path(generate.__file__).parent / "examples"
NOW = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
SCOPE = "organization:acme"

SCHEMAS = generate.schemas()


def _valid(name, content):
    schema = SCHEMAS[name]
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(json.loads(content))


def _usages(content):
    usages, rejections = decode_usage(content, NOW_MS)
    assert rejections == []
    return encode_usage([usage.record for usage in usages])


def _written(file):
    """A file of budgets as it is written: alerts stand in their budgets."""
    told = msgspec.to_builtins(file)
    for key, alerts in told.pop("alerts").items():
        told["budgets"][key]["alerts"] = alerts
    return told


READERS = {
    "usage-record": _usages,
    "usage-message": _usages,
    "decision": lambda content: decision.encode(decision.decode_decision(content)),
    "watermark": lambda content: decision.encode(decision.decode_watermark(content)),
    "outcome": lambda content: decision.encode(decision.decode_outcome(content)),
    "partials": lambda content: messages.encode(messages.decode_partials(content)),
    "wants": lambda content: messages.encode(messages.decode_wants(content)),
    "audit": lambda content: messages.encode(decode_audit(content)),
    "alert": lambda content: encode_alert(decode_alert(content)),
    "alert-config": lambda content: encode_config_record(decode_config_record(content)),
    "alert-delivery": lambda content: messages.encode(
        msgspec.json.decode(content, type=AlertDelivery)
    ),
    "dead-letter": lambda content: messages.encode(msgspec.json.decode(content, type=DeadLetter)),
    "budget-request": lambda content: decision.encode(decision.decode_request(content)),
    "budgets-file": lambda content: decision.encode(_written(read_budgets(json.loads(content)))),
}


def test_the_files_are_those_that_the_code_makes():
    """Run `python -m schemas.generate` after a change of a message."""
    texts = {path.name: path.read_text("utf-8") for path in generate.FOLDER.glob("*.json")}
    assert texts == generate.rendered()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_examples_are_valid_and_are_read(name):
    """An example is both: what the schema allows, and what the code understands."""
    Draft202012Validator.check_schema(SCHEMAS[name])
    content = (EXAMPLES / f"{name}.json").read_bytes()
    _valid(name, content)
    _valid(name, READERS[name](content))  # and what the code makes of it is valid again


def test_every_message_has_an_example_and_a_reader():
    """None is forgotten."""
    assert {path.stem for path in EXAMPLES.glob("*.json")} == set(SCHEMAS) == set(READERS)


def test_what_the_code_writes_is_valid():
    """With everything set, and with nothing set."""
    least = UsageRecord.new(organization_id="o", agent_id="a", cost_usd=0)
    most = UsageRecord.new(
        organization_id="o",
        agent_id="a",
        cost_usd=Decimal("-999999999.999999999"),
        team_id="t",
        user_id="u",
        provider="p",
        model="m",
        input_tokens=-1,
        output_tokens=10**12,
        success=False,
        executions=-(10**9),
        kind="correction",
        source="s",
        sequence=2**63 - 1,
        metadata={"deep": [{"a": None}]},
    )
    for records in ([least], [most], [least, most], []):
        _valid("usage-message", encode_usage(records) if records else b"[]")
    _valid("usage-record", encode_usage([most]))
    for budget in (Budget(), Budget(monthly_budget_usd=Decimal("0.000000001"), on_stale="block")):
        usage = decision.window_usage(Amounts(-1, 2, 3, 4), {0: 5})
        made = decision.Decision(SCOPE, 1, "ok", budget, {"2026-11": usage}, "r", NOW)
        _valid("decision", decision.encode(made))
    _valid("watermark", decision.encode(decision.Watermark({0: 1}, NOW)))
    _valid("outcome", decision.encode(decision.Outcome("r", SCOPE, True, 1, "", NOW)))
    request = decision.BudgetRequest(request_id="r", scope=SCOPE, action="delete")
    _valid("budget-request", decision.encode(request))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "not-a-uuid"),
        ("id", None),
        ("occurred_at", "yesterday"),
        ("organization_id", ""),
        ("agent_id", "x" * 257),
        ("cost_usd", None),
        ("cost_usd", True),
        ("kind", "refund"),
        ("input_tokens", 1.5),
        ("sequence", -1),
        ("metadata", [1]),
        ("success", "yes"),
    ],
)
def test_what_the_schema_refuses_the_code_refuses(field, value):
    """A producer that checks by the schema is not surprised by a dead letter."""
    record = json.loads((EXAMPLES / "usage-record.json").read_bytes()) | {field: value}
    content = json.dumps(record).encode()
    validator = Draft202012Validator(SCHEMAS["usage-record"], format_checker=FormatChecker())
    assert decode_usage(content, NOW_MS)[1] != []
    # Without the package rfc3339-validator, jsonschema does not look into times.
    assert field == "occurred_at" or not validator.is_valid(record)


@pytest.mark.parametrize("field", ["id", "occurred_at", "organization_id", "agent_id", "cost_usd"])
def test_required_fields(field):
    """The same five in the schema and in the code."""
    record = json.loads((EXAMPLES / "usage-record.json").read_bytes())
    del record[field]
    assert not Draft202012Validator(SCHEMAS["usage-record"]).is_valid(record)
    assert decode_usage(json.dumps(record).encode(), NOW_MS)[1] != []


def test_what_the_stages_write_is_valid():
    """Partials messages, wants and dead letters."""
    record = UsageRecord.new(organization_id="o", agent_id="a", cost_usd=1, occurred_at=NOW)
    partials = Partials(
        0,
        topics=TopicNames(),
        changelog="changelog",
        totals_partitions=2,
    )
    partials.begin({"outlay.usage": 0, "outlay.wants": 0}, {"outlay.usage": 2, "outlay.wants": 0})
    values = [encode_usage([record]), b"\xff", b"{"]
    sent = [_Sent(offset, value) for offset, value in enumerate(values)]
    partials.apply(Batch("outlay.usage", 0, sent, 0, len(sent)))
    written = [m for t in partials.flush(0).transactions for m in t.told]
    told = {"outlay.partials": "partials", "outlay.usage.rejected": "dead-letter"}
    assert {told[m.topic] for m in written} == {"partials", "dead-letter"}
    for outgoing in written:
        for _, value in outgoing.messages:
            _valid(told[outgoing.topic], value)
    awaited = Awaited()
    awaited.changed("organization:acme/agent:a", 3, made=True)
    for outgoing in awaited.take_wants("outlay.wants", 0, 2):
        for _, value in outgoing.messages:
            _valid("wants", value)


def test_what_the_audit_says_is_valid():
    """Of a budget that is made, of one that is taken away, and of a refusal."""
    budgets = Budgets(0, lambda scope: 0)
    most = dict.fromkeys(LIMIT_FIELDS, 1) | {"on_stale": "block", "enforcement_mode": "soft"}
    for offset, asked in enumerate(
        [
            {"action": "put", "changes": most, "requested_by": "ann"},
            {"action": "patch", "changes": {"no_such": 1}},
            {"action": "delete"},
        ]
    ):
        request = decision.BudgetRequest(request_id=f"r{offset}", scope=SCOPE, **asked)
        record = budgets.decide(decision.encode(request), offset, NOW_MS).audit
        _valid("audit", audit_message(record)[1])


class _Sent:
    def __init__(self, offset, value):
        self.offset, self.value, self.timestamp, self.key = offset, value, NOW_MS, None
