"""Websockets on one machine, over a real server: events, limits, and the management API."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from local import dynamodb, serve, websocket_gateway
from local.websocket_gateway import (
    MAX_FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    Functions,
    Limits,
    WebsocketGateway,
    is_served,
)
from tests.local.served import Served
from tests.local.websockets_served import PATIENCE_SECONDS, Event, Server, eventually, running

PATH = "/example.com/devices"


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve with API Gateway's own limits."""
    dynamodb.use_local_credentials()
    with running() as made:
        yield made


def opened(server: Server, path: str = PATH) -> ClientConnection:
    """Open a websocket; it is used as a context."""
    return connect(f"{server.url}{path}", legacy=True, ping_interval=None, proxy=None)


def close_code(socket: ClientConnection) -> int:
    """Wait for the server to close a websocket."""
    with pytest.raises(ConnectionClosed) as closed:
        read_to_the_end(socket)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def read_to_the_end(socket: ClientConnection) -> None:
    """Read until the connection ends, which raises."""
    while True:
        socket.recv(PATIENCE_SECONDS)


def echoing(server: Server) -> None:
    """Let the function send back what it gets, by the management API, as the service does."""
    management = server.management()

    def echo(event: Event) -> dict[str, int]:
        connection_id = event["requestContext"]["connectionId"]
        management.post_to_connection(ConnectionId=connection_id, Data=event["body"].encode())
        return {"statusCode": 200}

    server.message = echo


def test_a_connection_makes_the_events_that_api_gateway_makes(server: Server) -> None:
    with opened(server, f"{PATH}?a=1&a=2&b=") as socket:
        socket.send("hello")
        eventually(lambda: len(server.events) == 2)
        socket.close(4000, "enough")
    eventually(lambda: len(server.events) == 3)
    opening, message, closing = server.events
    assert opening["queryStringParameters"] == {"a": "2", "b": ""}
    assert opening["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": [""]}
    assert opening["headers"]["Host"] == f"127.0.0.1:{server.port}"
    assert opening["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert "body" not in opening
    assert message["body"] == "hello"
    assert message["requestContext"]["messageId"]
    assert closing["requestContext"]["disconnectStatusCode"] == 4000
    assert closing["requestContext"]["disconnectReason"] == "enough"
    contexts = [event["requestContext"] for event in server.events]
    assert [context["routeKey"] for context in contexts] == ["$connect", "$default", "$disconnect"]
    assert [context["eventType"] for context in contexts] == ["CONNECT", "MESSAGE", "DISCONNECT"]
    assert len({context["requestId"] for context in contexts}) == 3
    for event in server.events:
        context = event["requestContext"]
        assert event["isBase64Encoded"] is False
        assert context["connectionId"] == contexts[0]["connectionId"]
        assert context["connectedAt"] == contexts[0]["connectedAt"]
        assert context["requestTimeEpoch"] >= context["connectedAt"]
        assert (context["domainName"], context["stage"]) == ("sockets.example", "api")
        assert context["apiId"] == "local"
        assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert re.fullmatch(r"[\w-]{22,}", contexts[0]["connectionId"])


def test_without_a_query_string_the_event_has_none(server: Server) -> None:
    with opened(server, "/ws"):
        pass
    assert "queryStringParameters" not in server.events[0]


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_function_refuses_an_upgrade_with_its_status(server: Server, status: int) -> None:
    server.connect = lambda _: {"statusCode": status, "body": ""}
    with pytest.raises(InvalidStatus) as refused:
        opened(server)
    assert refused.value.response.status_code == status
    assert server.kinds() == ["CONNECT"]


def test_a_function_that_fails_refuses_the_upgrade(server: Server) -> None:
    server.connect = failing
    with pytest.raises(InvalidStatus) as refused:
        opened(server)
    assert refused.value.response.status_code == 500


def failing(_: Event) -> object:
    """Fail as a function may.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("broken on purpose")


@pytest.mark.parametrize(
    ("path", "is_right"),
    [
        ("/ws", True),
        ("/example.com/devices", True),
        ("/example.com/devices/devices-api", True),
        ("/example.com/devices/a/b", True),
        ("/example.com/devices/sysclients", False),
        ("/example.com/devices/a/sysclients", False),
        ("/", False),
        ("/ws/x", False),
        ("//devices", False),
        ("/devices", False),
        ("/api/me", False),
    ],
)
def test_websockets_open_at_their_paths_alone(path: str, is_right: bool) -> None:
    assert is_served(path) is is_right


def test_another_path_is_refused_and_no_function_is_called(server: Server) -> None:
    for path in ("/example.com/nothing/sysclients", "/nothing"):
        with pytest.raises(InvalidStatus) as refused:
            opened(server, path)
        assert refused.value.response.status_code == 404
    assert server.events == []


def test_a_phones_websocket_is_none_that_a_function_sees(server: Server) -> None:
    """A text is what no phone says; it is the gateway's own sessions that say so."""
    with opened(server, "/example.com/devices/sysclients") as socket:
        socket.send("{}")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1003, "a text frame")
    assert server.events == []


def test_a_function_that_fails_is_told_and_the_connection_stays(server: Server) -> None:
    server.message = failing
    with opened(server) as socket:
        for _ in range(2):
            socket.send("x")
            context = json.loads(socket.recv(PATIENCE_SECONDS))
            event = server.events[-1]["requestContext"]
            assert context == {
                "message": "Internal server error",
                "connectionId": event["connectionId"],
                "requestId": event["requestId"],
            }


def test_a_function_can_answer_while_it_runs(server: Server) -> None:
    echoing(server)
    with opened(server) as socket:
        socket.send("grüße")
        assert socket.recv(PATIENCE_SECONDS) == "grüße"


def test_binary_is_refused(server: Server) -> None:
    with opened(server) as socket:
        socket.send(b"\x00\x01")
        assert close_code(socket) == 1003
    eventually(lambda: server.kinds() == ["CONNECT", "DISCONNECT"])
    assert server.events[-1]["requestContext"]["disconnectStatusCode"] == 1003


def in_frames(size: int) -> list[str]:
    """Make a message of a size, in frames that are small enough."""
    whole, rest = divmod(size, MAX_FRAME_BYTES)
    return ["x" * MAX_FRAME_BYTES] * whole + ["x" * rest] * bool(rest)


def test_a_message_is_at_most_128_kb(server: Server) -> None:
    with opened(server) as socket:
        socket.send(in_frames(MAX_MESSAGE_BYTES))
        eventually(lambda: len(server.events) == 2)
        assert len(server.events[1]["body"]) == MAX_MESSAGE_BYTES
        # the server may end it before all is sent
        with suppress(ConnectionClosed):
            socket.send(in_frames(MAX_MESSAGE_BYTES + 1))
        assert close_code(socket) == 1009
    eventually(lambda: server.kinds() == ["CONNECT", "MESSAGE", "DISCONNECT"])
    assert server.events[-1]["requestContext"]["disconnectStatusCode"] == 1009


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 4 * 1024 * 1024])
def test_a_frame_is_at_most_32_kb(server: Server, size: int) -> None:
    with opened(server) as socket:
        socket.send("x" * MAX_FRAME_BYTES)
        eventually(lambda: len(server.events) == 2)
        with suppress(ConnectionClosed):
            socket.send("x" * size)
        assert close_code(socket) == 1009
    eventually(lambda: server.kinds() == ["CONNECT", "MESSAGE", "DISCONNECT"])


def test_an_idle_connection_is_cut_and_one_in_use_is_not() -> None:
    dynamodb.use_local_credentials()
    with running(Limits(idle_seconds=0.3)) as server:
        management = server.management()
        with opened(server) as socket:
            connection_id = server.connection_id()
            started = time.monotonic()
            for _ in range(5):
                time.sleep(0.1)
                management.post_to_connection(ConnectionId=connection_id, Data=b"still there?")
            assert close_code(socket) == 1001
            assert time.monotonic() - started > 0.75
        eventually(lambda: server.kinds() == ["CONNECT", "DISCONNECT"])
        assert server.events[-1]["requestContext"]["disconnectStatusCode"] == 1001


def test_no_connection_outlives_its_lifetime() -> None:
    with running(Limits(lifetime_seconds=0.3)) as server, opened(server) as socket:
        started = time.monotonic()

        def talk() -> None:
            while time.monotonic() - started < 0.25:
                socket.send("x")
                time.sleep(0.05)

        thread = threading.Thread(target=talk)
        thread.start()
        assert close_code(socket) == 1001
        assert time.monotonic() - started > 0.25
        thread.join()


def refused(call: Callable[[], object]) -> tuple[int, str]:
    """Make a call that is refused → status and name of the error."""
    with pytest.raises(ClientError) as error:
        call()
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_the_management_api_serves_botocore(server: Server) -> None:
    management = server.management()
    with opened(server) as socket:
        connection_id = server.connection_id()
        told = management.get_connection(ConnectionId=connection_id)
        assert told["ConnectedAt"] <= told["LastActiveAt"]
        assert told["Identity"]["SourceIp"] == "127.0.0.1"
        assert told["Identity"]["UserAgent"].startswith("Python")
        largest = b"x" * MAX_MESSAGE_BYTES
        management.post_to_connection(ConnectionId=connection_id, Data=largest)
        assert socket.recv(PATIENCE_SECONDS) == largest.decode()
        too_large = refused(
            lambda: management.post_to_connection(ConnectionId=connection_id, Data=largest + b"x")
        )
        assert too_large == (413, "PayloadTooLargeException")
        no_text = refused(
            lambda: management.post_to_connection(ConnectionId=connection_id, Data=b"\xff")
        )
        assert no_text == (400, "BadRequestException")
        management.delete_connection(ConnectionId=connection_id)
        assert close_code(socket) == 1000
    eventually(lambda: server.kinds()[-1] == "DISCONNECT")
    for call in (
        management.get_connection,
        management.delete_connection,
        lambda **who: management.post_to_connection(**who, Data=b"x"),
    ):
        with pytest.raises(management.exceptions.GoneException):
            call(ConnectionId=connection_id)


def test_a_connection_is_gone_once_its_peer_has_closed_it(server: Server) -> None:
    management = server.management()
    with opened(server):
        connection_id = server.connection_id()
    eventually(lambda: server.kinds()[-1] == "DISCONNECT")
    with pytest.raises(management.exceptions.GoneException):
        management.post_to_connection(ConnectionId=connection_id, Data=b"x")


def test_a_peer_that_does_not_read_is_gone_after_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever posts waits until the frame is on its way, but not for ever."""
    monkeypatch.setattr(websocket_gateway, "PATIENCE_SECONDS", 0.1)
    management = server.management()
    with opened(server) as socket:
        connection_id = server.connection_id()

        def flood() -> None:
            for _ in range(500):
                data = b"x" * MAX_MESSAGE_BYTES
                management.post_to_connection(ConnectionId=connection_id, Data=data)

        with pytest.raises(management.exceptions.GoneException):
            flood()
        eventually(lambda: server.kinds() == ["CONNECT", "DISCONNECT"])
        with pytest.raises(ConnectionClosed):
            read_to_the_end(socket)


def test_an_id_may_be_percent_encoded_and_methods_are_three(server: Server) -> None:
    with opened(server):
        connection_id = server.connection_id()
        encoded = "".join(f"%{ord(character):02X}" for character in connection_id)
        plain = Served(server.port)
        assert plain.ask("GET", f"/@connections/{encoded}")[0] == 200
        assert plain.ask("GET", f"/@connections/{connection_id}")[0] == 200
        assert plain.ask("PUT", f"/@connections/{connection_id}")[0] == 405


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        ("127.0.0.1", 410),
        ("127.9.9.9", 410),
        ("::1", 410),
        ("10.0.0.1", 410),
        ("10.0.0.2", 403),
        ("unknown", 403),
    ],
)
def test_the_management_api_is_for_this_machine_alone(peer: str, status: int) -> None:
    functions = Functions(failing_function, failing_function, failing_function)
    gateway = WebsocketGateway(functions, "x.example", peers=frozenset({"10.0.0.1"}))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's own
        sent.append(message)

    scope = {"method": "POST", "raw_path": b"/@connections/x", "client": (peer, 1)}
    asyncio.run(gateway.manage(scope, receive, send))
    assert sent[0]["status"] == status
    gateway.close()


def failing_function(event: Event, _: object) -> object:
    """Fail as a function may."""
    return failing(event)


def test_parallel_connections_are_not_mixed_up(server: Server) -> None:
    echoing(server)

    def talk(number: int) -> int:
        with opened(server) as socket:
            for turn in range(10):
                socket.send(f"{number}-{turn}")
            got = {socket.recv(PATIENCE_SECONDS) for _ in range(10)}
        return got == {f"{number}-{turn}" for turn in range(10)}

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(talk, range(16)))
    ids = {event["requestContext"]["connectionId"] for event in server.events}
    assert len(ids) == 16


def test_messages_of_a_connection_run_in_parallel_up_to_a_limit() -> None:
    at_once, most = 0, 0
    lock, go = threading.Lock(), threading.Event()

    def slow(_: Event) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        go.wait(PATIENCE_SECONDS)
        with lock:
            at_once -= 1

    with running(Limits(messages_at_once=3)) as server, opened(server) as socket:
        server.message = slow
        for number in range(6):
            socket.send(str(number))
        eventually(lambda: at_once == 3)
        time.sleep(0.05)
        go.set()
        eventually(lambda: server.kinds().count("MESSAGE") == 6)
        assert most == 3


def test_the_server_ends_promptly_with_connections_open() -> None:
    with running() as server:
        sockets = [opened(server) for _ in range(3)]
        started = time.monotonic()
    assert server.is_ended
    assert time.monotonic() - started < serve.GRACE_SECONDS
    for socket in sockets:
        assert close_code(socket) == 1012
        socket.close()
    assert server.kinds().count("DISCONNECT") == 3


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("localhost", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104 - nothing is bound
        ("127.0.0.2", "http://127.0.0.2:8000"),
        ("10.0.0.1", "http://10.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_the_service_reaches_its_connections_where_the_server_listens(
    host: str, endpoint: str
) -> None:
    told = serve.websocket_settings(host, 8000, "http://phones.example:8000/api")
    assert told["WEBSOCKET_ENDPOINT"] == endpoint
    assert told["WEBSOCKET_URL"] == "ws://phones.example:8000/ws"


def test_websockets_are_as_safe_as_the_address_that_others_use() -> None:
    told = serve.websocket_settings("127.0.0.1", 8000, "https://phones.example/api")
    assert told["WEBSOCKET_URL"] == "wss://phones.example/ws"
