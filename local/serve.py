"""Starts the service on one machine for a network of its own: `make serve`, docs/offline.md.

It composes what the other modules here and the deployed code provide; `make run` (local/run.py)
adds to it. It must not contain any of the service's own rules, and no way to get a token.
"""

import asyncio
import ipaddress
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from chalicelib import event_bus, identity, observability, sending, settings
from chalicelib.observability import MASK
from chalicelib.storage import connection, sightings, vault
from local import dynamodb, tables
from local.api_gateway import STAGE, ApiGateway, Receive, Scope, Send, answer, problem
from local.streams import PATIENT_RETRIES, Schedule, StreamPump, in_threads
from local.sysclients import SysclientGateway
from local.websocket_gateway import MANAGEMENT, SERVED_BY, Functions, Limits, WebsocketGateway

STATE = Path(__file__).parent.parent / ".state"
PREFIX = "dialtone-"
Beside = Callable[[], Coroutine[Any, Any, None]]
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = "8000"
MAX_PORT = 65535
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound
REFUSED = 2
# What is still running at Ctrl+C gets this long.
GRACE_SECONDS = 3
# An engine that is not there should be said at once, not after botocore's minutes.
_KEY = re.compile(r"(?<=/passthrough/).+")
"""What of an address opens the pages of phones."""
_PATIENCE = Config(connect_timeout=2, read_timeout=20, retries={"max_attempts": 1})

DEMANDED = {
    "DYNAMODB_ENDPOINT": "the URL of a DynamoDB engine that keeps what it stores",
    "ISSUER": "the URL of the OpenID Connect issuer that people sign in with",
    "AUDIENCE": "the client id that the issuer makes ID tokens for",
}

BANNER = """\
Dialtone is ready on {address}

  phones ask     {public_url}/init       (/init at the root answers, too)
  the service    {public_url}/           (description: {public_url}/openapi.json)
  people         sign in with {issuer}

A platform-admin makes the first domain: POST {public_url}/domains
Ctrl+C ends it; the engine at {engine} and the keys in {keys} stay.
"""


@dataclass(frozen=True)
class Service:
    """What runs behind the port.

    Args:
        pump: the stream and the schedule, to run as long as the server does.
        table_names: concept → table name.
    """

    gateway: ApiGateway
    websockets: WebsocketGateway
    sysclients: SysclientGateway
    pump: Beside
    client: Any
    table_names: dict[str, str]


@contextmanager
def service(own: Mapping[str, str], address: str) -> Iterator[Service]:
    """Make keys, tables and the gateway; everything is ready when this yields.

    Args:
        own: settings that are added to the environment, engine and keys file among them.
        address: host and port, as in a URL.

    Raises:
        BotoCoreError, ClientError: the engine does not answer, or not as one.
        ValueError: a setting cannot be used.
        OSError: the keys file cannot be written.
    """
    dynamodb.use_local_credentials()
    os.environ.update(own)
    forget()
    used = settings.current()
    client = Session().create_client(
        "dynamodb", endpoint_url=used.dynamodb_endpoint, config=_PATIENCE
    )
    names = tables.create(client, PREFIX, used.tables)
    vault.write_new_keys(Path(used.keys_file))

    import app as deployed

    gateway = ApiGateway(deployed.app, address)
    functions = Functions(
        deployed.websocket_connect, deployed.websocket_message, deployed.websocket_disconnect
    )
    limits = _websocket_limits(os.environ)
    every_seconds = float(os.environ.get("SCHEDULE_SECONDS") or 60)
    websockets = WebsocketGateway(functions, address, limits, _peers(used.websocket_endpoint))
    streams_client = Session().create_client(
        "dynamodbstreams", endpoint_url=used.dynamodb_endpoint, config=_PATIENCE
    )

    def pumps(ending: threading.Event) -> Sequence[StreamPump | Schedule]:
        end = (ending.wait, ending.is_set)
        region = streams_client.meta.region_name
        stream = (streams_client, names["notifications"])
        return (
            StreamPump(*stream, deployed.follow_notifications, *end),
            StreamPump(*stream, deployed.hand_over, *end, max_retries=PATIENT_RETRIES),
            Schedule("every_minute", deployed.every_minute, every_seconds, region, *end),
            Schedule("hand_over_again", deployed.hand_over_again, every_seconds, region, *end),
        )

    try:
        sysclients = SysclientGateway(address)
        yield Service(gateway, websockets, sysclients, in_threads(pumps), client, names)
    finally:
        websockets.close()
        gateway.close()


def websocket_settings(host: str, port: int, public_url: str) -> dict[str, str]:
    """Tell where connections are made, and where the service speaks to them.

    Args:
        host: what the server listens on; the service itself prefers the loopback way.
        public_url: where others reach this machine, the stage included.
    """
    public = urlsplit(public_url)
    scheme = "wss" if public.scheme == "https" else "ws"
    own = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared with, not bound
    return {
        "WEBSOCKET_ENDPOINT": f"http://{address_of(own, port)}",
        "WEBSOCKET_URL": f"{scheme}://{public.netloc}/ws",
    }


def address_of(host: str, port: int) -> str:
    """Write host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _peers(endpoint: str) -> frozenset[str]:
    """Tell who may speak to connections: who calls from the address that the service calls."""
    host = urlsplit(endpoint).hostname
    if host is None:
        return frozenset()
    try:
        return frozenset({str(ipaddress.ip_address(host))})
    except ValueError:
        return frozenset({socket.gethostbyname(host)})


def _websocket_limits(environment: Mapping[str, str]) -> Limits:
    plain = Limits()
    return Limits(
        idle_seconds=float(environment.get("WEBSOCKET_IDLE_SECONDS") or plain.idle_seconds),
        lifetime_seconds=float(
            environment.get("WEBSOCKET_LIFETIME_SECONDS") or plain.lifetime_seconds
        ),
    )


def forget() -> None:
    """Drop everything that this process has cached, so that the settings count anew."""
    settings.current.cache_clear()
    connection.forget()
    vault.forget()
    identity.forget()
    sightings.forget()
    observability.forget()
    sending.forget()
    event_bus.forget()


class Front:
    """The port: the stage under `/api`, and `/init` at the root."""

    def __init__(self, behind: Service, *, say: bool = False) -> None:
        """Take what is behind the port, and whether to print a line for each request."""
        self.beside = (behind.pump, behind.sysclients.phones.watch)
        self._behind = behind
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket; what the service tells its connections is not noted."""
        if scope["type"] == "websocket" and self._behind.sysclients.is_served(scope):
            await self._behind.sysclients(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._behind.websockets(scope, receive, send)
            return
        if path_of(scope).startswith(MANAGEMENT):
            await self._behind.websockets.manage(scope, receive, send)
            return
        started = time.perf_counter()
        status: list[int] = []

        async def noting(message: Any) -> None:  # noqa: ANN401 - ASGI's own
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await send(message)

        await self.route(scope, receive, noting)
        if self._say and status:
            milliseconds = (time.perf_counter() - started) * 1000
            line = f"{datetime.now():%H:%M:%S} {scope['client'][0]:<12} {scope['method']:<6} "  # noqa: DTZ005 - a person's clock
            path = _KEY.sub(MASK, scope["path"])
            print(f"{line}{path:<40} {status[0]} {milliseconds:6.1f} ms", flush=True)

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find who answers."""
        path = path_of(scope)
        stage = f"/{STAGE}"
        if path in {"/", stage}:
            await answer(send, 307, {"Location": f"{stage}/"}, b"")
        elif path == "/init" or path.startswith(f"{stage}/"):
            below = {**scope, "path": path.removeprefix(stage)}
            await self._behind.gateway(below, receive, send)
        elif not await self._behind.sysclients.page(scope, send):
            await answer(send, 404, *problem("not-found", "There is nothing here", 404))


def path_of(scope: Scope) -> str:
    """Tell a request's path, not decoded."""
    return str(scope["raw_path"].decode("ascii"))


class _Server(uvicorn.Server):
    """Says that it is ready once it listens, and runs what is to run beside it."""

    def __init__(self, config: uvicorn.Config, banner: str, beside: Sequence[Beside]) -> None:
        super().__init__(config)
        self._banner = banner
        self._beside = beside
        self._running: list[asyncio.Task[None]] = []

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's signature
        await super().startup(sockets)
        if self.started:
            print(self._banner, flush=True)
            self._running = [asyncio.create_task(one()) for one in self._beside]

    async def shutdown(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's signature
        for task in self._running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await super().shutdown(sockets)


def listen(front: Front, host: str, port: int, banner: str, *beside: Beside) -> None:
    """Serve until Ctrl+C.

    Args:
        banner: printed once everything listens.
        beside: what runs as long as the server does, besides what the front needs.
    """
    config = configuration(front, host, port)
    # uvicorn raises the Ctrl+C that it was ended by once more, after its own clean end
    with suppress(KeyboardInterrupt):
        _Server(config, banner, (*front.beside, *beside)).run()


def configuration(front: Front, host: str, port: int) -> uvicorn.Config:
    """Say how uvicorn is to serve."""
    return uvicorn.Config(
        front,
        host=host,
        port=port,
        log_level="warning",
        lifespan="off",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **SERVED_BY,
    )


def faults_of(environment: Mapping[str, str]) -> list[str]:
    """Tell everything that keeps the service from starting, a sentence each."""
    demanded = dict(DEMANDED)
    if environment.get("HOST") in EVERY_ADDRESS:
        demanded["PUBLIC_URL"] = "where phones reach this machine, http://ADDRESS:PORT/api"
    faults = [
        f"{name} is not set: it must be {meaning}."
        for name, meaning in demanded.items()
        if not environment.get(name)
    ]
    port = environment.get("PORT") or DEFAULT_PORT
    if not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
        faults.append(f"PORT is {port!r}: it must be a number from 1 to {MAX_PORT}.")
    return faults


def main() -> int:
    """Serve until Ctrl+C.

    Returns:
        0, or 2 if it could not start.
    """
    faults = faults_of(os.environ)
    if faults:
        return _refuse(*faults)
    host = os.environ.get("HOST") or DEFAULT_HOST
    port = int(os.environ.get("PORT") or DEFAULT_PORT)
    address = address_of(host, port)
    public_url = os.environ.get("PUBLIC_URL") or f"http://{address}/{STAGE}"
    websocket = websocket_settings(host, port, public_url)
    own = {
        **websocket,
        "WEBSOCKET_URL": os.environ.get("WEBSOCKET_URL") or websocket["WEBSOCKET_URL"],
        "PUBLIC_URL": public_url,
        "KEYS_FILE": os.environ.get("KEYS_FILE") or str(STATE / "keys.json"),
        "EMIT_METRICS": os.environ.get("EMIT_METRICS") or "false",
    }
    with ExitStack() as stack:
        try:
            behind = stack.enter_context(service(own, address))
        except (BotoCoreError, ClientError) as error:
            engine = os.environ["DYNAMODB_ENDPOINT"]
            return _refuse(f"The engine at {engine} (DYNAMODB_ENDPOINT) is of no use: {error}")
        except ValueError as error:
            return _refuse(f"A setting cannot be used: {error}")
        except OSError as error:
            return _refuse(f"The keys cannot be kept (KEYS_FILE): {error}")
        used = settings.current()
        banner = BANNER.format(
            address=address,
            public_url=used.public_url,
            issuer=used.issuer,
            engine=used.dynamodb_endpoint,
            keys=used.keys_file,
        )
        listen(Front(behind), host, port, banner)
    return 0


def _refuse(*sentences: str) -> int:
    print("Dialtone does not start.", *sentences, sep="\n  ", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
