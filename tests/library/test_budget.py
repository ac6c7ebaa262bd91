"""Budgets: the one rule, against an independent implementation with fractions."""

from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlay import Amounts, Budget, Rules, evaluate
from outlay.budget import LIMIT_FIELDS, NOTHING, describe

NANO = 10**9
small = st.integers(0, 12)  # small numbers meet the lines often
usd = st.integers(0, 12).map(lambda tenths: Decimal(tenths) / 10)
limits = {name: st.none() | (usd if name.endswith("_usd") else small) for name in LIMIT_FIELDS}
thresholds = st.sampled_from(["0.000001", "0.25", "0.333333", "0.5", "0.75", "0.9", "1"]).map(
    Decimal
)


@st.composite
def budgets(draw):
    low, high = sorted([draw(thresholds), draw(thresholds)])
    return Budget(
        **draw(st.fixed_dictionaries(limits)),
        warning_threshold=low,
        degradation_threshold=high,
        enforcement_mode=draw(st.sampled_from(["hard", "soft"])),
    )


def amounts(low=0):
    return st.builds(
        lambda tenths, *counts: Amounts(tenths * NANO // 10, *counts),
        *[st.integers(low, 13)] * 4,
    )


def naive(budget, day, month, asked):
    """The rule written down again, in another way: each limit as (used, asked, limit)."""
    lines = []
    for name in LIMIT_FIELDS:
        limit = getattr(budget, name)
        if limit is None:
            continue
        used = day if name.startswith("daily") else month

        def of(amount, name=name):
            if name.endswith("_usd"):
                return Fraction(amount.cost_nano, NANO)
            if "execution" in name:
                return Fraction(amount.executions)
            tokens = 0
            if "output" not in name:
                tokens += amount.input_tokens
            if "input" not in name:
                tokens += amount.output_tokens
            return Fraction(tokens)

        lines.append((of(used), of(asked), Fraction(limit)))
    passes = all(used + more <= limit for used, more, limit in lines)

    def reached(share):
        return any(used >= limit * Fraction(share) for used, _, limit in lines)

    if reached(1):
        state = "exceeded"
    elif reached(budget.degradation_threshold):
        state = "degraded"
    elif reached(budget.warning_threshold):
        state = "warning"
    else:
        state = "ok"
    soft = budget.enforcement_mode == "soft"
    degraded = state in ("degraded", "exceeded") or (soft and not passes)
    shares = [used / limit if limit else None for used, _, limit in lines]
    return state, passes or soft, degraded, passes, shares


@given(budgets(), amounts(-2), amounts(-2), amounts())
@example(Budget(monthly_budget_usd=Decimal("1.2")), NOTHING, Amounts(1_200_000_000), NOTHING)
def test_the_rule(budget, day, month, asked):
    """State, permission, degradation and the tightest limit, for every kind of limit at once."""
    result = evaluate(Rules(budget), day, month, asked)
    state, allowed, degraded, passes, shares = naive(budget, day, month, asked)
    assert (result.state, result.allowed, result.degraded) == (state, allowed, degraded)
    assert (result.blocked_by is None) == passes
    assert (result.tightest is None) == (not shares)
    if result.tightest is not None:
        tightest = result.tightest
        used = {"day": day, "month": month}[tightest.window]
        share = (
            Fraction({
                "cost": used.cost_nano,
                "executions": used.executions,
                "tokens": used.input_tokens + used.output_tokens,
                "input_tokens": used.input_tokens,
                "output_tokens": used.output_tokens,
            }[tightest.kind], tightest.limit)
            if tightest.limit
            else None
        )  # fmt: skip
        assert share == (None if None in shares else max(shares))


def test_exactly_at_the_limit_is_allowed():
    """used + asked ≤ limit; a nano-dollar more is not."""
    rules = Rules(Budget(monthly_budget_usd=Decimal(10)))
    used = Amounts(9 * NANO)
    assert evaluate(rules, NOTHING, used, Amounts(NANO)).allowed
    blocked = evaluate(rules, NOTHING, used, Amounts(NANO + 1))
    assert not blocked.allowed
    assert blocked.state == "degraded"  # before the call: at 0.90


def test_zero_blocks_what_would_add_to_it():
    """A limit of zero is used up from the start."""
    rules = Rules(Budget(daily_execution_limit=0))
    assert not evaluate(rules, NOTHING, NOTHING, Amounts(executions=1)).allowed
    assert evaluate(rules, NOTHING, NOTHING, NOTHING).allowed
    assert evaluate(rules, NOTHING, NOTHING).state == "exceeded"


def test_the_sentence_names_window_and_amounts():
    """To two decimals."""
    rules = Rules(Budget(daily_budget_usd=Decimal("1.5")))
    day, asked = Amounts(NANO), Amounts(NANO)
    limit = evaluate(rules, day, NOTHING, asked).blocked_by
    assert describe(limit, day, NOTHING, asked) == (
        "daily budget exceeded: $1.00 used + $1.00 asked > $1.50 limit"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"daily_budget_usd": Decimal(-1)},
        {"monthly_token_limit": -1},
        {"monthly_budget_usd": "0.0000000004"},  # it would block everything, as zero does
        {"warning_threshold": Decimal(0)},
        {"degradation_threshold": Decimal("1.1")},
        {"warning_threshold": Decimal("0.95")},
        {"warning_threshold": Decimal("0.1234567")},
        {"degradation_threshold": Decimal("NaN")},
    ],
)
def test_what_is_no_budget_is_refused(wrong):
    """Negative limits, thresholds out of range or out of order."""
    with pytest.raises(ValueError):
        Budget(**wrong)


def test_changes_keep_the_rest():
    """A limit of None is taken away, a threshold of None is the default again."""
    budget = Budget(daily_budget_usd=Decimal(5), monthly_token_limit=7, on_stale="block")
    changed = budget.changed({"daily_budget_usd": None, "monthly_budget_usd": "9.5"})
    assert changed == Budget(
        monthly_budget_usd=Decimal("9.5"), monthly_token_limit=7, on_stale="block"
    )
    assert budget.changed({"on_stale": None}).on_stale == "allow"
    with pytest.raises(ValueError):
        budget.changed({"unknown": 1})
    with pytest.raises(ValueError):
        budget.changed({"monthly_token_limit": -1})


@given(budgets())
def test_a_budget_goes_out_and_comes_back(budget):
    """As JSON, without losing a digit."""
    assert msgspec.json.decode(msgspec.json.encode(budget), type=Budget) == budget


def test_what_python_code_gives_is_made_canonical():
    """Floats count by their shortest text, strings as decimals."""
    budget = Budget(monthly_budget_usd=0.1, warning_threshold=0.5, degradation_threshold="0.75")
    assert budget.monthly_budget_usd == Decimal("0.1")
    assert (budget.warning_threshold, budget.degradation_threshold) == (
        Decimal("0.5"),
        Decimal("0.75"),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"warning_threshold": "abc"},
        {"warning_threshold": True},
        {"warning_threshold": [1]},
        {"degradation_threshold": float("nan")},
        {"enforcement_mode": "SOFT"},
        {"enforcement_mode": None},
        {"on_stale": "x"},
        {"daily_execution_limit": True},
        {"daily_execution_limit": 1.5},
        {"daily_execution_limit": "5"},
        {"monthly_token_limit": 10**16},
        {"monthly_token_limit": -1},
    ],
)
def test_what_a_budget_cannot_have_is_a_value_error(fields):
    """Also where no decoder has looked at it."""
    with pytest.raises(ValueError, match=next(iter(fields))):
        Budget(**fields)
