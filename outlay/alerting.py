"""Alerting: the alert that says what was found. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from outlay.alert import Alert, AlertEvent, Forecast, alert_id, event_of
from outlay.budget import Budget, LimitKind
from outlay.looking import Finding
from outlay.money import to_usd
from outlay.window import WindowKind

_SHARE_DECIMALS = 6


class About(NamedTuple):
    """Whose window it is.

    `made` is the version at which the budget was made. Nano-dollars are spent on the window's
    day, or on the current one, and in its month, or in the current one.
    """

    scope: str
    organization_id: str
    window: str
    window_kind: WindowKind
    budget: Budget
    version: int
    made: int
    daily_spent_nano: int
    monthly_spent_nano: int


def alert_about(about: About, finding: Finding, now: datetime) -> Alert:
    """The alert of a finding."""
    budget = about.budget
    limit, used = finding.limit, finding.used
    return Alert(
        alert_id=_id(about, finding),
        event=_event(budget, finding),
        scope=about.scope,
        organization_id=about.organization_id,
        window=about.window,
        window_kind=about.window_kind,
        limit_kind=finding.kind,
        threshold=finding.threshold,
        used=_written(used, finding.kind),
        limit=None if limit is None else _written(limit, finding.kind),
        used_share=_share(used, limit) if limit else None,
        step=finding.step,
        episode=finding.episode,
        repeat=finding.repeat,
        version=about.version,
        enforcement_mode=budget.enforcement_mode,
        daily_spent_usd=to_usd(about.daily_spent_nano),
        daily_budget_usd=_limit_usd(budget, "daily_budget_usd"),
        monthly_spent_usd=to_usd(about.monthly_spent_nano),
        monthly_budget_usd=_limit_usd(budget, "monthly_budget_usd"),
        forecast=_forecast(finding),
        detected_at=now,
    )


def _id(about: About, finding: Finding) -> str:
    """What identifies it: not what is used, which is more when it is found again after a crash."""
    place = (about.scope, about.window, finding.kind)
    # A budget made after another one was deleted tells the same things anew.
    made = (f"made {about.made}",) if about.made > 1 else ()
    if finding.what == "crossed":
        return alert_id(*place, str(finding.threshold), finding.episode, finding.repeat, *made)
    return alert_id(*place, finding.what, finding.number, *made)


def _event(budget: Budget, finding: Finding) -> AlertEvent:
    if finding.what == "recovered":
        return "budget.recovered"
    if finding.threshold is None:
        return "budget.forecast"
    return event_of(budget, finding.threshold)


def _written(amount: int, kind: LimitKind) -> str:
    return to_usd(amount) if kind == "cost" else str(amount)


def _limit_usd(budget: Budget, name: str) -> str | None:
    limit = getattr(budget, name)
    return None if limit is None else str(limit)


def _share(used: int, limit: int) -> str:
    """The used share, rounded half up.

    >>> _share(2, 3)
    '0.666667'
    """
    scale = 10**_SHARE_DECIMALS
    whole, part = divmod((2 * abs(used) * scale + limit) // (2 * limit), scale)
    return f"{'-' if used < 0 else ''}{whole}.{part:0{_SHARE_DECIMALS}d}"


def _forecast(finding: Finding) -> Forecast | None:
    course = finding.course
    if course is None:
        return None
    projected = _written(course.projected(finding.used), finding.kind)
    return Forecast(projected, course.elapsed_s, course.window_s)
