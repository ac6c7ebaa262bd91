"""Amounts: how arguments are written into bodies, and budgets are read from answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from outlay.budget import Budget
from outlay.money import Money, to_nano, to_usd

encode = msgspec.json.Encoder().encode


class _LenientBudget(Budget, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A budget as answers have it: what only newer servers know of is passed over."""


if TYPE_CHECKING:
    AnsweredBudget = Budget
else:
    AnsweredBudget = _LenientBudget


def make_plain(answer: msgspec.Struct, *names: str) -> None:
    """Have these fields of an answer be budgets like any other: then they compare with those."""
    for name in names:
        budget = getattr(answer, name)
        if budget is not None:
            fields = {each: getattr(budget, each) for each in Budget.__struct_fields__}
            msgspec.structs.force_setattr(answer, name, Budget(**fields))


def usd(amount: Money | None) -> str | None:
    """An amount of USD as a decimal string.

    Raises:
        ValueError: not a finite decimal number, or negative.
        TypeError: no number.
    """
    if amount is None:
        return None
    if (nano := to_nano(amount)) < 0:
        raise ValueError("an amount that is asked for is not negative")
    return to_usd(nano)


def fields_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a budget for a body: amounts with all their digits.

    Raises:
        ValueError: NaN or an infinity, of which JSON would make a null, and so no limit.
    """
    return {name: _checked(name, value) for name, value in fields.items()}


def _checked(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {each: _checked(f"{name}.{each}", inner) for each, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(name, inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value}")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"{name} must be finite, not {value}")
    return value
