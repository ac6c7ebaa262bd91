"""Changing budgets: a request, its outcome, and the decision that it led to."""

import asyncio
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from library_fakes import FakeReader, FakeSender, FakeTopic

from outlay import (
    Budget,
    BudgetClient,
    BudgetRefused,
    BudgetRequestTimeout,
    Decision,
    DecisionFeed,
    FeedNotReady,
    Outcome,
    Scope,
)
from outlay.decision import OUTCOME_PREFIX, decode_request, encode
from outlay.topics import partition_of

ACME = Scope("acme", team_id="research")
assert partition_of(ACME.key.encode(), 3) != 0  # otherwise a wrong partition would go unseen


class Owner:
    """Stands for the totals stage: answers each request once, one partition in, one out."""

    def __init__(self, requests, decisions):
        self.requests, self.decisions = requests, decisions
        self.budgets, self.seen, self.received = {}, set(), []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.answers = True

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _work(self):
        done = 0
        while not self._stop.is_set():
            messages = self.requests.messages()
            for partition, key, value in messages[done:]:
                request = decode_request(value)
                assert key == request.scope.encode()
                assert partition == partition_of(key, len(self.requests.logs))
                self.received.append(request)
                if self.answers and request.request_id not in self.seen:
                    self.seen.add(request.request_id)
                    self._answer(request)
            done = len(messages)
            time.sleep(0.002)

    def _answer(self, request):
        version, budget = self.budgets.get(request.scope, (0, Budget()))
        if request.expected_version not in (None, version):
            self.decisions.answer(request, version, f"the version is {version}")
            return
        if request.action == "delete":
            self.budgets.pop(request.scope, None)
            self.decisions.forget(Scope.parse(request.scope))
            self.decisions.answer(request, 0)
            return
        base = budget if request.action == "patch" else Budget()
        try:
            budget = base.changed(request.changes)
        except ValueError as error:
            self.decisions.answer(request, version, str(error))
            return
        self.budgets[request.scope] = (version + 1, budget)
        self.decisions.answer(request, version + 1)
        time.sleep(0.03)  # so that the outcome is seen long before its decision
        self.decisions.decide(Scope.parse(request.scope), budget, version=version + 1)


@pytest.fixture
def owner():
    with Owner(FakeTopic(3), FakeTopic(3)) as owner:
        yield owner


@pytest.fixture
def client(owner):
    feed = DecisionFeed(reader_factory=lambda: FakeReader(owner.decisions))
    sender = lambda: FakeSender(owner.requests)  # noqa: E731
    with feed, BudgetClient("", feed, requested_by="tests", sender_factory=sender) as client:
        yield client
    assert owner.requests.senders == owner.decisions.readers == 0


def test_a_budget_is_put_patched_and_deleted(owner, client):
    """Each returns what the scope's owner made of it."""
    made = client.put(ACME, Budget(daily_budget_usd=Decimal("9.5"), on_stale="block"))
    assert (made.version, made.scope) == (1, ACME.key)
    assert made.budget == Budget(daily_budget_usd=Decimal("9.5"), on_stale="block")
    patched = client.patch(
        ACME.key, {"daily_budget_usd": None, "monthly_budget_usd": Decimal("0.1")}
    )
    assert patched.version == 2
    assert patched.budget == Budget(monthly_budget_usd=Decimal("0.1"), on_stale="block")
    assert client.put(ACME, Budget(), expected_version=2).budget == Budget()
    assert client.delete(ACME, expected_version=3) is None
    assert ACME.key not in owner.budgets
    assert {request.requested_by for request in owner.received} == {"tests"}
    assert len({request.request_id for request in owner.received}) == 4


def test_a_call_may_say_who_asks(owner, client):
    """For the audit; the client's own word holds where a call has none."""
    client.put(ACME, Budget(), requested_by="ann")
    client.patch(ACME, {"daily_token_limit": 5}, requested_by="ben")
    client.patch(ACME, {"daily_token_limit": 6})
    client.delete(ACME, requested_by="")
    assert [request.requested_by for request in owner.received] == ["ann", "ben", "tests", ""]
    with pytest.raises(ValueError, match="at most 256 characters"):
        client.delete(ACME, requested_by="x" * 257)


def test_in_async_code(client):
    """The same words."""

    async def use():
        made = await client.aput(ACME, Budget(daily_token_limit=5))
        patched = await client.apatch(ACME, {"daily_token_limit": 6}, expected_version=1)
        await client.adelete(ACME)
        return made.version, patched.budget.daily_token_limit

    assert asyncio.run(use()) == (1, 6)


def test_a_refusal_says_why(client):
    """With the version that the budget has."""
    client.put(ACME, Budget())
    with pytest.raises(BudgetRefused, match="the version is 1") as error:
        client.patch(ACME, {"daily_token_limit": 5}, expected_version=7)
    assert (error.value.version, error.value.reason) == (1, "the version is 1")
    with pytest.raises(BudgetRefused):
        client.patch(ACME, {"daily_token_limit": -5})


def test_without_an_outcome_it_ends_in_its_bound(owner, client):
    """The request may still be carried out, so its id is in the error."""
    client.put(ACME, Budget())
    owner.answers = False
    started = time.monotonic()
    with pytest.raises(BudgetRequestTimeout) as error:
        client.delete(ACME, timeout_s=0.2)
    assert time.monotonic() - started < 5
    assert owner.received[-1].request_id == error.value.request_id


def test_a_broker_that_is_away_is_tried_on(owner, client):
    """Within the bound; then the error says what the matter was."""
    owner.requests.away = True
    with pytest.raises(BudgetRequestTimeout, match="nobody listens"):
        client.put(ACME, Budget(), timeout_s=0.3)
    timer = threading.Timer(0.2, lambda: setattr(owner.requests, "away", False))
    timer.start()
    assert client.put(ACME, Budget(), timeout_s=10).version == 1
    timer.join()


def test_a_request_that_may_be_lost_is_sent_again(owner, client):
    """Under the same id, so it is carried out once."""
    owner.requests.delivery_error = RuntimeError("lost")
    timer = threading.Timer(0.3, lambda: setattr(owner.requests, "delivery_error", None))
    timer.start()
    assert client.put(ACME, Budget(), timeout_s=10).version == 1
    timer.join()
    assert len({request.request_id for request in owner.received}) == 1


def test_a_request_id_of_ones_own_is_asked_under_once(owner, client):
    """Another client, after the first one's process died, is told what the first would be."""
    assert client.put(ACME, Budget(), request_id="mine").version == 1
    assert client.put(ACME, Budget(), request_id="mine").version == 1
    assert len(owner.received) == 1  # the feed knew
    feed = DecisionFeed(reader_factory=lambda: FakeReader(owner.decisions))
    sender = lambda: FakeSender(owner.requests)  # noqa: E731
    with feed, BudgetClient("", feed, sender_factory=sender) as other:
        assert other.put(ACME, Budget(), request_id="mine").version == 1
    assert {request.request_id for request in owner.received} == {"mine"}
    assert owner.budgets[ACME.key] == (1, Budget())


def test_an_outcome_that_nobody_waited_for_is_found_by_its_id(owner, client):
    """The answer was lost on the way: asked again, it is there, and nothing is done twice."""
    owner.answers = False
    with pytest.raises(BudgetRequestTimeout) as error:
        client.put(ACME, Budget(), request_id="lost", timeout_s=0.2)
    assert error.value.request_id == "lost"
    owner.answers = True
    assert client.put(ACME, Budget(), request_id="lost", timeout_s=10).version == 1
    assert owner.budgets[ACME.key] == (1, Budget())


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.put(ACME, Budget(), request_id=""),
        lambda client: client.delete(ACME, request_id="x" * 129),
        lambda client: client.put("acme", Budget()),
        lambda client: client.put(ACME, {"daily_token_limit": 5}),
        lambda client: client.patch(ACME, {"unknown": 5}),
        lambda client: client.patch(ACME, {"daily_token_limit": object()}),
        lambda client: client.delete("organization:"),
    ],
)
def test_wrong_arguments_are_refused(owner, client, call):
    """Before anything is sent."""
    with pytest.raises(ValueError):
        call(client)
    assert owner.received == []


def test_a_feed_that_sees_nothing_is_an_error_at_once(owner):
    """Nothing is sent: nobody would see its outcome."""
    feed = DecisionFeed(reader_factory=lambda: FakeReader(owner.decisions))
    with (
        BudgetClient("", feed, sender_factory=lambda: FakeSender(owner.requests)) as client,
        pytest.raises(FeedNotReady, match="not started"),
    ):
        client.put(ACME, Budget())
    assert owner.received == []


def test_on_a_real_broker(topic_prefix):
    """The request is keyed by its scope, in the partition that its owner reads."""
    topic_prefix.create(budgets=3, decisions=3)
    names = topic_prefix.names
    partition = partition_of(ACME.key.encode(), 3)
    with (
        DecisionFeed(topic_prefix.bootstrap_servers, topics=names) as feed,
        BudgetClient(topic_prefix.bootstrap_servers, feed, topics=names) as client,
    ):
        feed.wait_ready()

        async def use():
            asked = asyncio.create_task(client.aput(ACME, Budget(daily_token_limit=5)))
            messages = []
            while not messages:  # until the request has arrived
                messages = await topic_prefix.aread(names.budgets)
            (message,) = messages
            assert (message.partition, message.key) == (partition, ACME.key.encode())
            request = decode_request(message.value)
            now = datetime.now(UTC)
            budget = Budget().changed(request.changes)
            decision = Decision(ACME.key, 1, "ok", budget, {}, request.request_id, now)
            outcome = Outcome(request.request_id, ACME.key, True, 1, "", now)
            await topic_prefix.asend(
                names.decisions,
                [
                    (ACME.key.encode(), encode(decision), partition),
                    (OUTCOME_PREFIX + ACME.key.encode(), encode(outcome), partition),
                ],
            )
            return await asked

        assert asyncio.run(use()).budget == Budget(daily_token_limit=5)
