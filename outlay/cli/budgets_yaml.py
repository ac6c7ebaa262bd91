"""Files of budgets: YAML, in which no number becomes a float and no scope stands twice."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import yaml

from outlay.alert_config import AlertConfig
from outlay.alert_plan import exported
from outlay.budget import Budget
from outlay.budget_plan import BudgetsFile, read_budgets

FILE_BYTES_MAX = 64 * 1024 * 1024
"""The largest file that is read, in bytes."""


_NO_ALERTS: Mapping[str, AlertConfig] = MappingProxyType({})


class _Loader(yaml.SafeLoader):
    """YAML without aliases, which can make a small file very large."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {mark.line + 1}: aliases are not read")
        return super().compose_node(parent, index)


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> Decimal:
    try:
        return Decimal(node.value.replace("_", ""))
    except InvalidOperation:
        line = node.start_mark.line + 1
        raise yaml.YAMLError(f"line {line}: not a number: {node.value}") from None


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: not a name: {key!r}")
        if key in found:
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: {key} stands there twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(path: Path) -> BudgetsFile:
    """The budgets of a file.

    Raises:
        ValueError: it cannot be read as such a file; the text says where.
        OSError: it cannot be read at all.
    """
    if path.stat().st_size > FILE_BYTES_MAX:
        raise ValueError(f"{path}: over {FILE_BYTES_MAX} bytes")
    try:
        return read_budgets(yaml.load(path.read_text("utf-8"), _Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def dump(budgets: Mapping[str, Budget], alerts: Mapping[str, AlertConfig] = _NO_ALERTS) -> str:
    """A file of these budgets, sorted by scope; `load` gives them back as they are.

    Alert configurations stand in it with names of environment variables for what is secret.
    """
    told = exported(alerts)
    content = {
        key: msgspec.to_builtins(budget) | ({"alerts": told[key]} if key in told else {})
        for key, budget in sorted(budgets.items())
    }
    return str(yaml.safe_dump({"version": 1, "budgets": content}, sort_keys=False, width=100))
