"""A phone's end of a tunnel, without a socket, which fails where Devices breaks the protocol."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import h11

from gateway import frames, tunnel
from gateway.frames import Recv, RecvResult, Send, SendResult, Shutdown, TunnelFrame

END = None
"""Among the pieces of an answer: the phone shuts the session down."""


@dataclass(frozen=True)
class Asked:
    """A request as the phone's web server reads it."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


Pieces = Sequence[bytes | None]
Web = Callable[[Asked], Pieces]
"""The phone's web server: a piece for each recv; nothing comes behind the last one."""


@dataclass
class _Session:
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.SERVER))
    head: h11.Request | None = None
    body: bytes = b""
    pieces: list[bytes | None] = field(default_factory=list)
    is_send_open: bool = False
    is_recv_open: bool = False


class Phone:
    """Answers the frames of one connection; what it says comes in any order between sessions.

    Args:
        web: its web server.
        random: in which order its sessions get to say something; None for first come first.
    """

    def __init__(self, web: Web, random: Random | None = None) -> None:
        self.tunnel = tunnel.Tunnel(self.send)
        self.heard: list[TunnelFrame] = []
        self.asked: list[Asked] = []
        self.most_open = 0
        self.web = web
        self._random = random
        self._sessions: dict[int, _Session] = {}
        self._to_say: list[TunnelFrame] = []
        self._has_to_say = asyncio.Event()

    @property
    def open_count(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    async def send(self, written: bytes) -> None:
        """Hear a frame of Devices."""
        frame = frames.parse(written)
        assert isinstance(frame, TunnelFrame)
        self.heard.append(frame)
        match frame:
            case Send():
                self._take(frame)
            case Recv():
                self._bring(frame)
            case Shutdown():
                assert self._sessions.pop(frame.session_id, None), "shut down twice"
                self.say(Shutdown(frame.session_id))
            case _:
                raise AssertionError("only a phone says that")

    def say(self, frame: TunnelFrame) -> None:
        """Say something as soon as it is this session's turn."""
        self._to_say.append(frame)
        self._has_to_say.set()

    @contextmanager
    def talking(self) -> Iterator["Phone"]:
        """Let it say what it has to say."""
        talk = asyncio.ensure_future(self._talk())
        try:
            yield self
        finally:
            talk.cancel()
            if talk.done() and not talk.cancelled():
                talk.result()

    async def _talk(self) -> None:
        while await self._has_to_say.wait():
            sessions = list(dict.fromkeys(frame.session_id for frame in self._to_say))
            chosen = self._random.choice(sessions) if self._random else sessions[0]
            frame = next(frame for frame in self._to_say if frame.session_id == chosen)
            self._to_say.remove(frame)
            if not self._to_say:
                self._has_to_say.clear()
            if isinstance(frame, SendResult) and frame.session_id in self._sessions:
                self._sessions[frame.session_id].is_send_open = False
            self.utter(frame)
            await asyncio.sleep(0)

    def utter(self, frame: TunnelFrame) -> None:
        """Let Devices hear a frame."""
        self.tunnel.take(frame)

    def _take(self, frame: Send) -> None:
        assert frame.data
        assert len(frame.data) <= tunnel.PIECE_BYTES
        session = self._sessions.setdefault(frame.session_id, _Session())
        assert not session.is_send_open, "the piece before it was not taken yet"
        session.is_send_open = True
        self.most_open = max(self.most_open, len(self._sessions))
        session.http.receive_data(frame.data)
        while (event := session.http.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.Request():
                    session.head = event
                case h11.Data():
                    session.body += event.data
                case h11.EndOfMessage():
                    assert session.head
                    asked = Asked(
                        session.head.method.decode(),
                        session.head.target.decode(),
                        {name.decode(): value.decode() for name, value in session.head.headers},
                        session.body,
                    )
                    self.asked.append(asked)
                    session.pieces = list(self.web(asked))
                    break
        self.say(SendResult(frame.session_id))

    def _bring(self, frame: Recv) -> None:
        assert frame.length == 0
        session = self._sessions[frame.session_id]
        assert not session.is_send_open, "the request was not taken yet"
        if session.pieces:
            piece = session.pieces.pop(0)
            is_end = piece is END
            self.say(
                Shutdown(frame.session_id) if is_end else RecvResult(frame.session_id, piece or b"")
            )


def ok(body: bytes = b"", status: int = 200) -> bytes:
    """Write an answer."""
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
