"""Keys and roles at the real API: what each may do through the client."""

import pytest

from outlay import Budget, Scope
from outlay.apikey import new_key
from outlay.client import Forbidden, NotFound, TooManyRequests, Unauthorized

OWN, OTHER = Scope("acme", agent_id="keys"), Scope("globex", agent_id="keys")
RECORD = {"organization_id": "acme", "agent_id": "keys", "cost_usd": "0.1"}


def test_each_role_may_do_what_it_is_for(clients, world):
    """A viewer reads, an emitter reports and asks, an operator changes; an admin does all."""

    def write(outlay):
        return outlay.budgets.patch(OWN, {"daily_execution_limit": 10**6})

    def read(outlay):
        return outlay.budgets.get(OWN)

    def report(outlay):
        return outlay.usage.report(RECORD)

    def ask(outlay):
        return outlay.check(organization_id="acme", agent_id="keys")

    def audit(outlay):
        return outlay.audit.page()

    does = {
        "admin": {write, read, report, ask, audit},
        "operator": {write, read, audit, ask},
        "viewer": {read, ask},
        "emitter": {report, ask},
    }
    for role, may in does.items():
        outlay = clients(world.server.url, key=world.keys["acme", role])
        for act in (write, read, report, ask, audit):
            if act in may:
                assert act(outlay)
            else:
                with pytest.raises(Forbidden):
                    act(outlay)


def test_what_is_another_organizations_is_not_found(clients, world):
    """Not forbidden: whether it is there is not said."""
    outlay = clients(world.server.url, key=world.keys["acme", "admin"])
    everybody = clients(world.server.url, key=world.keys[None, "admin"])
    everybody.budgets.put(OTHER, Budget())
    for act in (
        lambda: outlay.budgets.get(OTHER),
        lambda: outlay.budgets.put(OTHER, Budget()),
        lambda: outlay.budgets.delete(OTHER),
        lambda: next(outlay.budgets.list(organization_id="globex")),
        lambda: outlay.check(organization_id="globex"),
        lambda: next(outlay.decisions.stream(scope=OTHER)),
    ):
        with pytest.raises(NotFound):
            act()
    assert all(each.organization_id == "acme" for each in outlay.budgets.list())


def test_without_a_key_in_force_nothing_is_answered(clients, world):
    """No key, an unknown one, and one that was revoked meanwhile."""
    with pytest.raises(Unauthorized, match="key"):
        clients(world.server.url).budgets.get(OWN)
    stranger = clients(world.server.url, key=new_key())
    with pytest.raises((Unauthorized, TooManyRequests)) as raised:
        stranger.budgets.get(OWN)
    assert raised.value.__cause__ is None
    assert clients.pauses == []
