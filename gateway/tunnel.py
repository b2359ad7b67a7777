"""The tunnel: HTTP requests to a phone's own web server, through the frames of its websocket.

    DialtoneError
    └── TunnelError                what a request through the tunnel can end with, or a frame of it
        ├── TunnelClosedError      the connection is lost or was closed: no request will succeed
        ├── NoAnswerError          the phone said nothing, or did not come to an end, in time
        ├── BadAnswerError         what it said is no HTTP, cut off, or too large
        └── UnexpectedFrameError   a frame of a session that nobody opened, or that no phone sends

One session carries one request. It must not know what is asked and why (execution.py), nor a
socket; and as a path may hold a password, none of its errors repeats anything of a request or
an answer.

Source: the vendor's sysclient description; docs/sysclient.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import h11

from chalicelib.core.errors import DialtoneError, Fault, InvalidRequestError
from gateway.frames import Recv, RecvResult, Send, SendResult, Shutdown, TunnelFrame

MAX_ANSWER_BYTES = 1_048_576
"""An answer with its headers; the phone is cut short behind it."""

MAX_PARTS = 2_000
"""Of an answer, such as chunks, in one frame: all of them are read in one go.

The 8,000 bytes that phones are seen to send at once cannot hold as many.
"""

MAX_SESSIONS = 4
"""How many requests a phone gets at once; the others wait for their turn."""

MAX_SESSION_ID = 2**32 - 1

PIECE_BYTES = 8_000
"""What a phone gets at once, for that is how much phones are seen to send."""

ANSWER_SECONDS = 30.0
SHUTDOWN_SECONDS = 5.0
"""How long a phone that takes nothing any more may keep a request from its end."""

Write = Callable[[bytes], Awaitable[None]]


class TunnelError(DialtoneError):
    """What a request through the tunnel can end with, or a frame of it."""


class TunnelClosedError(TunnelError):
    """The connection is lost or was closed; nobody knows what the phone still did."""

    def __init__(self) -> None:
        super().__init__("the connection to the phone is closed")


class NoAnswerError(TunnelError):
    """The phone said nothing, or did not come to an end, in time."""

    def __init__(self) -> None:
        super().__init__("no whole answer in time")


class BadAnswerError(TunnelError):
    """What the phone said is no answer; the text says why, never what."""


class UnexpectedFrameError(TunnelError):
    """The phone does not keep to the protocol: a reason to close the connection."""

    def __init__(self) -> None:
        super().__init__("a tunnel frame that nobody can have asked for")


@dataclass(frozen=True)
class Answer:
    """What a phone's web server answers.

    Args:
        headers: names in lower case.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


class _Session:
    """What has come of one answer."""

    def __init__(self, http: h11.Connection, deadline: asyncio.Timeout) -> None:
        self.deadline = deadline
        self._http = http
        self._answer: Answer | None = None
        self._fault = ""
        self._status = 0
        self._headers: tuple[tuple[str, str], ...] = ()
        self._body = bytearray()
        self._received_count = 0
        self._awaited: type[TunnelFrame] = TunnelFrame
        self._heard = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more is wanted of the phone."""
        return self._answer is not None or bool(self._fault)

    def answer(self) -> Answer:
        """Give the answer, once it is over.

        Raises:
            BadAnswerError: there is none.
        """
        if self._answer is None:
            raise BadAnswerError(self._fault)
        return self._answer

    def expect(self, awaited: type[TunnelFrame]) -> None:
        """Say what the phone will say next; before it can have been asked to."""
        self._awaited = awaited
        self._heard.clear()

    async def heard(self) -> None:
        """Wait until it has said that, or the session is over."""
        await self._heard.wait()

    def take(self, frame: TunnelFrame) -> None:
        """Take what the phone says, also if it says more than it was asked for."""
        if self.is_over:
            return
        if isinstance(frame, RecvResult) and frame.data:
            self._read(frame.data)
        elif isinstance(frame, Shutdown):
            self._read(b"")
        if self.is_over or isinstance(frame, self._awaited):
            self._heard.set()

    def _read(self, data: bytes) -> None:
        """Read a piece of the answer; an empty one is its end."""
        self._received_count += len(data)
        if self._received_count > MAX_ANSWER_BYTES:
            self._fault = f"an answer of more than {MAX_ANSWER_BYTES} bytes"
            return
        self._http.receive_data(data)
        try:
            for _ in range(MAX_PARTS):
                if not self._is_read_on():
                    return
            self._fault = f"an answer with more than {MAX_PARTS} parts in a frame"
        except h11.RemoteProtocolError:
            self._fault = "an answer that is no HTTP, or was cut off"

    def _is_read_on(self) -> bool:
        """Read one part of the answer, and tell whether there may be another one already."""
        match event := self._http.next_event():
            case h11.Response():
                self._status = event.status_code
                self._headers = tuple(
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in event.headers
                )
            case h11.Data():
                self._body += event.data
            case h11.InformationalResponse():
                pass
            case h11.EndOfMessage():
                self._answer = Answer(self._status, self._headers, bytes(self._body))
                return False
            case h11.NEED_DATA:
                return False
            case _:
                raise h11.RemoteProtocolError("goes on as something else than HTTP")
        return True


class Tunnel:
    """The way to the web server of the phone at the other end of one websocket.

    Args:
        send: writes one frame; what it raises counts as a lost connection.
    """

    def __init__(self, send: Write) -> None:
        self._send = send
        self._sessions: dict[int, _Session] = {}
        self._opened_count = 0
        self._turns = asyncio.Semaphore(MAX_SESSIONS)
        self._is_closed = False

    async def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        timeout_seconds: float = ANSWER_SECONDS,
    ) -> Answer:
        """Ask the phone's web server.

        Args:
            path: with its query, URL-encoded.
            headers: without Host, Connection and Content-Length, which are the tunnel's own.
            timeout_seconds: until the answer is whole, from the request's turn on.

        Raises:
            InvalidRequestError: this cannot be written as HTTP.
            TunnelClosedError: the connection is lost, or is closed before the answer is whole.
            NoAnswerError: there is no whole answer in time.
            BadAnswerError: the answer is no HTTP, cut off, or too large.
        """
        http, said = _written(method, path, headers, body)
        async with self._turns:
            if self._is_closed:
                raise TunnelClosedError
            session_id = self._next_session_id()
            try:
                async with asyncio.timeout(timeout_seconds) as deadline:
                    session = self._sessions[session_id] = _Session(http, deadline)
                    await self._exchange(session_id, session, said)
            except TimeoutError:
                raise (TunnelClosedError if self._is_closed else NoAnswerError) from None
            finally:
                del self._sessions[session_id]
                await self._shut_down(session_id)
        return session.answer()

    def take(self, frame: TunnelFrame) -> None:
        """Take a tunnel frame of the phone.

        What comes late, for a session that is over, is dropped.

        Raises:
            UnexpectedFrameError: nobody opened that session, or it is Devices that says such
                things; the other sessions are as they were.
        """
        is_known = 0 < frame.session_id <= self._opened_count
        if not is_known or isinstance(frame, Send | Recv):
            raise UnexpectedFrameError
        if frame.session_id in self._sessions:
            self._sessions[frame.session_id].take(frame)

    def close(self) -> None:
        """End all requests, and those that wait for their turn, with TunnelClosedError."""
        self._is_closed = True
        now = asyncio.get_running_loop().time()
        for session in self._sessions.values():
            if not session.deadline.expired():
                session.deadline.reschedule(now)

    def _next_session_id(self) -> int:
        """Count up; begin anew at the end, and leave out what is still open."""
        while True:
            self._opened_count += 1
            session_id = (self._opened_count - 1) % MAX_SESSION_ID + 1
            if session_id not in self._sessions:
                return session_id

    async def _exchange(self, session_id: int, session: _Session, said: bytes) -> None:
        """Send a request piece by piece, and ask for the answer until it is whole."""
        for start in range(0, len(said), PIECE_BYTES):
            session.expect(SendResult)
            await self._write(Send(session_id, said[start : start + PIECE_BYTES]))
            await session.heard()
            if session.is_over:  # it does not want the rest
                return
        while not session.is_over:
            session.expect(RecvResult)
            await self._write(Recv(session_id))
            await session.heard()

    async def _shut_down(self, session_id: int) -> None:
        """Tell the phone that a session is over; one that is not there is not told."""
        if self._is_closed:
            return
        with suppress(TunnelClosedError, TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await self._write(Shutdown(session_id))

    async def _write(self, frame: TunnelFrame) -> None:
        try:
            await self._send(bytes(frame))
        except Exception as error:  # a lost connection raises whatever its transport calls it
            self.close()
            raise TunnelClosedError from error


def _written(
    method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes
) -> tuple[h11.Connection, bytes]:
    """Write a request, and be ready to read its answer.

    Raises:
        InvalidRequestError: it cannot be written.
    """
    own = [("Host", "phone"), ("Connection", "close")]
    if body or method not in {"GET", "HEAD"}:
        own.append(("Content-Length", str(len(body))))
    http = h11.Connection(h11.CLIENT)
    try:
        head = h11.Request(method=method, target=path, headers=[*own, *headers])
        events: tuple[h11.Event, ...] = (head, h11.Data(data=body), h11.EndOfMessage())
        written = b"".join(http.send(event) or b"" for event in events)
    except (h11.LocalProtocolError, UnicodeError):  # both may repeat what they complain about
        raise InvalidRequestError(Fault("request", "cannot be written as HTTP")) from None
    return http, written
