"""The benchmark of checks: it asks, and notices a wrong answer."""

import msgspec

from bench import check
from outlay import BudgetGateway


def test_a_smoke_run_is_correct(run_smoke):
    """Our own side only, without a broker."""
    result = run_smoke(check)
    assert result.correct, result.wrong
    assert {"check_per_s", "check_tenth_blocked_per_s", "check_cpu_us"} <= set(result.results)
    assert not result.goals


def test_a_wrong_answer_is_noticed(run_smoke, monkeypatch):
    """A gateway that allows everything fails it."""
    right = BudgetGateway.check

    def wrong(self, **asked):
        return msgspec.structs.replace(right(self, **asked), allowed=True)

    monkeypatch.setattr(BudgetGateway, "check", wrong)
    result = run_smoke(check)
    assert not result.correct
    assert any("check_tenth_blocked: allowed" in wrong for wrong in result.wrong)
