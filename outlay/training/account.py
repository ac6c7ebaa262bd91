"""Account: a training's side towards its team: what it reports to the stream, whom it asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlay.budget import NOTHING
from outlay.money import Money, to_decimal
from outlay.scope import Scope
from outlay.training.exact import exact
from outlay.training.ledger import Ledger, Usage
from outlay.training.lines import logger
from outlay.training.ports import Answer, Emitter, Gateway
from outlay.usage import TOKENS_MAX, UsageRecord


class Account:
    """Keeps the ledger, reports to an emitter and asks a gateway, where there are any.

    The caller sees to it that one thread is in it.
    """

    def __init__(
        self, ids: dict[str, Any], emitter: Emitter | None, gateway: Gateway | None
    ) -> None:
        self.ids = ids
        self.ledger = Ledger()
        self.not_emitted = 0
        self._emitter = emitter
        self._gateway = gateway

    def ask(self, usage: Usage, executions: int) -> Answer | None:
        """What the gateway says to what the next record would add, to the nano."""
        if self._gateway is None:
            return None
        asked = self.ledger.owed(usage, executions)
        return self._gateway.check(
            **self.ids,
            estimated_cost_usd=to_decimal(asked.cost_nano),
            estimated_input_tokens=asked.input_tokens,
            estimated_output_tokens=asked.output_tokens,
            executions=asked.executions,
        )

    def count(self, usage: Usage, metadata: Mapping[str, Any] | None) -> None:
        """Count a step that was taken, and report it."""
        self.ledger.add(usage)
        if self._emitter is None:
            self.ledger.take(self.ledger.owed())  # nobody is owed anything
        elif not self._emit(self._emitter, metadata):
            self.not_emitted += 1
            if self.not_emitted == 1:  # once; the report has the number
                logger.warning(
                    "the emitter refused the record of a training step",
                    extra={"event": "training_step_not_emitted", **self.ids},
                )

    def settle(self) -> None:
        """Offer what was refused once more."""
        if self._emitter is not None and self.ledger.owed() != NOTHING:
            self._emit(self._emitter, None)

    def _emit(self, emitter: Emitter, metadata: Mapping[str, Any] | None) -> bool:
        """Offer all that the stream is owed; whether it was taken."""
        owed = self.ledger.owed()
        try:
            taken = emitter.emit(
                **self.ids,
                cost_usd=to_decimal(owed.cost_nano),
                executions=owed.executions,
                input_tokens=owed.input_tokens,
                output_tokens=owed.output_tokens,
                metadata=metadata,
            )
        except Exception:  # a step that was paid for counts, whatever becomes of its record
            logger.exception("the emitter of a training failed")
            return False
        if taken:
            self.ledger.take(owed)
        return bool(taken)


def checked_ids(
    organization_id: str | None,
    agent_id: str | None,
    team_id: str | None,
    user_id: str | None,
    *,
    for_gateway: bool,
    for_emitter: bool,
) -> dict[str, Any]:
    """The ids of a training's usage.

    Raises:
        ValueError: one is missing for whoever wants it, or cannot be.
    """
    ids = {
        "organization_id": organization_id,
        "agent_id": agent_id,
        "team_id": team_id,
        "user_id": user_id,
    }
    for name, value in ids.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} must be a string, not {value!r}")
    if organization_id is None and (for_gateway or for_emitter):
        raise ValueError("an emitter or a gateway needs an organization_id")
    if agent_id is None and for_emitter:
        raise ValueError("an emitter needs an agent_id")
    # They say what is wrong with an id; an agent is a scope of its own.
    Scope("-" if organization_id is None else organization_id, team_id, user_id)
    Scope("-", agent_id=agent_id)
    return ids


def checked_usage(
    cost_usd: Money,
    input_tokens: int,
    output_tokens: int,
    metadata: Mapping[str, Any] | None,
) -> Usage:
    """A step's usage: what the stream would reject later is said at once.

    Raises:
        ValueError: an amount or a metadata that cannot be.
    """
    usage = Usage(exact("cost_usd", cost_usd), input_tokens, output_tokens)
    for name, tokens in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        if type(tokens) is not int or not 0 <= tokens <= TOKENS_MAX:
            raise ValueError(f"{name} must be a whole number, from 0 to {TOKENS_MAX}")
    if metadata is not None:
        try:
            UsageRecord.new(organization_id="-", agent_id="-", cost_usd=0, metadata=metadata)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"metadata: {error}") from None
    return usage
