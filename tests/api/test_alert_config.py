"""Alert configurations over HTTP: whose holds, what is kept of them, and that nothing is told."""

import json
import logging
from decimal import Decimal

import pytest
import structlog

from api.callers import Caller
from api.seams import OwnAlerts
from outlay.alert import decode_alert
from outlay.alert_config import ALERT_THRESHOLDS, AlertConfig
from outlay.budget import Budget
from outlay.scope import Scope
from outlay.testing import InMemoryStream
from outlay.topics import partition_of
from tests.api.alert_parts import OTHER_SECRET, SECRET, SHOWN_URL, URL, alerting
from tests.api.budget_world import ACME, BUDGETS, NOON, OPERATOR, SEARCH, version_of

ALERTS = f"{SEARCH}/alerts"
TEAM = Scope("acme", team_id="search")
VIEWER = Caller("eve", "acme", frozenset({"viewer"}))


@pytest.fixture
def world():
    """An API process whose team search has a budget."""
    with InMemoryStream(NOON) as stream, alerting(stream) as api:
        stream.budgets.put(TEAM, Budget(monthly_budget_usd=Decimal(10)))
        yield api


def _put(world, **body):
    headers = body.pop("headers", {})
    return world.client.put(ALERTS, json=body, headers=headers)


def test_what_is_set_is_answered_without_its_secrets(world):
    """Of the URL only the host, of the secrets their number; the version is the budget's."""
    answer = _put(
        world,
        webhook_url=URL,
        webhook_secrets=[SECRET, OTHER_SECRET],
        email_recipients=["ann@example.com"],
        thresholds=[0.5, "0.80", 2],
        cooldown_minutes=5,
    )
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json() == {
        "scope": TEAM.key,
        "source": "budget",
        "version": 2,
        "alerts": {
            "webhook_url": SHOWN_URL,
            "webhook_format": "auto",
            "email_recipients": ["ann@example.com"],
            "thresholds": ["0.5", "0.8", "2"],
            "alert_once_per_threshold": True,
            "include_forecast": True,
            "cooldown_minutes": 5,
        },
        "webhook_secret_count": 2,
    }
    (config, options) = world.budgets.asked[0]
    assert (config.webhook_url, config.webhook_secrets) == (URL, (SECRET, OTHER_SECRET))
    assert options["requested_by"] == "anyone"
    assert world.client.get(ALERTS).json() == answer.json()


def test_without_an_own_configuration_that_of_the_organization_holds(world):
    """Then the default, which sends to nobody; the budget says which it is."""
    body = world.client.get(ALERTS).json()
    assert (body["source"], body["alerts"]["webhook_url"], body["version"]) == ("default", None, 1)
    assert world.client.get(SEARCH).json()["alerts"] == "default"
    world.own.set(Scope("acme"), AlertConfig(cooldown_minutes=7))
    body = world.client.get(ALERTS).json()
    assert (body["source"], body["alerts"]["cooldown_minutes"]) == ("organization", 7)
    world.own.set(TEAM, AlertConfig(cooldown_minutes=3))
    assert world.client.get(ALERTS).json()["alerts"]["cooldown_minutes"] == 3
    assert world.client.get(SEARCH).json()["alerts"] == "budget"
    listed = world.client.get(BUDGETS).json()["items"]
    assert [item["alerts"] for item in listed] == ["budget"]


def test_secrets_stay_where_a_put_leaves_them_out(world):
    """And nothing else does: the rest of a PUT is the whole configuration."""
    _put(world, webhook_url=URL, webhook_secrets=[SECRET], cooldown_minutes=5)
    answer = _put(world, webhook_url="https://other.example/x")
    assert answer.json()["webhook_secret_count"] == 1
    config, options = world.budgets.asked[-1]
    assert config == AlertConfig(webhook_url="https://other.example/x", webhook_secrets=(SECRET,))
    assert options["expected_version"] == 2  # nobody has changed them in between
    assert _put(world, webhook_secrets=[]).json()["webhook_secret_count"] == 0
    assert _put(world).json()["webhook_secret_count"] == 0


def test_secrets_that_another_process_has_just_set_are_not_lost(world):
    """Its configuration is published, and this process has not read it yet."""
    config = AlertConfig(webhook_url=URL, webhook_secrets=(SECRET,))
    world.stream.budgets.put_alerts(TEAM, config)
    world.own.lagging[TEAM.key] = config
    assert _put(world, webhook_url=URL).json()["webhook_secret_count"] == 1


def test_secrets_that_are_set_between_a_look_and_a_write_are_not_lost(world):
    """The version that was looked at is expected; on another the write looks again."""
    real, raced = world.budgets.aput_alerts, []

    async def racing(scope, config, **options):
        if not raced:
            theirs = AlertConfig(webhook_url=URL, webhook_secrets=(OTHER_SECRET,))
            raced.append(world.stream.budgets.put_alerts(TEAM, theirs))
            world.own.lagging[TEAM.key] = theirs
        return await real(scope, config, **options)

    world.budgets.aput_alerts = racing
    answer = _put(world, webhook_url=URL)
    assert (answer.json()["version"], answer.json()["webhook_secret_count"]) == (3, 1)
    assert world.budgets.asked[-1][0].webhook_secrets == (OTHER_SECRET,)


def test_a_masked_url_is_refused(world, assert_problem):
    """Whoever sends an answer back would else send alerts nowhere; sent whole, it is taken."""
    _put(world, webhook_url=URL)
    shown = world.client.get(ALERTS).json()["alerts"]
    problem = assert_problem(_put(world, **shown), 422, "invalid-request")
    assert "masked" in problem["detail"]
    assert version_of(world.stream) == 2
    answer = _put(world, **(shown | {"webhook_url": URL}))
    assert (answer.status_code, answer.json()["alerts"]) == (200, shown)


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook_url": "ftp://x.example/very-secret"},
        {"webhook_secrets": ["very-secret"]},
        {"webhook_secrets": "very-secret"},
        {"webhook_secrets": None},
        {"webhook_secrets": [SECRET] * 5},
        {"thresholds": [0.9, 0.5]},
        {"thresholds": [11]},
        {"thresholds": ["x"]},
        {"cooldown_minutes": 1.5},
        {"email_recipients": ["no address"]},
        {"very-secret": 1},
        {"webhook_format": "teams"},
    ],
)
def test_what_cannot_be_is_refused_without_telling_it(world, assert_problem, wrong):
    """Nothing is sent, and no secret comes back."""
    answer = _put(world, **wrong)
    assert_problem(answer, 422, "invalid-request")
    assert SECRET not in answer.text
    assert "very-secret" not in answer.json()["detail"] or "very-secret" in wrong
    assert world.budgets.asked == []


def test_conditions_are_those_of_the_budget(world, assert_problem):
    """It and its alerts share one version: a change of either is a change for both."""
    assert _put(world, webhook_secrets=[], headers={"If-Match": '"1"'}).status_code == 200
    problem = assert_problem(
        _put(world, cooldown_minutes=1, headers={"If-Match": '"1"'}), 412, "version-mismatch"
    )
    assert problem["version"] == 2
    assert world.client.patch(SEARCH, json={"on_stale": "block"}).headers["etag"] == '"3"'
    assert world.client.get(ALERTS).headers["etag"] == '"3"'
    assert _put(world, cooldown_minutes=1, headers={"If-Match": '"3"'}).json()["version"] == 4
    gone = world.client.delete(ALERTS, headers={"If-Match": '"3"'})
    assert_problem(gone, 412, "version-mismatch")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_condition_that_alerts_do_not_have_is_refused(world, assert_problem, method):
    """Passed over, it would change what shall only be made."""
    answer = world.client.request(method, ALERTS, json={}, headers={"If-None-Match": "*"})
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"][0]["location"] == "header.If-None-Match"
    assert world.budgets.asked == []


def test_under_one_key_a_write_is_carried_out_once(world, assert_problem):
    """Also one that keeps the secrets; another content under the key is refused."""
    for _ in range(2):
        answer = _put(world, cooldown_minutes=1, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["version"]) == (200, 2)
    answer = _put(world, cooldown_minutes=2, headers={"Idempotency-Key": "k"})
    assert_problem(answer, 422, "idempotency-key-reused")


def test_a_deletion_leaves_the_budget(world, assert_problem):
    """What the organization has holds then; a second one finds nothing."""
    _put(world, cooldown_minutes=1)
    answer = world.client.delete(ALERTS)
    assert (answer.status_code, answer.headers["etag"]) == (204, '"3"')
    assert world.client.get(ALERTS).json()["source"] == "default"
    assert world.client.get(SEARCH).json()["budget"]["monthly_budget_usd"] == "10.00"
    assert_problem(world.client.delete(ALERTS), 404, "not-found")


def test_where_there_is_no_budget(world, assert_problem):
    """There are no alerts; setting them says what to do first."""
    nowhere = f"{BUDGETS}/organization:acme/team:none/alerts"
    for method, path in [("GET", nowhere), ("DELETE", nowhere), ("POST", f"{nowhere}/test")]:
        assert_problem(world.client.request(method, path), 404, "not-found")
    for body in ({}, {"webhook_secrets": []}):
        problem = assert_problem(world.client.put(nowhere, json=body), 422, "budget-refused")
        assert "make one first" in problem["detail"]


def test_an_id_may_end_like_the_path(world):
    """What was sent percent-encoded is the id's."""
    scope = Scope("acme", agent_id="a/alerts")
    world.stream.budgets.put(scope, Budget())
    assert world.client.get(f"{ACME}/agent:a%2Falerts").json()["scope"] == scope.key
    assert world.client.get(f"{ACME}/agent:a%2Falerts/alerts").json()["scope"] == scope.key


def test_who_may_do_what(world, assert_problem):
    """Viewers read, operators set and try; what is another's is not there."""
    world.stream.budgets.put(Scope("globex"), Budget())
    world.be(VIEWER)
    assert world.client.get(ALERTS).status_code == 200
    for method, path in [("PUT", ALERTS), ("DELETE", ALERTS), ("POST", f"{ALERTS}/test")]:
        answer = world.client.request(method, path, json={})
        assert_problem(answer, 403, "forbidden")
    world.be(OPERATOR)
    assert _put(world, cooldown_minutes=2).status_code == 200
    assert world.client.post(f"{ALERTS}/test").status_code == 202
    theirs = f"{BUDGETS}/organization:globex/alerts"
    for method, path in [
        ("GET", theirs), ("PUT", theirs), ("DELETE", theirs), ("POST", f"{theirs}/test")
    ]:  # fmt: skip
        assert_problem(world.client.request(method, path, json={}), 404, "not-found")
    assert len(world.budgets.asked) == 1


def test_a_test_alert_goes_to_the_alerts_topic_of_its_scope(world):
    """Marked, with the budget's numbers, to its partition; the answer says who will be told."""
    answer = world.client.post(f"{ALERTS}/test")
    assert answer.json()["channels"] == []
    world.own.set(TEAM, AlertConfig(webhook_url=URL, email_recipients=("ann@example.com",)))
    answer = world.client.post(f"{ALERTS}/test", headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202
    told = answer.json()
    assert (told["source"], told["channels"]) == ("budget", ["webhook", "email"])
    log = world.topic.logs[partition_of(TEAM.key.encode(), 2)]
    alerts = [decode_alert(value) for _, _, value in log]
    assert [alert.test for alert in alerts] == [True, True]
    assert (alerts[1].alert_id, alerts[1].scope) == (told["alert_id"], TEAM.key)
    assert Decimal(alerts[1].monthly_budget_usd) == 10
    again = world.client.post(f"{ALERTS}/test", headers={"Idempotency-Key": "k"})
    assert again.json() == told
    assert alerts[0].alert_id != told["alert_id"]


def test_a_broker_that_takes_no_test_alert(world, assert_problem):
    """503; when it is back the next one arrives."""
    world.topic.away = True
    assert_problem(world.client.post(f"{ALERTS}/test"), 503, "broker-unavailable")
    world.topic.away = False
    assert world.client.post(f"{ALERTS}/test").status_code == 202


def test_while_configurations_are_not_known(world, assert_problem):
    """Nobody is told that there is none, and a write that keeps secrets is not made."""
    world.own.ready, world.own.stuck, world.own.problem = False, True, "no topic"
    assert_problem(world.client.get(ALERTS), 503, "feed-unavailable")
    assert_problem(_put(world, cooldown_minutes=1), 503, "feed-unavailable")
    assert world.budgets.asked == []
    assert world.client.get(SEARCH).json()["alerts"] is None
    body = world.client.get("/readyz").json()
    assert body["checks"]["alerts"]["ok"] is False
    assert "no topic" in body["checks"]["alerts"]["detail"]


def test_no_secret_is_in_answers_logs_the_audit_or_the_description(world, caplog, capfd):
    """Wherever in a request it stands, right or wrong."""
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as lines:
        said = [
            _put(world, webhook_url=URL, webhook_secrets=[SECRET]),
            _put(world, webhook_url=URL, webhook_secrets=[SECRET + "!"]),
            _put(world, webhook_url=URL + " ", webhook_secrets=[SECRET]),
            _put(world, webhook_secrets=[SECRET], headers={"If-Match": '"99"'}),
            world.client.get(ALERTS),
            world.client.get(SEARCH),
            world.client.post(f"{ALERTS}/test"),
            world.client.get("/openapi.json"),
        ]
        world.budgets.aput_alerts = None  # a bug
        said.append(_put(world, webhook_url=URL, webhook_secrets=[SECRET]))
        assert said[-1].status_code == 500
    out, err = capfd.readouterr()
    logged = [each.getMessage() for each in caplog.records if not each.name.startswith("httpx")]
    published = [value.decode() for log in world.topic.logs for _, _, value in log]
    told = "".join(f"{answer.headers}{answer.text}" for answer in said)
    told += json.dumps([lines, logged, published], default=str) + out + err
    for secret in (SECRET.removeprefix("whsec_"), "very-secret", "user:pass"):
        assert secret not in told


def test_defaults_are_those_of_the_library(world):
    """An empty PUT is `AlertConfig()`."""
    _put(world)
    assert world.budgets.asked[0][0] == AlertConfig(thresholds=ALERT_THRESHOLDS)


def test_the_stand_in_has_what_the_app_needs():
    """Else these tests would test something else."""
    from tests.api.alert_parts import FakeOwnAlerts

    names = {name for name in vars(OwnAlerts) if not name.startswith("_")}
    assert all(hasattr(FakeOwnAlerts(), name) for name in names)
