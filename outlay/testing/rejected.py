"""Rejected: a report of usage that does not count, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rejected:
    """What `emit` was given and what is wrong with it.

    Attributes:
        reason: the sentence that says why it does not count.
        given: the `UsageRecord`, or the dictionary of fields.
        by: who refused it. The `emitter` sends nothing that is invalid by itself and counts it as
            `invalid`; the `stream` refuses what was sent, a date in the future for instance, and
            keeps it as a dead letter.
    """

    reason: str
    given: object
    by: Literal["emitter", "stream"]
