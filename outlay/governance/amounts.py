"""Amounts: what users give and get, checked at the edge; inside all is integers.

Users of these classes know amounts of USD as floats. Sums are made in nano-dollars, and what comes
back is a float as long as exactly that float means the same nano-dollars, and a `Decimal` beyond.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from outlay.budget import LIMIT_MAX
from outlay.money import NANO_PER_USD, rounded_nano, to_nano, to_number, to_usd
from outlay.scope import ID_LENGTH_MAX

Usd = float | Decimal
"""An amount of USD as it comes back: a float, or a `Decimal` where no float means the same."""

TOTAL_USD_MAX = 10**15
"""What a sum of amounts stays below, in USD; a single amount stays below a billion."""

DECIMALS_MAX = 400
"""The most decimals of a rate or a share: the smallest float, written out, fits."""


def usd_nano(name: str, amount: object) -> int:
    """An amount of USD in nano-dollars, rounded half-even once; `name` is for the error.

    Raises:
        ValueError: not a finite number, negative, or a billion USD or more.
    """
    try:
        nano = to_nano(amount)  # type: ignore[arg-type] # it looks at the type itself
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    if nano < 0:
        raise ValueError(f"{name} cannot be negative")
    return nano


def total_nano(name: str, amount: object) -> int:
    """The same of a sum, which may be larger, below `TOTAL_USD_MAX`.

    Raises:
        ValueError: not a finite number, negative, or `TOTAL_USD_MAX` or more.
    """
    number = _number(name, amount)
    if 1 <= number < TOTAL_USD_MAX:
        return rounded_nano(number)
    if number >= TOTAL_USD_MAX:
        raise ValueError(f"{name} must be below {TOTAL_USD_MAX:,}")
    return usd_nano(name, number)


def nearest_nano(amount: Fraction) -> int:
    """An exact amount of USD in nano-dollars, rounded half-even; no decimal context rounds it."""
    return round(amount * NANO_PER_USD)


def usd_of(nano: int, *, as_decimal: bool = False) -> Usd:
    """The amount for users: a float where it means exactly these nano-dollars, else a Decimal."""
    exact = Decimal(to_usd(nano))
    if not as_decimal:
        shortest = float(exact)
        if Decimal(repr(shortest)) == exact:
            return shortest
    return exact


def as_usd(name: str, amount: object) -> Usd:
    """An amount as it is kept: rounded to nine decimals, a `Decimal` if it was one.

    Raises:
        ValueError: as `usd_nano`.
    """
    return usd_of(usd_nano(name, amount), as_decimal=isinstance(amount, Decimal))


def exact(name: str, value: object) -> Decimal:
    """A number that is not rounded, a rate or a share, from 0 on; a float by its shortest text.

    Raises:
        ValueError: not a finite number, negative, 10^9 or more, over `DECIMALS_MAX` decimals.
    """
    number = _number(name, value)
    if number < 0:
        raise ValueError(f"{name} cannot be negative")
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)  # it is finite
    if number >= 10**9 or exponent < -DECIMALS_MAX:
        raise ValueError(
            f"{name} must be below 1,000,000,000 and of at most {DECIMALS_MAX} decimals"
        )
    return number


def _number(name: str, value: object) -> Decimal:
    try:
        return to_number(value)  # type: ignore[arg-type] # it looks at the type itself
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a finite number, not {value!r}") from None


def count(name: str, value: object) -> int:
    """A whole number of executions or tokens, from 0 to `outlay.budget.LIMIT_MAX`.

    Raises:
        ValueError: it is not.
    """
    if type(value) is not int:
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} cannot be negative")
    if value > LIMIT_MAX:
        raise ValueError(f"{name} must be at most {LIMIT_MAX}")
    return value


def identifier(name: str, value: object) -> str:
    """An id, of 1 to `outlay.scope.ID_LENGTH_MAX` characters.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= ID_LENGTH_MAX:
        raise ValueError(f"{name} must have 1 to {ID_LENGTH_MAX} characters, not {value!r}")
    return value


def boolean(name: str, value: object) -> bool:
    """True or False.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return value


def one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of some words.

    Raises:
        ValueError: another.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def aware(name: str, value: object) -> datetime:
    """A datetime with a zone.

    Raises:
        ValueError: it is none, or has no zone.
    """
    if not isinstance(value, datetime):
        raise ValueError(f"{name} must be a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(f"{name} needs a zone: {value.isoformat()}")
    return value
