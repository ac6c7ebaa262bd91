"""Budget plan: what has to change so that budgets are as a file says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from outlay.alert_config import AlertConfig
from outlay.alert_plan import FileAlerts, alert_lines, file_alerts
from outlay.budget import Budget
from outlay.scope import Scope

BUDGETS_MAX = 100_000
"""How many budgets a file may have."""

Action = Literal["add", "change", "delete"]

_NO_ALERTS: Mapping[str, Any] = MappingProxyType({})
_SIGNS: dict[Action, str] = {"add": "+", "change": "~", "delete": "-"}


class BudgetsFile(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Budgets as a file has them, by the canonical keys of their scopes.

    `organizations` names further organizations that the file speaks for: with `--prune` what the
    file does not name of its organizations is deleted. `alerts`, which in the file stand in their
    budgets, are what it says of alert configurations: None takes one away, and of a budget that is
    absent there it says nothing.
    """

    budgets: dict[str, Budget]
    version: Literal[1] = 1
    organizations: list[str] = []
    alerts: dict[str, FileAlerts | None] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one budget; `version` is that of the budget now, 0 where there is none.

    So for its own alert configuration, where both are not equal.
    """

    scope: str
    action: Action
    before: Budget | None
    after: Budget | None
    version: int
    alerts_before: AlertConfig | None = None
    alerts_after: AlertConfig | None = None

    @property
    def changes_alerts(self) -> bool:
        """Whether the alert configuration changes, apart from the budget."""
        return self.alerts_before != self.alerts_after

    def lines(self) -> Iterator[str]:
        """What is to be done, as a diff has it."""
        suffix = f"  (version {self.version})" if self.version else ""
        yield f"{_SIGNS[self.action]} {self.scope}{suffix}"
        before, after = _fields(self.before), _fields(self.after)
        for name in Budget.__struct_fields__:
            if before.get(name) == after.get(name):
                continue
            if name in before:
                yield f"  - {name}: {before[name]}"
            if name in after:
                yield f"  + {name}: {after[name]}"
        if self.changes_alerts:
            yield from alert_lines(self.alerts_before, self.alerts_after)


def read_budgets(content: Any) -> BudgetsFile:
    """The budgets of a file's content, as a parser of YAML or JSON gives it.

    Raises:
        ValueError: it is not such a file; the text says which scope and field.
    """
    if not isinstance(content, dict) or not isinstance(content.get("budgets"), dict):
        raise ValueError("a file of budgets has `budgets:`, and below it a scope to each budget")
    if len(content["budgets"]) > BUDGETS_MAX:
        raise ValueError(f"a file may have {BUDGETS_MAX} budgets at most")
    budgets = {}
    alerts: dict[str, FileAlerts | None] = {}
    for key, fields in content["budgets"].items():
        try:
            scope = Scope.parse(str(key)).key
            if isinstance(fields, dict) and "alerts" in fields:
                said = fields["alerts"]
                alerts[scope] = None if said is None else file_alerts(said)
                fields = {name: value for name, value in fields.items() if name != "alerts"}
            budgets[scope] = msgspec.convert({} if fields is None else fields, Budget)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    if "alerts" in content:
        raise ValueError("`alerts:` stands in a budget, not beside them")
    try:
        file = msgspec.convert({**content, "budgets": {}}, BudgetsFile)
        for organization in file.organizations:
            Scope(organization)
    except ValueError as error:
        raise ValueError(str(error)) from None
    return msgspec.structs.replace(file, budgets=budgets, alerts=alerts)


def resolved_alerts(
    wanted: BudgetsFile, environment: Mapping[str, str]
) -> dict[str, AlertConfig | None]:
    """The alert configurations that a file wants, with what the environment has for its names.

    Raises:
        ValueError: a variable is not set, or a value cannot be; the text says whose.
    """
    found: dict[str, AlertConfig | None] = {}
    for key, said in wanted.alerts.items():
        try:
            found[key] = None if said is None else said.resolved(environment)
        except ValueError as error:
            raise ValueError(f"{key}: alerts: {error}") from None
    return found


def plan(
    wanted: BudgetsFile,
    known: Mapping[str, tuple[Budget, int]],
    *,
    prune: bool,
    alerts: Mapping[str, AlertConfig | None] = _NO_ALERTS,
    known_alerts: Mapping[str, AlertConfig] = _NO_ALERTS,
) -> list[Change]:
    """The changes from what is known, budgets with their versions, to what is wanted.

    They are sorted by scope, and deletions come last. Only what belongs to an organization that
    the file names is ever deleted. `alerts` are the configurations that are wanted; of a budget
    that is absent there it stays as it is in `known_alerts`.
    """
    changes = []
    for key, budget in sorted(wanted.budgets.items()):
        before, version = known.get(key, (None, 0))
        old = known_alerts.get(key) if before is not None else None
        new = alerts.get(key, old)
        if before is None:
            changes.append(Change(key, "add", None, budget, 0, old, new))
        elif before != budget or old != new:
            changes.append(Change(key, "change", before, budget, version, old, new))
    if prune:
        organizations = {Scope.parse(key).organization_id for key in wanted.budgets}
        organizations.update(wanted.organizations)
        changes += [
            Change(key, "delete", budget, None, version)
            for key, (budget, version) in sorted(known.items())
            if key not in wanted.budgets and Scope.parse(key).organization_id in organizations
        ]
    return changes


def summary(changes: list[Change], wanted: BudgetsFile) -> str:
    """One line: how many budgets are added, changed, deleted, and left as they are."""
    counts = dict.fromkeys(_SIGNS, 0)
    for change in changes:
        counts[change.action] += 1
    unchanged = len(wanted.budgets) - counts["add"] - counts["change"]
    return (
        f"{counts['add']} to add, {counts['change']} to change, {counts['delete']} to delete, "
        f"{unchanged} unchanged"
    )


def _fields(budget: Budget | None) -> dict[str, Any]:
    """What a budget says, its defaults included; a limit that is absent is left out."""
    if budget is None:
        return {}
    found = {name: getattr(budget, name) for name in Budget.__struct_fields__}
    return {name: value for name, value in found.items() if value is not None}
