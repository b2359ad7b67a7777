"""A phone's own web server, frame by frame."""

from collections import deque

import h11
import pytest

from gateway.frames import Recv, RecvResult, Send, SendResult, Shutdown, TunnelFrame
from gateway.tunnel import UnexpectedFrameError
from local.phone_pages import PIECE_BYTES, PhonePages
from local.update_client import Step, UpdateClient


class Web:
    """A phone's web server, and what it has told."""

    def __init__(self) -> None:
        self.client = UpdateClient("00-90-33-3d-12-34", "IP232", "127.0.0.1", "http://x/init")
        self.log = deque(["config write   [kept]"])
        self.steps: list[Step] = []
        self.said: list[str] = []
        self.pages = PhonePages(self.client, self.log, self.steps.append, self.said.append)

    def ask(self, target: str, method: str = "GET", session: int = 1) -> bytes:
        """Ask, bring all pieces, shut down → the whole answer."""
        assert self.pages.take(Send(session, request(target, method))) == [SendResult(session)]
        answer = b"".join(piece(frames) for frames in iter(lambda: self.recv(session), []))
        assert self.pages.take(Shutdown(session)) == [Shutdown(session)]
        return answer

    def recv(self, session: int = 1, length: int = 0) -> list[TunnelFrame]:
        return self.pages.take(Recv(session, length))


@pytest.fixture
def web() -> Web:
    """Return the web server of a phone from the factory."""
    return Web()


def request(target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: phone\r\n\r\n".encode()


def piece(frames: list[TunnelFrame]) -> bytes:
    (frame,) = frames
    assert isinstance(frame, RecvResult)
    assert len(frame.data) <= PIECE_BYTES
    return frame.data


def read(answer: bytes, method: str = "GET") -> tuple[int, bytes]:
    """Read an answer as HTTP → its status and body."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "phone")]))
    http.send(h11.EndOfMessage())
    http.receive_data(answer)
    head = http.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert http.trailing_data[0] == b""
    return head.status_code, body


def test_a_command_is_run_and_answered_with_what_it_did(web: Web) -> None:
    """Decoded once; whatever end of line is in it makes no second command."""
    assert read(web.ask("/!config%20add%20UP1%20%2Fpoll%205")) == (200, b"UP1 changed\n")
    assert web.client.pending["UP1"]["/poll"] == "5"
    assert read(web.ask("/!config+write"))[1] == b"not understood\n"
    assert read(web.ask("/!config%20write%0Aconfig%20activate"))[1] == b"not understood\n"
    assert [step.effect for step in web.steps] == [
        "UP1 changed",
        "not understood",
        "not understood",
    ]
    assert "/poll" not in web.client.written["UP1"]


def test_pages_show_what_a_restart_keeps_the_log_and_what_it_is(web: Web) -> None:
    """The configuration as lines that would make it; nothing else is there."""
    web.client.execute("config change SYSCLIENT ws%3A%2F%2Fx%2F%3Fa%3Db%2520c /sysadmin", 0)
    web.client.execute("config write\nconfig add UP1 /poll 5", 0)
    status, written = read(web.ask("/cfg.txt?x=1"))
    assert status == 200
    again = UpdateClient("00-90-33-3d-12-35", "IP232", "127.0.0.1", "http://y/init")
    again.execute(written.decode(), 0)
    assert again.pending == web.client.written
    assert read(web.ask("/log.txt")) == (200, b"config write   [kept]\r\n")
    status, told = read(web.ask("/CMD0/mod_cmd.xml?cmd=xml-info"))
    assert status == 200
    assert b'product="IP232" mac="00-90-33-3d-12-34" prot="130100" boot="130100"' in told
    assert read(web.ask("/PBX0/mod_cmd.xml")) == (404, b"")
    assert web.said[-1] == "    /PBX0/mod_cmd.xml   [404]"


@pytest.mark.parametrize("method", ["HEAD", "POST", "CONNECT"])
def test_only_get_is_understood(web: Web, method: str) -> None:
    """And nothing is run."""
    assert read(web.ask("/!config%20write", method), method) == (405, b"")
    assert web.steps == []


def test_what_is_no_http_is_answered_all_the_same(web: Web) -> None:
    """A bad request, once; what follows on that session is dropped."""
    assert web.pages.take(Send(1, b"\x16\x03\x01 hello\r\n\r\n")) == [SendResult(1)]
    assert web.pages.take(Send(1, request("/!config%20write"))) == [SendResult(1)]
    assert read(piece(web.recv())) == (400, b"")
    assert web.recv() == []
    assert web.steps == []


def test_requests_and_answers_come_in_pieces(web: Web) -> None:
    """A request is answered once it is whole; a recv that came before that is not forgotten."""
    whole = request("/!config%20add%20X%20/y%20" + "z" * 20_000)
    assert web.pages.take(Send(1, whole[:8_000])) == [SendResult(1)]
    assert web.recv() == []
    assert web.pages.take(Send(1, whole[8_000:-1])) == [SendResult(1)]
    taken, brought = web.pages.take(Send(1, whole[-1:]))
    assert (taken, read(piece([brought]))) == (SendResult(1), (200, b"X changed\n"))


def test_a_long_answer_comes_in_pieces_and_then_nothing(web: Web) -> None:
    """At most 8,000 bytes, or what was asked for if that is less."""
    web.client.execute(f"config add X /y {'z' * 20_000}\nconfig write", 0)
    assert web.pages.take(Send(1, request("/cfg.txt"))) == [SendResult(1)]
    first = piece(web.recv(length=100))
    assert len(first) == 100
    assert web.pages.take(Send(1, b"behind it")) == [SendResult(1)]
    rest = [piece(frames) for frames in iter(lambda: web.recv(length=2**32 - 1), [])]
    assert [len(each) for each in rest[:2]] == [8_000, 8_000]
    assert read(first + b"".join(rest))[1].count(b"z") == 20_000
    assert web.recv() == []


def test_sessions_are_apart(web: Web) -> None:
    """Any number at once, in any order; one that is not there says nothing."""
    targets = {7: "/log.txt", 8: "/cfg.txt", 2**32 - 1: "/nothing"}
    for session, target in targets.items():
        web.pages.take(Send(session, request(target)[:10]))
    assert web.pages.open_count == 3
    for session, target in reversed(targets.items()):
        web.pages.take(Send(session, request(target)[10:]))
    answers = [read(piece(web.recv(session))) for session in targets]
    assert [status for status, _ in answers] == [200, 200, 404]
    assert web.pages.take(Shutdown(8)) == [Shutdown(8)]
    assert web.pages.take(Shutdown(8)) == []
    assert web.recv(8) == []
    assert web.pages.open_count == 2


def test_an_empty_piece_ends_nothing(web: Web) -> None:
    """It is taken like any other."""
    whole = request("/log.txt")
    for data in (b"", whole[:5], b"", whole[5:], b""):
        assert web.pages.take(Send(1, data)) == [SendResult(1)]
    assert read(piece(web.recv()))[0] == 200


@pytest.mark.parametrize("frame", [RecvResult(1, b""), SendResult(1)])
def test_what_only_a_phone_says_is_refused(web: Web, frame: TunnelFrame) -> None:
    """Devices breaks the protocol."""
    with pytest.raises(UnexpectedFrameError):
        web.pages.take(frame)
