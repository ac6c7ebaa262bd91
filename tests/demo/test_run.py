"""The demo's end: what it says, what it writes, and its exit code."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from outlay.demo import DemoOptions, run, run_demo
from outlay.demo.ledger import Sum
from tests.demo.test_evidence import GOOD, ORGANIZATION

BROKEN = replace(GOOD, counted=GOOD.counted | {ORGANIZATION: Sum(3, 1_230_000_000)})


@pytest.fixture
def stage(monkeypatch):
    """Runs the demo with everything but its end taken away."""

    def play(evidence, options):
        scene = SimpleNamespace(
            scopes=[1],
            plan=SimpleNamespace(patches=[]),
            watched=[],
            set_budgets=lambda: None,
            drive=lambda display: None,
            settle=lambda: evidence,
            take_arrivals=list,
        )
        monkeypatch.setattr(run, "_start_stack", lambda *_: (None, None))
        monkeypatch.setattr(run, "Scene", lambda *_: scene)
        console = Console(file=io.StringIO(), width=200)
        return run_demo(options, console), console.file.getvalue()

    return play


def test_exit_code_zero_when_all_checks_hold(stage, tmp_path):
    """And the report says so."""
    code, said = stage(GOOD, DemoOptions(report=tmp_path / "report.json"))
    assert code == 0
    assert json.loads((tmp_path / "report.json").read_text()) == GOOD.report()
    assert "FAILED" not in said
    assert "3 records for 1.230000001 USD; of 5 calls 2 were blocked" in said


def test_exit_code_one_when_a_number_is_off(stage, tmp_path):
    """By one nano-dollar; the report has both numbers."""
    code, said = stage(BROKEN, DemoOptions(report=tmp_path / "report.json"))
    assert code == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] is False
    assert (report["cost_usd_sent"], report["cost_usd_counted"]) == ("1.230000001", "1.23")
    assert "FAILED sent = counted by the stream" in said
