"""Budget requests: decided once each, in the order of their log."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from outlay.budget import Budget
from outlay.decision import BudgetRequest, decode_request, encode
from streams.audit import REQUESTED_AT_MAX, audit_message, decode_audit
from streams.batch import day_start_ms
from streams.budgets import Budgets, RequestError, showable
from tests.streams.flat import as_records

SCOPE = "organization:acme"
TODAY = date(2026, 3, 1).toordinal()


def budgets() -> Budgets:
    return Budgets(0, lambda scope: 0)


def request(request_id: str = "r1", **fields: Any) -> bytes:
    fields = {"action": "patch", "changes": {"monthly_budget_usd": "5"}} | fields
    return encode(BudgetRequest(request_id=request_id, scope=SCOPE, **fields))


def decide(book: Budgets, value: bytes, offset: int) -> Any:
    return book.decide(value, offset, day_start_ms(TODAY)).answer


def audited(book: Budgets, value: bytes, offset: int) -> Any:
    return book.decide(value, offset, day_start_ms(TODAY)).audit


def test_a_patch_keeps_what_it_does_not_name_and_a_put_does_not() -> None:
    """And both count the version up."""
    book = budgets()
    decide(book, request("r1"), 0)
    assert decide(book, request("r2", changes={"daily_execution_limit": 7}), 1).version == 2
    budget = book.states[SCOPE].budget
    assert budget is not None
    assert (budget.monthly_budget_usd, budget.daily_execution_limit) == (Decimal(5), 7)
    decide(book, request("r3", action="put", changes={"daily_execution_limit": 8}), 2)
    budget = book.states[SCOPE].budget
    assert budget is not None
    assert (budget.monthly_budget_usd, budget.daily_execution_limit) == (None, 8)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"changes": {"monthly_budget_usd": "-1"}}, "must not be negative"),
        ({"changes": {"montly_budget_usd": "1"}}, "unknown field `montly_budget_usd`"),
        ({"changes": {"warning_threshold": "0.95"}}, "must not be above degradation_threshold"),
        ({"expected_version": 3}, "has version 0, not 3"),
        ({"action": "delete"}, "no budget to delete"),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(fields: dict[str, Any], reason: str) -> None:
    """The version stays, so that the next writer is not refused for it."""
    book = budgets()
    answer = decide(book, request(**fields), 0)
    assert not answer.accepted
    assert reason in answer.reason
    assert (book.states[SCOPE].version, book.states[SCOPE].budget) == (0, None)


def test_a_refusal_is_short_whatever_was_asked() -> None:
    """What is kept of it must fit into a message of the changelog."""
    answer = decide(budgets(), request(changes={"x" * 900_000: 1}), 0)
    assert "unknown field" in answer.reason
    assert len(answer.reason) < 600


def test_a_request_that_comes_again_gets_the_same_answer_and_is_not_repeated() -> None:
    """Both as a replay of its offset, and sent anew by a client that did not hear."""
    book = budgets()
    first = decide(book, request("r1"), 4)
    assert decide(book, request("r1"), 4) == first
    assert decide(book, request("r1"), 9) == first
    assert book.states[SCOPE].version == 1


def test_of_two_writers_with_one_version_the_second_is_refused() -> None:
    """Neither overwrites the other unseen."""
    book = budgets()
    decide(book, request("r1"), 0)
    assert decide(book, request("r2", expected_version=1), 1).accepted
    assert not decide(book, request("r3", expected_version=1), 2).accepted


def test_a_budget_made_after_a_deleted_one_has_a_higher_version() -> None:
    """An old version never names a new budget, until the deleted one is forgotten."""
    book = budgets()
    decide(book, request("r1"), 0)
    assert decide(book, request("r2", action="delete"), 1).version == 0
    assert decide(book, request("r3", expected_version=0), 2).version == 3
    decide(book, request("r4", action="delete"), 3)
    list(book.take_changes())
    book.forget(TODAY)
    assert SCOPE in book.states
    book.forget(TODAY + 1)
    assert list(book.take_changes()) == [(SCOPE.encode(), None)]


def test_the_changelog_gives_back_what_was_decided() -> None:
    """A new owner answers a replayed request as the old one did."""
    book, copy = budgets(), budgets()
    first = decide(book, request("r1", changes={"monthly_budget_usd": 0.1}), 0)
    copy.load(as_records(book.take_changes()))
    assert copy.states == book.states
    assert decide(copy, request("r1"), 0) == first


def test_a_request_in_the_wrong_partition_is_refused() -> None:
    """Its decision would stand where no total of the scope is."""
    book = Budgets(1, lambda scope: 0)
    answer = decide(book, request(), 0)
    assert not answer.accepted
    assert "belongs to 0" in answer.reason
    assert not book.states
    assert audited(book, request(), 1) is None  # nothing was decided


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", request().replace(b"organization:acme", b"organization:"), b"\xff"],
)
def test_what_is_no_request_is_an_error(value: bytes | None) -> None:
    """It becomes a dead letter."""
    with pytest.raises(RequestError, match="not a budget request"):
        budgets().decide(value, 0, 0)


def test_a_replay_of_an_old_request_is_not_decided_anew() -> None:
    """Also when its answer is not kept any more."""
    book = budgets()
    for offset in range(30):
        decide(book, request(f"r{offset}"), offset)
    assert decide(book, request("r2"), 2) is None
    assert book.states[SCOPE].version == 30


def test_what_is_decided_is_told_with_who_asked_and_what_changed() -> None:
    """Each request once: a change, a refusal, a deletion; where the request stood and when."""
    book = budgets()
    first = audited(book, request("r1", requested_by="ann"), 3)
    assert (first.request_id, first.scope, first.organization_id) == ("r1", SCOPE, "acme")
    assert (first.action, first.accepted, first.version) == ("patch", True, 1)
    assert (first.before, first.after) == (None, Budget(monthly_budget_usd=Decimal(5)))
    assert (first.requested_by, first.partition, first.offset) == ("ann", 0, 3)
    assert first.requested_at == datetime(2026, 3, 1, tzinfo=UTC)
    refused = audited(book, request("r2", expected_version=7), 4)
    assert (refused.accepted, refused.version) == (False, 1)
    assert refused.reason == "the budget has version 1, not 7"
    assert refused.before == refused.after == first.after
    deleted = audited(book, request("r3", action="delete"), 5)
    assert (deleted.accepted, deleted.version, deleted.reason) == (True, 0, "")
    assert (deleted.before, deleted.after) == (first.after, None)


def test_a_request_that_comes_again_is_not_told_again() -> None:
    """Neither as a replay nor sent anew, accepted or refused."""
    book = budgets()
    for request_id, fields in (("r1", {}), ("r2", {"expected_version": 9})):
        at = len(request_id) + 2 * book.reaches + 2
        assert audited(book, request(request_id, **fields), at) is not None
        assert audited(book, request(request_id, **fields), at) is None
        assert audited(book, request(request_id, **fields), at + 1) is None


def test_a_new_owner_tells_the_same_of_what_it_decides_again() -> None:
    """Its predecessor has published the record, and not the changelog behind it."""
    book, copy = budgets(), budgets()
    audited(book, request("r1"), 0)
    copy.load(as_records(book.take_changes()))
    again = request("r2", changes={"monthly_budget_usd": 0.1}, expected_version=1)
    assert audit_message(audited(copy, again, 1)) == audit_message(audited(book, again, 1))


@pytest.mark.parametrize(
    ("timestamp_ms", "at"), [(-1, datetime(1970, 1, 1, tzinfo=UTC)), (2**62, REQUESTED_AT_MAX)]
)
def test_a_message_without_a_sensible_time_is_told_of(timestamp_ms: int, at: datetime) -> None:
    """A producer's nonsense must not stop the worker."""
    record = budgets().decide(request(), 0, timestamp_ms).audit
    assert record is not None
    assert record.requested_at == at
    assert decode_audit(audit_message(record)[1] or b"") == record


SECRET = "whsec_" + "c2VjcmV0" * 4
ALERTS = {"webhook_url": "https://hooks.example.com/T0/hush", "webhook_secrets": [SECRET]}


def test_alerts_are_set_as_a_whole_and_share_the_budgets_version() -> None:
    """A change of the budget leaves them, and the deletion takes them away."""
    book = budgets()
    decide(book, request("r1"), 0)
    assert decide(book, request("r2", action="put_alerts", changes=ALERTS), 1).version == 2
    assert decide(book, request("r3", action="put", changes={}), 2).version == 3
    state = book.states[SCOPE]
    assert (state.version, state.alerts_version, state.made) == (3, 2, 1)
    assert state.alerts is not None
    assert state.alerts.webhook_secrets == (SECRET,)
    changes = {"cooldown_minutes": 5}
    decide(book, request("r4", action="put_alerts", changes=changes, expected_version=3), 3)
    state = book.states[SCOPE]
    assert state.alerts is not None
    assert (state.alerts.webhook_url, state.alerts.cooldown_minutes) == (None, 5)
    assert decide(book, request("r5", action="delete_alerts"), 4).version == 5
    decide(book, request("r6", action="put_alerts", changes=ALERTS), 5)
    assert decide(book, request("r7", action="delete"), 6).version == 0
    state = book.states[SCOPE]
    assert (state.budget, state.alerts, state.alerts_version) == (None, None, 7)
    decide(book, request("r8"), 7)
    assert book.states[SCOPE].made == 8


@pytest.mark.parametrize(
    ("first", "action", "changes", "reason"),
    [
        ("delete", "put_alerts", ALERTS, "there is no budget: make one first, it needs no limits"),
        ("delete", "delete_alerts", {}, "there is no budget"),
        ("put", "delete_alerts", {}, "no alert configuration to delete"),
        ("put", "put_alerts", {"webhook_secrets": ["whsec_short"]}, "webhook_secrets must be"),
        ("put", "put_alerts", {"webhook": "x"}, "unknown field `webhook`"),
        ("put", "put_alerts", {"email_recipients": [f"a@{'b' * 300}"]}, "at most 254 characters"),
    ],
)
def test_alerts_that_cannot_be_are_refused(
    first: Any, action: Any, changes: Any, reason: str
) -> None:
    """With the reason, in which no secret is."""
    book = budgets()
    decide(book, request("r1", action=first, changes={}), 0)
    answer = decide(book, request("r2", action=action, changes=changes), 1)
    assert not answer.accepted
    assert reason in answer.reason
    assert "whsec_short" not in answer.reason


def test_no_secret_is_seen_where_it_need_not_be() -> None:
    """Neither in the audit, nor in what a log would show of a request or of the state."""
    book = budgets()
    decide(book, request("r1"), 0)
    value = request("r2", action="put_alerts", changes=ALERTS)
    record = audited(book, value, 1)
    assert record.alerts_before is None
    assert record.alerts_after.webhook_url == "https://hooks.example.com/…"
    shown = [
        (audit_message(record)[1] or b"").decode(),
        repr(decode_request(value)),
        repr(book.states),
    ]
    for text in shown:
        assert SECRET not in text
        assert "hush" not in text
    assert showable(value[:-1]) is None
    assert showable(request("r3")) == request("r3")


def test_a_state_of_before_there_were_alerts_is_read() -> None:
    """An installation that is upgraded keeps its budgets."""
    book = budgets()
    old = (
        b'{"budget":{"monthly_budget_usd":"5.00"},"version":3,"offset":7,"day":1,"request_id":"r"}'
    )
    book.load(as_records([(SCOPE.encode(), old)]))
    state = book.states[SCOPE]
    assert (state.version, state.made, state.alerts, state.alerts_version) == (3, 0, None, 0)
