"""Slack body: the shape of Slack's incoming webhooks. Pure: the same alerts make the same bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.alerting.cooldown import Message
from streams.alerting.wording import details, headline

SLACK_HOST = "hooks.slack.com"
TEXT_LENGTH_MAX = 2_900
"""The longest text of a block, in characters; Slack takes 3,000."""

_encode = msgspec.json.Encoder().encode


def slack_body(alerts: Message) -> bytes:
    """`text` for notifications, and `blocks`: the highest alert, and then those merged with it."""
    lead, *merged = alerts
    lines = [f"*{_escaped(headline(lead))}*", _escaped(details(lead))]
    blocks = [_section("\n".join(lines))]
    if merged:
        told = "\n".join(f"• {_escaped(headline(a))} ({_escaped(details(a))})" for a in merged)
        blocks.append(_section(f"Also, since the last alert:\n{told}"))
    return _encode({"text": _escaped(headline(lead)), "blocks": blocks})


def _section(text: str) -> dict[str, Any]:
    cut = text if len(text) <= TEXT_LENGTH_MAX else f"{text[:TEXT_LENGTH_MAX]}…"
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut}}


def _escaped(text: str) -> str:
    """What Slack would take for its own: no mention or link is made of an id."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
