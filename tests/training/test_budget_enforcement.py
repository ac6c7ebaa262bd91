"""The training enforcer as its users know it: the 25 tests of its story, by their names."""

from decimal import Decimal

import pytest

from outlay.training import BudgetEnforcer, BudgetStatus, check_budget


@pytest.fixture
def enforcer():
    return BudgetEnforcer(max_budget_usd=Decimal("200.00"))


def spent(usd, limit="200.00"):
    enforcer = BudgetEnforcer(max_budget_usd=Decimal(limit))
    enforcer.current_cost_usd = Decimal(usd)
    return enforcer


def test_budget_enforcer_initialization(enforcer):
    """A new one has spent nothing, and warns at three quarters and at nine tenths."""
    assert enforcer.max_budget_usd == Decimal("200.00")
    assert enforcer.current_cost_usd == Decimal("0.00")
    assert enforcer.warning_threshold_75 == Decimal("0.75")
    assert enforcer.warning_threshold_90 == Decimal("0.90")


def test_budget_enforcer_custom_thresholds():
    """Thresholds given as floats are the decimals that they are written as."""
    enforcer = BudgetEnforcer(
        max_budget_usd=Decimal("10"), warning_threshold_75=0.7, warning_threshold_90=0.85
    )
    assert isinstance(enforcer.warning_threshold_75, Decimal)
    assert isinstance(enforcer.warning_threshold_90, Decimal)
    assert enforcer.warning_threshold_75 == Decimal("0.70")
    assert enforcer.warning_threshold_90 == Decimal("0.85")
    enforcer.add_cost(Decimal("7"))
    assert enforcer.get_status()["status"] == "warning_75"


def test_check_budget_available_ok(enforcer):
    """A small cost fits, and asking for it spends nothing."""
    assert enforcer.check_budget_available(Decimal("149.99")) == (True, BudgetStatus.OK)
    assert enforcer.current_cost_usd == 0


def test_check_budget_available_warning_75():
    """The status is that of the projected cost: at three quarters it warns."""
    available = spent("100").check_budget_available(Decimal("50"))
    assert available == (True, BudgetStatus.WARNING_75)


def test_check_budget_available_warning_90():
    """At nine tenths the second warning."""
    available = spent("140").check_budget_available(Decimal("40"))
    assert available == (True, BudgetStatus.WARNING_90)


def test_check_budget_available_exceeded():
    """What would pass the limit is not available."""
    available = spent("180").check_budget_available(Decimal("20.01"))
    assert available == (False, BudgetStatus.EXCEEDED)


def test_check_budget_available_exact_limit():
    """Exactly the limit is available, with a warning."""
    available = spent("180").check_budget_available(Decimal("20.00"))
    assert available == (True, BudgetStatus.WARNING_90)


def test_add_cost(enforcer):
    """Costs add up."""
    enforcer.add_cost(Decimal("12.30"))
    assert enforcer.current_cost_usd == Decimal("12.30")
    enforcer.add_cost(Decimal("0.045"))
    assert enforcer.current_cost_usd == Decimal("12.345")


def test_get_remaining_budget():
    """The limit less what was spent."""
    assert spent("37.5").get_remaining_budget() == Decimal("162.5")


def test_get_remaining_budget_exceeded():
    """Below zero where more was spent than the limit."""
    assert spent("220.01").get_remaining_budget() == Decimal("-20.01")


def test_get_utilization_percentage():
    """In percent of the limit, as a float."""
    utilization = spent("150").get_utilization_percentage()
    assert isinstance(utilization, float)
    assert utilization == 75.0


def test_get_utilization_percentage_zero_budget():
    """A limit of zero has no utilization, whatever was spent."""
    assert spent("10", limit="0.00").get_utilization_percentage() == 0.0


def test_is_budget_exceeded():
    """Above the limit only."""
    assert spent("199.99").is_budget_exceeded() is False
    assert spent("200.00").is_budget_exceeded() is False
    assert spent("200.01").is_budget_exceeded() is True


def test_get_status_ok():
    """The whole of it, as floats and text."""
    status = spent("50").get_status()
    assert status == {
        "status": "ok",
        "current_cost_usd": 50.0,
        "max_budget_usd": 200.0,
        "remaining_usd": 150.0,
        "utilization_percentage": 25.0,
        "is_exceeded": False,
    }
    assert type(status["status"]) is str
    assert {type(status[key]) for key in status if key.endswith(("_usd", "_percentage"))} == {float}


def test_get_status_warning_75():
    """At three quarters."""
    status = spent("150").get_status()
    assert status["status"] == BudgetStatus.WARNING_75.value
    assert status["utilization_percentage"] == 75.0
    assert status["is_exceeded"] is False


def test_get_status_warning_90():
    """At nine tenths."""
    status = spent("180").get_status()
    assert status["status"] == BudgetStatus.WARNING_90.value
    assert status["utilization_percentage"] == 90.0
    assert status["is_exceeded"] is False


def test_get_status_exceeded():
    """Above the limit, with what is left below zero."""
    status = spent("220").get_status()
    assert status["status"] == BudgetStatus.EXCEEDED.value
    assert status["utilization_percentage"] == 110.0
    assert status["remaining_usd"] == -20.0
    assert status["is_exceeded"] is True


def test_reset():
    """Nothing is spent any more; the limit stays."""
    enforcer = spent("150")
    enforcer.reset()
    assert enforcer.current_cost_usd == Decimal("0.00")
    assert enforcer.max_budget_usd == Decimal("200.00")
    assert enforcer.get_status()["status"] == "ok"


def test_check_budget_function_ok():
    """It fits, and the message says what then remains."""
    is_ok, message = check_budget(
        current_cost=Decimal("60.00"),
        max_budget=Decimal("100.00"),
        required_amount=Decimal("22.00"),
    )
    assert is_ok is True
    assert "Budget OK" in message
    assert "18.00" in message


def test_check_budget_function_exceeded():
    """It does not fit, and the message has the projected cost."""
    is_ok, message = check_budget(
        current_cost=Decimal("80"), max_budget=Decimal("100"), required_amount=Decimal("30.5")
    )
    assert is_ok is False
    assert "Budget would be exceeded" in message
    assert "110.50" in message


def test_check_budget_function_exact_limit():
    """Exactly the limit fits."""
    assert check_budget(Decimal("75.00"), Decimal("100.00"), Decimal("25.00"))[0] is True
    assert check_budget(Decimal("75.00"), Decimal("100.00"), Decimal("25.01"))[0] is False


def test_check_budget_function_no_additional_cost():
    """Without a further cost the message says what remains."""
    is_ok, message = check_budget(current_cost=Decimal("90"), max_budget=Decimal("100"))
    assert is_ok is True
    assert "10.00" in message


def test_progressive_cost_addition(enforcer):
    """Cost after cost is asked for and added, until one does not fit."""
    for cost in (Decimal("40"), Decimal("60"), Decimal("50")):
        assert enforcer.check_budget_available(cost)[0] is True
        enforcer.add_cost(cost)
    assert enforcer.current_cost_usd == Decimal("150")
    assert enforcer.check_budget_available(Decimal("60")) == (False, BudgetStatus.EXCEEDED)


def test_threshold_boundaries():
    """Each threshold is reached at its amount; the limit is exceeded above it."""
    boundaries = {
        "149.99": BudgetStatus.OK,
        "150.00": BudgetStatus.WARNING_75,
        "179.99": BudgetStatus.WARNING_75,
        "180.00": BudgetStatus.WARNING_90,
        "200.00": BudgetStatus.WARNING_90,
        "200.01": BudgetStatus.EXCEEDED,
    }
    found = {usd: spent(usd).get_status()["status"] for usd in boundaries}
    assert found == {usd: status.value for usd, status in boundaries.items()}


def test_decimal_precision():
    """Three thirds of a hundred are a hundred, and fit it."""
    enforcer = BudgetEnforcer(max_budget_usd=Decimal("100.00"))
    for third in ("33.333333", "33.333333", "33.333334"):
        enforcer.add_cost(Decimal(third))
    assert enforcer.current_cost_usd == Decimal("100.000000")
    assert enforcer.is_budget_exceeded() is False
