"""Starts the service on one machine for a network of its own: `make serve`, docs/offline.md.

It composes what the other modules here and the deployed code provide; `make run` (local/run.py)
adds to it. It must not contain any of the service's own rules, and no way to get a token.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from chalicelib import identity, observability, settings
from chalicelib.storage import connection, sightings, vault
from local import dynamodb, tables
from local.api_gateway import STAGE, ApiGateway, Receive, Scope, Send, answer, problem

STATE = Path(__file__).parent.parent / ".state"
PREFIX = "dialtone-"
Beside = Callable[[], Coroutine[Any, Any, None]]
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = "8000"
MAX_PORT = 65535
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound
REFUSED = 2
# An engine that is not there should be said at once, not after botocore's minutes.
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
        table_names: concept → table name.
    """

    gateway: ApiGateway
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

    from app import app

    gateway = ApiGateway(app, address)
    try:
        yield Service(gateway, client, names)
    finally:
        gateway.close()


def forget() -> None:
    """Drop everything that this process has cached, so that the settings count anew."""
    settings.current.cache_clear()
    connection.forget()
    vault.forget()
    identity.forget()
    sightings.forget()
    observability.forget()


class Front:
    """The port: the stage under `/api`, and `/init` at the root."""

    def __init__(self, behind: Service, *, say: bool = False) -> None:
        """Take what is behind the port, and whether to print a line for each request."""
        self._behind = behind
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
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
            print(f"{line}{scope['path']:<40} {status[0]} {milliseconds:6.1f} ms", flush=True)

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find who answers."""
        path = path_of(scope)
        stage = f"/{STAGE}"
        if path == "/":
            await answer(send, 307, {"Location": f"{stage}/"}, b"")
        elif path == "/init" or path.startswith(f"{stage}/"):
            below = {**scope, "path": path.removeprefix(stage)}
            await self._behind.gateway(below, receive, send)
        else:
            await answer(send, 404, *problem("not-found", "There is nothing here", 404))


def path_of(scope: Scope) -> str:
    """Tell a request's path, not decoded."""
    return str(scope["raw_path"].decode("ascii"))


class _Server(uvicorn.Server):
    """Says that it is ready once it listens, and runs what is to run beside it."""

    def __init__(self, config: uvicorn.Config, banner: str, beside: Beside | None) -> None:
        super().__init__(config)
        self._banner = banner
        self._beside = beside
        self._running: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's signature
        await super().startup(sockets)
        if self.started:
            print(self._banner, flush=True)
            if self._beside is not None:
                self._running = asyncio.create_task(self._beside())

    async def shutdown(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's signature
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        await super().shutdown(sockets)


def listen(front: Front, host: str, port: int, banner: str, beside: Beside | None = None) -> None:
    """Serve until Ctrl+C.

    Args:
        banner: printed once everything listens.
        beside: runs as long as the server does.
    """
    config = uvicorn.Config(
        front,
        host=host,
        port=port,
        log_level="warning",
        lifespan="off",
        access_log=False,
    )
    # uvicorn raises the Ctrl+C that it was ended by once more, after its own clean end
    with suppress(KeyboardInterrupt):
        _Server(config, banner, beside).run()


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
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    own = {
        "PUBLIC_URL": os.environ.get("PUBLIC_URL") or f"http://{address}/{STAGE}",
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
