"""Money: integers of nano-dollars inside, decimals outside, rounded half-even once."""

from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.money import COST_NANO_MAX, to_cents, to_decimal, to_nano, to_nanos, to_usd

nanos = st.integers(-COST_NANO_MAX, COST_NANO_MAX)
exact = Context(prec=60)
nine = Decimal("0.000000001")
amounts = st.decimals(-999_999_998, 999_999_998, places=None, allow_nan=False)


@given(nanos)
def test_an_amount_goes_out_and_comes_back(nano):
    """As text and as a decimal, without losing anything."""
    assert to_nano(to_usd(nano)) == nano
    assert to_nano(to_decimal(nano)) == nano
    assert Decimal(to_usd(nano)) == Decimal(nano) / 10**9


@given(amounts)
def test_rounding_is_half_even(amount):
    """What has more than nine decimals is rounded as `decimal` rounds half-even."""
    expected = amount.quantize(nine, ROUND_HALF_EVEN, exact) * 10**9
    assert to_nano(amount) == expected
    assert to_nano(format(amount, "f")[:300]) == to_nano(Decimal(format(amount, "f")[:300]))


@given(st.floats(-999_999_998, 999_999_998))
def test_a_float_counts_as_its_shortest_text(amount):
    """0.1 is a tenth."""
    assert to_nano(amount) == to_nano(Decimal(repr(amount)))


@given(nanos)
def test_text_is_plain(nano):
    """Two to nine decimals, no exponent."""
    whole, _, part = to_usd(nano).lstrip("-").partition(".")
    assert whole.isdigit()
    assert 2 <= len(part) <= 9
    assert to_cents(nano) == str((Decimal(nano) / 10**9).quantize(Decimal("0.01"), ROUND_HALF_EVEN))


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("-0.0000000015", -2),
        (0.1, 100_000_000),
        (3, 3_000_000_000),
        ("1e-3", 1_000_000),
        ("999999999.999999999", COST_NANO_MAX),
        ("0e999999", 0),
    ],
)
def test_examples(amount, nano):
    """Halves go to the even neighbour; exponents are understood."""
    assert to_nano(amount) == nano


@pytest.mark.parametrize(
    "amount",
    ["", " 1", "1_000", "NaN", "inf", "-Infinity", "1e999999", "1000000000", "abc", "٣",
     float("nan"), float("inf"), Decimal("sNaN"), 10**9, "999999999.9999999996", "1" * 400],
)  # fmt: skip
def test_what_is_no_amount_is_refused(amount):
    """Not finite, too large, or no number at all."""
    with pytest.raises(ValueError):
        to_nano(amount)


@pytest.mark.parametrize("amount", [True, None, b"1", [1]])
def test_what_is_no_number_is_a_type_error(amount):
    """A bool is not a number here."""
    with pytest.raises(TypeError):
        to_nano(amount)


many = st.lists(
    st.one_of(
        st.integers(0, 10**11).map(to_usd),
        st.integers(-COST_NANO_MAX, COST_NANO_MAX).map(to_usd),
        st.sampled_from(
            ["1e-9", "1,2", "", "01.5", ".5", "1.", " 1", "0.0000000005", "nan", 3, 0.1]
        ),
    ),
    max_size=6,
)


@given(many)
def test_many_together_are_what_each_is(amounts):
    """With the same error where one is none."""
    try:
        each = [to_nano(amount) for amount in amounts]
    except ValueError:
        with pytest.raises(ValueError, match="USD"):
            to_nanos(amounts)
    else:
        assert to_nanos(amounts) == each
