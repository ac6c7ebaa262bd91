"""Slack body: the shape of Slack's incoming webhooks. Pure: the same alerts make the same bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from outlay.alert import Alert
from streams.alerting.cooldown import Message
from streams.alerting.wording import details, headline

SLACK_HOST = "hooks.slack.com"
TEXT_LENGTH_MAX = 2_900
"""The longest text of a block, in characters; Slack takes 3,000."""

BODY_BYTES_MAX = 20_000
"""The largest body, in bytes; merged alerts beyond are left out, and counted."""

_encode = msgspec.json.Encoder().encode


def slack_body(alerts: Message) -> bytes:
    """`text` for notifications, and `blocks`: the highest alert, and then those merged with it."""
    lead, *merged = alerts
    told = [_section(f"*{_line(lead)}*\n{_escaped(details(lead))}")]
    if merged:
        told.append(_section("Also, since the last alert:"))
    rest = [_section(f"• {_line(alert)} ({_escaped(details(alert))})") for alert in merged]
    for kept in range(len(rest), -1, -1):
        omitted = [] if kept == len(rest) else [_section(f"And {len(rest) - kept} more.")]
        body = _encode({"text": _line(lead), "blocks": [*told, *rest[:kept], *omitted]})
        if len(body) < BODY_BYTES_MAX:
            return body
    raise ValueError("an alert is too large for Slack")  # not with texts within their bounds


def _line(alert: Alert) -> str:
    return _escaped(headline(alert))


def _section(text: str) -> dict[str, Any]:
    cut = text if len(text) <= TEXT_LENGTH_MAX else f"{text[:TEXT_LENGTH_MAX]}…"
    # Verbatim: no link, channel or name is made of what stands in an id.
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut, "verbatim": True}}


def _escaped(text: str) -> str:
    """What Slack would take for its own: no mention or link is made of an id."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
