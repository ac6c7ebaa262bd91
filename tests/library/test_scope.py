"""Scopes: their kinds, their keys, and which of them a call counts in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Scope
from outlay.scope import ID_LENGTH_MAX, scope_keys

ids = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("/:%é☃ \x00"),
    min_size=1,
    max_size=40,
)
scopes = st.one_of(
    st.builds(Scope, ids),
    st.builds(Scope, ids, team_id=ids),
    st.builds(Scope, ids, user_id=ids),
    st.builds(Scope, ids, team_id=ids, user_id=ids),
    st.builds(Scope, ids, agent_id=ids),
)


@given(scopes)
def test_a_key_leads_back_to_its_scope(scope):
    """Whatever characters the ids have, a key is parsed to the scope it was made from."""
    assert Scope.parse(scope.key) == scope
    assert str(scope) == scope.key


@given(scopes, scopes)
def test_different_scopes_have_different_keys(one, other):
    """No id can be written so that its key is another scope's."""
    assert (one == other) == (one.key == other.key)


@given(ids, st.none() | ids, st.none() | ids, st.none() | ids)
def test_a_call_counts_in_all_scopes_that_it_names(organization, team, user, agent):
    """The organization, the team, the user, the member and the agent, each where it is named."""
    expected = [Scope(organization)]
    if team is not None:
        expected.append(Scope(organization, team_id=team))
    if user is not None:
        expected.append(Scope(organization, user_id=user))
    if team is not None and user is not None:
        expected.append(Scope(organization, team_id=team, user_id=user))
    if agent is not None:
        expected.append(Scope(organization, agent_id=agent))
    assert scope_keys(organization, team, user, agent) == tuple(scope.key for scope in expected)


def test_the_key_is_the_documented_one():
    """The canonical form that is written in the design."""
    assert Scope("acme", "search", "u7").key == "organization:acme/team:search/user:u7"
    assert Scope("a/b:c").key == "organization:a%2Fb%3Ac"


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        (Scope("o"), "organization"),
        (Scope("o", team_id="t"), "team"),
        (Scope("o", user_id="u"), "user"),
        (Scope("o", team_id="t", user_id="u"), "member"),
        (Scope("o", agent_id="a"), "agent"),
    ],
)
def test_kinds(scope, kind):
    """Each of the five kinds knows what it is."""
    assert scope.kind == kind


@pytest.mark.parametrize(
    "key",
    [
        "",
        "organization:",
        "team:t",
        "organization:a/organization:a",
        "organization:a/",
        "organization:a b",
        "organization:a%2f",
        "user:u/organization:a",
        "organization:a/agent:x/team:t",
        "Organization:a",
    ],
)
def test_a_key_that_is_not_canonical_is_refused(key):
    """One scope has one key."""
    with pytest.raises(ValueError):
        Scope.parse(key)


def test_ids_have_bounds_and_agents_stand_alone():
    """Empty and overlong ids are refused, and an agent within a team or of a user."""
    Scope("x" * ID_LENGTH_MAX)
    for wrong in ({"organization_id": ""}, {"organization_id": "x" * (ID_LENGTH_MAX + 1)}):
        with pytest.raises(ValueError):
            Scope(**wrong)
    with pytest.raises(ValueError):
        Scope("o", team_id="t", agent_id="a")
    with pytest.raises(ValueError):
        Scope("o", user_id="u", agent_id="a")
