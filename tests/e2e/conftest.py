"""One whole stack for all end-to-end tests, each with an organization of its own."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outlay.embedded import Broker
from outlay.embedded.ports import free_port
from outlay.stack import Stack, Worker
from tests.kafka_log import KafkaLog, Sums

HTTP_TIMEOUT_S = 30.0


@dataclass
class Running:
    """A stack that runs, and what its parts say."""

    stack: Stack
    app_id: str
    metrics_port: int

    @property
    def kafka(self) -> KafkaLog:
        return KafkaLog(self.stack.bootstrap_servers)

    def totals(self, organization: str) -> Sums:
        scope = f"organization:{organization}"
        return {
            key: sums
            for key, sums in self.kafka.totals(self.app_id).items()
            if key[0] == scope or key[0].startswith(f"{scope}/")
        }

    def metric(self, name: str, stage: str) -> float:
        """A counter of the worker."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(f'{name}{{stage="{stage}"}}'):
                    return float(line.split()[-1])
        return 0.0

    def spend(self, organization: str, group_by: str, *, days: int = 2) -> list[dict[str, Any]]:
        """Rows of the spend report by month, from some days ago to some days ahead."""
        now = datetime.now(UTC)
        first, last = ((now + timedelta(days=d)).date() for d in (-days, 2))
        url = (
            f"{self.stack.api_url}/api/v1/reports/spend?from={first}T00:00:00Z"
            f"&to={last}T00:00:00Z&interval=month&group_by={group_by}"
            f"&organization_id={organization}"
        )
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as response:
            rows: list[dict[str, Any]] = json.load(response)["rows"]
            return rows


@pytest.fixture(scope="session")
def running(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The stack, started once: a worker, and the API with its history, on the session's broker."""
    app_id, metrics_port = f"e2e-{uuid.uuid4().hex[:8]}", free_port()
    settings = {
        "OUTLAY_TOPIC_PREFIX": app_id,
        "OUTLAY_APP_ID": app_id,
        "OUTLAY_METRICS_PORT": str(metrics_port),
        "OUTLAY_HISTORY_FLUSH_INTERVAL_S": "0.3",
    }
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        broker=kafka,
        owns_broker=False,
        workers=0,
        settings=settings | {"OUTLAY_METRICS_PORT": "0"},
    )
    stack.workers = [Worker(0, env=stack.settings | settings, log_dir=stack.log_dir)]
    with stack:
        stack.wait_ready()
        yield Running(stack, app_id, metrics_port)
