"""Alerts: whom to tell when a budget is nearly used up, and how often."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from outlay.governance.amounts import boolean, exact
from outlay.governance.thresholds import ALERT_THRESHOLDS, ascending

EMAIL_RECIPIENTS_MAX = 100
"""How many addresses an alert goes to at most."""

URL_LENGTH_MAX = 2_048
"""The longest URL of a webhook, in characters."""

COOLDOWN_MINUTES_MAX = 10_080
"""The longest pause between alerts, in minutes: a week."""

_is_email = re.compile(r"[^@\s,;<>]{1,64}@[^@\s,;<>.]+(\.[^@\s,;<>.]+)*").fullmatch


@dataclass(frozen=True, kw_only=True)
class BudgetAlertConfig:
    """Whom to tell when a budget's used fraction reaches thresholds.

    Attributes:
        webhook_url: where to send the alert, http or https.
        email_recipients: addresses to send it to.
        thresholds: the used fractions, in (0, 1] and ascending.
        alert_once_per_threshold: whether each threshold is told once a period only.
        include_forecast: whether to say when the budget will be used up at the present pace.
        cooldown_minutes: how long after an alert no other is sent for the same threshold.

    Raises:
        ValueError: a URL that is not http or https, what is no e-mail address, thresholds out of
            range or out of order, a negative cooldown.
    """

    webhook_url: str | None = None
    email_recipients: list[str] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=lambda: list(ALERT_THRESHOLDS))
    alert_once_per_threshold: bool = True
    include_forecast: bool = True
    cooldown_minutes: float = 15

    def __post_init__(self) -> None:
        if self.webhook_url is not None:
            _check_url(self.webhook_url)
        object.__setattr__(self, "email_recipients", _addresses(self.email_recipients))
        object.__setattr__(self, "thresholds", ascending("thresholds", self.thresholds))
        boolean("alert_once_per_threshold", self.alert_once_per_threshold)
        boolean("include_forecast", self.include_forecast)
        if exact("cooldown_minutes", self.cooldown_minutes) > COOLDOWN_MINUTES_MAX:
            raise ValueError(f"cooldown_minutes must be at most {COOLDOWN_MINUTES_MAX}")


def _check_url(url: object) -> None:
    problem = f"webhook_url must be an http or https URL, not {url!r}"
    if not isinstance(url, str) or len(url) > URL_LENGTH_MAX:
        raise ValueError(problem)
    try:
        parts = urlsplit(url)
        port = parts.port  # it is looked at when asked for
    except ValueError:
        raise ValueError(problem) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(problem)
    if not url.isprintable() or " " in url:
        raise ValueError(problem)


def _addresses(recipients: object) -> list[str]:
    if not isinstance(recipients, list | tuple) or len(recipients) > EMAIL_RECIPIENTS_MAX:
        raise ValueError(f"email_recipients must be a list of at most {EMAIL_RECIPIENTS_MAX}")
    for address in recipients:
        if not isinstance(address, str) or not _is_email(address):
            raise ValueError(f"email_recipients holds what is no e-mail address: {address!r}")
    return list(recipients)
