"""Money: integer nano-dollars inside, decimal strings outside, never a float in a sum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

import msgspec

NANO_PER_USD = 10**9
"""The scale of every amount named `…_nano`, written once, here."""

COST_NANO_MAX = 10**18 - 1
"""The largest magnitude of one amount: what `Decimal(18, 9)` holds, just under a billion USD."""

PLAIN_LENGTH_MAX = 11
"""The longest amount that is converted with others, in characters: `0.123456789`. So it has no
tenth decimal."""

_PLAIN_NANO_MAX = 10**15  # up to here a binary double times 10**9 rounds to the exact amount
_NANO = Decimal("1e-9")
_ADJUSTED_MAX = (
    9  # 10**9 USD and above; asked first, since int(Decimal("1e999999")) takes all memory
)
# Of the longest accepted text, with room. All is given: what is left out would be taken from the
# default context, which users may change.
_EXACT = Context(400, ROUND_HALF_EVEN, MIN_EMIN, MAX_EMAX, 1, 0, [], [InvalidOperation])
_TEXT_MAX = 300
_TO_NANO: tuple[int, ...] = tuple(10 ** (9 - decimals) for decimals in range(10))
_DECIMAL = b"0123456789.,"
_decode_floats = msgspec.json.Decoder(list[float]).decode
_PLAIN = re.compile(r"[0-9a-zA-Z.+-]+", re.ASCII)
_USD = r"(?:0|[1-9][0-9]{0,8})\.(?:[0-9]{2}|[0-9]{2,8}[1-9])"
_is_usd = re.compile(_USD).fullmatch
_are_usd = re.compile(f"(?:{_USD},)*").fullmatch
_TOO_LARGE = "an amount of USD must be below 1,000,000,000 in magnitude"

Money = Decimal | int | float | str
"""What users may pass as an amount of USD; a float counts as its shortest text (`repr`)."""


def to_nano(amount: Money) -> int:
    """The amount in nano-dollars, rounded half-even to nine decimals.

        >>> to_nano("0.00123"), to_nano(0.1), to_nano(1)
        (1230000, 100000000, 1000000000)

    Raises:
        ValueError: not a finite decimal number, or a billion USD or more.
        TypeError: not a number or a string (a `bool` is not a number here).
    """
    if type(amount) is str:  # the plain form, which is nearly all of the traffic
        whole, _, part = amount.partition(".")
        if len(part) <= 9 and len(whole) <= _ADJUSTED_MAX:
            digits = whole + part
            if digits.isdecimal() and digits.isascii():  # other scripts have decimals, too
                return int(digits) * _TO_NANO[len(part)]
    value = to_number(amount)
    if value.adjusted() >= _ADJUSTED_MAX and value:
        raise ValueError(_TOO_LARGE)
    nano = rounded_nano(value)
    if not -COST_NANO_MAX <= nano <= COST_NANO_MAX:  # 999,999,999.9999999996 rounds up to it
        raise ValueError(_TOO_LARGE)
    return nano


def to_nanos(amounts: Sequence[Money]) -> list[int]:
    """The amounts in nano-dollars, as `to_nano` says of each, and with its errors."""
    try:
        nanos = None
        if amounts and max(map(len, amounts)) <= PLAIN_LENGTH_MAX:  # type: ignore[arg-type]
            nanos = plain_nanos(amounts)  # type: ignore[arg-type]
    except TypeError:  # not all are texts
        nanos = None
    return list(map(to_nano, amounts)) if nanos is None else nanos


def plain_nanos(amounts: Sequence[str]) -> list[int] | None:
    """The same of texts up to `PLAIN_LENGTH_MAX` long, together in a third of the time.

    None when one of them is no decimal number as JSON has them, or is too much.
    """
    joined = ",".join(amounts).encode()
    if joined.translate(None, _DECIMAL):
        return None  # a sign, an exponent, a space: not for here
    try:
        numbers = _decode_floats(b"[%b]" % joined)
    except (msgspec.DecodeError, ValueError):
        return None
    nanos = [round(number * NANO_PER_USD) for number in numbers]
    if len(nanos) != len(amounts) or max(nanos) > _PLAIN_NANO_MAX:
        return None  # a comma inside one of them, or too much to be exact
    return nanos


def rounded_nano(number: Decimal) -> int:
    """A finite number of USD in nano-dollars, half-even; it may be larger than one amount."""
    return int(number.quantize(_NANO, context=_EXACT).scaleb(9, _EXACT))


def to_number(amount: Money) -> Decimal:
    """The number that an amount is, not rounded.

    Raises:
        ValueError: not a finite decimal number.
        TypeError: not a number or a string (a `bool` is not a number here).
    """
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | float | str):
        raise TypeError(f"an amount of USD must be a number or a string, not {amount!r}")
    value = amount if isinstance(amount, Decimal) else _parse(amount)
    if not value.is_finite():
        raise ValueError(f"an amount of USD must be finite, not {value}")
    return value


def _parse(amount: float | str) -> Decimal:
    # A float not by a repr of its own: that of numpy says its type, too.
    text = float.__repr__(amount) if isinstance(amount, float) else str(amount)
    if len(text) > _TEXT_MAX:
        raise ValueError(f"an amount of USD must be under {_TEXT_MAX} characters long")
    try:
        if _PLAIN.fullmatch(text):  # Decimal also takes spaces and underscores
            return Decimal(text)
    except InvalidOperation:
        pass
    raise ValueError(f"not an amount of USD: {text!r}")


def to_decimal(nano: int) -> Decimal:
    """The amount in USD, exact, for arithmetic and for ClickHouse."""
    return Decimal(nano).scaleb(-9, _EXACT)


def to_usd(nano: int) -> str:
    """The amount as a plain decimal string, exact, with two to nine decimals.

    >>> to_usd(1_230_000), to_usd(-500_000_000)
    ('0.00123', '-0.50')
    """
    whole, part = divmod(abs(nano), NANO_PER_USD)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{decimals}"


def as_usd(amount: Money) -> str:
    """The amount as `to_usd` writes it, rounded as `to_nano` does and with its errors.

    Most come in written so; to see that takes a quarter of what the way over the number does.
    """
    text = repr(amount) if type(amount) is float else amount
    if type(text) is str and _is_usd(text):
        return text
    return to_usd(to_nano(amount))


def are_usd(amounts: Sequence[Money]) -> bool:
    """Whether `as_usd` would leave all of them as they are; then none is negative."""
    try:
        joined = ",".join(amounts) + ","  # type: ignore[arg-type]
    except TypeError:  # not all are texts
        return False
    return bool(_are_usd(joined)) and joined.count(",") == len(amounts)


def to_cents(nano: int) -> str:
    """The amount rounded half-even to two decimals, for sentences that people read."""
    return str(to_decimal(nano).quantize(Decimal("0.01"), context=_EXACT))
