"""Recaps by mail, through the operator's relay (RECAP_SMTP_URL)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address

from notifications.adapters.channels.email import smtp
from notifications.adapters.channels.email.mail import compose, mailbox, unsubscribe_link
from notifications.domain.push import Message, PushAnswer, PushResult
from notifications.domain.target import Recipient, Target, target
from notifications.ports import Channel

CHECK_SECONDS = 20.0
UNUSABLE = {"address_refused": "recap_email is no mail address; write one address alone"}


class EmailChannel(Channel):
    """The Channel port."""

    name = "email"
    where = "The mail relay (RECAP_SMTP_URL)"
    aside = ""
    noun = "mail", "mails"
    has_addresses = True
    alerts = False
    unusable = UNUSABLE

    def __init__(self, relay: smtp.Relay, sender: Address, unsubscribe_url: str, secret: str) -> None:
        self._relay = relay
        self._sender = sender
        self._unsubscribe = unsubscribe_url, secret
        self._connections = [smtp.MailConnection(relay) for _ in range(smtp.CONNECTIONS)]
        self._idle = list(self._connections)
        self._places = asyncio.Semaphore(smtp.CONNECTIONS)
        self._refused: set[str] = set()  # targets that policy refused since the last mail that was accepted

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]:
        """The user's address, if the app set one; or the code of why it can't be used."""
        address = recipient.addresses.get(self.name, {}).get("address", "")
        if address and mailbox(address) is None:
            return [], ["address_refused"]
        return [target(self.name, address)] if address else [], []

    async def send(
        self, target: Target, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        """One mail. UNSENT until DATA is said, UNKNOWN from then until the relay has answered."""
        to = mailbox(target.address)
        if to is None:
            return PushAnswer(PushResult.REFUSED, "ADDRESS")
        left = False

        def leave() -> None:
            nonlocal left
            left = True
            leaves()

        url, secret = self._unsubscribe
        link = unsubscribe_link(url, secret, message.uid, target.address)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                mail = compose(self._sender, to, message, await message.full(), link, datetime.now(UTC))
                async with self._places:
                    connection = self._idle.pop()  # the one that was used last
                    try:
                        answer = await connection.send(self._sender.addr_spec, to.addr_spec, mail, leave)
                    finally:
                        self._idle.append(connection)
        except TimeoutError:
            return PushAnswer(PushResult.UNKNOWN if left else PushResult.UNSENT, "TIMEOUT")
        return self._judged(target, message, answer)

    def _judged(self, target: Target, message: Message, answer: PushAnswer) -> PushAnswer:
        """The answer, in the light of those before it."""
        if answer.result is PushResult.ACCEPTED:
            self._refused.clear()
        elif answer.retry_after == smtp.GREYLISTED[0]:
            # The waits follow from the recap's age: 5, 20 and 50 minutes after it was made, without a count of tries.
            wait = next((wait for wait in smtp.GREYLISTED if message.age < wait), smtp.GREYLISTED[-1])
            return replace(answer, retry_after=wait)
        elif answer.result is PushResult.REFUSED and smtp.POLICY_CODES.fullmatch(answer.code):
            self._refused.add(target.id)
            if len(self._refused) >= smtp.MAX_POLICY:
                return smtp.named(smtp.POLICY, answer.code)
        return answer

    async def check(self) -> str:
        """A sentence about what is wrong; empty if the relay lets us in, and takes our sender. No mail is sent."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                opened = await self._relay.open()
                try:
                    refused = await smtp.sender_refused(opened, self._sender.addr_spec)
                finally:
                    await smtp.end(opened)
        except smtp.FAULTS as error:
            answer = smtp.not_opened(error)
            fails = "does not answer" if answer.code.isalpha() else "does not let us in"
            says = answer.says or f"{fails} ({answer.code}); check the address and the network"
            return f"{self.where} {says}."
        if refused is None:
            return ""
        later = f"does not take our sender now ({refused.code}); try again, then ask whoever runs it"
        return f"{self.where} {refused.says or later}."

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(one.aclose() for one in self._connections))


def connect(url: str, sender: str, unsubscribe_url: str, secret: str) -> EmailChannel:
    """The channel of these settings, which are checked; nothing is opened yet."""
    name, _, spec = sender.rpartition("<")
    address = Address(name.strip(' "'), addr_spec=spec.rstrip(">"))
    return EmailChannel(smtp.Relay(url, address.domain), address, unsubscribe_url, secret)
