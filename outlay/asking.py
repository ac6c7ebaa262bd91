"""Asking: what a check is asked, understood: which scopes, and how much. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, NoReturn

from outlay.budget import Amounts
from outlay.money import Money, to_nano
from outlay.scope import SCOPE_KEYS_CACHE_MAX, Scope, scope_keys

ESTIMATES_CACHE_MAX = 4_096
"""How many estimated costs are kept ready in nano-dollars."""

UNKNOWN_COST_NANO = 1
"""What a call of unknown cost asks for: the least there is, for which a budget that is used up
exactly has no room."""

Ids = tuple[str, str | None, str | None, str | None]
"""Organization, team, user and agent of a call."""


class Ask(NamedTuple):
    """The keys of the scopes that a call counts in, widest first, and what it asks for."""

    keys: tuple[str, ...]
    asked: Amounts


def understand(
    ids: Ids,
    estimates: tuple[Money | None, int, int, int],
) -> Ask:
    """A call whose ids and estimates can be.

    Raises:
        ValueError: they cannot.
    """
    cost_usd, *counts = estimates
    try:
        keys = checked_keys(*ids)
        cost_nano = UNKNOWN_COST_NANO if cost_usd is None else nano_of(cost_usd)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if cost_nano < 0 or any(type(count) is not int or count < 0 for count in counts):
        refuse(cost_nano, *counts)
    return Ask(keys, Amounts(cost_nano, *counts))


def refuse(*asked: object) -> NoReturn:
    for amount in asked:
        if type(amount) is not int or amount < 0:
            raise ValueError(f"an estimate must be a whole number, not negative: {amount!r}")
    raise AssertionError("nothing to refuse")


@lru_cache(maxsize=SCOPE_KEYS_CACHE_MAX)
def checked_keys(
    organization_id: str, team_id: str | None, user_id: str | None, agent_id: str | None
) -> tuple[str, ...]:
    """The scopes' keys, of ids that are checked.

    Raises:
        ValueError, TypeError: an id that cannot be.
    """
    for value in (organization_id, team_id, user_id, agent_id):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"an id must be a string, not {value!r}")
    if organization_id is None:
        raise TypeError("a check needs an organization_id")
    Scope(organization_id, team_id, user_id)
    Scope(organization_id, agent_id=agent_id)
    return scope_keys(organization_id, team_id, user_id, agent_id)


# By type, too: True and 1 are equal, and only one of them is an amount.
nano_of = lru_cache(maxsize=ESTIMATES_CACHE_MAX, typed=True)(to_nano)
