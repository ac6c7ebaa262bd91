"""Wants: whose partials are told to the totals.

Organizations, teams, users and members always are. Agents may be a million, most of them without a
budget, and nobody looks at their totals: the entries of an agent are told where a budget asks for
them. The owner of the budget says so to each usage partition, on a topic of their own; each tells
what it has counted, and from then on what changes. Only when all have is the budget in force.

A usage partition tells with its progress up to which budget request it has taken the wants over.
So a totals partition knows what that progress speaks of (see `Totals.merge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from outlay.scope import is_agent_key
from schemas.messages import Want, WantsMessage
from streams import messages
from streams.flush import Message, Outgoing

WANTS_MESSAGE_MAX = 1_000
"""How many wants a message holds at most."""


class Wants:
    """What is wanted of one usage partition."""

    def __init__(self) -> None:
        self.taken: dict[int, int] = {}
        """By totals partition, the offset of the last budget request that is taken over."""
        self._agents: dict[str, int] = {}  # those that are wanted, by which request
        self._dirty: set[str] = set()
        self._taken_dirty = False

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take over a message of the changelog that is one of these."""
        if key == messages.WANTS_KEY:
            self.taken = {} if value is None else messages.decode_offsets(value)
        elif value is None:
            self._agents.pop(_scope_of(key), None)
        else:
            self._agents[_scope_of(key)] = messages.decode_int(value)

    def take(self, message: WantsMessage) -> list[str]:
        """Take over wants; returns the agents whose entries are to be told now.

        A replay on either side brings some again. What an agent's later want has overruled changes
        nothing; an agent that is wanted once more after it was let go is let go once more behind
        it.
        """
        wanted: dict[str, None] = {}
        taken = self.taken.get(message.partition, -1)
        for want in message.wants:
            taken = max(taken, want.offset)
            if want.offset <= self._agents.get(want.scope, -1):
                continue
            if want.wanted:
                self._agents[want.scope] = want.offset
                wanted[want.scope] = None
            else:
                self._agents.pop(want.scope, None)
                wanted.pop(want.scope, None)
            self._dirty.add(want.scope)
        if taken != self.taken.get(message.partition):
            self.taken[message.partition] = taken
            self._taken_dirty = True
        return list(wanted)

    def told(self, scopes: Sequence[str]) -> list[int]:
        """Which of some scopes are told."""
        agents = self._agents
        return [at for at, s in enumerate(scopes) if s in agents or not is_agent_key(s)]

    def wanted(self, agents: Sequence[str]) -> list[int]:
        """The same of scopes that all are agents."""
        wanted = self._agents
        if wanted.keys().isdisjoint(agents):
            return []
        return [at for at, scope in enumerate(agents) if scope in wanted]

    def take_changes(self) -> Iterator[Message]:
        """The changelog of all that changed; it counts as written from then on.

        How far it goes comes last: what a crash cuts off is taken over again.
        """
        for scope in self._dirty:
            offset = self._agents.get(scope)
            yield _key(scope), None if offset is None else messages.encode(offset)
        if self._taken_dirty:
            yield messages.WANTS_KEY, messages.encode(self.taken)
        self._dirty.clear()
        self._taken_dirty = False


class Awaited:
    """The agents with a budget of one totals partition of which not all has arrived yet."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}  # in the order of the offsets
        self._wants: list[Want] = []

    def __contains__(self, scope: object) -> bool:
        return scope in self._since

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def __len__(self) -> int:
        return len(self._since)

    def load(self, made_at: Iterable[tuple[str, int]], taken: int) -> None:
        """The budgets of a changelog, with the offsets of the requests that made them.

        All partitions have taken the wants over up to `taken`.

        Raises:
            ValueError: an agent's budget is without one.
        """
        found = sorted((at, scope) for scope, at in made_at if is_agent_key(scope))
        if found and found[0][0] < 0:
            raise ValueError(f"the budget of {found[0][1]} was written by an older version")
        self._since = {scope: at for at, scope in found if at > taken}

    def changed(self, scope: str, offset: int, *, made: bool) -> None:
        """A request has made a scope's budget, or taken it away."""
        if is_agent_key(scope):
            self._since.pop(scope, None)
            if made:
                self._since[scope] = offset
            self._wants.append(Want(scope, offset, made))

    def take_arrived(self, taken: int) -> set[str]:
        """Those of which everything has arrived, once: all partitions have gone so far."""
        arrived = set()
        for scope, offset in self._since.items():
            if offset > taken:
                break
            arrived.add(scope)
        for scope in arrived:
            del self._since[scope]
        return arrived

    def take_wants(self, topic: str, partition: int, usage_partitions: int) -> list[Outgoing]:
        """The messages that tell the usage partitions of what has changed."""
        wants, self._wants = self._wants, []
        values = [
            messages.encode(WantsMessage(partition, wants[start : start + WANTS_MESSAGE_MAX]))
            for start in range(0, len(wants), WANTS_MESSAGE_MAX)
        ]
        if not values:
            return []
        told = [(None, value) for value in values]
        return [
            Outgoing(topic, usage_partition, told) for usage_partition in range(usage_partitions)
        ]


def is_key(key: bytes) -> bool:
    """Whether a changelog's message is one of wants."""
    return key == messages.WANTS_KEY or key.startswith(_PREFIX)


_PREFIX = messages.WANTS_KEY + b" "


def _key(scope: str) -> bytes:
    return _PREFIX + scope.encode()


def _scope_of(key: bytes) -> str:
    return key.removeprefix(_PREFIX).decode()
