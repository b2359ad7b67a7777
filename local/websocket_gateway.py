"""API Gateway's websockets on one machine: upgrades, events as Lambda gets them, and its limits.

The management API stands here too, for this machine alone. It must not know any message, and must
never wait for a function on the event loop.
"""

import asyncio
import json
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from local.api_gateway import (
    MAX_WORKERS,
    STAGE,
    Context,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    body_of,
    problem,
)

MAX_MESSAGE_BYTES = 128 * 1024
MAX_FRAME_BYTES = 32 * 1024
MANAGEMENT = "/@connections/"
API_ID = "local"
# How long a peer may take to read what is sent to it, or to answer a close.
PATIENCE_SECONDS = 2.0
_GOING_AWAY, _BINARY_REFUSED, _LOST, _NOT_TOLD = 1001, 1003, 1006, 1005
_OK, _REDIRECTION = 200, 300

Function = Callable[[dict[str, Any], Any], Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Functions:
    """What Lambda would call for the three events of a connection."""

    connect: Function
    message: Function
    disconnect: Function


@dataclass(frozen=True)
class Limits:
    """What API Gateway allows a connection.

    Args:
        messages_at_once: how many messages of one connection are worked on at the same time.
    """

    idle_seconds: float = 600
    lifetime_seconds: float = 7200
    messages_at_once: int = 8


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's websocket, with an end that reaches the peer and does not wait for it for ever."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        super().__init__(*args, **kwargs)
        self.close_timeout = PATIENCE_SECONDS

    def data_received(self, data: bytes) -> None:
        """Take what the peer sends; after an error it is thrown away, until the peer ends."""
        if self.conn.parser_exc is None:
            super().data_received(data)
        else:
            self.conn.receive_data(data)

    def handle_parser_exception(self) -> None:
        """Tell the peer why: closing with bytes unread would reset the connection instead."""
        if self.conn.close_sent is not None:
            code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    async def run_asgi(self) -> None:
        """Run the application; whoever does not read what is left is cut off."""
        await super().run_asgi()
        self.loop.call_later(self.close_timeout, self.transport.abort)


SERVED_BY: dict[str, Any] = {
    "ws": Protocol,
    # websockets takes a pair: the whole message, a single frame
    "ws_max_size": (MAX_MESSAGE_BYTES, MAX_FRAME_BYTES),
    "ws_per_message_deflate": False,
    "ws_ping_interval": None,
}
"""What uvicorn must be told so that the limits hold; API Gateway neither packs nor pings."""


@dataclass(eq=False)
class _Connection:
    """One open websocket.

    Args:
        seen: when something last went either way, on the loop's clock.
    """

    scope: Scope
    transmit: Send
    seen: float
    connection_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    connected_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_active_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_open: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    talk: asyncio.Task[tuple[int, str]] | None = None

    @property
    def source_ip(self) -> str:
        """Tell the peer's address."""
        return str(self.scope["client"][0])

    @property
    def user_agent(self) -> str:
        """Tell what the peer calls itself."""
        values = (value for name, value in self.scope["headers"] if name.lower() == b"user-agent")
        return bytes(next(values, b"")).decode("latin-1")

    def touch(self) -> None:
        """Note that something went either way."""
        self.seen = asyncio.get_running_loop().time()
        self.last_active_at = datetime.now(UTC)

    async def send(self, text: str) -> bool:
        """Hand a text frame to the transport; tell whether it is on its way."""
        if not await self._transmit({"type": "websocket.send", "text": text}):
            return False
        self.touch()
        return True

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, once."""
        await self._transmit({"type": "websocket.close", "code": code, "reason": reason})

    async def _transmit(self, message: Message) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self.turn:
                if not self.is_open:
                    return False
                self.is_open = message["type"] == "websocket.send"
                await self.transmit(message)
        except TimeoutError:
            # the peer does not read: nothing more can reach it, not even a close
            self.is_open = False
            if self.talk is not None:
                self.talk.cancel()
            return False
        except OSError:
            self.is_open = False
            return False
        return True


class WebsocketGateway:
    """The websocket stage of an app, as an ASGI application, and its management API."""

    def __init__(
        self,
        functions: Functions,
        domain_name: str,
        limits: Limits | None = None,
        peers: frozenset[str] = frozenset(),
    ) -> None:
        """Take the functions, and what API Gateway would be called.

        Args:
            peers: addresses that may use the management API beside the loopback ones.
        """
        self._functions = functions
        self._domain_name = domain_name
        self._limits = limits or Limits()
        self._peers = peers
        self._workers = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="lambda-websocket")
        self._connections: dict[str, _Connection] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket from its upgrade to its end."""
        await receive()
        if not is_served(scope["raw_path"].decode("ascii")):
            await refuse(send, 404)
            return
        connection = _Connection(scope, send, asyncio.get_running_loop().time())
        status = await self._connect(connection)
        if not _OK <= status < _REDIRECTION:
            await refuse(send, status)
            return
        try:
            await send({"type": "websocket.accept"})
        except OSError:
            await self._disconnect(connection, _LOST, "")
            return
        connection.is_open = True
        connection.touch()
        self._connections[connection.connection_id] = connection
        connection.talk = asyncio.create_task(self._converse(connection, receive))
        code, reason = _LOST, "Connection is stalled"
        try:
            with suppress(asyncio.CancelledError):
                code, reason = await connection.talk
        finally:
            connection.is_open = False
            del self._connections[connection.connection_id]
        await self._disconnect(connection, code, reason)

    async def manage(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST | GET | DELETE /@connections/{id}`."""
        peer = scope["client"][0]
        if not _is_loopback(peer) and peer not in self._peers:
            await _fail(send, 403, "ForbiddenException", "Forbidden")
            return
        path = scope["raw_path"].decode("ascii")
        connection = self._connections.get(unquote(path.removeprefix(MANAGEMENT)))
        if scope["method"] == "POST":
            body = await body_of(receive, MAX_MESSAGE_BYTES)
            if body is None:
                await _fail(send, 413, "PayloadTooLargeException", "Message too long")
                return
            try:
                is_done = connection is not None and await connection.send(body.decode())
            except UnicodeDecodeError:
                await _fail(send, 400, "BadRequestException", "The message is no text")
                return
            status, told = _OK, b""
        elif scope["method"] == "GET":
            is_done = connection is not None and connection.is_open
            status, told = _OK, _description(connection) if connection else b""
        elif scope["method"] == "DELETE":
            is_done = connection is not None and connection.is_open
            if connection is not None:
                await connection.close(1000, "Connection Closed Normally")
            status, told = 204, b""
        else:
            await _fail(send, 405, "BadRequestException", "Method not allowed")
            return
        if is_done:
            await answer(send, status, {"Content-Type": "application/json"}, told)
        else:
            await _fail(send, 410, "GoneException", "Gone")

    def close(self) -> None:
        """Let what is running end."""
        self._workers.shutdown()

    async def _connect(self, connection: _Connection) -> int:
        """Ask whether a connection may open → the status of the upgrade."""
        event = self._event(connection, "CONNECT", "$connect")
        event |= _headers(connection.scope) | _query(connection.scope)
        try:
            result = await self._call(self._functions.connect, event)
            return int(result["statusCode"])
        except Exception:  # noqa: BLE001 - whatever a function raises, Lambda only reports
            _log.exception("The function for $connect failed")
            return 500

    async def _converse(self, connection: _Connection, receive: Receive) -> tuple[int, str]:
        """Hand messages on until the connection ends → its code and reason."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.lifetime_seconds
        places = asyncio.Semaphore(self._limits.messages_at_once)
        while True:
            idle_end = connection.seen + self._limits.idle_seconds
            left = min(end, idle_end) - loop.time()
            if left <= 0 and connection.is_open:
                reason = "Going away" if end <= idle_end else "Idle timeout"
                await connection.close(_GOING_AWAY, reason)
            try:
                message = await asyncio.wait_for(receive(), left if left > 0 else PATIENCE_SECONDS)
            except TimeoutError:
                if left <= 0:
                    return _LOST, ""
                continue
            if message["type"] == "websocket.disconnect":
                return message.get("code") or _NOT_TOLD, message.get("reason") or ""
            connection.touch()
            if message.get("text") is None:
                await connection.close(_BINARY_REFUSED, "Binary is not supported")
                continue
            # who sends faster than is answered is not read from
            await places.acquire()
            task = asyncio.create_task(self._message(connection, message["text"]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _: places.release())

    async def _message(self, connection: _Connection, text: str) -> None:
        event = self._event(connection, "MESSAGE", "$default")
        event["requestContext"] |= {"messageId": _short_id(), "messageDirection": "IN"}
        try:
            await self._call(self._functions.message, event | {"body": text})
        except Exception:  # noqa: BLE001 - whatever a function raises, Lambda only reports
            _log.exception("The function for $default failed")
            failure = {
                "message": "Internal server error",
                "connectionId": connection.connection_id,
                "requestId": event["requestContext"]["requestId"],
            }
            await connection.send(json.dumps(failure))

    async def _disconnect(self, connection: _Connection, code: int, reason: str) -> None:
        event = self._event(connection, "DISCONNECT", "$disconnect")
        event["requestContext"] |= {"disconnectStatusCode": code, "disconnectReason": reason}
        try:
            await self._call(self._functions.disconnect, event | _headers(connection.scope))
        except Exception:  # noqa: BLE001 - whatever a function raises, Lambda only reports
            _log.exception("The function for $disconnect failed")

    async def _call(self, function: Function, event: dict[str, Any]) -> Any:  # noqa: ANN401 - the function's own
        context = Context(event["requestContext"]["requestId"])
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, function, event, context)

    def _event(self, connection: _Connection, kind: str, route: str) -> dict[str, Any]:
        """Write what the events of API Gateway's websockets have in common."""
        now = datetime.now(UTC)
        return {
            "requestContext": {
                "routeKey": route,
                "eventType": kind,
                "extendedRequestId": _short_id(),
                "requestTime": f"{now:%d/%b/%Y:%H:%M:%S +0000}",
                "requestTimeEpoch": int(time.time() * 1000),
                "requestId": str(uuid.uuid4()),
                "stage": STAGE,
                "connectedAt": int(connection.connected_at.timestamp() * 1000),
                "identity": {
                    "sourceIp": connection.source_ip,
                    "userAgent": connection.user_agent,
                },
                "domainName": self._domain_name,
                "connectionId": connection.connection_id,
                "apiId": API_ID,
            },
            "isBase64Encoded": False,
        }


def is_served(path: str) -> bool:
    """Tell whether a websocket may be opened at a path: `/ws`, `/{domain}/devices` and below it."""
    if path == "/ws":
        return True
    segments = path.split("/")[1:]
    at_devices = len(segments) > 1 and bool(segments[0]) and segments[1] == "devices"
    return at_devices and segments[-1] != "sysclients"


def _is_loopback(peer: str) -> bool:
    """Tell whether a peer is this machine; what a proxy says of it may be no address at all."""
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False


def _headers(scope: Scope) -> dict[str, Any]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").title(), []).append(value.decode("latin-1"))
    headers["X-Forwarded-For"] = [scope["client"][0]]
    headers["X-Forwarded-Proto"] = ["https" if scope["scheme"] == "wss" else "http"]
    return {
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
    }


def _query(scope: Scope) -> dict[str, Any]:
    """Write the query string's members; API Gateway leaves them out when there are none."""
    query: dict[str, list[str]] = {}
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    for name, value in pairs:
        query.setdefault(name, []).append(value)
    if not query:
        return {}
    return {
        "queryStringParameters": {name: values[-1] for name, values in query.items()},
        "multiValueQueryStringParameters": query,
    }


def _short_id() -> str:
    return f"{secrets.token_urlsafe(11)}="


def _description(connection: _Connection) -> bytes:
    told: Mapping[str, Any] = {
        "connectedAt": connection.connected_at.isoformat(),
        "identity": {"sourceIp": connection.source_ip, "userAgent": connection.user_agent},
        "lastActiveAt": connection.last_active_at.isoformat(),
    }
    return json.dumps(told).encode()


async def refuse(send: Send, status: int) -> None:
    """Answer an upgrade with a status instead of a websocket."""
    headers, body = problem("refused", "The websocket was refused", status)
    written = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    with suppress(OSError):
        start = {"type": "websocket.http.response.start", "status": status, "headers": written}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": body})


async def _fail(send: Send, status: int, kind: str, text: str) -> None:
    """Answer as the management API does, so that botocore raises the error by its name."""
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": kind}
    await answer(send, status, headers, json.dumps({"message": text}).encode())
