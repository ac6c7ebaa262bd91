"""Configurations: defaults that users know, exact prices, thresholds at and above."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.alert_config import AlertConfig
from outlay.governance import BudgetAlertConfig, ExternalAgentBudgetConfig


def test_the_defaults():
    """Those of the documentation that users have."""
    config = ExternalAgentBudgetConfig()
    assert vars(config) == {
        "max_tokens_per_period": None,
        "max_cost_per_period": None,
        "max_invocations_per_period": None,
        "period": "monthly",
        "period_start": None,
        "timezone": "UTC",
        "warning_threshold": 0.75,
        "degradation_threshold": 0.90,
        "alert_thresholds": [0.50, 0.75, 0.90, 1.00],
        "input_token_rate": 0.00001,
        "output_token_rate": 0.00003,
        "base_invocation_cost": 0.001,
        "enforcement_mode": "hard",
        "rollover_unused": False,
        "max_rollover_percentage": 0.25,
    }
    assert vars(BudgetAlertConfig()) == {
        "webhook_url": None,
        "email_recipients": [],
        "thresholds": [0.50, 0.75, 0.90, 1.00],
        "alert_once_per_threshold": True,
        "include_forecast": True,
        "cooldown_minutes": 15,
    }


def test_what_a_call_costs():
    """Exactly, as a float where there is one that means it."""
    config = ExternalAgentBudgetConfig()
    assert config.calculate_cost(1000, 500) == 0.026
    assert config.calculate_cost(input_tokens=1000, output_tokens=500, invocations=1) == 0.026
    assert config.calculate_cost() == 0.001
    assert config.calculate_cost(invocations=0) == 0.0
    assert config.calculate_cost(3, 3, 3) == 0.00312
    assert isinstance(config.calculate_cost(1), float)
    exact = ExternalAgentBudgetConfig(input_token_rate=Decimal("0.00001"))
    assert repr(exact.calculate_cost(1000, 500)) == "Decimal('0.026')"


def test_a_rate_below_a_nano_dollar_is_not_rounded_by_itself():
    """0.0375 USD for a million tokens: only what they cost together is rounded."""
    config = ExternalAgentBudgetConfig(
        input_token_rate=0.0000000375, output_token_rate=0, base_invocation_cost=0
    )
    assert config.calculate_cost(1_000_000) == 0.0375
    assert config.calculate_cost(1) == 3.8e-8  # 37.5 nano-dollars, half-even


@given(*[st.integers(0, 10**7)] * 2, st.integers(0, 100))
def test_any_cost_is_the_sum_of_its_parts(inputs, outputs, invocations):
    """In integers of 10 micro-dollars."""
    cost = ExternalAgentBudgetConfig().calculate_cost(inputs, outputs, invocations)
    assert Decimal(str(cost)) == Decimal(inputs + 3 * outputs + 100 * invocations) / 100_000


def test_thresholds_are_reached_at_and_above():
    """A float by its shortest text."""
    config = ExternalAgentBudgetConfig()
    assert config.is_warning_threshold_reached(0.75)
    assert not config.is_warning_threshold_reached(0.7499999999)
    assert config.is_warning_threshold_reached(2)
    assert config.is_degradation_threshold_reached(0.90)
    assert not config.is_degradation_threshold_reached(Decimal("0.89999999999999999999"))


@pytest.mark.parametrize(
    ("usage", "alerts"),
    [
        (0, []),
        (0.49, []),
        (0.5, [0.5]),
        (0.85, [0.50, 0.75]),
        (1.0, [0.50, 0.75, 0.90, 1.00]),
        (7, [0.50, 0.75, 0.90, 1.00]),
    ],
)
def test_which_alerts_are_triggered(usage, alerts):
    """All that the used share is at or above."""
    assert ExternalAgentBudgetConfig().get_triggered_alerts(usage) == alerts


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf"), "much", None, True])
def test_a_share_that_cannot_be_is_refused(wrong):
    """By each of the three that take one."""
    config = ExternalAgentBudgetConfig()
    for ask in (
        config.is_warning_threshold_reached,
        config.is_degradation_threshold_reached,
        config.get_triggered_alerts,
    ):
        with pytest.raises(ValueError, match="usage"):
            ask(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens_per_period": -1},
        {"max_tokens_per_period": 1.5},
        {"max_cost_per_period": -0.01},
        {"max_cost_per_period": float("inf")},
        {"max_invocations_per_period": True},
        {"period": "yearly"},
        {"period_start": datetime(2026, 1, 1)},  # noqa: DTZ001 # a naive one is the point
        {"period_start": "2026-01-01"},
        {"timezone": "Mars/Olympus"},
        {"timezone": "../etc/passwd"},
        {"timezone": "Europe"},
        {"timezone": ""},
        {"timezone": None},
        {"warning_threshold": 0},
        {"warning_threshold": 1.01},
        {"warning_threshold": 0.91},
        {"warning_threshold": 0.1234567},
        {"degradation_threshold": float("nan")},
        {"alert_thresholds": [0.9, 0.5]},
        {"alert_thresholds": [0.5, 0.5]},
        {"alert_thresholds": [0.0, 0.5]},
        {"alert_thresholds": [0.5, 1.5]},
        {"alert_thresholds": 0.5},
        {"alert_thresholds": [n / 1000 for n in range(1, 102)]},
        {"input_token_rate": -0.1},
        {"output_token_rate": float("nan")},
        {"base_invocation_cost": "free"},
        {"enforcement_mode": "lenient"},
        {"rollover_unused": "yes"},
        {"max_rollover_percentage": 1.01},
        {"max_rollover_percentage": -0.1},
    ],
)
def test_what_cannot_be_configured_is_refused(wrong):
    """With the name of what is wrong."""
    with pytest.raises(ValueError, match=next(iter(wrong)).removesuffix("s")):
        ExternalAgentBudgetConfig(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook_url": "ftp://example.com"},
        {"webhook_url": "example.com/hook"},
        {"webhook_url": "https://"},
        {"webhook_url": "https://host:port/"},
        {"webhook_url": "https://ho st/"},
        {"webhook_url": "https://host/\r\nX:y"},
        {"webhook_url": "https://host/" + "x" * 2048},
        {"webhook_url": 5},
        {"email_recipients": ["nobody"]},
        {"email_recipients": ["a@b@c"]},
        {"email_recipients": ["a@b, c@d"]},
        {"email_recipients": ["a@b\r\nBcc: c@d"]},
        {"email_recipients": ["@company.com"]},
        {"email_recipients": [None]},
        {"email_recipients": "admin@company.com"},
        {"thresholds": [1.0, 0.5]},
        {"thresholds": [1.1]},
        {"cooldown_minutes": -1},
        {"cooldown_minutes": float("nan")},
        {"cooldown_minutes": 10**6},
        {"alert_once_per_threshold": 1},
        {"include_forecast": None},
    ],
)
def test_what_cannot_be_alerted_is_refused(wrong):
    """With the name of what is wrong."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BudgetAlertConfig(**wrong)


def test_whom_to_tell_becomes_what_a_budget_is_told():
    """All of it, exactly; a part of a minute counts as a whole one, so that it is not none."""
    config = BudgetAlertConfig(
        webhook_url="https://hooks.example/T0/very-secret",
        email_recipients=["ann@example.com"],
        thresholds=[0.1, 0.3, 1.0],
        alert_once_per_threshold=False,
        include_forecast=False,
        cooldown_minutes=2.5,
    )
    assert config.to_alert_config() == AlertConfig(
        webhook_url="https://hooks.example/T0/very-secret",
        email_recipients=("ann@example.com",),
        thresholds=(Decimal("0.1"), Decimal("0.3"), Decimal("1")),
        alert_once_per_threshold=False,
        include_forecast=False,
        cooldown_minutes=3,
    )
    assert BudgetAlertConfig().to_alert_config() == AlertConfig()
    assert BudgetAlertConfig(cooldown_minutes=0).to_alert_config().cooldown_minutes == 0
    assert "very-secret" not in repr(config)


def test_more_thresholds_than_are_told_are_refused():
    """Where they are to be told, and not before: as many have been allowed."""
    config = BudgetAlertConfig(thresholds=[n / 100 for n in range(1, 18)])
    with pytest.raises(ValueError, match="at most 16"):
        config.to_alert_config()


def test_all_is_by_keyword():
    """Their order is no promise."""
    with pytest.raises(TypeError):
        ExternalAgentBudgetConfig(1000)
    with pytest.raises(TypeError):
        BudgetAlertConfig("https://example.com")


def test_a_config_has_lists_of_its_own():
    """What is done to the one given changes no configuration, nor another one's default."""
    given_list = [0.5]
    config = ExternalAgentBudgetConfig(alert_thresholds=given_list)
    given_list.append(9.0)
    ExternalAgentBudgetConfig().alert_thresholds.clear()
    assert config.alert_thresholds == [0.5]
    assert ExternalAgentBudgetConfig().alert_thresholds == [0.50, 0.75, 0.90, 1.00]


def test_the_period_of_now():
    """Without an argument it is the present one."""
    before = datetime.now(UTC)
    start, end = ExternalAgentBudgetConfig(period="daily").get_period_boundaries()
    assert start <= datetime.now(UTC)
    assert before < end
    assert (end - start).total_seconds() == 86_400
    with pytest.raises(ValueError, match="needs a zone"):
        ExternalAgentBudgetConfig().get_period_boundaries(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("text", ["1_000", " 1 ", "\u0661", "1e-401"])
def test_texts_that_are_no_plain_number_are_refused(text):
    """As everywhere else in outlay; and what would take a long time to write out."""
    with pytest.raises(ValueError, match=r"^input_token_rate must "):
        ExternalAgentBudgetConfig(input_token_rate=text)
