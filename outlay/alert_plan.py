"""Alert plan: alert configurations as a file of budgets has them, without what is secret. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from outlay.alert_config import ALERT_THRESHOLDS, AlertConfig, WebhookFormat, is_masked

_REFERENCE = r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"
_is_reference = re.compile(_REFERENCE).match

_Reference = Annotated[str, msgspec.Meta(pattern=_REFERENCE)]


class FileAlerts(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A budget's own alert configuration as a file has it; what is absent is what it is by default.

    Secrets are the names of environment variables, `${NAME}`; the URL may be one, too.
    """

    webhook_url: str | None = None
    webhook_format: WebhookFormat = "auto"
    webhook_secrets: tuple[_Reference, ...] = ()
    email_recipients: tuple[str, ...] = ()
    thresholds: tuple[Decimal, ...] = ALERT_THRESHOLDS
    alert_once_per_threshold: bool = True
    include_forecast: bool = True
    cooldown_minutes: int = 15

    def resolved(self, environment: Mapping[str, str]) -> AlertConfig:
        """The configuration, with what the environment has for the names.

        Raises:
            ValueError: a variable is not set, the URL is masked, or a value cannot be; no value
                of a variable is in the text.
        """
        url = self.webhook_url
        if url is not None and is_masked(url):
            raise ValueError("webhook_url is masked: write the whole URL, or ${NAME}")
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields["webhook_secrets"] = tuple(
            _value(each, environment) for each in self.webhook_secrets
        )
        if url is not None and _is_reference(url):
            fields["webhook_url"] = _value(url, environment)
        return AlertConfig(**fields)


def _value(reference: str, environment: Mapping[str, str]) -> str:
    name = reference[2:-1]
    if not environment.get(name):
        raise ValueError(f"the environment variable {name} is not set")
    return environment[name]


def file_alerts(fields: object) -> FileAlerts:
    """What a file says of alerts.

    Raises:
        ValueError: it cannot be; no value is in the text.
    """
    try:
        return msgspec.convert({} if fields is None else fields, FileAlerts)
    except msgspec.ValidationError as error:
        text = str(error)
        if "matching regex" in text:
            text = "secrets are written as names of environment variables, ${NAME}"
        raise ValueError(f"alerts: {text}") from None


def exported(configs: Mapping[str, AlertConfig]) -> dict[str, dict[str, Any]]:
    """What a file says of configurations, by the keys of their scopes.

    In the place of URLs and secrets are names of environment variables, which whoever applies the
    file sets: without them it cannot be applied, and nothing is lost.
    """
    names: set[str] = set()
    return {key: _exported(key, config, names) for key, config in sorted(configs.items())}


def _exported(key: str, config: AlertConfig, names: set[str]) -> dict[str, Any]:
    def reference(what: str) -> str:
        name = base = re.sub(r"[^A-Za-z0-9]+", "_", f"{key}_{what}").upper()
        number = 1
        while name in names:  # of scopes whose keys differ in signs only
            number += 1
            name = f"{base}_{number}"
        names.add(name)
        return f"${{{name}}}"

    fields: dict[str, Any] = msgspec.to_builtins(config)
    if config.webhook_url is not None:
        fields["webhook_url"] = reference("webhook_url")
    if config.webhook_secrets:
        fields["webhook_secrets"] = [
            reference(f"webhook_secret_{n}") for n, _ in enumerate(config.webhook_secrets, 1)
        ]
    if config.thresholds == ALERT_THRESHOLDS:
        del fields["thresholds"]
    return fields


def alert_lines(before: AlertConfig | None, after: AlertConfig | None) -> Iterator[str]:
    """What becomes of a configuration, as a diff has it; of secrets only that they are others."""
    if before is None or after is None:
        yield "  - alerts" if after is None else "  + alerts"
    old, new = _shown(before), _shown(after)
    for name in AlertConfig.__struct_fields__:
        if getattr(before, name, None) == getattr(after, name, None):
            continue
        others = " (another)" if name in old and old.get(name) == new.get(name) else ""
        if name in old:
            yield f"  - alerts.{name}: {old[name]}"
        if name in new:
            yield f"  + alerts.{name}: {new[name]}{others}"


def _shown(config: AlertConfig | None) -> dict[str, str]:
    """What may be shown of what a configuration says, its defaults included."""
    if config is None:
        return {}
    masked = config.masked
    shown = {name: getattr(masked, name) for name in AlertConfig.__struct_fields__}
    count = len(config.webhook_secrets)
    shown["webhook_secrets"] = f"{count} secret{'' if count == 1 else 's'}" if count else None
    return {name: _text(value) for name, value in shown.items() if value not in (None, ())}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
