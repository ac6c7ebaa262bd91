"""Alert configuration: which crossings of a budget are told, to whom, and how often.

A budget without a configuration of its own has that of its organization's budget; without that,
`DEFAULT_ALERTS`: crossings are detected and kept, and sent to nobody.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from outlay.money import to_number

WebhookFormat = Literal["auto", "standard", "slack"]

ALERT_THRESHOLDS: tuple[Decimal, ...] = tuple(map(Decimal, ("0.5", "0.75", "0.9", "1")))
THRESHOLDS_MAX = 16
"""How many thresholds a configuration has at most."""

THRESHOLD_MAX = 10
"""The highest threshold, as a multiple of the limit: a soft budget may go beyond it."""

EMAIL_RECIPIENTS_MAX = 100
"""How many addresses an alert goes to at most."""

EMAIL_LENGTH_MAX = 254
"""The longest address, in characters, as SMTP has it."""

URL_LENGTH_MAX = 2_048
"""The longest URL of a webhook, in characters."""

COOLDOWN_MINUTES_MAX = 10_080
"""The longest pause between alerts, in minutes: a week."""

WEBHOOK_SECRETS_MAX = 4
"""How many secrets sign at a time: the new one, and those that are being given up."""

SECRET_PREFIX = "whsec_"
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64
"""How long a secret is, in bytes before base64, as Standard Webhooks has it."""

_MASK = "…"
_THRESHOLD_DECIMALS = 6
_is_email = re.compile(r"[^@\s,;<>]{1,64}@[^@\s,;<>.]+(\.[^@\s,;<>.]+)*").fullmatch


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which crossings of a budget are told, to whom, and how often.

    Read from a topic it may have fields that a newer version knows, and they are passed over:
    to go on with the configuration before it would tell those who are not to be told any more.
    Where one is asked for, by `requested_alerts`, such a field is refused.

    Attributes:
        webhook_url: where alerts are sent to, http or https. It may be a secret itself.
        webhook_format: `slack` is the shape of Slack's incoming webhooks, `standard` ours; `auto`
            chooses by the URL's host.
        webhook_secrets: what signs, each `whsec_` and base64; all sign, for rotation.
        email_recipients: addresses that alerts are sent to.
        thresholds: the shares of a limit whose crossing is told, ascending, in (0, 10].
        alert_once_per_threshold: whether each is told once a window; otherwise again once per
            cooldown while the usage stays above.
        include_forecast: whether it is told when the projected usage exceeds a limit.
        cooldown_minutes: how long after an alert of a budget the next waits, and is merged with
            others that do. What is exceeded or recovered never waits.

    Raises:
        ValueError: a value that cannot be; secrets are never in the text.
    """

    webhook_url: str | None = None
    webhook_format: WebhookFormat = "auto"
    webhook_secrets: tuple[str, ...] = ()
    email_recipients: tuple[str, ...] = ()
    thresholds: tuple[Decimal, ...] = ALERT_THRESHOLDS
    alert_once_per_threshold: bool = True
    include_forecast: bool = True
    cooldown_minutes: int = 15

    def __post_init__(self) -> None:
        if self.webhook_url is not None:
            check_webhook_url(self.webhook_url)
        if self.webhook_format not in get_args(WebhookFormat):
            raise ValueError(f"webhook_format must be one of {', '.join(get_args(WebhookFormat))}")
        _check_secrets(self.webhook_secrets)
        check_recipients(self.email_recipients)
        _set(self, "thresholds", alert_thresholds(self.thresholds))
        for name in ("alert_once_per_threshold", "include_forecast"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false")
        minutes = self.cooldown_minutes
        if type(minutes) is not int or not 0 <= minutes <= COOLDOWN_MINUTES_MAX:
            raise ValueError(
                f"cooldown_minutes must be a whole number, from 0 to {COOLDOWN_MINUTES_MAX}"
            )

    def __repr__(self) -> str:
        """Without what must not be seen in a log."""
        return f"AlertConfig({msgspec.to_builtins(self.masked)})"

    @property
    def masked(self) -> AlertConfig:
        """The same, as it may be shown: without secrets, and of the URL only the host."""
        url = self.webhook_url
        changes: dict[str, Any] = {"webhook_secrets": ()}
        if url is not None:
            parts = urlsplit(url)
            changes["webhook_url"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{_MASK}"
        return msgspec.structs.replace(self, **changes)


def requested_alerts(fields: Mapping[str, Any]) -> AlertConfig:
    """The configuration that a request asks for.

    Raises:
        ValueError: an unknown field, or a value that cannot be; secrets are never in the text.
    """
    unknown = fields.keys() - set(AlertConfig.__struct_fields__)
    if unknown:
        raise ValueError(f"Object contains unknown field `{min(unknown)}`")
    return msgspec.convert(fields, AlertConfig)


def is_masked(url: str) -> bool:
    """Whether a URL is one as `AlertConfig.masked` shows it, which must not be taken for a whole.

    >>> is_masked("https://hooks.example.com/…")
    True
    """
    return url.endswith(_MASK)


_set = msgspec.structs.force_setattr  # the struct is frozen, and made canonical before that


def alert_thresholds(values: object) -> tuple[Decimal, ...]:
    """Shares of a limit in (0, 10], ascending; a float counts as its shortest text.

    Raises:
        ValueError: what is none, too many, out of order, or of more than six decimals.
    """
    if not isinstance(values, list | tuple) or len(values) > THRESHOLDS_MAX:
        raise ValueError(f"thresholds must be a list of at most {THRESHOLDS_MAX}")
    shares = tuple(_share(value) for value in values)
    if any(a >= b for a, b in pairwise(shares)):
        raise ValueError("thresholds must be ascending")
    return shares


def _share(value: object) -> Decimal:
    try:
        share = to_number(value)  # type: ignore[arg-type] # it looks at the type itself
    except (TypeError, ValueError):
        raise ValueError(f"thresholds must be numbers, not {value!r}") from None
    if not 0 < share <= THRESHOLD_MAX:
        raise ValueError(f"thresholds must be above 0 and at most {THRESHOLD_MAX}")
    exponent = share.as_tuple().exponent
    assert isinstance(exponent, int)  # it is finite
    if exponent < -_THRESHOLD_DECIMALS:
        raise ValueError(f"thresholds must have at most {_THRESHOLD_DECIMALS} decimals")
    return Decimal(f"{share.normalize():f}")  # ids are made of its text: 0.50 is 0.5


def check_webhook_url(url: object) -> None:
    """Raise ValueError for what is no http or https URL; the URL, maybe a secret, is not told."""
    problem = f"webhook_url must be an http or https URL of at most {URL_LENGTH_MAX} characters"
    if not isinstance(url, str) or len(url) > URL_LENGTH_MAX:
        raise ValueError(problem)
    try:
        parts = urlsplit(url)
        port = parts.port  # it is looked at when asked for
    except ValueError:
        raise ValueError(problem) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(problem)
    if not url.isprintable() or " " in url:
        raise ValueError(problem)


def check_recipients(recipients: object) -> None:
    """Raise ValueError for what is no list of e-mail addresses."""
    if not isinstance(recipients, list | tuple) or len(recipients) > EMAIL_RECIPIENTS_MAX:
        raise ValueError(f"email_recipients must be a list of at most {EMAIL_RECIPIENTS_MAX}")
    for address in recipients:
        if not isinstance(address, str) or not _is_email(address):
            raise ValueError(f"email_recipients holds what is no e-mail address: {address!r}")
        if len(address) > EMAIL_LENGTH_MAX:
            raise ValueError(f"an e-mail address has at most {EMAIL_LENGTH_MAX} characters")


def _check_secrets(secrets: object) -> None:
    problem = (
        f"webhook_secrets must be at most {WEBHOOK_SECRETS_MAX}, each {SECRET_PREFIX} and the"
        f" base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"
    )
    if not isinstance(secrets, list | tuple) or len(secrets) > WEBHOOK_SECRETS_MAX:
        raise ValueError(problem)
    for secret in secrets:
        if not isinstance(secret, str) or not secret.startswith(SECRET_PREFIX):
            raise ValueError(problem)
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(problem) from None
        if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
            raise ValueError(problem)


class AlertConfigRecord(msgspec.Struct, frozen=True):
    """A scope's own configuration on the alert configurations topic, keyed by the scope.

    `version` is that of the budget's change that led to it. A tombstone takes it away.
    """

    scope: str
    version: int
    config: AlertConfig


encode_config_record = msgspec.json.Encoder().encode
decode_config_record = msgspec.json.Decoder(AlertConfigRecord).decode

DEFAULT_ALERTS = AlertConfig()
"""What holds where neither a budget nor its organization's says anything."""
