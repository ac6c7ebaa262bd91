"""Whom a training reports to and asks, in memory."""

from decimal import Context, Decimal

from outlay import CheckResult
from outlay.money import to_nano
from outlay.training import BudgetEnforcer, TrainingBudget
from outlay.usage import UsageRecord

IDS = {"organization_id": "acme", "agent_id": "trainer", "team_id": "ml", "user_id": "u7"}
THIRD_OF_A_CENT = Context(prec=40).divide(Decimal("0.01"), Decimal(3))


def training(limit_usd="1000", emitter=None, gateway=None):
    """A training with all ids."""
    return TrainingBudget(BudgetEnforcer(limit_usd), emitter=emitter, gateway=gateway, **IDS)


class FakeEmitter:
    """Keeps what it takes, as records; `refuses` says how manieth offers it does not take."""

    def __init__(self, refuses=()):
        self.refuses = refuses
        self.offers = 0
        self.taken = []

    def emit(self, **fields):
        self.offers += 1
        record = UsageRecord.new(**fields)  # it says what the stream would reject
        if self.offers - 1 in self.refuses:
            return False
        self.taken.append(record)
        return True

    @property
    def nano(self):
        return sum(to_nano(record.cost_usd) for record in self.taken)


class FakeGateway:
    """A team's budget over what an emitter took: used + asked ≤ limit."""

    def __init__(self, emitter, limit_usd):
        self.emitter = emitter
        self.limit_nano = to_nano(limit_usd)
        self.asked = []

    def check(self, **asked):
        self.asked.append(asked)
        projected = self.emitter.nano + to_nano(asked["estimated_cost_usd"])
        if projected <= self.limit_nano:
            return CheckResult()
        return CheckResult(
            allowed=False, state="exceeded", reason="the team's", remaining_usd=Decimal(0)
        )
