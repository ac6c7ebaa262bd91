"""One attempt over HTTP, at a real receiver on loopback."""

import asyncio
import contextlib
import json
import ssl
import subprocess
import time

import httpcore2
import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from outlay.alert_config import AlertConfig
from streams.alerting.connecting import CheckedNetwork, Resolver
from streams.alerting.targets import Allowed
from streams.alerting.webhook import ANSWER_BYTES_MAX, REDIRECTS_MAX, WebhookSender
from tests.alerts.alert_world import SECRETS, alert
from tests.alerts.receiver import Receiver

LOOPBACK = Allowed.parse(["127.0.0.0/8"])
ONE = (alert(),)


async def local(host, port):
    """Every name is this machine."""
    return ["127.0.0.1"]


def attempt(
    answers,
    *,
    path="/hook",
    allowed=LOOPBACK,
    resolve=local,
    host="127.0.0.1",
    timeout_s=5.0,
    times=1,
    **config,
):
    """Outcomes of attempts at a receiver with these answers, and the receiver."""

    async def main():
        async with Receiver({path: answers} if isinstance(answers, list) else answers) as receiver:
            sender = WebhookSender(resolve, allowed, timeout_s)
            for name, given in receiver.answers.items():
                receiver.answers[name] = [_located(each, receiver) for each in given]
            try:
                url = receiver.url(path, host)
                settings = AlertConfig(webhook_url=url, **config)
                now_ms = time.time_ns() // 1_000_000
                outcomes = [
                    await sender.send(settings, "alt_1", ONE, now_ms + n * 1_000)
                    for n in range(times)
                ]
            finally:
                await sender.close()
            return outcomes[0] if times == 1 else outcomes, receiver

    return asyncio.run(main())


def _located(answer, receiver):
    if isinstance(answer, tuple) and "location" in answer[1]:
        location = answer[1]["location"].replace("PORT", str(receiver.port))
        return answer[0], {"location": location}
    return answer


def test_a_webhook_is_a_post_of_json():
    """With the id in a header, and without a signature where there is no secret."""
    outcome, receiver = attempt([200])
    assert (outcome.verdict, outcome.code) == ("delivered", 200)
    (got,) = receiver.received
    assert json.loads(got.body)["event"] == "budget.warning"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == "alt_1"
    assert "webhook-signature" not in got.headers


def test_the_signature_is_verified_by_the_standards_own_package():
    """By each of several secrets, and by no other."""
    _, receiver = attempt([200], webhook_secrets=SECRETS)
    (got,) = receiver.received
    for secret in SECRETS:
        assert Webhook(secret).verify(got.body, got.headers)["organization_id"] == "acme"
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS[0]).verify(got.body + b" ", got.headers)


def test_id_and_body_are_the_same_over_retries_and_the_timestamp_is_not():
    """So that a receiver can tell a repetition, and the signature does not grow old."""
    _, receiver = attempt([500, 500, 200], times=3, webhook_secrets=SECRETS)
    assert len({got.body for got in receiver.received}) == 1
    assert {got.headers["webhook-id"] for got in receiver.received} == {"alt_1"}
    assert len({got.headers["webhook-timestamp"] for got in receiver.received}) == 3
    assert len({got.headers["webhook-signature"] for got in receiver.received}) == 3


@pytest.mark.parametrize(
    ("status", "verdict", "is_away"),
    [
        (200, "delivered", False),
        (204, "delivered", False),
        (408, "retry", False),
        (425, "retry", False),
        (429, "retry", False),
        (500, "retry", True),
        (503, "retry", True),
        (410, "gone", False),
        (400, "failed", False),
        (401, "failed", False),
        (404, "failed", False),
        (302, "failed", False),
        (304, "failed", False),
    ],
)
def test_what_a_status_means(status, verdict, is_away):
    """Only what can pass by itself is tried again."""
    outcome, _ = attempt([status])
    assert (outcome.verdict, outcome.code, outcome.is_away) == (verdict, status, is_away)


def test_retry_after_is_read():
    """In seconds here; a date is a rule of its own."""
    outcome, _ = attempt([(429, {"Retry-After": "120"})])
    assert outcome.retry_after_ms == 120_000


@pytest.mark.parametrize("answer", ["reset", b"", b"garbage\r\n\r\n", b"HTTP/1.1 banana\r\n\r\n"])
def test_what_is_no_answer_is_tried_again(answer):
    """And says nothing of what came."""
    outcome, _ = attempt([answer])
    assert (outcome.verdict, outcome.code, outcome.is_away) == ("retry", None, True)
    assert "banana" not in outcome.reason


def test_a_receiver_that_hangs_is_given_up():
    """Within the bound on the whole attempt."""
    outcome, _ = attempt(["hang"], timeout_s=0.2)
    assert (outcome.verdict, outcome.is_away) == ("retry", True)
    assert "0.2 s" in outcome.reason


def test_nobody_there():
    """It may come."""
    outcome, _ = attempt([200], host="nobody.example", resolve=_fails)
    assert (outcome.verdict, outcome.is_away) == ("retry", True)


async def _fails(host, port):
    raise OSError("no such host")


def test_a_huge_answer_is_not_read():
    """Its status counts, its body is cut off."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"
    outcome, _ = attempt([head + b"x" * 200_000])
    assert outcome.verdict == "delivered"
    outcome, _ = attempt([head.replace(b"200 OK", b"500 No") + b"x" * (2 * ANSWER_BYTES_MAX)])
    assert (outcome.verdict, outcome.code) == ("retry", 500)
    assert len(outcome.reason) < 250


def test_a_body_that_does_not_end_is_cut_off():
    """After a few kilobytes, beside what the sockets hold, though the sender goes on."""
    outcome, receiver = attempt(["flood"])
    assert outcome.verdict == "delivered"
    assert receiver.flooded < 32 * 1_048_576


def test_endless_headers_are_not_read():
    """The bound is the parser's."""
    outcome, _ = attempt([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000])
    assert outcome.verdict == "retry"


def test_what_an_answer_says_is_escaped():
    """No line of a log, and no terminal, is the receiver's."""
    body = b"no\r\n\x1b[31m way"
    outcome, _ = attempt([b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n" % len(body) + body])
    assert outcome.reason == "HTTP 400: no\\r\\n\\x1b[31m way"


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_the_same_origin_is_followed(status):
    """With the same body and headers."""
    answers = {"/hook": [(status, {"location": "/there"})], "/there": [200]}
    outcome, receiver = attempt(answers, webhook_secrets=SECRETS)
    assert outcome.verdict == "delivered"
    first, second = receiver.received
    assert (first.path, second.path) == ("/hook", "/there")
    assert first.body == second.body
    assert first.headers["webhook-signature"] == second.headers["webhook-signature"]


@pytest.mark.parametrize(
    "location",
    [
        "http://other.example/x",
        "http://localhost:PORT/x",
        "https://127.0.0.1:PORT/x",
        "http://127.0.0.1:1/x",
        "//169.254.169.254/latest",
        "file:///etc/passwd",
        "http://127.0.0.1:PORT@evil.example/",
    ],
)
def test_a_redirect_to_elsewhere_is_not_followed(location):
    """Neither to another host, nor port, nor scheme; and not tried again."""
    outcome, receiver = attempt([(307, {"location": location})])
    assert (outcome.verdict, outcome.code) == ("failed", 307)
    assert len(receiver.received) == 1
    assert receiver.connections == 1


def test_redirects_end():
    """After two."""
    outcome, receiver = attempt([(307, {"location": "/hook"})])
    assert outcome.verdict == "failed"
    assert len(receiver.received) == REDIRECTS_MAX + 1


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_change_the_method_is_not_followed(status):
    """A GET tells nobody anything."""
    outcome, receiver = attempt([(status, {"location": "/there"})])
    assert outcome.verdict == "failed"
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("host", "resolved"),
    [
        ("127.0.0.1", None),
        ("evil.example", ["127.0.0.1"]),
        ("evil.example", ["1.1.1.1", "127.0.0.1"]),
        ("evil.example", ["::ffff:127.0.0.1"]),
        ("[::1]", None),
    ],
)
def test_a_private_address_is_refused(host, resolved):
    """Named, or resolved to, or one of several; nobody is connected to, and nothing retried."""

    async def resolve(name, port):
        return resolved

    outcome, receiver = attempt([200], host=host, resolve=resolve, allowed=Allowed())
    assert outcome.verdict == "failed"
    assert "refused" in outcome.reason
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
def test_other_spellings_of_loopback_are_refused(host):
    """The system's resolver takes some of them; those that it does not lead nowhere."""

    async def main():
        resolver = Resolver()
        sender = WebhookSender(resolver, Allowed(), 5.0)
        try:
            config = AlertConfig(webhook_url=f"http://{host}:9/")
            return await sender.send(config, "alt_1", ONE, 0)
        finally:
            await sender.close()
            resolver.close()

    outcome = asyncio.run(main())
    assert outcome.code is None
    assert any(word in outcome.reason for word in ("refused: its", "resolved", "cannot be used"))


def test_dns_that_changes_between_check_and_use_changes_nothing():
    """The name is resolved once a connection, and that very address is connected to."""
    asked, connected = [], []

    async def resolve(host, port):
        asked.append(host)
        return ["93.184.215.14"] if len(asked) == 1 else ["127.0.0.1"]

    class Inner(httpcore2.AnyIOBackend):
        async def connect_tcp(self, host, port, *rest):
            connected.append(host)
            raise httpcore2.ConnectError("not in a test")

    async def main():
        network = CheckedNetwork(resolve, Allowed())
        network._inner = Inner()
        with contextlib.suppress(httpcore2.ConnectError):
            await network.connect_tcp("evil.example", 80)

    asyncio.run(main())
    assert asked == ["evil.example"]
    assert connected == ["93.184.215.14"]


def test_a_redirect_is_checked_again_when_it_needs_a_connection():
    """The second connection resolves anew, and is refused by what it finds."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    close = b"HTTP/1.1 307 X\r\nlocation: /there\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    outcome, receiver = attempt([close], host="evil.example", resolve=resolve)
    assert len(asked) == 2
    assert "refused" in outcome.reason
    assert len(receiver.received) == 1


def test_the_environments_proxies_are_not_asked(monkeypatch):
    """They would resolve and connect where nothing is checked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    outcome, _ = attempt([200])
    assert outcome.verdict == "delivered"


def test_credentials_of_the_url_are_a_header():
    """And nothing of the URL is in a reason."""
    _, receiver = attempt([200], host="me:secret@127.0.0.1")
    assert receiver.received[0].headers["authorization"] == "Basic bWU6c2VjcmV0"
    outcome, _ = attempt(["reset"], host="me:secret@127.0.0.1", path="/secretpath")
    assert "secret" not in outcome.reason


def test_no_cookie_is_kept():
    """Receivers share nothing, not even with themselves."""
    cookie = (200, {"set-cookie": "a=b"})
    _, receiver = attempt([cookie], times=2)
    assert "cookie" not in receiver.received[1].headers


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for `good.example`, which signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=good.example",
         "-addext", "subjectAltName=DNS:good.example"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return key, cert


@pytest.mark.parametrize(
    ("host", "verdict"), [("good.example", "delivered"), ("bad.example", "retry")]
)
def test_tls_is_verified_against_the_name(certificate, host, verdict):
    """Though an address is what is connected to; another name's certificate is refused."""
    key, cert = certificate
    trusting = ssl.create_default_context(cafile=cert)

    async def main():
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(cert, key)
        async with Receiver() as receiver:
            receiver._server.close()
            server = await asyncio.start_server(receiver._accepted, "127.0.0.1", 0, ssl=served)
            port = server.sockets[0].getsockname()[1]
            sender = WebhookSender(local, LOOPBACK, 5.0, trusting)
            config = AlertConfig(webhook_url=f"https://{host}:{port}/")
            try:
                return await sender.send(config, "alt_1", ONE, 0)
            finally:
                await sender.close()
                server.close()

    outcome = asyncio.run(main())
    assert outcome.verdict == verdict
    assert "certificate" in outcome.reason or verdict == "delivered"
