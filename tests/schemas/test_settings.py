"""Settings: each documented, read from the environment, and refused when they cannot be."""

import re
from pathlib import Path

import pytest

from schemas.settings import ENV_PREFIX, Settings, settings_table

_UNITS = ("_s", "_ms", "_bytes", "_rows_max", "_max")


def test_every_setting_is_described():
    """The description is what the configuration table says."""
    for name, field in Settings.model_fields.items():
        text = field.description or ""
        assert len(text) > 15, name
        assert text.endswith("."), name


def test_times_carry_their_unit():
    """In the name, last; and in the description."""
    for name, field in Settings.model_fields.items():
        if field.annotation is float and "_per_second_" not in name:
            assert name.endswith("_s"), name
            assert "in seconds" in (field.description or ""), name
        if re.search(r"interval|timeout|refresh|_after", name):
            assert name.endswith(_UNITS), name


def test_the_table_has_a_row_for_each():
    """One Markdown row a setting, with its variable and its default."""
    lines = settings_table().splitlines()
    assert len(lines) == 2 + len(Settings.model_fields)
    assert all(line.count("|") == 4 for line in lines)
    assert "| `OUTLAY_USAGE_PARTITIONS` | `4` |" in settings_table()
    assert "| `OUTLAY_DATA_DIR` | `./.outlay` |" in settings_table()
    assert "| `OUTLAY_CLICKHOUSE_DSN` | (empty) |" in settings_table()
    assert "| `OUTLAY_API_KEYS_FILE` | (empty) |" in settings_table()


def test_they_are_read_from_the_environment(monkeypatch):
    """With the prefix; variables that it does not know are let be."""
    monkeypatch.setenv(f"{ENV_PREFIX}FLUSH_INTERVAL_S", "0.5")
    monkeypatch.setenv(f"{ENV_PREFIX}SOMETHING_ELSE", "x")
    assert Settings().flush_interval_s == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("usage_partitions", 0),
        ("flush_interval_s", 0),
        ("flush_interval_s", float("nan")),
        ("transactions", "maybe"),
        ("api_port", 65_536),
        ("topic_prefix", "no spaces"),
        ("clickhouse_database", "x; DROP"),
        ("log_level", "loud"),
        ("api_cors_origins", "example.org"),
        ("api_cors_origins", "https://example.org/path"),
        ("api_cors_origins", "https://example.org, null"),
    ],
)
def test_values_that_cannot_be_are_refused(name, value):
    """Naming the setting."""
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


def test_where_the_history_is():
    """chDB under the data directory, unless a DSN says otherwise."""
    default = Settings(data_dir=Path("/data/x"), clickhouse_dsn="")
    assert default.history_dsn == "chdb:///data/x/clickhouse"
    assert default.history_is_embedded
    server = Settings(clickhouse_dsn="clickhouse://u:p@host:8123/db")
    assert server.history_dsn == "clickhouse://u:p@host:8123/db"
    assert not server.history_is_embedded


def test_what_keys_and_origins_mean():
    """Empty is none; origins stand between commas."""
    assert (Settings(api_keys_file="").keys_path, Settings().cors_origins) == (None, [])
    given = Settings(api_keys_file="/k", api_cors_origins="https://a.example, http://[::1]:3000,")
    assert given.keys_path == Path("/k")
    assert given.cors_origins == ["https://a.example", "http://[::1]:3000"]
    assert Settings(api_cors_origins="*").cors_origins == ["*"]
