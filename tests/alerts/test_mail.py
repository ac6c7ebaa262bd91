"""One attempt over SMTP, at a real server (aiosmtpd) on loopback."""

import asyncio
import email
import email.policy
import ssl
import subprocess

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from pydantic import SecretStr

from streams.alerting.mail import MailSender, Server
from tests.alerts.alert_world import alert

ONE = (alert(),)
TO = ("a@x.org", "b@x.org", "c@x.org")


class Handler:
    """Keeps what arrives; `says` is the reply to each recipient, `data` to the mail."""

    def __init__(self, says=None, data="250 OK"):
        self.says = says or {}
        self.data = data
        self.envelopes = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.says:
            return self.says[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.data == "hang":
            await asyncio.Event().wait()
        self.envelopes.append(envelope)
        return self.data


def attempt(handler, *, left=TO, tls="off", timeout_s=5.0, user="", alerts=ONE, **options):
    """The outcome of an attempt at a server with this handler."""

    async def main():
        loop = asyncio.get_running_loop()
        protocols = []

        def protocol():
            protocols.append(SMTP(handler, loop=loop, **options))
            return protocols[-1]

        server = await loop.create_server(protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sender = MailSender(
            Server("127.0.0.1", port, user, SecretStr("hunter2"), "outlay@example.com", tls),
            timeout_s,
        )
        try:
            return await sender.send("alt_1", alerts, TO, left)
        finally:
            server.close()
            await server.wait_closed()
            for each in protocols:
                # One over TLS that is closed cannot be aborted, in the first releases of 3.11.
                if each.transport is not None and not each.transport.is_closing():
                    each.transport.abort()
                if each._handler_coroutine is not None:
                    each._handler_coroutine.cancel()
            await asyncio.sleep(0)

    return asyncio.run(main())


def test_one_mail_goes_to_all_recipients():
    """With the delivery's id, in plain text and HTML."""
    handler = Handler()
    outcome = attempt(handler)
    assert (outcome.verdict, outcome.code) == ("delivered", 250)
    (envelope,) = handler.envelopes
    assert envelope.rcpt_tos == list(TO)
    assert envelope.mail_from == "outlay@example.com"
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert mail["Message-ID"] == "<alt_1@example.com>"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_recipients_that_are_refused_for_now_are_left():
    """Others have it; those that are refused for good are named apart."""
    handler = Handler({"a@x.org": "451 later", "b@x.org": "550 no such user"})
    outcome = attempt(handler)
    assert (outcome.verdict, outcome.code) == ("retry", 451)
    assert (outcome.left, outcome.refused) == (("a@x.org",), ("b@x.org",))
    assert handler.envelopes[0].rcpt_tos == ["c@x.org"]


def test_a_retry_goes_only_to_those_that_are_left():
    """And looks the same."""
    handler = Handler()
    attempt(handler)
    attempt(handler, left=("b@x.org",))
    first, second = handler.envelopes
    assert second.rcpt_tos == ["b@x.org"]
    heads = [each.content.partition(b"Content-Type")[0] for each in (first, second)]
    assert heads[0] == heads[1]


@pytest.mark.parametrize(
    ("reply", "verdict"), [("451 later", "retry"), ("552 too large", "failed")]
)
def test_a_reply_of_4_is_for_now_and_one_of_5_for_good(reply, verdict):
    """To the mail, and to all of its recipients."""
    outcome = attempt(Handler(data=reply))
    assert (outcome.verdict, outcome.code) == (verdict, int(reply[:3]))
    outcome = attempt(Handler(dict.fromkeys(TO, reply)))
    assert (outcome.verdict, outcome.code) == (verdict, int(reply[:3]))


def test_a_server_that_hangs_is_given_up():
    """Within the bound on the whole attempt."""
    outcome = attempt(Handler(data="hang"), timeout_s=0.3)
    assert (outcome.verdict, outcome.is_away) == ("retry", True)


def test_no_server_there():
    """It may come; where none is set there is nothing to wait for."""

    def send(host):
        server = Server(host, 1, "", SecretStr(""), "outlay@example.com", "off")
        return asyncio.run(MailSender(server, 1.0).send("alt_1", ONE, TO, TO))

    assert (send("127.0.0.1").verdict, send("").verdict) == ("retry", "failed")
    assert "OUTLAY_ALERT_SMTP_HOST" in send("").reason


@pytest.mark.parametrize("user", ["", "me"])
def test_without_starttls_nothing_is_said_where_it_is_insisted_on(user):
    """Neither the mail nor the password goes out in the clear."""
    handler = Handler()
    outcome = attempt(handler, tls="starttls", user=user)
    assert outcome.verdict in ("failed", "retry")
    assert handler.envelopes == []
    assert "hunter2" not in outcome.reason


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, which signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return key, cert


@pytest.mark.parametrize("is_trusted", [True, False])
def test_starttls_and_login(certificate, monkeypatch, is_trusted):
    """Over TLS with a certificate that is trusted; with another nothing is said."""
    key, cert = certificate
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(cert, key)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    seen = []

    def authenticate(server, session, envelope, mechanism, data):
        assert isinstance(data, LoginPassword)
        seen.append((data.login, data.password))
        return AuthResult(success=True)

    handler = Handler()
    outcome = attempt(
        handler, tls="starttls", user="me", tls_context=served,
        authenticator=authenticate, auth_required=True,
    )  # fmt: skip
    assert seen == ([(b"me", b"hunter2")] if is_trusted else [])
    assert len(handler.envelopes) == is_trusted
    assert outcome.verdict == ("delivered" if is_trusted else "retry")


def test_an_address_that_no_mail_can_have_fails_for_good():
    """It is the configuration's, and no reason for the application to end."""
    sender = MailSender(Server("127.0.0.1", 1, "", SecretStr(""), "outlay@example.com", "off"), 1.0)
    for address in ('"\x00@x.org', "a(@x.org", "[@x.org", "\udcff@x.org"):
        outcome = asyncio.run(sender.send("alt_1", ONE, (address,), (address,)))
        assert outcome.verdict in ("failed", "retry")
