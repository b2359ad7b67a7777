"""Starts the whole service on one machine, with demo data: `make run`.

It composes what the other modules here and the deployed code provide, and must not contain any of
the service's own rules.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from botocore.session import Session

from chalicelib import identity, observability, settings
from chalicelib.storage import connection, sightings, vault
from local import demo, dynamodb, tables
from local.api_gateway import STAGE, ApiGateway, Receive, Scope, Send, answer, problem
from local.identity import AUDIENCE, Issuer

STATE = Path(__file__).parent.parent / ".state"
SWEEP_SECONDS = 5
DEFAULT_PORT = 8000
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}

BANNER = """\
Dialtone is ready on {url}

  the service    {url}/api/            (description: {url}/api/openapi.json)
  phones ask     {url}/init
  demo people    user1 … user20, admin, platform       domain example.com

Try it, in another shell:

  TOKEN=$(curl -s {url}/dev/token -d '{{"user": "user1"}}' | sed 's/.*: "//; s/".*//')
  curl -s {url}/api/me/codes -H "Authorization: Bearer $TOKEN" \\
    -H 'Content-Type: application/json' -d '{{"category": "Office"}}'
  make phone CODE="the 12 digits"{url_argument}
  curl -s {url}/api/me/phones -H "Authorization: Bearer $TOKEN"

Ctrl+C ends it; what it stored is gone then{kept}.
"""


@dataclass(frozen=True)
class Service:
    """What runs behind the port.

    Args:
        url: our own, without a final slash.
        table_names: concept → table name.
    """

    url: str
    gateway: ApiGateway
    issuer: Issuer
    client: Any
    table_names: dict[str, str]


@contextmanager
def service(port: int, endpoint: str = "", prefix: str = "dialtone-") -> Iterator[Service]:
    """Make tables, keys, demo data and the gateway; everything is ready when this yields.

    Args:
        endpoint: of another DynamoDB engine; empty starts moto's.
        prefix: of the table names.
    """
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        dynamodb.use_local_credentials()
        endpoint = endpoint or stack.enter_context(dynamodb.moto_engine())
        vault.write_new_keys(STATE / "keys.json")
        environment = {
            "DYNAMODB_ENDPOINT": endpoint,
            "PUBLIC_URL": f"{url}/{STAGE}",
            "KEYS_FILE": str(STATE / "keys.json"),
            "ISSUER": f"{url}/issuer",
            "AUDIENCE": AUDIENCE,
            **{f"{concept.upper()}_TABLE": f"{prefix}{concept}" for concept in settings.TABLES},
        }
        os.environ.update(environment)
        forget()
        client = Session().create_client("dynamodb", endpoint_url=endpoint)
        names = tables.create(client, prefix)
        demo.seed(datetime.now(UTC))

        from app import app

        gateway = ApiGateway(app, f"127.0.0.1:{port}")
        stack.callback(gateway.close)
        yield Service(url, gateway, Issuer(f"{url}/issuer", demo.PEOPLE), client, names)


def forget() -> None:
    """Drop everything that this process has cached, so that the settings count anew."""
    settings.current.cache_clear()
    connection.forget()
    vault.forget()
    identity.forget()
    sightings.forget()
    observability.forget()


class Front:
    """The port: the stage under `/api`, `/init` at the root, the issuer, and the dev token."""

    def __init__(self, behind: Service, *, say: bool = True) -> None:
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

        await self._route(scope, receive, noting)
        if self._say and status:
            milliseconds = (time.perf_counter() - started) * 1000
            line = f"{datetime.now():%H:%M:%S} {scope['client'][0]:<12} {scope['method']:<6} "  # noqa: DTZ005 - a person's clock
            print(f"{line}{scope['path']:<40} {status[0]} {milliseconds:6.1f} ms", flush=True)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["raw_path"].decode("ascii"))
        stage, issuer = f"/{STAGE}", "/issuer"
        if path == "/":
            await answer(send, 307, {"Location": f"{stage}/"}, b"")
        elif path == "/init" or path.startswith(f"{stage}/"):
            below = {**scope, "path": path.removeprefix(stage)}
            await self._behind.gateway(below, receive, send)
        elif path.removeprefix(issuer) in self._behind.issuer.documents():
            published = self._behind.issuer.documents()[path.removeprefix(issuer)]
            await answer(send, 200, _JSON, json.dumps(published).encode())
        elif path == "/dev/token" and scope["method"] == "POST":
            await self._dev_token(receive, send)
        else:
            await answer(send, 404, *problem("not-found", "There is nothing here", 404))

    async def _dev_token(self, receive: Receive, send: Send) -> None:
        try:
            wanted = json.loads((await receive()).get("body", b""))
            token = self._behind.issuer.token(wanted["user"], datetime.now(UTC))
        except (ValueError, KeyError, TypeError):
            title = 'Send {"user": "user1"}, with one of the demo people'
            await answer(send, 400, *problem("malformed", title, 400))
            return
        await answer(send, 200, _JSON, json.dumps({"token": token}).encode())


class _Server(uvicorn.Server):
    """Says that it is ready once it listens, and sweeps as TTL would while it runs."""

    def __init__(self, config: uvicorn.Config, behind: Service, banner: str) -> None:
        super().__init__(config)
        self._behind = behind
        self._banner = banner
        self._sweeper: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's signature
        await super().startup(sockets)
        if self.started:
            print(self._banner, flush=True)
            self._sweeper = asyncio.create_task(self._sweep())

    async def shutdown(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's signature
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await super().shutdown(sockets)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            arguments = (self._behind.client, self._behind.table_names, datetime.now(UTC))
            await asyncio.to_thread(tables.sweep, *arguments)


def main() -> None:
    """Serve until Ctrl+C."""
    port = int(os.environ.get("PORT", DEFAULT_PORT))
    endpoint = os.environ.get("DYNAMODB_ENDPOINT", "")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    os.environ.setdefault("EMIT_METRICS", "false")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with service(port, endpoint) as behind:
        banner = BANNER.format(
            url=behind.url,
            url_argument="" if port == DEFAULT_PORT else f" URL={behind.url}/init",
            kept=", for it lives in memory" if not endpoint else " not: another engine keeps it",
        )
        config = uvicorn.Config(
            Front(behind),
            host="127.0.0.1",
            port=port,
            log_level="warning",
            lifespan="off",
            access_log=False,
        )
        # uvicorn raises the Ctrl+C that it was ended by once more, after its own clean end
        with suppress(KeyboardInterrupt):
            _Server(config, behind, banner).run()


if __name__ == "__main__":
    main()
