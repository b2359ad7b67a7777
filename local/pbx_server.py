"""The PBX to test against as a server, in a thread of a test's or as a process: `make pbx`.

It must not know any message (local/pbx_conversation.py).
"""

import argparse
import json
import signal
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync import server as websockets
from websockets.sync.server import ServerConnection

from local import demo
from local.pbx import APP, PASSWORD, Pbx
from local.pbx_conversation import Conversation

HOST = "127.0.0.1"
DEFAULT_PORT = 8100
PATH = "/PBX0/APPS/websocket"
# How long a peer may take to answer a close.
PATIENCE_SECONDS = 1.0

BANNER = """\
A PBX is at {url}

  app object  {app}    (password {password})
  users       {users}

Ctrl+C ends it; what it knows {kept}.
"""


class PbxServer:
    """A PBX that is listening.

    Args:
        pbx: what it knows; tests may change it while it runs.
        tls: None for plain websockets.
    """

    def __init__(self, pbx: Pbx, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.pbx = pbx
        self._stopping = threading.Event()
        self._server = websockets.serve(
            self._converse,
            host,
            port,
            ssl=tls,
            process_request=self._answer,
            ping_interval=None,
            close_timeout=PATIENCE_SECONDS,
        )
        self.port = int(self._server.socket.getsockname()[1])
        self.url = f"{'wss' if tls else 'ws'}://{host}:{self.port}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="pbx")
        self._thread.start()

    def stop(self) -> None:
        """Cut every connection and listen no longer, as a PBX that loses its power does."""
        self._stopping.set()
        for connection in self._server.connections:
            _cut(connection)
        self._server.shutdown()
        self._thread.join()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer `GET /users` for people and scripts of this machine; None opens a websocket."""
        path = request.path.partition("?")[0]
        if path == PATH:
            return None
        if path != "/users":
            return connection.respond(HTTPStatus.NOT_FOUND, "There is nothing here\n")
        if not ip_address(connection.remote_address[0]).is_loopback:
            return connection.respond(HTTPStatus.FORBIDDEN, "Only from this machine\n")
        users = [asdict(user) for user in self.pbx.users()]
        response = connection.respond(HTTPStatus.OK, f"{json.dumps(users, indent=1)}\n")
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    def _converse(self, connection: ServerConnection) -> None:
        def tell(text: str) -> None:
            with suppress(ConnectionClosed):
                connection.send(text)

        conversation = Conversation(self.pbx, tell)
        try:
            with suppress(ConnectionClosed):
                for received in connection:
                    answers = conversation.received(received) if isinstance(received, str) else []
                    if conversation.is_cut or self._stopping.wait(self.pbx.delay_seconds):
                        _cut(connection)
                        return
                    for answer in answers:
                        connection.send(answer)
                    if conversation.is_over:
                        return
        finally:
            conversation.end()


@contextmanager
def serve(
    pbx: Pbx, host: str = HOST, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[PbxServer]:
    """Serve a PBX in a thread of its own until the end of the block.

    Args:
        port: 0 for a free one.
        tls: for `wss://`.

    Raises:
        OSError: the port is not free.
    """
    server = PbxServer(pbx, host, port, tls)
    try:
        yield server
    finally:
        server.stop()


def seed(pbx: Pbx) -> None:
    """Add the demo users, those that are not there yet."""
    known = {user.h323 for user in pbx.users()}
    for position, person in enumerate(demo.PEOPLE):
        if person.domain == demo.DOMAIN and not person.roles and person.sip not in known:
            number = str(demo.FIRST_NUMBER + position)
            pbx.add_user(person.sip, cn=person.name, e164=number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl+C.

    Returns:
        0, or 2 if the port is not free.
    """
    parser = argparse.ArgumentParser(
        prog="python -m local.pbx", description="A PBX to test against."
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--file", type=Path, help="where its users are kept; default: in memory")
    parser.add_argument("--users", help="as user1,user2: add them, instead of the demo users")
    given = parser.parse_args(arguments)
    # a process in the background of a script ignores Ctrl+C, and a script ends it with a TERM
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    pbx = Pbx(given.file)
    if given.users:
        known = {user.h323 for user in pbx.users()}
        for h323 in sorted({name.strip() for name in given.users.split(",")} - known):
            pbx.add_user(h323)
    elif not pbx.users():
        seed(pbx)
    try:
        with serve(pbx, port=given.port) as server:
            kept = f"is kept in {given.file}" if given.file else "is gone then"
            users = f"http://{HOST}:{server.port}/users"
            print(
                BANNER.format(url=server.url, app=APP, password=PASSWORD, users=users, kept=kept),
                flush=True,
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"The port {given.port} is not free: {error}")
    return 2


def _cut(connection: ServerConnection) -> None:
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
