"""What is told: the webhook's body, Slack's, and the mail. Pure functions of the alerts."""

import email
import email.policy
import json
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from outlay.alert import Forecast
from outlay.alert_config import AlertConfig
from outlay.scope import Scope
from streams.alerting.cooldown import HELD_MAX
from streams.alerting.mail_body import mail_of
from streams.alerting.slack_body import slack_body
from streams.alerting.webhook import body_of
from streams.alerting.webhook_body import BODY_BYTES_MAX, webhook_body
from tests.alerts.alert_world import alert, step

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)


def test_the_body_has_what_users_know():
    """The nine fields of such systems, with exact numbers."""
    body = json.loads(webhook_body("alt_1", (alert(),)), parse_float=Decimal)
    assert list(body)[:9] == [
        "event",
        "external_agent_id",
        "organization_id",
        "threshold",
        "current_usage_percentage",
        "monthly_spent_usd",
        "monthly_budget_usd",
        "remaining_budget_usd",
        "timestamp",
    ]
    assert body["event"] == "budget.warning"
    assert (body["external_agent_id"], body["organization_id"]) == ("writer", "acme")
    assert (body["threshold"], body["current_usage_percentage"]) == (
        Decimal("0.75"),
        Decimal("0.78"),
    )
    assert body["monthly_spent_usd"] == Decimal("780.000000001")
    assert body["remaining_budget_usd"] == Decimal("219.999999999")
    assert body["timestamp"] == "2026-11-22T12:00:00Z"
    assert (body["test"], body["merged"], body["forecast"]) == (False, [], None)


def test_numbers_are_written_from_decimals():
    """A float would have lost the last digits."""
    spent = "123456789.123456789"
    assert spent.encode() in webhook_body("alt_1", (alert(monthly_spent_usd=spent),))


def test_a_scope_that_is_no_agent_has_none():
    """Its team and user are told instead; what has no limit has none left."""
    one = alert("organization:acme/team:s/user:u", None, monthly_budget_usd=None, limit=None)
    body = json.loads(webhook_body("alt_1", (one,)))
    assert body["external_agent_id"] is None
    assert (body["team_id"], body["user_id"]) == ("s", "u")
    assert body["remaining_budget_usd"] is body["limit"] is body["threshold"] is None


def test_more_was_spent_than_there_was():
    """Nothing is left; not less."""
    body = json.loads(webhook_body("alt_1", (alert(monthly_spent_usd="1200"),)))
    assert body["remaining_budget_usd"] == 0


def test_a_forecast_tells_its_basis():
    """The projection, what of the window is over, and how it was made."""
    forecast = Forecast("1200.5", 86_400, 2_592_000)
    one = alert(threshold=None, event="budget.forecast", forecast=forecast)
    told = json.loads(webhook_body("alt_1", (one,)))["forecast"]
    assert (told["projected"], told["elapsed_s"], told["window_s"]) == (1200.5, 86_400, 2_592_000)
    assert "elapsed_s" in told["basis"]


@given(ids, ids, ids)
@settings(max_examples=30)
def test_a_body_stays_below_its_bound(organization, team, user):
    """With any ids, and as many merged alerts as can be; what is left out is counted."""
    key = Scope(organization, team_id=team, user_id=user).key
    alerts = tuple(alert(key, organization_id=organization) for _ in range(HELD_MAX))
    raw = webhook_body("alt_1", alerts)
    body = json.loads(raw)
    assert len(raw) < BODY_BYTES_MAX
    assert len(body["merged"]) + body["merged_omitted"] == HELD_MAX - 1


def test_a_body_with_the_widest_ids_stays_below_its_bound():
    """256 characters that each take four bytes, and twelve in a scope's key."""
    key = Scope("𐍈" * 256, team_id="𐍈" * 256, user_id="𐍈" * 256).key
    forecast = Forecast("1200.5", 86_400, 2_592_000)
    alerts = tuple(
        alert(key, organization_id="𐍈" * 256, forecast=forecast) for _ in range(HELD_MAX)
    )
    raw = webhook_body("alt_1", alerts)
    assert len(raw) < BODY_BYTES_MAX
    assert json.loads(raw)["merged_omitted"] > 0


def test_slack_is_chosen_by_its_host_or_by_the_format():
    """And ours may be insisted on."""
    one = (alert(),)

    def shape(host, wanted="auto"):
        config = AlertConfig(webhook_url=f"https://{host}/x", webhook_format=wanted)
        return "blocks" if b'"blocks"' in body_of(config, host, "alt_1", one) else "ours"

    assert shape("hooks.slack.com") == shape("HOOKS.slack.com") == "blocks"
    assert shape("example.com") == shape("hooks.slack.com.evil.example") == "ours"
    assert shape("example.com", "slack") == "blocks"
    assert shape("hooks.slack.com", "standard") == "ours"


def test_slack_gets_text_and_blocks():
    """The highest first, then the merged ones; nobody is mentioned by an id."""
    alerts = tuple(reversed(step("organization:acme/agent:%3C%21channel%3E", "0.75", "0.9")))
    body = json.loads(slack_body((*alerts, alert(organization_id="<!channel>", limit=None))))
    assert "90 %" in body["text"]
    assert len(body["blocks"]) == 4
    assert "75 %" in body["blocks"][2]["text"]["text"]
    assert "<!channel>" not in json.dumps(body)


@given(ids)
@settings(max_examples=30)
def test_slack_takes_any_id(agent):
    """Each text and the whole within bounds, and all that are merged are told."""
    key = Scope("acme", agent_id=agent).key
    raw = slack_body(tuple(alert(key, f"0.{n + 10}") for n in range(HELD_MAX)))
    body = json.loads(raw)
    assert len(raw) < BODY_BYTES_MAX
    assert len(body["blocks"]) <= 50
    assert all(len(block["text"]["text"]) <= 3_000 for block in body["blocks"])
    text = "".join(block["text"]["text"] for block in body["blocks"])
    assert all(f" at {n + 10} %" in text for n in range(HELD_MAX))


def test_slack_is_told_how_many_were_left_out():
    """Where merged alerts do not fit into a body."""
    key = Scope("&" * 256, team_id="𐍈" * 256).key
    alerts = [alert(key, window=f"{n:02}" + "&" * 400) for n in range(HELD_MAX)]
    raw = slack_body(tuple(alerts))
    texts = [block["text"]["text"] for block in json.loads(raw)["blocks"]]
    assert len(raw) < BODY_BYTES_MAX
    assert texts[-1] == f"And {HELD_MAX - len(texts) + 2} more."


def test_a_mail_has_plain_text_and_html():
    """And an id of the delivery; the same alerts make the same headers and text."""
    alerts = (alert("organization:acme/agent:%3Cb%3E", test=True), alert())
    raw = mail_of("alt_1", alerts, "from@example.com", ["a@x.org", "b@x.org"]).as_bytes()
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["Message-ID"] == "<alt_1@example.com>"
    assert mail["To"] == "a@x.org, b@x.org"
    assert mail["Subject"].startswith("[TEST] Budget warning at 75 %")
    plain, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "$780.00 used" in plain
    assert "Also, since the last alert:" in html
    assert "<b>" not in html


@given(st.text(max_size=60), ids)
@settings(max_examples=60)
def test_no_header_can_be_injected(window, agent):
    """Whatever stands in an alert, a mail has the headers that it should have."""
    one = alert(Scope("acme", agent_id=agent).key, window=window)
    raw = mail_of("alt_1", (one,), "from@example.com", ["a@x.org"]).as_bytes()
    head = raw.partition(b"\r\n\r\n")[0]
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if line[:1] not in b" \t"]
    assert sorted(set(names)) == sorted(names)
    assert set(names) == {
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted",
        b"X-Outlay-Event", b"X-Outlay-Alert-Id", b"MIME-Version", b"Content-Type",
    }  # fmt: skip
