"""Terms: which gateway a call is put to, who it counts for, and what it may cost at most."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from outlay.asking import understand
from outlay.environment import check_seconds
from outlay.gateway import BudgetGateway
from outlay.integrations.call import checked_usage
from outlay.money import Money

IDS = ("organization_id", "team_id", "user_id", "agent_id")
ESTIMATES = (
    "estimated_cost_usd",
    "estimated_input_tokens",
    "estimated_output_tokens",
    "executions",
)


def check_gateway(gateway: object) -> BudgetGateway:
    """The gateway, which records what calls have used.

    Raises:
        ValueError: it is none, or has no emitter to record with.
    """
    if gateway is None:
        raise ValueError("no gateway: give require_budget one, or set app.state.outlay_gateway")
    if not isinstance(gateway, BudgetGateway):
        raise ValueError(f"gateway must be a BudgetGateway, not {gateway!r}")
    if gateway.emitter is None:
        raise ValueError("the gateway has no emitter: what calls cost would not be recorded")
    return gateway


def ids_of(who: object) -> dict[str, Any]:
    """The ids that `who` names, of a mapping that has no others or as attributes.

    Raises:
        ValueError: there is no organization among them, or a name that is none of an id.
    """
    if isinstance(who, Mapping):
        if unknown := sorted(map(str, who.keys() - set(IDS))):
            raise ValueError(f"who gives {', '.join(unknown)}: the ids are {', '.join(IDS)}")
        ids = {name: who.get(name) for name in IDS}
    else:
        ids = {name: getattr(who, name, None) for name in IDS}
    if ids["organization_id"] is None:
        raise ValueError(f"who must give an organization_id, {type(who).__name__} has none")
    return ids


def check_who(who: object) -> None:
    """See that ids can be.

    Raises:
        ValueError: they cannot.
    """
    organization_id, team_id, user_id, agent_id = ids_of(who).values()
    understand((organization_id, team_id, user_id, agent_id), (None, 0, 0, 0))


def estimates_of(estimate: Any) -> dict[str, Any]:
    """An estimate as arguments of `BudgetGateway.reserve`.

    Raises:
        ValueError: a name that is none of an estimate.
    """
    if not isinstance(estimate, Mapping):
        return {"estimated_cost_usd": estimate}
    if unknown := sorted(map(str, estimate.keys() - set(ESTIMATES))):
        raise ValueError(f"estimate gives {', '.join(unknown)}, not {', '.join(ESTIMATES)}")
    return dict(estimate)


def check_estimate(estimate: Any) -> None:
    """See that an estimate can be.

    Raises:
        ValueError: it cannot.
    """
    given = estimates_of(estimate)
    tokens = given.get("estimated_input_tokens", 0), given.get("estimated_output_tokens", 0)
    amounts = given.get("estimated_cost_usd"), given.get("executions", 1), *tokens
    understand(("any", None, None, None), amounts)


def check_settings(
    actual: object, cost_on_error: Money, status_code: int, expires_s: float
) -> None:
    """See that the settings of `require_budget` can be.

    Raises:
        ValueError: one cannot.
    """
    if not (callable(actual) or actual in ("estimate", None)):
        raise ValueError('actual must be a function, "estimate" or None')
    if inspect.iscoroutinefunction(actual):
        raise ValueError("actual must not be async: it is asked when the request is over")
    if type(status_code) is not int or not 400 <= status_code <= 599:
        raise ValueError("status_code must be one of an error, 400 to 599")
    checked_usage(cost_on_error)
    check_seconds("expires_s", expires_s)
