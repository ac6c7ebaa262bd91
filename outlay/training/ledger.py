"""Ledger: what a training's steps used, what the stream took of it, and what it is still owed."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from outlay.budget import NOTHING, Amounts
from outlay.money import COST_NANO_MAX, to_decimal
from outlay.training.exact import nearest_nano, plus
from outlay.usage import EXECUTIONS_MAX, TOKENS_MAX


class Usage(NamedTuple):
    """What one step used: its cost in USD, exact, and its tokens."""

    cost_usd: Decimal
    input_tokens: int = 0
    output_tokens: int = 0


NO_USAGE = Usage(Decimal(0))


class Ledger:
    """Sums of steps, each step one execution; the caller sees to it that one thread is in it.

    The stream takes costs of nine decimals. It is owed what the exact sum, rounded once, is above
    what it took: so what a step's rounding leaves goes with the next step, and the sum in the
    stream is the rounded sum. What a refused record held goes with the next one in the same way.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.cost_usd = Decimal(0)
        self._input_tokens = 0
        self._output_tokens = 0
        self._taken = NOTHING

    def add(self, usage: Usage) -> None:
        """Count a step."""
        self.steps += 1
        self.cost_usd = plus(self.cost_usd, usage.cost_usd)
        self._input_tokens += usage.input_tokens
        self._output_tokens += usage.output_tokens

    def owed(self, usage: Usage = NO_USAGE, executions: int = 0) -> Amounts:
        """What the next record holds, if such a step came first: within what a record may."""
        taken = self._taken
        cost_nano = nearest_nano(plus(self.cost_usd, usage.cost_usd)) - taken.cost_nano
        executions += self.steps - taken.executions
        input_tokens = self._input_tokens + usage.input_tokens - taken.input_tokens
        output_tokens = self._output_tokens + usage.output_tokens - taken.output_tokens
        return Amounts(
            min(cost_nano, COST_NANO_MAX),
            min(executions, EXECUTIONS_MAX),
            min(input_tokens, TOKENS_MAX),
            min(output_tokens, TOKENS_MAX),
        )

    def take(self, amounts: Amounts) -> None:
        """The stream took a record of these."""
        self._taken += amounts

    @property
    def owed_usd(self) -> Decimal:
        """The cost that the stream is owed, all of it, in USD."""
        return to_decimal(nearest_nano(self.cost_usd) - self._taken.cost_nano)
