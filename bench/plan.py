"""Plan: how much a benchmark does, and what it does it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from outlay.embedded import Broker, find_broker


@dataclass
class Plan:
    """One run of benchmarks; the broker is started by the first that asks for it.

    `smoke` asks for the smallest run that still checks everything: our own side only, no peers.
    `directory` is for files, and is removed afterwards. `trace` is a trace file (`outlay.trace`).
    """

    directory: Path
    rounds: int = 3
    smoke: bool = False
    trace: Path | None = None
    say: Callable[[str], None] = print

    def size(self, full: int, smoke: int) -> int:
        """How many of something."""
        return smoke if self.smoke else full

    @cached_property
    def broker(self) -> Broker:
        """The best broker to be had here, started once."""
        broker = find_broker(self.directory / "broker")
        self.say(f"broker: {broker.name}")
        broker.start()
        return broker

    def close(self) -> None:
        """Stop what was started."""
        if "broker" in self.__dict__:
            self.broker.stop()
