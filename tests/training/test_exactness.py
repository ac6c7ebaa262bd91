"""Sums and limits of a training's budget: exact whatever the decimal context, for any arguments."""

import decimal
import threading
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.training import BudgetEnforcer, BudgetStatus, TrainingBudget, check_budget

LONG_THIRD = "0." + "3" * 60
costs = st.decimals(0, 999_999, allow_nan=False, places=None).filter(
    lambda cost: cost.as_tuple().exponent > -200
)
NOT_AMOUNTS = [
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    float("nan"),
    float("-inf"),
    -1,
    -0.01,
    Decimal("-1e-30"),
    True,
    False,
    None,
    "",
    "a dollar",
    " 1",
    "1_000",
    [1],
    1j,
    Decimal("1e9"),
    Decimal("1e999999"),
    Decimal("1e-999999"),
    Decimal("0e-999999"),
]


@given(st.lists(costs, max_size=20), costs)
def test_the_sum_is_that_of_fractions(steps, limit):
    """No digit is lost, and the limit is compared with the exact sum."""
    enforcer = BudgetEnforcer(limit)
    for cost in steps:
        enforcer.add_cost(cost)
    total = sum(map(Fraction, steps), Fraction(0))
    assert Fraction(enforcer.current_cost_usd) == total
    assert Fraction(enforcer.get_remaining_budget()) == Fraction(limit) - total
    assert enforcer.is_budget_exceeded() is (total > Fraction(limit))


@given(st.lists(costs, max_size=20), costs)
def test_steps_never_pass_the_limit_and_are_refused_only_above_it(steps, limit):
    """The sum stays at or below the limit; each refused step would have taken it above."""
    enforcer, total = BudgetEnforcer(limit), Fraction(0)
    for cost in steps:
        fits = total + Fraction(cost) <= Fraction(limit)
        asked = enforcer.check_budget_available(cost)
        assert asked == enforcer.try_add_cost(cost)
        assert asked[0] is fits
        assert asked[0] is (asked[1] is not BudgetStatus.EXCEEDED)
        total += Fraction(cost) if fits else 0
        assert Fraction(enforcer.current_cost_usd) == total
    assert total <= Fraction(limit)


def test_ten_times_a_tenth_is_one():
    """A float counts as its shortest text: ten of 0.1 fit a limit of 1, and nothing more."""
    enforcer = BudgetEnforcer(1)
    assert all(enforcer.try_add_cost(0.1)[0] for _ in range(10))
    assert enforcer.current_cost_usd == 1
    assert enforcer.try_add_cost("1e-30") == (False, BudgetStatus.EXCEEDED)
    assert not enforcer.is_budget_exceeded()


class NumpyLike(float):
    """A float that writes its type, too."""

    def __repr__(self):
        return f"np.float64({float.__repr__(self)})"


def test_a_float_of_a_library_is_a_float():
    """Trainings have floats whose `repr` is not a number."""
    enforcer = BudgetEnforcer(1)
    enforcer.add_cost(NumpyLike(0.1))
    assert enforcer.current_cost_usd == Decimal("0.1")


def test_long_decimals_stay_as_they_are():
    """Far beyond the 28 digits of the default context."""
    enforcer = BudgetEnforcer(100)
    enforcer.current_cost_usd = 99
    for _ in range(3):
        enforcer.add_cost(LONG_THIRD)
    enforcer.add_cost(Decimal("1e-60"))
    assert enforcer.current_cost_usd == 100
    assert enforcer.get_remaining_budget() == 0
    enforcer.add_cost(Decimal("1e-199"))
    assert enforcer.is_budget_exceeded()
    assert enforcer.get_remaining_budget() == Decimal("-1e-199")


@pytest.fixture
def hostile_context():
    """A context of two digits that traps all it can, as the current one and for new threads."""
    saved = decimal.DefaultContext.copy()
    traps = [decimal.Inexact, decimal.Rounded, decimal.Subnormal, decimal.FloatOperation]
    with decimal.localcontext(decimal.Context(prec=2, Emin=-3, Emax=3, traps=traps)) as context:
        decimal.DefaultContext.prec = 2
        yield context
        decimal.DefaultContext.prec = saved.prec


def test_no_context_of_a_user_changes_a_number(hostile_context):
    """Sums, messages and reports are the same with a context of two digits."""
    enforcer = BudgetEnforcer("123456.789", "0.7512345", "0.9")
    with TrainingBudget(enforcer) as budget:
        for _ in range(3):
            budget.step(0.123456789)
    assert str(budget.report.cost_usd) == "0.370370367"
    assert str(enforcer.get_remaining_budget()) == "123456.418629633"
    enforcer.current_cost_usd = "92592.591755"
    assert enforcer.get_utilization_percentage() == 92592.591755 / 123456.789 * 100
    assert check_budget("1234.5678", "123456.789") == (True, "Budget OK: $122222.22 remaining")


@pytest.mark.parametrize("amount", NOT_AMOUNTS, ids=repr)
def test_what_is_no_amount_is_a_value_error(amount):
    """Everywhere that an amount goes in, and it changes nothing."""
    enforcer = BudgetEnforcer(10)
    enforcer.add_cost(1)
    budget = TrainingBudget(enforcer)
    before = budget.report

    def assign():
        enforcer.current_cost_usd = amount

    for call in (
        assign,
        lambda: BudgetEnforcer(amount),
        lambda: BudgetEnforcer(1, warning_threshold_75=amount),
        lambda: BudgetEnforcer(1, warning_threshold_90=amount),
        lambda: enforcer.add_cost(amount),
        lambda: enforcer.try_add_cost(amount),
        lambda: enforcer.check_budget_available(amount),
        lambda: check_budget(amount, 1),
        lambda: check_budget(1, amount),
        lambda: check_budget(1, 1, amount),
        lambda: budget.step(amount),
        lambda: budget.record(amount),
    ):
        with pytest.raises(ValueError, match=r"amount|budget|cost|threshold") as caught:
            call()
        assert type(caught.value) is ValueError
    assert budget.report == before
    assert enforcer.current_cost_usd == 1


@pytest.mark.parametrize("thresholds", [(0, 0.9), (0.75, 1.01), (0.9, 0.75), ("0", "1")])
def test_thresholds_are_shares_in_order(thresholds):
    """Above 0, at most 1, the first not above the second."""
    with pytest.raises(ValueError, match="warning_threshold"):
        BudgetEnforcer(1, *thresholds)
    BudgetEnforcer(1, 1, 1)


def test_the_limit_and_the_thresholds_are_fixed():
    """Only the cost can be set."""
    enforcer = BudgetEnforcer(1)
    for name in ("max_budget_usd", "warning_threshold_75", "warning_threshold_90"):
        with pytest.raises(AttributeError):
            setattr(enforcer, name, 2)


def test_a_limit_of_zero_has_no_room():
    """Nothing costs nothing and fits; the least cost does not."""
    enforcer = BudgetEnforcer(0)
    assert enforcer.check_budget_available(0) == (True, BudgetStatus.OK)
    assert enforcer.check_budget_available("1e-100") == (False, BudgetStatus.EXCEEDED)
    enforcer.add_cost("0.01")
    assert enforcer.get_status()["status"] == "exceeded"


def test_messages_round_to_cents():
    """Half-even, and without an exponent."""
    assert check_budget("0.005", "1e8") == (True, "Budget OK: $100000000.00 remaining")
    assert "$1.02 projected > $1.00 limit" in check_budget("1.0150000001", "1")[1]


def test_threads_lose_no_cost_and_pass_no_limit():
    """Costs added from several threads add up; of more than fits, exactly what fits is taken."""
    added, tried = BudgetEnforcer(10**6), BudgetEnforcer("1.5")
    taken = []

    def work():
        for _ in range(500):
            added.add_cost("0.001")
            taken.append(tried.try_add_cost("0.001")[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added.current_cost_usd == 2
    assert sum(taken) == 1500
    assert tried.current_cost_usd == Decimal("1.5")
