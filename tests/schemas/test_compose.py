"""`docker-compose.yml` and `Dockerfile`, without an engine.

`compose-spec.json` beside this file is the Compose specification's JSON Schema as
github.com/compose-spec/compose-go/v2 v2.16.2 carries it (Apache License 2.0): the library that
`docker compose` reads its files with.
"""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from schemas.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
SPECIFICATION = json.loads((Path(__file__).parent / "compose-spec.json").read_text("utf-8"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OURS = ("worker", "history", "alerts", "api")


def test_it_is_a_compose_file():
    """By the specification's own schema, which also catches misspelt keys."""
    Draft202012Validator.check_schema(SPECIFICATION)
    assert [
        error.message for error in Draft202012Validator(SPECIFICATION).iter_errors(COMPOSE)
    ] == []
    misspelt = COMPOSE | {"services": {"api": SERVICES["api"] | {"healthchek": {}}}}
    assert not Draft202012Validator(SPECIFICATION).is_valid(misspelt)


def test_it_has_the_parts():
    """Kafka, ClickHouse, two workers, history, alerts and api."""
    assert set(SERVICES) == {"kafka", "clickhouse", *OURS}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert [SERVICES[name]["command"] for name in OURS] == [[name] for name in OURS]


def test_each_service_has_a_health_check_and_restarts():
    """`docker compose up --wait` waits for all, and a crash is made good."""
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name


def test_what_is_published_is_published_on_loopback():
    """There are no keys yet."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports


def test_data_is_in_named_volumes():
    """So that it outlives the containers."""
    mounts = {name: service.get("volumes", []) for name, service in SERVICES.items()}
    assert mounts["kafka"] == ["kafka-data:/var/lib/kafka/data"]
    assert mounts["clickhouse"] == ["clickhouse-data:/var/lib/clickhouse"]
    assert set(COMPOSE["volumes"]) == {"kafka-data", "clickhouse-data", "api-keys"}
    assert any(each.startswith("api-keys:") for each in mounts["api"])
    assert SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name):
    """A misspelt one would be passed over in silence."""
    given = {}
    for variable, value in SERVICES[name]["environment"].items():
        assert variable.startswith(ENV_PREFIX), variable
        setting = variable.removeprefix(ENV_PREFIX).lower()
        assert setting in Settings.model_fields, variable
        given[setting] = re.sub(r"\$\{\w+:-(\w*)\}", r"\1", value)
    settings = Settings(**given)
    assert settings.kafka_bootstrap_servers == "kafka:19092"
    if name in ("history", "api"):
        assert settings.clickhouse_dsn == "clickhouse://outlay:outlay@clickhouse:8123"


def test_the_image_has_what_the_service_needs():
    """Each folder that a process imports, and no root at run time."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    final = text.rpartition("\nFROM ")[2]
    for folder in ("schemas", "streams", "api"):
        assert f"COPY {folder} ./{folder}" in final
    assert re.search(r"^USER outlay$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["outlay"]' in final
    variables = set(re.findall(rf"{ENV_PREFIX}(\w+)=", text))
    assert {variable.lower() for variable in variables} <= set(Settings.model_fields)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    sources = {"pyproject.toml", "README.md", "outlay", "schemas", "streams", "api"}
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
