"""When a call may be made again, and what is left until then: the headers of checks."""

from decimal import Decimal

import pytest

from api.checking import check
from outlay import Budget, BudgetGateway, Scope
from outlay.testing import InMemoryStream
from schemas.http_check import CheckRequest
from tests.api.fakes import NOW

ACME = Scope("acme")
A1 = Scope("acme", agent_id="a1")
CHECK = "/api/v1/check"
DAY_S, NOVEMBER_S = 86_400, 30 * 86_400
TO_MIDNIGHT_S = 12 * 3_600
TO_DECEMBER_S = 9 * 86_400 + TO_MIDNIGHT_S


def test_the_rate_limits(live):
    """One item for each limit, of the scope that has the least left; USD in millionths."""
    live.stream.budgets.put(ACME, Budget(monthly_budget_usd=Decimal(100), daily_token_limit=50))
    live.stream.budgets.put(
        A1, Budget(monthly_budget_usd=Decimal(10), monthly_execution_limit=5, daily_token_limit=60)
    )
    live.spend("2.000000001", input_tokens=4)
    headers = live.ask(agent_id="a1").headers
    assert headers["ratelimit-policy"].split(", ") == [
        f'"month-cost";q=10000000;qu="outlay-usd-micros";w={NOVEMBER_S}',
        f'"day-tokens";q=50;qu="outlay-tokens";w={DAY_S}',
        f'"month-executions";q=5;w={NOVEMBER_S}',
    ]
    assert headers["ratelimit"].split(", ") == [
        f'"month-cost";r=7999999;t={TO_DECEMBER_S}',
        f'"day-tokens";r=46;t={TO_MIDNIGHT_S}',
        f'"month-executions";r=4;t={TO_DECEMBER_S}',
    ]


def test_rate_limits_stay_integers_of_structured_fields(live):
    """Never negative, and at most fifteen digits."""
    live.stream.budgets.put(A1, Budget(daily_budget_usd=0, monthly_token_limit=10**15))
    live.spend("1")
    limits = live.ask(agent_id="a1").headers["ratelimit"]
    assert '"day-cost";r=0;' in limits
    assert f'"month-tokens";r={10**15 - 1};' in limits


def test_retry_after_is_when_all_limits_let_it_through(live):
    """The month is over later than the day; and what is above a limit never fits."""
    live.stream.budgets.put(A1, Budget(daily_execution_limit=2, monthly_execution_limit=2))
    live.stream.budgets.put(ACME, Budget(daily_execution_limit=2))
    for _ in range(2):
        live.spend("0")
    assert live.ask(agent_id="a1").headers["retry-after"] == str(TO_DECEMBER_S)
    assert live.ask(agent_id="a2").headers["retry-after"] == str(TO_MIDNIGHT_S)
    response = live.ask(agent_id="a1", executions=3)
    assert (response.json()["allowed"], response.json()["retry_after_s"]) == (False, None)
    assert "retry-after" not in response.headers


class Between(BudgetGateway):
    """A gateway whose feed hears something between a check and its explanation."""

    def explain(self, **asked):
        """The numbers of later."""
        self.happens()
        return super().explain(**asked)


@pytest.mark.parametrize(
    ("changes", "window", "retry_after_s"),
    [
        ({"monthly_budget_usd": None, "daily_budget_usd": 1}, "2026-11-21", TO_MIDNIGHT_S),
        ({"monthly_budget_usd": None}, None, None),
    ],
)
def test_sentence_and_numbers_are_of_one_moment(changes, window, retry_after_s):
    """A budget may change in between; where it lets the call through by then, no numbers block."""
    with InMemoryStream(NOW) as stream:
        stream.budgets.put(A1, Budget(monthly_budget_usd=1))
        gateway = Between(feed=stream.feed, clock=stream.clock.time)
        gateway.happens = lambda: stream.budgets.patch(A1, changes)
        ask = CheckRequest(organization_id="acme", agent_id="a1", estimated_cost_usd=1)
        stream.emitter.emit(organization_id="acme", agent_id="a1", cost_usd="0.5")
        checked = check(gateway, ask, NOW)
    assert not checked.result.allowed
    assert (checked.blocking.get("window"), checked.retry_after_s) == (window, retry_after_s)
    assert window is None or window in checked.result.reason
