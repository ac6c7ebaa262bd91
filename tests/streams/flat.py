"""What a flush writes, message by message."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from streams.flush import Flush, Message, Outgoing
from streams.messages import Key
from streams.owned import State
from streams.partials import Partials
from tests.streams.simulated_broker import Record


class Flat(NamedTuple):
    """One message and where it goes."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


def flat(group: Iterable[Outgoing]) -> Iterator[Flat]:
    """The messages of some outputs, or of a changelog."""
    for outgoing in group:
        for key, value in outgoing.messages:
            yield Flat(outgoing.topic, outgoing.partition, key, value)


def outputs(flush: Flush) -> list[Flat]:
    """All outputs, what is told first, in their order."""
    told = [message for each in flush.transactions for message in flat(each.told)]
    return told + [message for each in flush.transactions for message in flat(each.outputs)]


def changelog(flush: Flush) -> list[Flat]:
    """All changelog messages, in their order."""
    return [m for transaction in flush.transactions for m in flat(transaction.changelog)]


def entries(partials: Partials) -> dict[Key, tuple[int, int]]:
    """Nano-dollars and executions that are counted, by scope and window."""
    return {
        (scope, window): (entry.cost_nano, entry.executions)
        for window, scopes in partials.entries.items()
        for scope, entry in scopes.items()
    }


def as_records(messages: Iterable[Message]) -> list[Record]:
    """Messages as a changelog gives them back."""
    return [Record(offset, key, value, 0) for offset, (key, value) in enumerate(messages)]


def offsets(plan: Flush) -> dict[tuple[str, int], int]:
    """What a flush commits: nothing but with its last transaction."""
    assert not any(each.offsets for each in plan.transactions[:-1])
    return plan.transactions[-1].offsets


def flushed(state: State, now_ms: int, *, last: bool = False) -> Flush:
    """What a state writes, which is something."""
    plan = state.flush(now_ms, last=last)
    assert plan is not None
    return plan
