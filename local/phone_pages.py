"""A phone's own web server, as Devices reaches it through the tunnel of the phone's sysclient.

    GET /!LINE                 runs a command, URL-encoded; 200 and what it did
    GET /cfg.txt               the configuration that a restart keeps, as lines
    GET /log.txt               the last commands, masked
    GET /CMD0/mod_cmd.xml?...  what the phone is, whatever was asked

Everything else is a 404. Paths are those that the vendor's Devices is seen to ask for; what the
answers look like is ours (docs/sysclient.md). It must not touch a socket: frames come in, and
those to send go out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote
from xml.sax.saxutils import quoteattr

import h11

from chalicelib.observability import redact
from gateway.frames import Recv, RecvResult, Send, SendResult, Shutdown, TunnelFrame
from gateway.tunnel import UnexpectedFrameError
from local.update_client import Step, UpdateClient, written_lines

PIECE_BYTES = 8_000
"""What phones are seen to send at once."""

MAX_REQUEST_BYTES = 65_536
"""The head of one; what stands behind it is read and dropped."""

_COMMAND = "/!"
_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 405: b"Method Not Allowed"}

Say = Callable[[str], None]
Ran = Callable[[Step], None]


@dataclass
class _Session:
    """One connection to the web server.

    Args:
        answer: what of it has not been sent yet.
        wanted: a recv that nothing could be sent for: at most this many bytes, 0 for any.
    """

    http: h11.Connection = field(
        default_factory=lambda: h11.Connection(
            h11.SERVER, max_incomplete_event_size=MAX_REQUEST_BYTES
        )
    )
    request: h11.Request | None = None
    answer: bytes = b""
    is_answered: bool = False
    wanted: int | None = None


@dataclass(frozen=True)
class _Page:
    status: int
    text: str = ""
    kind: str = "text/plain; charset=utf-8"


class PhonePages:
    """The web server of one phone, for one connection of its sysclient.

    Args:
        client: whom commands are for, and whose configuration is shown.
        log: lines to show, masked.
        ran: hears of each command that was run.
        say: takes a line for a person to read for each other request.
    """

    def __init__(self, client: UpdateClient, log: Iterable[str], ran: Ran, say: Say) -> None:
        self._client = client
        self._log = log
        self._ran = ran
        self._say = say
        self._sessions: dict[int, _Session] = {}

    @property
    def open_count(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def take(self, frame: TunnelFrame) -> list[TunnelFrame]:
        """Take a frame of Devices → what the phone says to it, in order.

        Raises:
            UnexpectedFrameError: only a phone says such things.
        """
        match frame:
            case Send():
                session = self._sessions.setdefault(frame.session_id, _Session())
                self._read(session, frame.data)
                return [SendResult(frame.session_id), *self._piece(frame.session_id)]
            case Recv():
                if frame.session_id in self._sessions:
                    self._sessions[frame.session_id].wanted = frame.length
                return self._piece(frame.session_id)
            case Shutdown():
                was_open = self._sessions.pop(frame.session_id, None) is not None
                return [Shutdown(frame.session_id)] if was_open else []
        raise UnexpectedFrameError

    def _piece(self, session_id: int) -> list[TunnelFrame]:
        """Bring the next piece if it is wanted; with nothing left, there is nothing to say."""
        session = self._sessions.get(session_id)
        if session is None or session.wanted is None or not session.answer:
            return []
        length = min(session.wanted or PIECE_BYTES, PIECE_BYTES)
        piece, session.answer = session.answer[:length], session.answer[length:]
        session.wanted = None
        return [RecvResult(session_id, piece)]

    def _read(self, session: _Session, data: bytes) -> None:
        """Read a piece of a request, and answer it once it is whole; what is behind is dropped."""
        if session.is_answered or not data:
            return
        session.http.receive_data(data)
        try:
            while (event := session.http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Request):
                    session.request = event
                if isinstance(event, h11.EndOfMessage) and session.request:
                    self._answer(session, self._page(session.request))
                    return
        except h11.RemoteProtocolError:
            self._say("    what came is no HTTP   [400]")
            self._answer(session, _Page(400))

    def _answer(self, session: _Session, page: _Page) -> None:
        body = page.text.encode()
        headers = [
            ("Content-Type", page.kind),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        head = h11.Response(status_code=page.status, headers=headers, reason=_REASONS[page.status])
        events: tuple[h11.Event, ...] = (head, h11.Data(data=body), h11.EndOfMessage())
        session.answer = b"".join(session.http.send(event) or b"" for event in events)
        session.is_answered = True

    def _page(self, request: h11.Request) -> _Page:
        target = request.target.decode("ascii")
        if request.method != b"GET":
            self._say(f"    {redact(unquote(target))}   [405]")
            return _Page(405)
        if target.startswith(_COMMAND):
            return self._run(unquote(target.removeprefix(_COMMAND)))
        page = self._shown(target.partition("?")[0])
        self._say(f"    {redact(unquote(target))}   [{page.status}]")
        return page

    def _run(self, line: str) -> _Page:
        hour = datetime.now().hour  # noqa: DTZ005 - the phone's local hour
        step = self._client.command(line, hour)
        self._ran(step)
        return _Page(200, f"{step.effect}\n")

    def _shown(self, path: str) -> _Page:
        match path:
            case "/cfg.txt":
                return _Page(200, _as_text(written_lines(self._client.written)))
            case "/log.txt":
                return _Page(200, _as_text(self._log))
            case "/CMD0/mod_cmd.xml":
                told = {
                    "product": self._client.product,
                    "mac": self._client.mac,
                    "prot": self._client.running["prot"],
                    "boot": self._client.running["boot"],
                }
                members = " ".join(f"{name}={quoteattr(value)}" for name, value in told.items())
                return _Page(200, f"<info {members}/>\n", "text/xml; charset=utf-8")
        return _Page(404)


def _as_text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)
