"""Checks: may this call be made? `client.check` and `client.ext_authz`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from outlay.client.addresses import original_path
from outlay.client.amounts import encode, usd
from outlay.client.calls import Answer, Ask, reading
from outlay.client.operations import R, Resource, operation
from outlay.client.problems import kind_of
from outlay.money import Money
from outlay.standing import CheckResult

CHECK_PATIENCE_S = 2.0
"""How long the pauses of a check's retries may take together, in seconds: a call waits for it."""

BLOCKED = frozenset({"budget-exceeded", "budget-stale"})
"""The problems that are an answer to a check: no."""


class Resets(msgspec.Struct, frozen=True, kw_only=True):
    """When the current day and month are over, and their limits are whole again."""

    day: datetime
    month: datetime


class CheckAnswer(CheckResult, frozen=True, kw_only=True):
    """What the budgets say to a call, and when a blocked one can fit.

    `retry_after_s` is None where the call is allowed, and where no reset helps.
    """

    resets_at: Resets | None = None
    retry_after_s: int | None = None


_read_blocked = reading(CheckResult)


class Checks(Resource[R]):
    """Checks for gateways that do not hold the decisions themselves.

    A check holds nothing: several at once may all be allowed where only one has room. It is retried
    for two seconds at most.
    """

    @operation("POST", "/api/v1/check")
    def check(
        self,
        *,
        organization_id: str,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int = 0,
        estimated_output_tokens: int = 0,
        executions: int = 1,
    ) -> Ask[CheckAnswer]:
        """What the budgets of all scopes of a call say to it; the strictest counts.

        An estimated cost of None is not known, and asks for the least there is.
        """
        body = {
            "organization_id": organization_id,
            "agent_id": agent_id,
            "team_id": team_id,
            "user_id": user_id,
            "estimated_cost_usd": usd(estimated_cost_usd),
            "estimated_input_tokens": estimated_input_tokens,
            "estimated_output_tokens": estimated_output_tokens,
            "executions": executions,
        }
        return Ask(read=reading(CheckAnswer), content=encode(body), patience_s=CHECK_PATIENCE_S)

    @operation("GET", "/api/v1/ext_authz/{original_path}")
    def ext_authz(
        self,
        path: str = "/",
        *,
        organization_id: str | None = None,
        agent_id: str | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        estimated_cost_usd: Money | None = None,
        estimated_input_tokens: int | None = None,
        estimated_output_tokens: int | None = None,
        executions: int | None = None,
    ) -> Ask[CheckResult]:
        """The same as Envoy asks it, for a request to `path`; without an organization, the key's.

        `scope` and `reason` are told where the call is blocked. Ids go as headers, which hold no
        line breaks and no spaces at their ends.
        """
        return Ask(
            read=_decided,
            path={"original_path": original_path(path)},
            headers={
                "x-outlay-organization": _header(organization_id),
                "x-outlay-agent": _header(agent_id),
                "x-outlay-team": _header(team_id),
                "x-outlay-user": _header(user_id),
                "x-outlay-estimated-cost-usd": _header(usd(estimated_cost_usd)),
                "x-outlay-estimated-input-tokens": _header(estimated_input_tokens),
                "x-outlay-estimated-output-tokens": _header(estimated_output_tokens),
                "x-outlay-executions": _header(executions),
            },
            read_kinds=BLOCKED,
            patience_s=CHECK_PATIENCE_S,
        )


def _header(value: str | int | None) -> bytes | None:
    if value is None:
        return None
    text = str(value)
    if not text or text != text.strip() or not all(c.isprintable() for c in text):
        raise ValueError(f"not a text that a header can hold: {text!r}")
    return text.encode()


def _decided(answer: Answer) -> CheckResult:
    """From the body of a problem, or from the headers, which is all that Envoy looks at."""
    if kind_of(answer) in BLOCKED:
        return _read_blocked(answer)
    told = {
        name.removeprefix("x-outlay-").replace("-", "_"): value
        for name, value in answer.headers.items()
        if name.startswith("x-outlay-")
    }
    result: CheckResult = msgspec.convert({**told, "allowed": True}, CheckResult, strict=False)
    return result
