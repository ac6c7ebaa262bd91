"""Exact: sums of USD that no decimal context rounds, neither the default one nor a user's."""

from __future__ import annotations

from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

from outlay.money import to_nano

DECIMALS_MAX = 200
"""The most decimals of one amount: those of a binary float written out fit with room."""

_DIGITS_MAX = 1_000  # of a sum or a product of two amounts; beyond, an error and no rounding
_EXPONENT_MAX = 9_999
_TRAPS = [InvalidOperation, DivisionByZero, Overflow]
# Everything is given: what is left out would be taken from a context that users may change.
_EXACT = Context(
    _DIGITS_MAX, ROUND_HALF_EVEN, -_EXPONENT_MAX, _EXPONENT_MAX, 1, 0, [], [*_TRAPS, Inexact]
)
_ROUNDED = Context(_DIGITS_MAX, ROUND_HALF_EVEN, -_EXPONENT_MAX, _EXPONENT_MAX, 1, 0, [], _TRAPS)
_CENT = Decimal("0.01")
_NANO = Decimal("1e-9")


def exact(name: str, amount: object) -> Decimal:
    """An argument as the decimal that it is; a float counts as its shortest text.

    Raises:
        ValueError: not a finite number, negative, a billion or more, or with more than
            `DECIMALS_MAX` decimals; the text names the argument.
    """
    if isinstance(amount, float):  # not by its own repr: numpy's says its type, too
        amount = float.__repr__(amount)
    try:
        to_nano(amount)  # type: ignore[arg-type]  # it says what is no amount
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    value = Decimal(amount)  # type: ignore[arg-type]
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -DECIMALS_MAX:
        raise ValueError(f"{name}: an amount must have at most {DECIMALS_MAX} decimals")
    if value < 0:
        raise ValueError(f"{name} must not be negative: {value}")
    return value.copy_abs()  # there is a negative zero


def plus(one: Decimal, other: Decimal) -> Decimal:
    """The exact sum."""
    return _EXACT.add(one, other)


def minus(one: Decimal, other: Decimal) -> Decimal:
    """The exact difference."""
    return _EXACT.subtract(one, other)


def times(one: Decimal, other: Decimal) -> Decimal:
    """The exact product."""
    return _EXACT.multiply(one, other)


def percentage(part: Decimal, whole: Decimal) -> float:
    """The float next to 100 * part / whole; 0.0 where the whole is zero."""
    if not whole:
        return 0.0
    return float(_ROUNDED.divide(times(part, Decimal(100)), whole))


def nearest_nano(amount: Decimal) -> int:
    """The amount in nano-dollars, rounded half-even; unlike `to_nano` a sum has no upper bound."""
    return int(_EXACT.scaleb(_ROUNDED.quantize(amount, _NANO), 9))


def cents(amount: Decimal) -> str:
    """The amount rounded half-even to two decimals, for sentences that people read."""
    return f"{_ROUNDED.quantize(amount, _CENT):f}"


def plain(amount: Decimal) -> str:
    """The amount as it is, without an exponent."""
    return f"{amount:f}"
