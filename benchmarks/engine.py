"""Starts the service on AWS's DynamoDB Local, and listens to what it asks of it.

It must not measure anything itself.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import Session

from chalicelib import identity, observability, settings
from chalicelib.storage import connection, vault
from local import demo, dynamodb, tables
from local.identity import AUDIENCE, Issuer
from local.serve import forget

ROOT = Path(__file__).parent.parent
ISSUER = "http://127.0.0.1/issuer"
PREFIX, RAW_PREFIX = "bench-", "bare-"
"""Of our tables, and of those into which bare botocore writes the same once more."""

nowhere = io.StringIO()
"""Where logs and metrics go while they are part of what is measured."""


@contextmanager
def service() -> Iterator[str]:
    """Start the engine with the demo data, and let this process use it.

    Yields:
        The engine's endpoint URL.
    """
    from tests.conftest import dynamodb_local

    dynamodb.use_local_credentials()
    with dynamodb_local(ROOT / ".engine") as endpoint:
        keys = ROOT / ".state" / "keys.json"
        vault.write_new_keys(keys)
        os.environ.update(
            {
                "DYNAMODB_ENDPOINT": endpoint,
                "KEYS_FILE": str(keys),
                "ISSUER": ISSUER,
                "AUDIENCE": AUDIENCE,
                "PUBLIC_URL": "https://d.example/api",
                "GUESSES_BURST": "1000000",
                "ISSUES_BURST": "1000000",
                **{f"{name.upper()}_TABLE": f"{PREFIX}{name}" for name in settings.TABLES},
            }
        )
        forget()
        with contextlib.redirect_stdout(nowhere):
            observability.logger()  # it keeps the output that it finds
        client = Session().create_client("dynamodb", endpoint_url=endpoint)
        tables.create(client, PREFIX)
        demo.seed(datetime.now(UTC))
        yield endpoint


def issuer() -> tuple[Issuer, dict[str, Any]]:
    """Make an issuer whose documents this process reads without a network."""
    made = Issuer(ISSUER, demo.PEOPLE)
    documents = {f"{ISSUER}{path}": body for path, body in made.documents().items()}
    setattr(identity, "_get_json", documents.__getitem__)  # noqa: B010 - types know it as a function
    return made, documents


def event(method: str, path: str, query: dict[str, str], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - an event
    """Make an event as API Gateway does."""
    route = more.pop("route", path)
    return {
        "resource": route,
        "path": path,
        "httpMethod": method,
        "headers": {},
        "multiValueHeaders": {},
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} or None,
        "pathParameters": None,
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
        "requestContext": {
            "resourcePath": route,
            "httpMethod": method,
            "requestId": "r",
            "stage": "api",
            "domainName": "d.example",
            "identity": {"sourceIp": more.pop("source", "192.0.2.1")},
        },
        **more,
    }


Call = tuple[str, dict[str, Any]]


@contextmanager
def listening() -> Iterator[dict[int, list[Call]]]:
    """Note what is asked of DynamoDB meanwhile.

    Yields:
        Thread → its calls, in their order.
    """
    client = connection.shared().client
    real = client._make_api_call  # noqa: SLF001 - the call itself, and nothing around it
    heard: dict[int, list[Call]] = {}

    def noted(operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's own
        # botocore adds its token to the arguments
        heard.setdefault(threading.get_ident(), []).append((operation, dict(arguments)))
        return real(operation, arguments)

    setattr(client, "_make_api_call", noted)  # noqa: B010 - types know it as a method
    try:
        yield heard
    finally:
        setattr(client, "_make_api_call", real)  # noqa: B010 - see above


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
