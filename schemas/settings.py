"""Settings of the service, read from the environment: `OUTLAY_` and the name in capitals.

The table in the README is rendered from here (`python -m schemas.settings`).
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from outlay.topics import TopicNames

ENV_PREFIX = "OUTLAY_"

PARTITIONS_MAX = 1_024
"""The most partitions that a topic of ours is made with."""

_Partitions = Annotated[int, Field(ge=1, le=PARTITIONS_MAX)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_Port = Annotated[int, Field(ge=0, le=65_535)]


_is_origin = re.compile(
    r"https?://[A-Za-z0-9._-]+(:\d{1,5})?|https?://\[[0-9A-Fa-f:]+\](:\d{1,5})?"
).fullmatch


_is_host = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?").fullmatch


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _field(default: Any, description: str) -> Any:
    """A setting; what it means and its unit are part of it (a test fails without)."""
    return Field(default=default, description=description)


class Settings(BaseSettings):
    """Everything that an installation may choose; the defaults run on one machine.

    Raises:
        pydantic.ValidationError: a value that cannot be; a `ValueError`.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore")

    kafka_bootstrap_servers: str = _field(
        "127.0.0.1:9092", "Kafka brokers to ask first, `host:port`, separated by commas."
    )
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = _field(
        "outlay", "What the names of all topics start with."
    )
    app_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = _field(
        "outlay", "What the names of consumer groups and transactions start with."
    )
    usage_partitions: _Partitions = _field(4, "Partitions of the usage topic when it is made.")
    totals_partitions: _Partitions = _field(
        4, "Partitions of the partials, budgets and decisions topics when they are made."
    )
    replication_factor: Annotated[int, Field(ge=1, le=32)] = _field(
        1, "Copies of each topic's data when it is made; 3 on a cluster."
    )
    transactions: Literal["auto", "on", "off"] = _field(
        "auto",
        "Whether decisions, tables and offsets are written in Kafka transactions: `auto` asks the"
        " broker, `on` insists, `off` goes without fencing.",
    )
    flush_interval_s: _Seconds = _field(
        0.25,
        "How often a worker publishes what changed, in seconds; how far it has read it commits once"
        " a second.",
    )
    decision_refresh_s: _Seconds = _field(
        1.0,
        "How long a decision whose numbers moved may wait to be published, in seconds, where over"
        " 1,000 of a partition do; fewer are published with each flush.",
    )
    stale_after_s: _Seconds = _field(
        10.0, "How long the decisions feed may be silent before it counts as stale, in seconds."
    )
    session_timeout_s: _Seconds = _field(
        10.0, "After how long a silent consumer loses its partitions, in seconds."
    )
    write_timeout_s: _Seconds = _field(
        30.0,
        "How long one write to the broker may take before the worker gives up and ends, in"
        " seconds: longer than a broker takes to restart.",
    )
    data_dir: Path = _field(
        Path("./.outlay"), "Where the embedded broker and chDB keep their files."
    )
    clickhouse_dsn: str = _field(
        "",
        "ClickHouse server, `clickhouse://user:password@host:8123`, or `chdb:///dir` for the"
        " embedded engine; empty is chDB in `clickhouse` under the data directory.",
    )
    clickhouse_database: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")] = _field(
        "outlay", "The ClickHouse database; made when absent. One named in the DSN goes before."
    )
    history_flush_interval_s: _Seconds = _field(
        1.0, "How often records are inserted into ClickHouse, in seconds."
    )
    history_batch_rows_max: Annotated[int, Field(ge=1, le=1_000_000)] = _field(
        100_000, "From how many rows on an insert does not wait for its interval, in rows."
    )
    api_host: str = _field("127.0.0.1", "Address that the API listens on.")
    api_port: _Port = _field(8000, "TCP port that the API listens on; 0 takes a free one.")
    api_keys_file: str = _field(
        "",
        "File of the API's keys, which `outlay keys` makes and changes; the API refuses everybody"
        " while it holds none. Empty is no keys: the API then starts with `--no-auth` only, and"
        " only on loopback.",
    )
    api_cors_origins: str = _field(
        "",
        "Origins whose pages a browser lets ask the API, `https://host:port`, separated by commas,"
        " or `*`; empty is none.",
    )
    api_budget_timeout_s: _Seconds = _field(
        10.0, "How long a change of a budget may take until it is answered with 503, in seconds."
    )
    api_requests_per_second_max: Annotated[float, Field(ge=0, le=1_000_000)] = _field(
        0.0,
        "How many requests a second one key may make of one API process, beyond which it is"
        " answered with 429; 0 is any number.",
    )
    api_connections_max: Annotated[int, Field(ge=1, le=1_000_000)] = _field(
        900,
        "How many connections one API process answers, and others with 503; each takes a file, of"
        " which many systems give a process 1,024.",
    )
    alert_smtp_host: str = _field(
        "", "SMTP server that alerts are mailed through; empty: none, and such alerts fail."
    )
    alert_smtp_port: Annotated[int, Field(ge=1, le=65_535)] = _field(
        587, "TCP port of the SMTP server."
    )
    alert_smtp_user: str = _field("", "User name at the SMTP server; empty is no login.")
    alert_smtp_password: SecretStr = _field(SecretStr(""), "Password at the SMTP server.")
    alert_smtp_from: Annotated[str, Field(pattern=r"^[!-;=?-~]+@[!-;=?-~]+$")] = _field(
        "outlay@localhost", "The address that alerts are mailed from."
    )
    alert_smtp_tls: Literal["starttls", "implicit", "off"] = _field(
        "starttls",
        "How the SMTP server is talked to: `starttls` and `implicit` insist on TLS with a"
        " certificate that is valid, `off` is for a server on this machine.",
    )
    alert_private_targets: str = _field(
        "",
        "Networks (`10.0.0.0/8`) and host names, separated by commas, that webhooks may go to"
        " although they are private, local or reserved; empty is none.",
    )
    alert_attempts_max: Annotated[int, Field(ge=1, le=100)] = _field(
        12, "How often the delivery of an alert is tried before it becomes a dead letter."
    )
    alert_retry_pause_max_s: Annotated[float, Field(ge=1, le=86_400)] = _field(
        900.0, "The longest pause between two attempts, in seconds; a `Retry-After` may be longer."
    )
    alert_retry_age_max_s: Annotated[float, Field(ge=1, le=604_800)] = _field(
        21_600.0, "The age beyond which a delivery is not tried again, in seconds."
    )
    alert_attempt_timeout_s: Annotated[float, Field(gt=0, le=60)] = _field(
        10.0, "How long one attempt may take, redirects and answer included, in seconds."
    )
    alert_endpoint_concurrency: Annotated[int, Field(ge=1, le=64)] = _field(
        8, "How many attempts at one receiver are under way at a time."
    )
    metrics_port: _Port = _field(
        0, "TCP port for Prometheus in processes that serve no HTTP themselves; 0 is off."
    )
    metrics_host: str = _field("127.0.0.1", "Address that the metrics port listens on.")
    log_level: Literal["debug", "info", "warning", "error"] = _field(
        "info", "The least severe log lines that are written."
    )

    @field_validator("alert_private_targets")
    @classmethod
    def _targets(cls, value: str) -> str:
        for name in _listed(value):
            if not _is_host(name):
                try:
                    ip_network(name)
                except ValueError:
                    raise ValueError(f"neither a network nor a host: {name!r}") from None
        return value

    @field_validator("api_cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for origin in _listed(value):
            if origin != "*" and not _is_origin(origin):
                raise ValueError(
                    f"not an origin: {origin!r}, write https://host or https://host:port"
                )
        return value

    @property
    def keys_path(self) -> Path | None:
        """The file of the API's keys; None: there are no keys."""
        return Path(self.api_keys_file) if self.api_keys_file else None

    @property
    def private_targets(self) -> list[str]:
        """The networks and host names of `alert_private_targets`."""
        return _listed(self.alert_private_targets)

    @property
    def cors_origins(self) -> list[str]:
        """The origins of `api_cors_origins`."""
        return _listed(self.api_cors_origins)

    @property
    def topics(self) -> TopicNames:
        """The names of all topics."""
        return TopicNames(self.topic_prefix)

    @property
    def history_dsn(self) -> str:
        """The DSN of ClickHouse, with the default filled in: chDB under the data directory."""
        return self.clickhouse_dsn or f"chdb://{(self.data_dir / 'clickhouse').resolve()}"

    @property
    def history_is_embedded(self) -> bool:
        """Whether the history is chDB, which only one process at a time can open."""
        return self.history_dsn.startswith("chdb:")


def settings_table() -> str:
    """The configuration as a Markdown table, one row a setting, for the README."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        shown = _shown(field.default)
        default = f"`{shown}`" if shown else "(empty)"
        description = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{ENV_PREFIX}{name.upper()}` | {default} | {description} |")
    return "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, Path):
        return f"./{value.as_posix()}"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(settings_table(), end="")
