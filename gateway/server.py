"""The server: websockets of phones on a port, and the checks of whoever keeps it running.

    GET /health                       200 as long as phones may come, 503 while they are sent away
    GET /{domain}/devices/sysclients  a websocket, binary; ?domain=&token=&category=
    GET /{domain}/devices/passthrough/{hw_id}/{key}/{path}  a page of a phone

It must not know what is said over a websocket.
"""

import asyncio
import http
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from chalicelib import observability, settings
from chalicelib.core import edge
from chalicelib.core.auto_provisioning import read_claim
from chalicelib.core.rate_limits import source_of
from gateway import passthrough
from gateway.frames import MAX_FRAME_BYTES
from gateway.phones import Phones
from gateway.session import Arrival, LostError

PING_SECONDS = 30.0
"""How often a phone is asked whether it is there; less than any load balancer waits."""

PONG_SECONDS = 20.0
"""How long it may take to say so; then it counts as gone."""

TAKE_SECONDS = 20.0
"""How long it may leave lie what it is sent; then it is cut, whoever waits for it meanwhile."""

MAX_UNTAKEN_BYTES = 2 * MAX_FRAME_BYTES
"""How much may lie there when it says something; nothing else bounds the answers to pings."""

CLOSE_SECONDS = 5.0
WORKERS = 16
"""Calls to the database at once; the others wait."""

RETRY_AFTER_SECONDS = 30
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound
_QUEUED_FRAMES = 4
_WRITE_BYTES = 16_384


def domain_of(path: str) -> str | None:
    """Tell whose phones come to a path: `/{domain}/devices/sysclients`; None for any other."""
    match path.split("/"):
        case ["", domain, "devices", "sysclients"] if domain:
            return unquote(domain)
    return None


def arrival_of(target: str, source: str) -> Arrival | None:
    """Read how a phone comes from the target of its request, None if that is no phone's."""
    url = urlsplit(target)
    domain = domain_of(url.path)
    if domain is None:
        return None
    return Arrival(domain, source, read_claim(dict(parse_qsl(url.query))))


class _Connection(ServerConnection):
    """A connection that is cut if its other end does not read.

    Without that, whoever sends to it waits for ever, also to close it or to ask if it is there.
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_write_buffer_size() > MAX_UNTAKEN_BYTES:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cut.cancel()


class _Socket:
    """A phone's websocket, as a session wants it."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes | str | None:
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            return None

    async def send(self, frame: bytes) -> None:
        try:
            await self._connection.send(frame)
        except ConnectionClosed as error:
            raise LostError from error

    async def settle(self) -> None:
        try:
            await (await self._connection.ping())
        except ConnectionClosed as error:
            raise LostError from error

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


class Gateway:
    """What answers at the port.

    Args:
        phones: who is connected.
    """

    def __init__(self, phones: Phones) -> None:
        self._phones = phones
        used = settings.current()
        self._hashes = used.edge_hashes
        self._demands_edge = used.demands_edge
        self._proxies = [ip_network(each) for each in used.gateway_proxies]

    async def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request that opens no websocket, or that may not open one; None: it may."""
        try:
            return await self._answer(connection, request)
        except Exception:  # noqa: BLE001 - the last line of defence, as in gateway/session.py
            observability.logger().exception("request failed")
            return _problem(http.HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong")

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/health":
            return self._health()
        came = self._arrival(connection, request.headers)
        if self._demands_edge and not came.came_by_edge:
            return _problem(http.HTTPStatus.FORBIDDEN, "Come through the edge")
        asked = passthrough.read(request.path, _lower(request.headers))
        if asked is not None:
            return _page(await passthrough.answer(asked, self._phones, self._phones.now()))
        if domain_of(path) is None:
            return _problem(http.HTTPStatus.NOT_FOUND, "There is nothing here")
        if not self._phones.has_room(source_of(came.address)):
            return _problem(http.HTTPStatus.SERVICE_UNAVAILABLE, "No room at this moment")
        return None

    async def serve(self, connection: ServerConnection) -> None:
        """Serve a websocket."""
        request = connection.request
        assert request is not None  # noqa: S101 - there is no websocket without
        came = self._arrival(connection, request.headers)
        arrival = arrival_of(request.path, source_of(came.address))
        assert arrival is not None  # noqa: S101 - it was let in by its path
        await self._phones.serve(_Socket(connection), arrival)

    def _health(self) -> Response:
        if self._phones.is_draining:
            return _problem(http.HTTPStatus.SERVICE_UNAVAILABLE, "Phones are sent away")
        return _json(http.HTTPStatus.OK, {"status": "ok"}, "application/json")

    def _arrival(self, connection: ServerConnection, headers: Headers) -> edge.Arrival:
        """Tell who calls: whoever is connected, unless that is a proxy of ours, which says it."""
        peer = str(connection.remote_address[0])
        told = headers.get_all("X-Forwarded-For")
        is_proxy = any(ip_address(peer) in network for network in self._proxies)
        if is_proxy and told:
            peer = told[-1].rpartition(",")[2].strip()
        return edge.arrival(_lower(headers), peer, "https", self._hashes)


@asynccontextmanager
async def serving(host: str, port: int) -> AsyncIterator[tuple[Server, Phones]]:
    """Serve phones on a port for as long as this is entered.

    Args:
        port: 0 for any that is free.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKERS, "store"))
    phones = Phones()
    gateway = Gateway(phones)
    async with serve(
        gateway.serve,
        host,
        port,
        process_request=gateway.answer,
        create_connection=_Connection,
        compression=None,
        max_size=MAX_FRAME_BYTES,
        max_queue=_QUEUED_FRAMES,
        write_limit=_WRITE_BYTES,
        ping_interval=PING_SECONDS,
        ping_timeout=PONG_SECONDS,
        open_timeout=passthrough.FORWARD_SECONDS + CLOSE_SECONDS,  # pages of phones come before it
        close_timeout=CLOSE_SECONDS,
        server_header=None,
        logger=_silent(),
    ) as server:
        bound = next(iter(server.sockets)).getsockname()[1]
        phones.address = f"{_reached_at(host)}:{bound}"
        beside = [asyncio.create_task(one) for one in (phones.watch(), phones.report())]
        try:
            yield server, phones
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


async def main(say: Callable[[str], None]) -> None:
    """Serve until the process is told to end, and then let phones go one after the other.

    Args:
        say: is told once phones may come.
    """
    used = settings.current()
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with serving(used.gateway_host, used.gateway_port) as (_, phones):
        say(f"phones may come to port {used.gateway_port}")
        await ending.wait()
        await phones.drain(used.gateway_drain_seconds)
    observability.logger().info("ended")


def _lower(headers: Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.raw_items()}


def _page(page: passthrough.Page) -> Response:
    """Answer with a page of a phone."""
    if page.body is None:
        return _problem(http.HTTPStatus(page.status), page.title)
    length = str(len(page.body))
    headers = Headers({**page.headers, "Content-Length": length, "Connection": "close"})
    return Response(page.status, "", headers, page.body)


def _silent() -> logging.Logger:
    """Make a logger that says nothing: of whoever knocks and is no websocket, and of their URLs."""
    silent = logging.getLogger("gateway.websockets")
    silent.setLevel(logging.CRITICAL + 1)
    return silent


def _reached_at(host: str) -> str:
    """Tell where other processes reach this one."""
    if host not in EVERY_ADDRESS:
        return host
    return socket.gethostbyname(socket.gethostname())


def _json(status: http.HTTPStatus, told: dict[str, object], kind: str) -> Response:
    body = json.dumps(told).encode()
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close",
        }
    )
    if status is http.HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Response(status, status.phrase, headers, body)


def _problem(status: http.HTTPStatus, title: str) -> Response:
    """Answer with an error. Source: RFC 9457."""
    told: dict[str, object] = {"type": "about:blank", "title": title, "status": int(status)}
    return _json(status, told, "application/problem+json")
