"""Mail body: a message as an e-mail, in plain text and HTML. Pure: the same alerts, the same mail.

Headers are set by `EmailMessage`, which refuses line ends, and from text that has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from html import escape

from streams.alerting.cooldown import Message
from streams.alerting.text import shown
from streams.alerting.webhook_body import when
from streams.alerting.wording import details, headline

SUBJECT_LENGTH_MAX = 150
"""The longest subject, in characters."""


def mail_of(
    delivery_id: str, alerts: Message, sender: str, recipients: Sequence[str]
) -> EmailMessage:
    """The mail to all recipients; its Message-ID is the delivery's id at the sender's domain."""
    lead = alerts[0]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = shown(headline(lead), SUBJECT_LENGTH_MAX)
    mail["Date"] = lead.detected_at
    mail["Message-ID"] = f"<{delivery_id}@{domain_of(sender)}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Outlay-Event"] = lead.event
    mail["X-Outlay-Alert-Id"] = lead.alert_id
    mail.set_content("\n\n".join(_lines(alerts)) + "\n")
    mail.add_alternative(_html(alerts), subtype="html")
    return mail


def domain_of(address: str) -> str:
    """What stands after the @.

    >>> domain_of("alerts@example.com")
    'example.com'
    """
    return address.rpartition("@")[2]


def _lines(alerts: Message) -> list[str]:
    lead, *merged = alerts
    lines = [headline(lead), details(lead)]
    if merged:
        lines.append("Also, since the last alert:")
        lines += [f"- {headline(alert)}. {details(alert)}" for alert in merged]
    lines.append(f"Detected at {when(lead.detected_at)}. Alert {lead.alert_id}.")
    return lines


def _html(alerts: Message) -> str:
    title, *rest = (escape(line) for line in _lines(alerts))
    told = "".join(f"<p>{line}</p>" for line in rest)
    return f"<!DOCTYPE html><html><body><h2>{title}</h2>{told}</body></html>\n"
