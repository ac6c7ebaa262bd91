"""What users are promised of budgets, emitter, feed and gateway: one contract, run against both.

A module with a subclass has a fixture `world`, see `tests.testing.world`. Every test has an
organization of its own, so that one stream serves all.
"""

from tests.testing.contract_budgets import BudgetsContract
from tests.testing.contract_checks import ChecksContract
from tests.testing.contract_own import OwnSpendContract
from tests.testing.contract_usage import UsageContract


class StreamContract(BudgetsContract, UsageContract, ChecksContract, OwnSpendContract):
    """All of it."""
