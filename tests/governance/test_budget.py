"""The budget of an external agent: what it holds, and what it refuses, also when assigned."""

import copy
import pickle
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Amounts, Budget
from outlay.budget import LIMIT_FIELDS
from outlay.governance import BudgetScope, ExternalAgentBudget, ExternalAgentBudgetConfig

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 # what must be refused


def test_the_names_their_order_and_defaults():
    """Those that users have written code with."""
    expected = {
        "external_agent_id": "a",
        "monthly_budget_usd": 100.0,
        "monthly_spent_usd": 0.0,
        "daily_budget_usd": None,
        "daily_spent_usd": 0.0,
        "monthly_execution_limit": 10_000,
        "monthly_execution_count": 0,
        "daily_execution_limit": None,
        "daily_execution_count": 0,
        "cost_per_execution": 0.05,
        "warning_threshold": None,
        "degradation_threshold": None,
        "enforcement_mode": "hard",
        "metadata": {},
    }
    found = asdict(ExternalAgentBudget("a", 100.0))
    assert list(found.items())[: len(expected)] == list(expected.items())
    assert set(LIMIT_FIELDS) <= set(found)  # the stream's limits all have their name here
    positional = ExternalAgentBudget("a", 100.0, 1.0, 5.0, 0.5, 7, 6, 3, 2, 0.1, 0.5, 0.6, "soft")
    assert positional == ExternalAgentBudget(
        external_agent_id="a",
        monthly_budget_usd=100.0,
        monthly_spent_usd=1.0,
        daily_budget_usd=5.0,
        daily_spent_usd=0.5,
        monthly_execution_limit=7,
        monthly_execution_count=6,
        daily_execution_limit=3,
        daily_execution_count=2,
        cost_per_execution=0.1,
        warning_threshold=0.5,
        degradation_threshold=0.6,
        enforcement_mode="soft",
    )


def test_metadata_is_a_fresh_dict():
    """What one budget is given no other has."""
    one, other = ExternalAgentBudget("a", 1), ExternalAgentBudget("a", 1)
    one.metadata["team"] = "search"
    assert other.metadata == {}


WRONG = [
    ("external_agent_id", ""),
    ("external_agent_id", None),
    ("monthly_budget_usd", -0.01),
    ("monthly_budget_usd", Decimal("-0.000000001")),
    ("monthly_budget_usd", float("nan")),
    ("monthly_budget_usd", True),
    ("monthly_budget_usd", "many"),
    ("monthly_budget_usd", 10**9),
    ("monthly_spent_usd", float("inf")),
    ("monthly_spent_usd", -1),
    ("monthly_spent_usd", None),
    ("monthly_spent_usd", Decimal("NaN")),
    ("monthly_spent_usd", Decimal(10**15)),
    ("daily_budget_usd", Decimal("-1")),
    ("daily_spent_usd", -0.5),
    ("weekly_spent_usd", [1]),
    ("monthly_execution_limit", 1.5),
    ("monthly_execution_limit", -1),
    ("monthly_execution_count", None),
    ("daily_execution_limit", "5"),
    ("daily_execution_count", True),
    ("cost_per_execution", -0.05),
    ("cost_per_execution", None),
    ("warning_threshold", 0),
    ("warning_threshold", 1.5),
    ("degradation_threshold", float("nan")),
    ("enforcement_mode", "HARD"),
    ("enforcement_mode", None),
    ("metadata", None),
    ("daily_token_limit", -1),
    ("monthly_output_token_limit", 10**16),
    ("daily_input_tokens", -1),
    ("monthly_output_tokens", 0.5),
    ("on_stale", "maybe"),
    ("scope", "org:acme"),
    ("counted_at", NAIVE),
    ("last_period", {}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_whenever_it_comes(name, value):
    """When a budget is made, and when a field is assigned, which then keeps what it had."""
    with pytest.raises(ValueError, match=name):
        ExternalAgentBudget(**{"external_agent_id": "a", "monthly_budget_usd": 1.0, name: value})
    budget = ExternalAgentBudget("a", 1.0)
    before = asdict(budget)
    with pytest.raises(ValueError, match=name):
        setattr(budget, name, value)
    assert asdict(budget) == before


def test_every_field_is_looked_at():
    """None can silently hold anything."""
    assert {name for name, _ in WRONG} >= {
        field.name
        for field in fields(ExternalAgentBudget)
        if not field.name.endswith(("_token_limit", "_tokens", "weekly_execution_count"))
    }
    for field in fields(ExternalAgentBudget):
        if field.name.endswith(("_limit", "_tokens", "_count")):
            with pytest.raises(ValueError, match=field.name):
                setattr(ExternalAgentBudget("a", 1.0), field.name, -1)


def test_thresholds_out_of_order_are_refused():
    """The warning comes first."""
    with pytest.raises(ValueError, match="must not be above degradation_threshold"):
        ExternalAgentBudget("a", 1.0, warning_threshold=0.9, degradation_threshold=0.8)


def test_a_field_that_there_is_not_is_refused():
    """A slip of the pen would otherwise be a limit that nobody keeps."""
    with pytest.raises(AttributeError):
        ExternalAgentBudget("a", 1.0).montly_spent_usd = 5.0
    with pytest.raises(TypeError):
        ExternalAgentBudget("a", 1.0, daily_limit=5)


def test_amounts_are_floats_where_a_float_means_them():
    """Whatever they were given as; more than nine decimals are rounded half-even, once."""
    budget = ExternalAgentBudget("a", 1000, "0.1", daily_budget_usd=0.1234567885)
    assert repr(budget.monthly_budget_usd) == "1000.0"
    assert repr(budget.monthly_spent_usd) == "0.1"
    assert repr(budget.daily_budget_usd) == "0.123456788"
    assert f"{budget.monthly_budget_usd:.2f}" == "1000.00"


def test_one_decimal_makes_all_amounts_decimals():
    """So that the amounts of one budget can always be added and compared."""
    for budget in (
        ExternalAgentBudget("a", Decimal("10"), 2.5, daily_budget_usd=1),
        ExternalAgentBudget("a", 10.0, 2.5, daily_budget_usd=Decimal("1")),
    ):
        assert budget.monthly_budget_usd - budget.monthly_spent_usd == Decimal("7.5")
        assert isinstance(budget.daily_budget_usd, Decimal)
        assert isinstance(budget.cost_per_execution, Decimal)
    budget = ExternalAgentBudget("a", 10.0)
    assert not budget.speaks_decimals
    budget.monthly_spent_usd = Decimal("2.5")
    assert budget.speaks_decimals
    assert isinstance(budget.monthly_budget_usd, Decimal)
    budget.daily_spent_usd = 0.1
    assert budget.daily_spent_usd == Decimal("0.1")


def test_a_sum_that_no_float_means_becomes_a_decimal():
    """Never a rounded number; and it is read back as it is."""
    budget = ExternalAgentBudget("a", 900_000_000.0)
    long = Amounts(899_999_999_123_456_789)
    budget.set_used("monthly", long)
    assert budget.monthly_spent_usd == Decimal("899999999.123456789")
    assert budget.used("monthly") == long
    beyond = Amounts(10**9 * 10**12 + 1)  # a sum may be more than one amount can
    budget.set_used("monthly", beyond)
    assert budget.used("monthly") == beyond
    round_number = Amounts(10**9 * 10**12)
    plain = ExternalAgentBudget("a", 1.0)
    plain.set_used("monthly", round_number)
    assert plain.monthly_spent_usd == 1e12
    assert plain.used("monthly") == round_number
    plain.daily_spent_usd = Decimal("0.1")
    assert plain.monthly_spent_usd == Decimal(10**12)


@given(st.integers(0, 10**18 - 1), st.booleans())
def test_what_is_counted_is_read_back(nano, exact):
    """To the last nano-dollar, as whichever number it comes back."""
    budget = ExternalAgentBudget("a", Decimal(1) if exact else 1.0)
    budget.set_used("daily", Amounts(nano, 1, 2, 3))
    assert budget.used("daily") == Amounts(nano, 1, 2, 3)
    assert Decimal(str(budget.daily_spent_usd)) == Decimal(nano).scaleb(-9)
    assert budget.used("monthly") == Amounts()


def test_absent_limits_are_none():
    """Also that of the month."""
    budget = ExternalAgentBudget("a", None, monthly_execution_limit=None)
    budget.daily_budget_usd = 5.0
    budget.daily_budget_usd = None
    assert budget.monthly_budget_usd is budget.daily_budget_usd is None


def test_a_budget_is_plain_data():
    """It is copied, compared and pickled with all that it has."""
    budget = ExternalAgentBudget("a", 1.0, scope=BudgetScope("acme"), metadata={"k": [1]})
    budget.counted_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=1)
    for other in (copy.deepcopy(budget), pickle.loads(pickle.dumps(budget))):
        assert other == budget
        other.monthly_spent_usd = 0.5
        assert other != budget


def test_a_sum_may_be_given_in_any_form():
    """A sum may be larger than one amount, as a whole number and as text, too."""
    for spent in (2_000_000_000, "2000000000", 2e9, Decimal(2_000_000_000)):
        assert ExternalAgentBudget("a", 1, monthly_spent_usd=spent).monthly_spent_usd == 2 * 10**9
    for spent in (10**15, "1e15", 1e15):
        with pytest.raises(ValueError, match="below 1,000,000,000,000,000"):
            ExternalAgentBudget("a", 1, monthly_spent_usd=spent)


@pytest.mark.parametrize("text", ["1_0", " 1 ", "\u0661", "0.7500000", "1e-9"])
def test_texts_that_are_no_plain_share_are_refused_at_once(text):
    """As a threshold of a budget, of a configuration, and of `outlay.Budget` alike."""
    for make in (
        lambda: ExternalAgentBudget("a", 1, warning_threshold=text),
        lambda: ExternalAgentBudgetConfig(warning_threshold=text),
        lambda: Budget(warning_threshold=text),
    ):
        with pytest.raises(ValueError, match=r"^warning_threshold must "):
            make()
