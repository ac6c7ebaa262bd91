"""Directory: which alert configuration holds for a scope. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from outlay.alert_config import DEFAULT_ALERTS, AlertConfig, AlertConfigRecord, decode_config_record
from outlay.scope import wide_scope_keys

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Effective:
    """The configuration that holds for a scope: its own, its organization's, or the default.

    `scope` is whose it is; empty and version 0 for the default.
    """

    scope: str
    version: int
    config: AlertConfig

    @property
    def cooldown_ms(self) -> int:
        """Its cooldown, in milliseconds."""
        return self.config.cooldown_minutes * _MINUTE_MS


DEFAULT = Effective("", 0, DEFAULT_ALERTS)


class Directory:
    """All configurations, as many as budgets have one of their own."""

    def __init__(self) -> None:
        self._records: dict[str, AlertConfigRecord] = {}

    def __len__(self) -> int:
        return len(self._records)

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take up a message of the topic.

        Raises:
            ValueError: it is no configuration; the text holds nothing of it.
        """
        try:
            scope = (key or b"").decode()
            if value is None:
                self._records.pop(scope, None)
                return
            record = decode_config_record(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"no alert configuration: {type(error).__name__}") from None
        if record.scope != scope:
            raise ValueError("no alert configuration: it is not that of its key")
        self._records[scope] = record

    def effective(self, scope: str, organization_id: str) -> Effective:
        """What holds for a scope."""
        record = self._records.get(scope) or self._records.get(
            wide_scope_keys(organization_id, None, None)[0]
        )
        return DEFAULT if record is None else Effective(record.scope, record.version, record.config)
