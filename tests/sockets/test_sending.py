import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chalicelib import sending, settings
from chalicelib.core.errors import NotDeliveredError
from local import dynamodb

ID = "L0SM9cOFvHcCIhw="
PATH = "/api/@connections/L0SM9cOFvHcCIhw%3D"


class Gateway(ThreadingHTTPServer):
    """Answers every call alike, and keeps what it was called with."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.calls: list[tuple[str, str, bytes]] = []
        self.status = 200
        self.body = b"{}"
        self.error_type = ""
        self.hangs = threading.Event()
        self.hangs.set()


class Call(BaseHTTPRequestHandler):
    """One call."""

    server: Gateway

    def do_POST(self) -> None:
        """Answer as the test wants it."""
        self.server.hangs.wait(5)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.calls.append((self.command, self.path, body))
        self.send_response(self.server.status)
        if self.server.error_type:
            self.send_header("x-amzn-ErrorType", self.server.error_type)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_DELETE = do_POST  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Be silent."""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """Serve the management API, and let the service find it."""
    dynamodb.use_local_credentials()
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        use(f"http://127.0.0.1:{server.server_port}/api", monkeypatch)
        yield server
        server.hangs.set()
        server.shutdown()
        thread.join()
    sending.forget()


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service send to this URL."""
    used = replace(settings.Settings(), websocket_endpoint=url)
    monkeypatch.setattr(settings, "current", cache(lambda: used))
    sending.forget()


def test_a_message_is_posted_as_it_is(gateway: Gateway) -> None:
    """As UTF-8, to the connection's own path, its id encoded."""
    assert sending.post(ID, '{"name":"ü"}') is True
    assert gateway.calls == [("POST", PATH, '{"name":"ü"}'.encode())]


def test_a_connection_is_closed(gateway: Gateway) -> None:
    """By a DELETE to its own path."""
    gateway.status = 204
    gateway.body = b""
    assert sending.close(ID) is True
    assert gateway.calls == [("DELETE", PATH, b"")]


def test_a_connection_that_is_gone_is_no_trouble(gateway: Gateway) -> None:
    """API Gateway says 410, and the caller that nobody is there."""
    gateway.status, gateway.error_type = 410, "GoneException"
    assert sending.post(ID, "x") is False
    assert sending.close(ID) is False
    assert len(gateway.calls) == 2


def test_gone_without_a_name_is_gone(gateway: Gateway) -> None:
    """The status alone is enough."""
    gateway.status = 410
    assert sending.post(ID, "x") is False


@pytest.mark.parametrize(
    ("status", "error_type", "body"),
    [
        (429, "LimitExceededException", b"{}"),
        (413, "PayloadTooLargeException", b'{"message":"too large"}'),
        (403, "ForbiddenException", b"{}"),
        (403, "", b'{"message":"Forbidden"}'),
        (404, "", b"{}"),
        (500, "", b"{}"),
        (500, "InternalServerError", b"<html>no JSON</html>"),
        (503, "", b""),
        (400, "", b"\xff\xfe"),
        (301, "", b"{}"),
    ],
)
def test_trouble_is_not_delivered(
    gateway: Gateway, status: int, error_type: str, body: bytes
) -> None:
    """Whatever it is, nothing is tried again here."""
    gateway.status, gateway.error_type, gateway.body = status, error_type, body
    with pytest.raises(NotDeliveredError):
        sending.post(ID, "x")
    with pytest.raises(NotDeliveredError):
        sending.close(ID)
    assert len(gateway.calls) == 2


def test_silence_is_not_delivered(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than the time for it."""
    monkeypatch.setattr(sending, "TIMEOUT_SECONDS", 0.1)
    sending.forget()
    gateway.hangs.clear()
    with pytest.raises(NotDeliveredError):
        sending.post(ID, "x")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/api", "nonsense", ""])
def test_an_endpoint_that_is_none_is_not_delivered(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Refused connections, settings that are no URL, and none at all."""
    use(url, monkeypatch)
    with pytest.raises(NotDeliveredError):
        sending.post(ID, "x")
    assert gateway.calls == []


def test_an_odd_connection_id_never_leaves_its_path(gateway: Gateway) -> None:
    """It is one segment of the path, whatever it is."""
    assert sending.post("a/../b?c#d", "x") is True
    assert gateway.calls[0][1] == "/api/@connections/a%2F..%2Fb%3Fc%23d"


def test_settings_count_anew_after_forgetting(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is made once, until then."""
    assert sending.post(ID, "x") is True
    base = settings.current().websocket_endpoint
    use(f"{base}/v2", monkeypatch)
    assert sending.post(ID, "x") is True
    assert [path for _, path, _ in gateway.calls] == [PATH, PATH.replace("/api/", "/api/v2/")]
