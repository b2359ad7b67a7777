"""A phone at the other end of a session, without a socket: what it is told it really takes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from chalicelib.core import sysclient_login
from chalicelib.core.auto_provisioning import Claim
from gateway import frames
from gateway.frames import (
    AdminFrame,
    Challenge,
    Identify,
    Platform,
    SysclientPassword,
    TunnelFrame,
)
from gateway.phones import Phones
from gateway.session import Arrival, LostError
from tests.conftest import NOW
from tests.gateway.played_phone import Phone, Web, ok
from tests.world import DOMAIN, HOME, HW_ID

_Frame = TypeVar("_Frame", bound=AdminFrame)
OLD_BUILD = "130100"


def obedient(_: object) -> list[bytes | None]:
    """Answer every command with success."""
    return [ok()]


@dataclass
class Told:
    """What Devices told the phone, and how the connection ended."""

    frames: list[AdminFrame] = field(default_factory=list)
    code: int = 0
    reason: str = ""


class Sysclient(Phone):
    """A phone with a websocket to Devices; it keeps its password from one connection to the next.

    Args:
        said: members of its identify message, besides those that every phone has.

    Attributes:
        is_deaf: the connection has ended.
        has_vanished: it has, and nobody notices before a ping stays without an answer.
    """

    def __init__(self, web: Web = obedient, hw_id: str = HW_ID, **said: object) -> None:
        super().__init__(web)
        self.hw_id = hw_id
        self.said = said
        self.password = ""
        self.told = Told()
        self.is_deaf = False
        self.has_vanished = False
        self._to_devices: asyncio.Queue[bytes | str | None] = asyncio.Queue()

    def identify(self, **more: object) -> Identify:
        """Say who it is."""
        plain: dict[str, Any] = {
            "id": self.hw_id,
            "product": "IP232",
            "version": "13r1",
            "platform": Platform("PHONE"),
            "fw_build": OLD_BUILD,
            "bc_build": OLD_BUILD,
        }
        return Identify(**{**plain, **self.said, **more})

    def tell(self, *said: bytes | str | AdminFrame) -> None:
        """Tell Devices something."""
        for each in said:
            self._to_devices.put_nowait(each if isinstance(each, bytes | str) else bytes(each))

    def hang_up(self) -> None:
        """End the connection from here."""
        self._to_devices.put_nowait(None)

    def utter(self, frame: TunnelFrame) -> None:
        """Let Devices hear a frame."""
        self._to_devices.put_nowait(bytes(frame))

    async def receive(self) -> bytes | str | None:
        """Give Devices what it said next."""
        return await self._to_devices.get()

    async def send(self, written: bytes) -> None:
        """Hear a frame of Devices."""
        if self.is_deaf or self.told.code:
            raise LostError
        frame = frames.parse(written)
        if isinstance(frame, TunnelFrame):
            await super().send(written)
            return
        self.told.frames.append(frame)
        if isinstance(frame, SysclientPassword):
            self.password = frame.password
        if isinstance(frame, Challenge):
            self.answer(frame)

    def answer(self, challenge: Challenge) -> None:
        """Answer a challenge with what it knows."""
        own = self.identify()
        digest = sysclient_login.digest(
            own.id, own.product, own.version, challenge.challenge, self.password
        )
        self.tell(self.identify(digest=digest))

    async def settle(self) -> None:
        """Say that it has got everything."""
        if self.is_deaf or self.has_vanished:
            raise LostError

    async def close(self, code: int, reason: str) -> None:
        """Hear that Devices hangs up."""
        if not self.told.code:
            self.told.code, self.told.reason = code, reason
        self.hang_up()

    def heard_of(self, kind: type[_Frame]) -> list[_Frame]:
        """List the frames of a kind that it was told on this connection."""
        return [frame for frame in self.told.frames if isinstance(frame, kind)]


def phones_of(now: Callable[[], datetime] = lambda: NOW) -> Phones:
    """Make a gateway without a port."""
    phones = Phones(now)
    phones.address = "127.0.0.1:8080"
    return phones


@asynccontextmanager
async def connected(
    phone: Sysclient,
    phones: Phones,
    *,
    domain: str = DOMAIN,
    source: str = HOME,
    claim: Claim | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """Connect a phone, with a new connection, until this is left."""
    phone.told = Told()
    phone._to_devices = asyncio.Queue()  # noqa: SLF001 - its own, of this connection
    with phone.talking():
        serving = asyncio.create_task(phones.serve(phone, Arrival(domain, source, claim)))
        yield serving
        phone.hang_up()
        await serving


async def quiet() -> None:
    """Let everything happen that can happen without time going by."""
    for _ in range(2_000):
        await asyncio.sleep(0)
