"""The JSON Schema of every message that others write or read, generated from the code.

`python -m schemas.generate` writes them to `schemas/json/`; a test generates them again and
compares. What a program that only checks the schema cannot know stands in the descriptions.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from outlay.alert import Alert
from outlay.alert_config import AlertConfigRecord
from outlay.budget_plan import BudgetsFile
from outlay.decision import BudgetRequest, Decision, Outcome, Watermark
from outlay.judging import RECORDS_PER_MESSAGE_MAX
from outlay.usage import UsageRecord
from schemas.messages import AlertDelivery, AuditRecord, DeadLetter, PartialsMessage, WantsMessage

FOLDER = Path(__file__).parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID_PREFIX = "urn:outlay:schema:"


def _describable_record() -> type[msgspec.Struct]:
    """The usage record with plain metadata: msgspec cannot describe the default of a `Raw`."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(UsageRecord):
        if field.name == "metadata":
            fields.append((field.name, dict[str, Any], msgspec.field(default_factory=dict)))
        elif field.required:
            fields.append((field.name, field.type))
        else:
            fields.append((field.name, field.type, field.default))
    namespace = {"__doc__": UsageRecord.__doc__}
    return msgspec.defstruct("UsageRecord", fields, namespace=namespace, kw_only=True)


_TYPES: dict[str, Any] = {
    "usage-record": _describable_record(),
    "decision": Decision,
    "watermark": Watermark,
    "outcome": Outcome,
    "budget-request": BudgetRequest,
    "partials": PartialsMessage,
    "wants": WantsMessage,
    "audit": AuditRecord,
    "alert": Alert,
    "alert-config": AlertConfigRecord,
    "alert-delivery": AlertDelivery,
    "dead-letter": DeadLetter,
    "budgets-file": BudgetsFile,
}

# What the code checks beyond its types, as far as JSON Schema can say it.
_MORE: dict[str, dict[str, Any]] = {
    "id": {
        "format": "uuid",
        "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        "description": "A UUID, of version 7 when outlay made it.",
    },
    "cost_usd": {
        "description": "USD: a plain decimal string, below a billion in magnitude. Numbers are"
        " read, too. More than nine decimals are rounded half-even."
    },
    "metadata": {"description": "Anything; only the history keeps it."},
}


def schemas() -> dict[str, dict[str, Any]]:
    """All schemas, by the names of their files."""
    made = {name: _schema(name, msgspec.json.schema(type_)) for name, type_ in _TYPES.items()}
    record = made["usage-record"]["$defs"]["UsageRecord"]
    for field, more in _MORE.items():
        record["properties"][field] |= more
    definitions = made["budgets-file"]["$defs"]
    definitions["Budget"] = _as_written(definitions["Budget"])
    # In the file they stand in their budgets.
    alerts = definitions["BudgetsFile"]["properties"].pop("alerts")["additionalProperties"]
    definitions["Budget"]["properties"]["alerts"] = alerts
    thresholds = definitions["FileAlerts"]["properties"]["thresholds"]
    thresholds["items"] = {"anyOf": [{"type": "number"}, thresholds["items"]]}
    made["usage-message"] = _schema(
        "usage-message",
        {
            "title": "UsageMessage",
            "description": "The value of a message of the usage topic: one record, or several.",
            "anyOf": [
                {"$ref": "#/$defs/UsageRecord"},
                {
                    "type": "array",
                    "items": {"$ref": "#/$defs/UsageRecord"},
                    "maxItems": RECORDS_PER_MESSAGE_MAX,
                },
            ],
            "$defs": made["usage-record"]["$defs"],
        },
    )
    return made


def _as_written(budget: dict[str, Any]) -> dict[str, Any]:
    """A budget as people write it: amounts may be numbers, and nothing at all is no limit."""

    def written(field: dict[str, Any]) -> dict[str, Any]:
        plain = {name: field[name] for name in ("format", "type") if name in field}
        kinds = field.get("anyOf", [plain])
        if not any(kind.get("format") == "decimal" for kind in kinds):
            return field
        rest = {name: value for name, value in field.items() if name not in ("type", "format")}
        return rest | {"anyOf": [{"type": "number", "minimum": 0}, *kinds]}

    properties = {name: written(field) for name, field in budget["properties"].items()}
    return budget | {"type": ["object", "null"], "properties": properties}


def _schema(name: str, body: dict[str, Any]) -> dict[str, Any]:
    for part in body.get("$defs", {}).values():
        if "description" in part:  # a docstring, which older Pythons leave indented
            part["description"] = inspect.cleandoc(part["description"])
    return {"$schema": DIALECT, "$id": ID_PREFIX + name, **body}


def rendered() -> dict[str, str]:
    """The files' names and texts."""
    return {
        f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in sorted(schemas().items())
    }


def main() -> None:
    """Write them, and remove what is no longer made."""
    FOLDER.mkdir(exist_ok=True)
    texts = rendered()
    for path in FOLDER.glob("*.schema.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
