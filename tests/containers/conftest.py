"""Containers, where a Docker engine runs; elsewhere these tests skip and say so.

The images are those of `docker-compose.yml`, except for Kafka: testcontainers knows how to start
Confluent's build of it.
"""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from schemas.settings import Settings

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """A Docker engine that answers."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if host.startswith("unix://"):
        # Asked by hand: the client of docker leaves a socket open where nobody answers.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(host.removeprefix("unix://"))
            except OSError as error:
                pytest.skip(f"no Docker engine at {host}: {error.strerror}")


@pytest.fixture(scope="session")
def clickhouse_url(docker_engine: None) -> Iterator[str]:
    """The DSN of a ClickHouse server of the image that production runs."""
    from testcontainers.community.clickhouse import ClickHouseContainer

    image = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["clickhouse"]["image"]
    with ClickHouseContainer(image, username="outlay", password="p@ss/word") as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(8123)
        yield f"clickhouse://outlay:p%40ss%2Fword@{host}:{port}"


@pytest.fixture
def server_settings(clickhouse_url: str) -> Settings:
    """Settings with a database of their own on the server."""
    return Settings(
        clickhouse_dsn=clickhouse_url, clickhouse_database=f"test_{uuid.uuid4().hex[:12]}"
    )


@pytest.fixture(scope="session")
def kafka_container(docker_engine: None) -> Iterator[str]:
    """The address of a Kafka broker in KRaft mode."""
    from testcontainers.community.kafka import KafkaContainer

    with KafkaContainer().with_kraft() as container:
        yield container.get_bootstrap_server()
