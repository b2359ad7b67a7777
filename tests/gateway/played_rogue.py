"""A phone that keeps to nothing: what it says, and when, is chosen for it.

It checks nothing of what Devices says, for it is the one who breaks the protocol.
"""

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar

from chalicelib.core import sysclient_login
from chalicelib.core.auto_provisioning import Claim
from gateway import frames
from gateway.frames import (
    Challenge,
    Recv,
    RecvResult,
    Send,
    SendResult,
    Shutdown,
    SysclientPassword,
    TunnelFrame,
)
from gateway.phones import Phones
from gateway.session import Arrival, LostError
from tests.gateway.played_phone import ok
from tests.gateway.played_sysclient import Sysclient, Told

SOURCE = "198.51.100.7"
THINKING_SECONDS = 0.4
"""It answers a little later: if it did at once, no time would go by, and no deadline would come."""


@dataclass(frozen=True)
class Manner:
    """How a phone behaves.

    Args:
        proof: how it answers a challenge: `right`, `wrong`, `old`, `replayed`, or not at all.
        at_send: what it says to a piece of a request, in a session of the same number.
        pieces: of its answers, None for a shutdown; the last one again and again.
        at_shutdown: what it says to that.
        send_seconds: how long it takes until it has taken a frame.
        settle_seconds: until it has answered a ping; the connection is lost if that is too long.
        close_seconds: until it takes note that Devices hangs up.
    """

    proof: str = "right"
    at_send: tuple[type[TunnelFrame], ...] = (SendResult,)
    pieces: tuple[bytes | None, ...] = (ok(),)
    at_shutdown: tuple[type[TunnelFrame], ...] = (Shutdown,)
    send_seconds: float = 0.0
    settle_seconds: float = 0.0
    close_seconds: float = 0.0


@dataclass
class Known:
    """What all connections of one phone know.

    Args:
        passwords: those it was told, the newest last.
        proofs: frames with digests that it sent.
        digests: those that it sent.
    """

    passwords: list[str] = field(default_factory=list)
    proofs: list[bytes] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


class Rogue(Sysclient):
    """A connection of a phone that keeps to nothing.

    Args:
        known: shared with the other connections of the same phone.
    """

    PONG_SECONDS: ClassVar[float] = 20.0

    def __init__(self, hw_id: str, known: Known) -> None:
        super().__init__(hw_id=hw_id)
        self.known = known
        self.manner = Manner()
        self.ended: list[Told] = []
        self.serving: asyncio.Task[None] | None = None
        self._piece_numbers: dict[int, int] = {}

    @property
    def is_connected(self) -> bool:
        """Tell whether its websocket is open, or not closed to the end."""
        return self.serving is not None and not self.serving.done()

    def connect(self, phones: Phones, domain: str, claim: Claim | None) -> None:
        """Open a websocket, with a new connection."""
        self.told = Told()
        self.ended.append(self.told)
        self.is_deaf = False
        self._to_devices = asyncio.Queue()
        self._piece_numbers.clear()
        self.serving = asyncio.create_task(phones.serve(self, Arrival(domain, SOURCE, claim)))

    def cut(self) -> None:
        """Be gone, without a word."""
        self.is_deaf = True
        self.hang_up()

    async def send(self, written: bytes) -> None:
        """Take a frame of Devices, and do with it what is its manner."""
        await asyncio.sleep(self.manner.send_seconds)
        if self.is_deaf or self.told.code:
            raise LostError
        frame = frames.parse(written)
        if isinstance(frame, TunnelFrame):
            for said in self._answers(frame):
                asyncio.get_running_loop().call_later(THINKING_SECONDS, self.utter, said)
        elif isinstance(frame, SysclientPassword):
            self.known.passwords.append(frame.password)
        elif isinstance(frame, Challenge):
            self.answer(frame)

    def answer(self, challenge: Challenge) -> None:
        """Answer a challenge in its manner."""
        own = self.identify()
        passwords = self.known.passwords or [""]
        password = {"right": passwords[-1], "old": passwords[0]}.get(self.manner.proof, "x")
        if self.manner.proof == "replayed" and self.known.proofs:
            self.tell(self.known.proofs[0])
        elif self.manner.proof != "none":
            digest = sysclient_login.digest(
                own.id, own.product, own.version, challenge.challenge, password
            )
            proof = bytes(self.identify(digest=digest))
            self.known.proofs.append(proof)
            self.known.digests.append(digest)
            self.tell(proof)

    async def settle(self) -> None:
        """Answer a ping, sooner or later or never."""
        await asyncio.sleep(min(self.manner.settle_seconds, self.PONG_SECONDS))
        if self.is_deaf or self.told.code or self.manner.settle_seconds > self.PONG_SECONDS:
            raise LostError

    async def close(self, code: int, reason: str) -> None:
        """Hear that Devices hangs up."""
        if not self.told.code:
            self.told.code, self.told.reason = code, reason
        await asyncio.sleep(self.manner.close_seconds)
        self.hang_up()

    def _answers(self, frame: TunnelFrame) -> list[TunnelFrame]:
        session_id = frame.session_id
        if isinstance(frame, Recv):
            return [self._next_piece(session_id)]
        kinds = self.manner.at_send if isinstance(frame, Send) else self.manner.at_shutdown
        return [
            RecvResult(session_id, ok()) if kind is RecvResult else kind(session_id)
            for kind in kinds
        ]

    def _next_piece(self, session_id: int) -> TunnelFrame:
        number = self._piece_numbers.get(session_id, 0)
        self._piece_numbers[session_id] = number + 1
        pieces = self.manner.pieces
        piece = pieces[min(number, len(pieces) - 1)]
        return Shutdown(session_id) if piece is None else RecvResult(session_id, piece)
