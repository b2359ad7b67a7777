"""A real server on a free port, with functions of a test's own behind its websockets."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import uvicorn
from botocore.config import Config
from botocore.session import Session
from chalice.app import Chalice

from local import serve
from local.api_gateway import ApiGateway
from local.sysclients import SysclientGateway
from local.websocket_gateway import Functions, Limits, WebsocketGateway

HOST = "127.0.0.1"
PATIENCE_SECONDS = 10.0
Event = dict[str, Any]


@cache
def _session() -> Session:
    """Make what reads botocore's models, once."""
    return Session()


def eventually(is_so: Callable[[], object]) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@dataclass
class Server:
    """What a test sees of a running server, and what its functions were called with."""

    port: int
    events: list[Event] = field(default_factory=list)
    connect: Callable[[Event], Any] = lambda _: {"statusCode": 200}
    message: Callable[[Event], Any] = lambda _: {"statusCode": 200}
    is_ended: bool = False

    @property
    def url(self) -> str:
        """Tell where websockets are opened."""
        return f"ws://{HOST}:{self.port}"

    def kinds(self) -> list[str]:
        """Tell the kinds of events so far."""
        return [event["requestContext"]["eventType"] for event in self.events]

    def connection_id(self) -> str:
        """Tell the newest connection's id."""
        return str(self.events[-1]["requestContext"]["connectionId"])

    def functions(self) -> Functions:
        """Note every event, and answer as the test wants."""

        def connect(event: Event, _: object) -> Any:  # noqa: ANN401 - the function's own
            self.events.append(event)
            return self.connect(event)

        def message(event: Event, _: object) -> Any:  # noqa: ANN401 - the function's own
            self.events.append(event)
            return self.message(event)

        def disconnect(event: Event, _: object) -> None:
            self.events.append(event)

        return Functions(connect, message, disconnect)

    def management(self) -> Any:  # noqa: ANN401 - botocore's client has no types
        """Make a client of the management API, as the service has one."""
        return _session().create_client(
            "apigatewaymanagementapi",
            endpoint_url=f"http://{HOST}:{self.port}",
            config=Config(retries={"max_attempts": 0}),
        )


@contextmanager
def running(limits: Limits | None = None) -> Iterator[Server]:
    """Serve until the end of the block."""
    listener = socket.socket()
    listener.bind((HOST, 0))
    made = Server(listener.getsockname()[1])
    api = ApiGateway(Chalice("nothing", configure_logs=False), "nothing.example")
    websockets = WebsocketGateway(made.functions(), "sockets.example", limits)

    async def nothing() -> None:
        """Run beside the server."""

    front = serve.Front(
        serve.Service(api, websockets, SysclientGateway("nothing.example"), nothing, None, {})
    )
    server = uvicorn.Server(serve.configuration(front, HOST, made.port))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    eventually(lambda: server.started)
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        made.is_ended = not thread.is_alive()
        websockets.close()
        api.close()
        listener.close()
