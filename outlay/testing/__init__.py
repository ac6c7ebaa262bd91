"""outlay in memory, for tests: the same interfaces, no broker, no thread, a clock to be set."""

from outlay.testing.clock import SettableClock
from outlay.testing.memory_budgets import InMemoryBudgets
from outlay.testing.memory_emitter import InMemoryEmitter
from outlay.testing.memory_feed import InMemoryFeed
from outlay.testing.memory_stream import InMemoryStream
from outlay.testing.rejected import Rejected

__all__ = [
    "InMemoryBudgets",
    "InMemoryEmitter",
    "InMemoryFeed",
    "InMemoryStream",
    "Rejected",
    "SettableClock",
]
