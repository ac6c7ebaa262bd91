"""Mail: one attempt to deliver a message over SMTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiosmtplib
import structlog
from pydantic import SecretStr

from streams.alerting.cooldown import Message
from streams.alerting.mail_body import domain_of, mail_of
from streams.alerting.retrying import Outcome
from streams.alerting.text import shown

log = structlog.get_logger("outlay.alerts")
_IGNORED_AT_END = (aiosmtplib.SMTPException, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Server:
    """The server that mails are handed to. `tls`: `starttls` insists on it."""

    host: str
    port: int
    user: str
    password: SecretStr
    sender: str
    tls: Literal["starttls", "implicit", "off"]


class MailSender:
    """Hands mails to an SMTP server, each within `timeout_s` seconds."""

    def __init__(self, server: Server, timeout_s: float) -> None:
        self._server = server
        self._timeout_s = timeout_s

    async def send(
        self,
        delivery_id: str,
        alerts: Message,
        recipients: tuple[str, ...],
        left: tuple[str, ...],
    ) -> Outcome:
        """One attempt, at those of the recipients that are left. Never raises for the server."""
        server = self._server
        if not server.host:
            return Outcome("failed", "no SMTP server is set (OUTLAY_ALERT_SMTP_HOST)")
        try:
            mail = mail_of(delivery_id, alerts, server.sender, recipients)
        except Exception as error:  # the parser of addresses raises anything for hostile ones
            return Outcome("failed", f"no mail can be made: {shown(str(error))}")
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await self._connected()
                try:
                    problems, _ = await client.send_message(
                        mail, sender=server.sender, recipients=list(left)
                    )
                finally:
                    await _end(client)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _judged({each.recipient: (each.code, each.message) for each in error.recipients})
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error)
        except aiosmtplib.SMTPNotSupported as error:
            return Outcome("failed", shown(str(error)))
        except TimeoutError:
            return Outcome("retry", f"no answer within {self._timeout_s:g} s", is_away=True)
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError) as error:
            return Outcome("retry", shown(str(error) or type(error).__name__), is_away=True)
        except ValueError as error:  # an address that the protocol cannot say
            return Outcome("failed", shown(str(error)))
        except Exception as error:  # one mail must not end the delivery of all others
            log.error("an attempt failed in a new way", error=type(error).__name__)
            return Outcome("retry", f"it failed with {type(error).__name__}", is_away=True)
        return _judged(problems)

    async def _connected(self) -> aiosmtplib.SMTP:
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user or None,
            password=server.password.get_secret_value() if server.user else None,
            local_hostname=domain_of(server.sender),  # the default asks DNS, and blocks
            timeout=self._timeout_s,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return client


async def _end(client: aiosmtplib.SMTP) -> None:
    """Say goodbye; the mail is with the server, or is not, whatever it answers."""
    try:
        await client.quit()
    except _IGNORED_AT_END:
        client.close()
    except BaseException:
        client.close()
        raise


def _refused(error: aiosmtplib.SMTPResponseException) -> Outcome:
    reason = shown(f"SMTP {error.code}: {error.message}")
    is_for_now = not 500 <= error.code < 600
    return Outcome("retry" if is_for_now else "failed", reason, error.code, is_away=is_for_now)


def _judged(problems: Mapping[str, tuple[int, str]]) -> Outcome:
    """What becomes of it when some recipients were refused: 4xx for now, others for good."""
    if not problems:
        return Outcome("delivered", code=250)
    left = tuple(to for to, (code, _) in problems.items() if 400 <= code < 500)
    refused = tuple(to for to in problems if to not in left)
    code, text = problems[(left or refused)[0]]
    reason = shown(f"SMTP {code}: {len(problems)} recipients refused: {text}")
    return Outcome("retry" if left else "failed", reason, code, left=left, refused=refused)
