"""What is said of keys to nobody, and what the description says of them."""

import json
import logging

import structlog

from outlay.apikey import new_key
from streams.logs import configure_logging

A1 = "/api/v1/external-agents/a1"
SPEND = "/api/v1/reports/spend"
RANGE = {"from": "2026-11-01", "to": "2026-12-01"}


def test_no_key_is_in_logs_errors_metrics_or_the_description(keyed, caplog, capfd):
    """Right, wrong or revoked; wherever in the request it stands."""
    caplog.set_level(logging.DEBUG)
    right, wrong = keyed.key["acme", "operator"], new_key()
    revoked = keyed.key["acme", "admin"]
    keyed.file.revoke("acme-admin")
    keyed.app.state.authenticate._keys.check()
    said = []
    with structlog.testing.capture_logs() as lines:
        for key in (right, wrong, revoked):
            said += [
                keyed.ask(key, f"{A1}/budget"),
                keyed.ask(key, SPEND, params={"from": key, "to": key}),
                keyed.ask(key, SPEND, params=RANGE | {"group_by": key, "key": key}),
                keyed.ask(key, f"{A1}/budget/config", "PATCH", json={key: key}),
                keyed.ask(None, f"{A1}/budget", headers={"Authorization": f"Basic {key}"}),
                keyed.ask(None, f"{A1}/budget", headers={"X-Api-Key": key}),
                keyed.ask(None, f"/nowhere/{key}"),
            ]
        keyed.feed.decisions = None  # a bug
        said.append(keyed.ask(right, f"{A1}/budget"))
        assert said[-1].status_code == 500
    said += [keyed.ask(None, path) for path in ("/metrics", "/openapi.json", "/docs")]
    out, err = capfd.readouterr()
    logged = [each.getMessage() for each in caplog.records if not each.name.startswith("httpx")]
    texts = {
        "answers": "".join(f"{answer.headers}{answer.text}" for answer in said),
        "log": json.dumps([lines, logged], default=str) + out + err,
    }
    assert "a key was refused" in texts["log"]
    for where, text in texts.items():
        for key in (right, revoked):
            assert key.removeprefix("outlay_sk_") not in text, where
        assert wrong not in text, where
    assert "acme" not in said[-3].text  # nor the names of keys, in the metrics


def test_log_lines_of_a_process_hold_no_keys(capsys):
    """Not even where a path or an id is one."""
    before, key = structlog.get_config(), new_key()
    try:
        configure_logging("info")
        structlog.get_logger().error(f"x {key}", path=f"/a/{key}/b", count=3)
    finally:
        structlog.configure(**before)
    said = capsys.readouterr().err
    assert key.removeprefix("outlay_sk_") not in said
    assert "path=/a/outlay_sk_…/b" in said
    assert "count=3" in said


def test_the_description_declares_the_keys(keyed):
    """An HTTP bearer scheme, at what needs a key and nowhere else."""
    described = keyed.ask(None, "/openapi.json").json()
    (scheme,) = described["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in described["paths"].items():
        for operation in operations.values():
            keyed_path = path.startswith("/api/v1/")
            assert operation.get("security", []) == ([{"key": []}] if keyed_path else []), path
            assert {"401", "403", "404", "429"} <= set(operation["responses"]) or not keyed_path
