"""Budget plans: what has to change so that budgets are as a file says."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay import Budget, Scope
from outlay.budget_plan import BudgetsFile, plan, read_budgets, summary

ACME, SEARCH, WRITER = (
    "organization:acme",
    "organization:acme/team:search",
    "organization:b/agent:w",
)
FIVE, SIX = Budget(monthly_budget_usd=Decimal(5)), Budget(monthly_budget_usd=Decimal(6))


def test_a_plan_reads_like_a_diff():
    """Added, changed and deleted, with the fields that differ, and one line for all."""
    wanted = BudgetsFile({ACME: FIVE, SEARCH: SIX, WRITER: FIVE})
    soft = Budget(monthly_budget_usd=Decimal(7), daily_token_limit=9, enforcement_mode="soft")
    known = {ACME: (FIVE, 3), SEARCH: (soft, 4), "organization:acme/user:u": (FIVE, 2)}
    changes = plan(wanted, known, prune=True)
    assert [line for change in changes for line in change.lines()] == [
        "~ organization:acme/team:search  (version 4)",
        "  - monthly_budget_usd: 7.00",
        "  + monthly_budget_usd: 6.00",
        "  - daily_token_limit: 9",
        "  - enforcement_mode: soft",
        "  + enforcement_mode: hard",
        "+ organization:b/agent:w",
        "  + monthly_budget_usd: 5.00",
        "  + warning_threshold: 0.75",
        "  + degradation_threshold: 0.90",
        "  + enforcement_mode: hard",
        "  + on_stale: allow",
        "- organization:acme/user:u  (version 2)",
        "  - monthly_budget_usd: 5.00",
        "  - warning_threshold: 0.75",
        "  - degradation_threshold: 0.90",
        "  - enforcement_mode: hard",
        "  - on_stale: allow",
    ]
    assert summary(changes, wanted) == "1 to add, 1 to change, 1 to delete, 1 unchanged"


def test_nothing_is_deleted_unless_it_is_asked_for_and_only_of_organizations_in_the_file():
    """Another organization's budgets are not this file's business."""
    known = {ACME: (FIVE, 1), SEARCH: (FIVE, 1), WRITER: (FIVE, 1)}
    wanted = BudgetsFile({ACME: FIVE})
    assert plan(wanted, known, prune=False) == []
    assert [change.scope for change in plan(wanted, known, prune=True)] == [SEARCH]
    nothing = BudgetsFile({}, organizations=["b"])
    assert [change.scope for change in plan(nothing, known, prune=True)] == [WRITER]
    assert plan(BudgetsFile({}), known, prune=True) == []


budgets = st.builds(
    Budget,
    monthly_budget_usd=st.none() | st.integers(0, 3).map(Decimal),
    daily_execution_limit=st.none() | st.integers(0, 3),
    enforcement_mode=st.sampled_from(["hard", "soft"]),
)
keys = st.builds(
    lambda organization, team: Scope(organization, team).key,
    st.sampled_from(["a", "b"]),
    st.none() | st.sampled_from(["t", "u"]),
)


@given(st.dictionaries(keys, budgets), st.dictionaries(keys, budgets), st.booleans())
def test_a_plan_carried_out_leaves_nothing_to_do(wanted, known, prune):
    """And changes nothing that it does not name."""
    file = BudgetsFile(wanted)
    versions = {key: (budget, 7) for key, budget in known.items()}
    for change in plan(file, versions, prune=prune):
        assert (change.before, change.version) == versions.get(change.scope, (None, 0))
        if change.after is None:
            del versions[change.scope]
        else:
            versions[change.scope] = (change.after, 8)
    assert plan(file, versions, prune=prune) == []
    assert {key: versions[key][0] for key in wanted} == wanted
    left = {key for key in known if key not in wanted and key in versions}
    named = {Scope.parse(key).organization_id for key in wanted}
    kept = {key for key in left if not (prune and Scope.parse(key).organization_id in named)}
    assert left == kept


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "has `budgets:`"),
        ([], "has `budgets:`"),
        ({"budgets": []}, "has `budgets:`"),
        ({"budgets": {"acme": {}}}, "acme: not a scope"),
        ({"budgets": {"team:x": {}}}, "names no organization"),
        ({"budgets": {ACME: {"monthly_budget_usd": "much"}}}, f"{ACME}: "),
        ({"budgets": {ACME: {"monthly_budget_usd": -1}}}, "must not be negative"),
        ({"budgets": {ACME: {"monthly_limit": 1}}}, "unknown field `monthly_limit`"),
        ({"budgets": {ACME: {"daily_token_limit": 1.5}}}, f"{ACME}: "),
        ({"budgets": {ACME: 5}}, f"{ACME}: "),
        ({"budgets": {}, "version": 2}, "version"),
        ({"budgets": {}, "teams": []}, "teams"),
        ({"budgets": {}, "organizations": [""]}, "organization_id"),
    ],
)
def test_what_cannot_be_is_said(content, text):
    """With the scope and the field."""
    with pytest.raises(ValueError, match=text):
        read_budgets(content)
