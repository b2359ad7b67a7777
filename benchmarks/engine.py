"""Starts the service on AWS's DynamoDB Local, and listens to what it asks of it.

It must not measure anything itself.
"""

import contextlib
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import Session

from chalicelib import observability, settings
from chalicelib.storage import connection, vault
from local import demo, dynamodb, tables
from local.identity import AUDIENCE, Issuer
from local.serve import forget
from tests.conftest import dynamodb_local
from tests.infra import templates

ROOT = Path(__file__).parent.parent
STATE = ROOT / ".state" / "benchmarks"
KEYS = STATE / "keys.json"
PREFIX, RAW_PREFIX = "bench-", "bare-"
"""Of our tables, and of those into which bare botocore writes the same once more."""

OUTSIDE = dict(os.environ)
"""The environment that this process was started with."""

nowhere = io.StringIO()
"""Where logs and metrics go while they are part of what is measured."""


@dataclass(frozen=True)
class Service:
    """The service on an engine, with demo data and an issuer that signs for the demo people."""

    endpoint: str
    issuer: Issuer

    def signed_in(self, name: str) -> dict[str, str]:
        """Make the headers of a demo person's request."""
        return {"authorization": f"Bearer {self.issuer.token(name, datetime.now(UTC))}"}


@contextmanager
def service() -> Iterator[Service]:
    """Start the engine and the issuer, and let this process use them."""
    dynamodb.use_local_credentials()
    STATE.mkdir(parents=True, exist_ok=True)
    vault.write_new_keys(KEYS)
    with dynamodb_local(ROOT / ".engine") as endpoint, _issuing() as issuer:
        os.environ.update(
            {
                "DYNAMODB_ENDPOINT": endpoint,
                "KEYS_FILE": str(KEYS),
                "ISSUER": issuer.url,
                "AUDIENCE": AUDIENCE,
                "PUBLIC_URL": "https://d.example/api",
                "GUESSES_BURST": "1000000",
                "ISSUES_BURST": "1000000",
            }
        )
        made = Service(endpoint, issuer)
        create_tables(made, PREFIX)
        yield made


def create_tables(made: Service, prefix: str) -> None:
    """Create tables with the demo data, and let this process use them."""
    tables.create(Session().create_client("dynamodb", endpoint_url=made.endpoint), prefix)
    use_tables(prefix)
    demo.seed(datetime.now(UTC))


def use_tables(prefix: str) -> None:
    """Let this process use other tables of the same engine from now on."""
    os.environ.update(named(prefix))
    forget()
    with contextlib.redirect_stdout(nowhere):
        observability.logger()  # it keeps the output that it finds


def named(prefix: str) -> dict[str, str]:
    """Name tables as the environment does."""
    return {f"{name.upper()}_TABLE": f"{prefix}{name}" for name in settings.TABLES}


@cache
def packaged() -> Path:
    """Package once, as `make package` does; returns the folder."""
    folder = STATE / "package"
    shutil.rmtree(folder, ignore_errors=True)
    return templates.package(folder)


@contextmanager
def _issuing() -> Iterator[Issuer]:
    """Publish an issuer's documents on a loopback port."""

    class Published(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing of each call."""

        def do_GET(self) -> None:
            """Answer with a document."""
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(issuer.documents()[self.path]).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Published)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}", demo.PEOPLE)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Call = tuple[str, dict[str, Any]]
Real = Callable[[str, dict[str, Any]], Any]


@contextmanager
def calls_through(watch: Callable[[Real, str, dict[str, Any]], Any]) -> Iterator[None]:
    """Let something stand around each call to DynamoDB.

    Args:
        watch: gets botocore's own call, the operation and its arguments, and answers.
    """
    client = connection.shared().client
    real = client._make_api_call  # noqa: SLF001 - the call itself, and nothing around it
    setattr(client, "_make_api_call", partial(watch, real))  # noqa: B010 - types know it as a method
    try:
        yield
    finally:
        setattr(client, "_make_api_call", real)  # noqa: B010 - see above


@contextmanager
def listening() -> Iterator[dict[int, list[Call]]]:
    """Note what is asked of DynamoDB meanwhile.

    Yields:
        Thread → its calls, in their order.
    """
    heard: dict[int, list[Call]] = {}

    def note(real: Real, operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's own
        # botocore adds its token to the arguments
        heard.setdefault(threading.get_ident(), []).append((operation, dict(arguments)))
        return real(operation, arguments)

    with calls_through(note):
        yield heard


class Bare:
    """Botocore alone, making the same calls once more."""

    def __init__(self, endpoint: str) -> None:
        """Make its client, without what costs it time and us none, and tables of its own."""
        config = Config(parameter_validation=False, max_pool_connections=256)
        self._client = Session().create_client("dynamodb", endpoint_url=endpoint, config=config)
        tables.create(self._client, RAW_PREFIX)

    def call(self, call: Call) -> None:
        """Make one call."""
        operation, arguments = call
        self._client._make_api_call(operation, arguments)  # noqa: SLF001 - as ours is made


def renamed(call: Call) -> Call:
    """Turn a call to our tables into one to those of bare botocore."""
    operation, arguments = call
    return operation, _renamed(arguments)


def _renamed(value: Any) -> Any:  # noqa: ANN401 - DynamoDB's own JSON
    if isinstance(value, dict):
        return {_renamed(name): _renamed(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_renamed(member) for member in value]
    if isinstance(value, str) and value.startswith(PREFIX):
        return RAW_PREFIX + value.removeprefix(PREFIX)
    return value
