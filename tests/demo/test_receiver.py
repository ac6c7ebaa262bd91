"""The demo's webhook: what it takes, and whose signature it believes."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from standardwebhooks import Webhook

from outlay.demo.receiver import BODY_BYTES_MAX, Receiver, is_signed, new_secret
from streams.alerting.webhook_body import webhook_body
from tests.history.records import alert

BODY = webhook_body("msg_1", (alert(), alert(threshold=Decimal("0.25"), used_share=None)))


def _headers(secret, body=BODY, delivery_id="msg_1"):
    at = datetime.now(UTC)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(delivery_id, at, body.decode()),
    }


def _post(receiver, body=BODY, **headers):
    request = urllib.request.Request(receiver.url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_what_is_signed_is_believed():
    """By the package that others verify with; several signatures are those of a rotation."""
    secret, other = new_secret(), new_secret()
    headers = _headers(secret)
    assert is_signed(secret, headers, BODY)
    both = {**headers, "webhook-signature": _headers(other)["webhook-signature"]}
    assert not is_signed(secret, both, BODY)
    both["webhook-signature"] += f" {headers['webhook-signature']}"
    assert is_signed(secret, both | {"webhook-timestamp": headers["webhook-timestamp"]}, BODY)
    assert not is_signed(secret, headers, BODY + b" ")
    assert not is_signed(secret, headers | {"webhook-id": "msg_2"}, BODY)
    assert not is_signed(secret, {}, BODY)


def test_what_arrives_is_kept_and_told():
    """The alert, and those that were merged with it; whoever signed it wrongly is told."""
    with Receiver() as receiver:
        assert _post(receiver, **_headers(receiver.secret)) == 204
        first, merged = receiver.take_new()
        assert (first.threshold, merged.threshold) == (Decimal("0.5"), Decimal("0.25"))
        assert first.verified
        assert first.line == (
            "webhook: budget.threshold of organization:acme, 50 % of 2026-11, 50.0 % used;"
            " signature ok"
        )
        assert receiver.take_new() == []
        assert _post(receiver, **_headers(new_secret())) == 204
        assert "WRONG SIGNATURE" in receiver.take_new()[0].line
        assert len(receiver.arrivals) == 4


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"no", json.dumps({"event": 1}).encode()])
def test_what_is_no_alert_is_refused(body):
    """And kept nowhere."""
    with Receiver() as receiver:
        assert _post(receiver, body, **_headers(receiver.secret, body)) == 400
        assert receiver.arrivals == []


def test_a_body_that_is_too_large_is_refused():
    """Before it is read."""
    with Receiver() as receiver:
        assert receiver.receive({}, b"") == 400
        request = urllib.request.Request(receiver.url, b"", method="POST")
        request.add_header("Content-Length", str(BODY_BYTES_MAX + 1))
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(request, timeout=10)
