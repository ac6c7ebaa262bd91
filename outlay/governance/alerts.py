"""Alerts: whom to tell when a budget is nearly used up, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from outlay.alert_config import (
    COOLDOWN_MINUTES_MAX,
    AlertConfig,
    check_recipients,
    check_webhook_url,
)
from outlay.governance.amounts import boolean, exact
from outlay.governance.thresholds import ALERT_THRESHOLDS, ascending


@dataclass(frozen=True, kw_only=True)
class BudgetAlertConfig:
    """Whom to tell when a budget's used fraction reaches thresholds.

    Attributes:
        webhook_url: where to send the alert, http or https. It may be a secret: `repr` has it not.
        email_recipients: addresses to send it to.
        thresholds: the used fractions, in (0, 1] and ascending.
        alert_once_per_threshold: whether each threshold is told once a period only.
        include_forecast: whether to say when the budget will be used up at the present pace.
        cooldown_minutes: how long after an alert of the budget the next one waits, and is merged
            with others that do. What is exceeded or recovered never waits.

    Raises:
        ValueError: a URL that is not http or https, what is no e-mail address, thresholds out of
            range or out of order, a negative cooldown.
    """

    webhook_url: str | None = field(default=None, repr=False)
    email_recipients: list[str] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=lambda: list(ALERT_THRESHOLDS))
    alert_once_per_threshold: bool = True
    include_forecast: bool = True
    cooldown_minutes: float = 15

    def __post_init__(self) -> None:
        if self.webhook_url is not None:
            check_webhook_url(self.webhook_url)
        check_recipients(self.email_recipients)
        object.__setattr__(self, "email_recipients", list(self.email_recipients))
        object.__setattr__(self, "thresholds", ascending("thresholds", self.thresholds))
        boolean("alert_once_per_threshold", self.alert_once_per_threshold)
        boolean("include_forecast", self.include_forecast)
        if exact("cooldown_minutes", self.cooldown_minutes) > COOLDOWN_MINUTES_MAX:
            raise ValueError(f"cooldown_minutes must be at most {COOLDOWN_MINUTES_MAX}")

    def to_alert_config(self, *, webhook_secrets: tuple[str, ...] = ()) -> AlertConfig:
        """The same for `BudgetClient.put_alerts`; a part of a minute counts as a whole one.

            >>> BudgetAlertConfig(cooldown_minutes=0.5).to_alert_config().cooldown_minutes
            1

        Args:
            webhook_secrets: what signs, each `whsec_` and base64.

        Raises:
            ValueError: over 16 thresholds, one of over six decimals, or secrets that are none.
        """
        minutes = exact("cooldown_minutes", self.cooldown_minutes)
        return AlertConfig(
            webhook_url=self.webhook_url,
            webhook_secrets=webhook_secrets,
            email_recipients=tuple(self.email_recipients),
            thresholds=tuple(exact("threshold", share) for share in self.thresholds),
            alert_once_per_threshold=self.alert_once_per_threshold,
            include_forecast=self.include_forecast,
            cooldown_minutes=ceil(minutes),
        )
