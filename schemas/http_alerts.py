"""HTTP bodies of alert configurations, and of tests of them.

Secrets go in and never come out: an answer says how many there are, and of a URL its host.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, WithJsonSchema

from outlay.alert_config import (
    ALERT_THRESHOLDS,
    COOLDOWN_MINUTES_MAX,
    EMAIL_RECIPIENTS_MAX,
    THRESHOLD_MAX,
    THRESHOLDS_MAX,
    URL_LENGTH_MAX,
    WEBHOOK_SECRETS_MAX,
    AlertConfig,
    WebhookFormat,
    is_masked,
)

AlertSource = Literal["budget", "organization", "default"]
"""Whose configuration holds for a budget: its own, its organization's, or that of nobody."""

_PUT_EXAMPLE: dict[str, Any] = {
    "webhook_url": "https://hooks.example.com/budgets",
    "email_recipients": ["finops@example.com"],
    "thresholds": ["0.5", "0.75", "0.9", "1"],
    "cooldown_minutes": 15,
}

_SHOWN_EXAMPLE: dict[str, Any] = {
    "webhook_url": "https://hooks.example.com/…",
    "webhook_format": "auto",
    "email_recipients": ["finops@example.com"],
    "thresholds": ["0.5", "0.75", "0.9", "1"],
    "alert_once_per_threshold": True,
    "include_forecast": True,
    "cooldown_minutes": 15,
}

_Share = Annotated[
    Decimal | str,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": THRESHOLD_MAX},
                {"type": "string"},
            ]
        }
    ),
]


class AlertsPut(BaseModel):
    """A whole alert configuration: what is absent is what it is by default.

    The secrets alone stay as they are where `webhook_secrets` is absent; an empty list takes them
    away. Thresholds are shares of a limit, above 0 and up to 10, ascending.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [_PUT_EXAMPLE]}
    )

    webhook_url: Annotated[str, Field(max_length=URL_LENGTH_MAX)] | None = Field(
        None, description="http or https. A masked one, as answers have it, is refused."
    )
    webhook_format: WebhookFormat = Field(
        "auto", description="`auto` chooses Slack's shape by the URL's host."
    )
    webhook_secrets: Annotated[list[SecretStr], Field(max_length=WEBHOOK_SECRETS_MAX)] = Field(
        [],
        description="Standard Webhooks secrets, `whsec_` and base64; all of them sign. They are"
        " never answered. Absent: those that there are stay.",
    )
    email_recipients: Annotated[list[str], Field(max_length=EMAIL_RECIPIENTS_MAX)] = []
    thresholds: Annotated[list[_Share], Field(max_length=THRESHOLDS_MAX)] = list(ALERT_THRESHOLDS)
    alert_once_per_threshold: bool = True
    include_forecast: bool = True
    cooldown_minutes: Annotated[int, Field(ge=0, le=COOLDOWN_MINUTES_MAX)] = 15

    @property
    def keeps_secrets(self) -> bool:
        """Whether the secrets are to stay as they are."""
        return "webhook_secrets" not in self.model_fields_set

    def config(self, kept_secrets: tuple[str, ...] = ()) -> AlertConfig:
        """The configuration; where the body keeps the secrets, with these.

        Raises:
            ValueError: a value that cannot be, among them a URL that is masked; no secret is in
                the text.
        """
        if self.webhook_url is not None and is_masked(self.webhook_url):
            raise ValueError(
                "webhook_url is masked, as answers have it: send the whole URL, or leave the field"
                " out to send to none"
            )
        given = {name: getattr(self, name) for name in type(self).model_fields}
        secrets = tuple(secret.get_secret_value() for secret in self.webhook_secrets)
        return AlertConfig(
            **given
            | {
                "webhook_secrets": kept_secrets if self.keeps_secrets else secrets,
                "email_recipients": tuple(self.email_recipients),
            }
        )

    def asked(self) -> dict[str, Any]:
        """What was given, plainly, to tell one request from another."""
        given = self.model_dump(exclude_unset=True, mode="json")
        if not self.keeps_secrets:
            given["webhook_secrets"] = [each.get_secret_value() for each in self.webhook_secrets]
        return given


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class AlertsShown(_Body):
    """A configuration as it may be shown: without secrets, and of the URL only the host."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_SHOWN_EXAMPLE]})

    webhook_url: str | None
    webhook_format: WebhookFormat
    email_recipients: list[str]
    thresholds: list[str]
    alert_once_per_threshold: bool
    include_forecast: bool
    cooldown_minutes: int

    @classmethod
    def of(cls, config: AlertConfig) -> AlertsShown:
        """What may be shown of a configuration."""
        shown = config.masked
        known = {name: getattr(shown, name) for name in cls.model_fields}
        texts = [format(share, "f") for share in shown.thresholds]
        return cls(**known | {"thresholds": texts, "email_recipients": [*shown.email_recipients]})


class AlertsBody(_Body):
    """The alert configuration that holds for a budget, and whose it is.

    `version` is the budget's, which its own configuration shares: a change of either raises it.
    """

    scope: str
    source: AlertSource
    version: int
    alerts: AlertsShown
    webhook_secret_count: int = Field(description="How many secrets sign; they are never told.")


class AlertTested(_Body):
    """A test alert that is on its way: `GET /api/v1/alerts/deliveries` tells what becomes of it."""

    alert_id: str
    scope: str
    source: AlertSource
    channels: list[Literal["webhook", "email"]] = Field(
        description="Where it goes; empty: the configuration that holds sends to nobody."
    )
