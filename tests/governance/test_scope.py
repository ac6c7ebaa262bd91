"""Scopes, as the governance classes name them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.governance import BudgetScope


def test_the_key_joins_the_parts_that_are_set():
    """From the widest, by the position of the arguments as well."""
    assert BudgetScope("o").to_key() == "org:o"
    assert BudgetScope("o", "t").to_key() == "org:o:team:t"
    assert BudgetScope("o", "t", "u", "a").to_key() == "org:o:team:t:user:u:agent:a"
    assert BudgetScope(organization_id="o", agent_id="a").to_key() == "org:o:agent:a"


ids = st.none() | st.text(alphabet=":%aortgeam", min_size=1, max_size=9)
scopes = st.builds(BudgetScope, ids.filter(bool), ids, ids, ids)


@given(scopes, scopes)
def test_no_two_scopes_share_a_key(one, other):
    """Whatever their ids hold."""
    assert (one.to_key() == other.to_key()) == (one == other)


def test_ids_may_hold_colons():
    """Which would otherwise read as another part."""
    assert BudgetScope("a:team:b").to_key() != BudgetScope("a", "b").to_key()
    assert BudgetScope("a:b").to_key() != BudgetScope("a%3Ab").to_key()


@pytest.mark.parametrize("wrong", [("",), (None,), (5,), ("o", ""), ("o", None, 5), ("x" * 257,)])
def test_what_is_no_id_is_refused(wrong):
    """Empty, too long, or no text."""
    with pytest.raises(ValueError, match="_id must have 1 to 256 characters"):
        BudgetScope(*wrong)
