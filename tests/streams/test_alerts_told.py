"""What the totals stage tells as alerts, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from outlay.alert import Alert
from outlay.window import DAY_RETENTION_DAYS
from schemas.messages import AlertDefaults, PartialsMessage
from streams import looks, messages
from tests.streams.alert_rig import ORGANIZATION, SCOPE, TOPICS, Rig

START = datetime(2026, 2, 26, 21, 0, tzinfo=UTC)


def crossed(told: list[Alert]) -> list[tuple[str, str, str | None, int]]:
    return [(a.event, a.window, a.threshold and str(a.threshold), a.episode) for a in told]


def test_a_jump_tells_each_threshold_in_order_as_one_step() -> None:
    """With the amounts, the shares and the names of the levels."""
    rig = Rig(START)
    rig.ask("put", monthly_budget_usd="100", daily_budget_usd="1000")
    rig.flush()
    rig.use({"2026-02": (40 * 10**9, 1), "2026-02-26": (10 * 10**9, 1)})
    assert not rig.flush()
    rig.use({"2026-02": (95 * 10**9, 2), "2026-02-26": (65 * 10**9, 2)})
    told = rig.flush()
    events = ["budget.threshold", "budget.warning", "budget.degraded"]
    assert [a.event for a in told if a.threshold] == events
    assert [a.step for a in told if a.threshold] == [
        (Decimal("0.5"), Decimal("0.75"), Decimal("0.9"))
    ] * 3
    first, forecast = told[0], told[3]
    assert (first.used, first.limit, first.used_share) == ("95.00", "100.00", "0.950000")
    assert (first.daily_spent_usd, first.monthly_spent_usd) == ("65.00", "95.00")
    assert (first.daily_budget_usd, first.monthly_budget_usd) == ("1000.00", "100.00")
    assert (first.organization_id, first.version, first.enforcement_mode) == ("acme", 1, "hard")
    assert (forecast.event, forecast.threshold) == ("budget.forecast", None)
    assert forecast.forecast is not None
    elapsed_s = (25 * 24 + 21) * 3_600
    assert (forecast.forecast.elapsed_s, forecast.forecast.window_s) == (elapsed_s, 28 * 86_400)
    assert Decimal(forecast.forecast.projected) == pytest.approx(Decimal(95 * 28 * 24) / 621)
    assert not rig.flush()


def test_a_raised_limit_arms_again_with_hysteresis_and_tells_one_recovery() -> None:
    """Just below a threshold is not below it; the next crossing has the next episode."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=100)
    rig.ask("put_alerts", include_forecast=False)
    rig.flush()
    rig.use({"2026-02-26": (0, 92)})
    assert len(rig.flush()) == 3
    rig.ask("patch", daily_execution_limit=104)  # 0.885 of it
    assert not rig.flush()
    rig.ask("patch", daily_execution_limit=150)  # 0.613 of it
    recovered = rig.flush()
    assert crossed(recovered) == [("budget.recovered", "2026-02-26", "0.75", 1)]
    assert recovered[0].step == (Decimal("0.75"), Decimal("0.9"))
    rig.use({"2026-02-26": (0, 120)})
    assert crossed(rig.flush()) == [("budget.warning", "2026-02-26", "0.75", 1)]
    rig.ask("patch", daily_execution_limit=None)
    gone = rig.flush()
    assert [(a.event, a.limit, a.used_share) for a in gone] == [("budget.recovered", None, None)]
    assert gone[0].alert_id != recovered[0].alert_id


def test_a_late_batch_tells_what_it_crosses_in_yesterdays_window_once() -> None:
    """A backfill is told of, and the end of a window is not."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=10)
    rig.flush()
    rig.use({"2026-02-25": (0, 8), "2026-02": (0, 8)})
    yesterday = [
        ("budget.threshold", "2026-02-25", "0.5", 0),
        ("budget.warning", "2026-02-25", "0.75", 0),
    ]
    assert crossed(rig.flush("changelog")) == yesterday
    assert crossed(rig.flush()) == yesterday  # a crash was between the alerts and the changelog
    rig.restart()
    assert not rig.flush()
    rig.now += timedelta(days=1)
    assert not rig.flush()
    rig.use({"2026-02-27": (0, 9)})
    assert {a.window for a in rig.flush()} == {"2026-02-27"}


def test_a_limit_of_zero_is_crossed_by_any_use() -> None:
    """And by no window that has used nothing."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=0)
    assert not rig.flush()
    rig.use({"2026-02-26": (0, 1)})
    told = rig.flush()
    assert len(told) == 4
    assert {(a.used, a.limit, a.used_share) for a in told} == {("1", "0", None)}
    rig.use({"2026-02-26": (0, 0)})
    assert [a.event for a in rig.flush()] == ["budget.recovered"]


def test_a_budget_made_after_a_deleted_one_tells_its_own() -> None:
    """The deletion tells nothing and leaves nothing; ids of the old budget are not used again."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=1)
    rig.flush()
    rig.use({"2026-02-26": (0, 1)})
    first = rig.flush()
    assert list(rig.kept()) == [f"{SCOPE} 2026-02-26"]
    rig.ask("delete")
    assert not rig.flush()
    assert not rig.kept()
    rig.ask("put", daily_execution_limit=1)
    second = rig.flush()
    assert crossed(second) == crossed(first)
    assert not {a.alert_id for a in first} & {a.alert_id for a in second}
    rig.ask("delete")
    rig.ask("put", daily_execution_limit=1)
    assert crossed(rig.flush()) == crossed(first)  # nobody has looked in between


def test_a_first_start_tells_what_is_crossed_then_once() -> None:
    """An installation from before there were alerts has no table of them."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=1)
    rig.use({"2026-02-26": (0, 1)})
    rig.flush()
    rig.flush()
    rig.tables["A"].clear()
    rig.restart()
    assert len(rig.flush()) == 4
    rig.restart()
    assert not rig.flush()


def test_state_is_kept_only_where_something_was_told_and_goes_with_its_window() -> None:
    """With a tombstone, when the window is forgotten."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=10, monthly_execution_limit=10)
    rig.flush()
    rig.use({"2026-02-26": (0, 1), "2026-02": (0, 1)})
    rig.flush()
    assert not rig.kept()
    rig.use({"2026-02-26": (0, 9), "2026-02": (0, 4)})
    rig.flush()
    assert list(rig.kept()) == [f"{SCOPE} 2026-02-26"]
    rig.now += timedelta(days=45)
    rig.use({"2026-04-12": (0, 1)})
    rig.flush()
    assert not rig.kept()


def test_the_defaults_of_an_organization_are_told_by_version() -> None:
    """What comes again or late changes nothing; without one the built-in ones hold."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=10)
    rig.ask("put", ORGANIZATION)
    rig.flush()
    rig.use({"2026-02-26": (0, 3)})
    assert not rig.flush()
    rig.ask("put_alerts", ORGANIZATION, thresholds=["0.3"], include_forecast=False)
    assert not rig.flush()
    assert crossed(rig.flush()) == [("budget.threshold", "2026-02-26", "0.3", 0)]
    defaults = {key: told for key, told in rig.kept().items() if key.endswith(" defaults")}
    assert [told["version"] for told in defaults.values()] == [2]
    older = AlertDefaults(1, 0, None)
    rig.logs[TOPICS.partials].append(
        messages.encode(PartialsMessage(0, 0, None, {}, {ORGANIZATION: older}))
    )
    rig.restart()
    assert not rig.flush()
    assert not rig.flush()
    assert rig.kept().items() >= defaults.items()
    rig.ask("put_alerts", thresholds=["0.2", "0.25"], include_forecast=False)
    assert [str(a.threshold) for a in rig.flush()] == ["0.2", "0.25"]
    rig.ask("delete_alerts")
    assert [str(a.threshold) for a in rig.flush()] == ["0.3"]


def test_configurations_are_told_before_the_decision_and_again_after_a_take_over() -> None:
    """Of the organization's all partitions hear, without a secret."""
    secret = "whsec_" + "c2VjcmV0" * 4
    rig = Rig(START)
    rig.ask("put", ORGANIZATION)
    rig.ask("put_alerts", ORGANIZATION, webhook_secrets=[secret])
    rig.apply()
    plan = rig.state.flush(int(START.timestamp() * 1000))
    assert plan is not None
    first, then = ({out.topic for out in t.outputs} for t in plan.transactions)
    assert first == {TOPICS.alert_configs, TOPICS.partials}
    assert TOPICS.decisions in then
    rig.restart()
    rig.flush()
    rig.flush()
    rig.published.clear()
    rig.restart()
    rig.flush()
    topics = [message.topic for message in rig.published]
    assert topics.count(TOPICS.alert_configs) == topics.count(TOPICS.partials) == 1
    shown = [m for m in rig.published if m.topic != TOPICS.alert_configs]
    assert not [m for m in shown if secret.encode() in (m.value or b"")]


def test_a_request_that_cannot_be_read_shows_no_secret() -> None:
    """Its dead letter has the reason and the place."""
    rig = Rig(START)
    rig.ask("put_alerts", "organization:", webhook_secrets=["whsec_secret"])
    rig.flush()
    letters = [m.value or b"" for m in rig.published if m.topic == TOPICS.rejected]
    assert len(letters) == 1
    assert b"not a budget request" in letters[0]
    assert b"whsec_" not in letters[0]


def test_what_is_dated_tomorrow_is_told_when_that_has_begun() -> None:
    """Not before; by the worker's clock."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=1)
    rig.flush()
    rig.use({"2026-02-27": (0, 5)})
    assert not rig.flush()
    rig.now += timedelta(hours=3)
    told = rig.flush()
    assert {alert.window for alert in told} == {"2026-02-27"}
    assert [alert.threshold for alert in told] == list(map(Decimal, ("0.5", "0.75", "0.9", "1")))
    assert not rig.flush()


def test_what_waits_to_be_looked_at_is_when_its_window_has_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock may be set back over a midnight while many windows wait."""
    rig = Rig(START + timedelta(hours=4))
    rig.ask("put", daily_execution_limit=1)
    rig.flush()
    rig.use({"2026-02-27": (0, 5)})
    monkeypatch.setattr(looks, "LOOKS_PER_FLUSH_MAX", 0)
    assert not rig.flush()
    monkeypatch.undo()
    rig.now -= timedelta(hours=3)
    assert not rig.flush()
    rig.now += timedelta(hours=2)
    assert {alert.window for alert in rig.flush()} == {"2026-02-27"}
    assert not rig.flush()


def test_what_waits_to_be_looked_at_is_not_when_its_window_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A total that starts again from nothing would say that all is well."""
    rig = Rig(START)
    rig.ask("put", daily_execution_limit=10)
    rig.flush()
    rig.use({"2026-02-26": (0, 8)})
    assert {alert.window for alert in rig.flush()} == {"2026-02-26"}
    rig.use({"2026-02-26": (0, 11)})
    monkeypatch.setattr(looks, "LOOKS_PER_FLUSH_MAX", 0)
    assert not rig.flush()
    monkeypatch.undo()
    rig.now += timedelta(days=DAY_RETENTION_DAYS + 1)
    rig.use({rig.now.strftime("%Y-%m-%d"): (0, 1)})
    assert not rig.flush()
    assert not rig.kept()
