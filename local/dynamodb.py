"""DynamoDB on one machine: moto's server application behind a loopback port, one call at a time.

moto's transactions copy and restore whole tables, so calls in between would be lost; the lock
around the application is what makes it trustworthy. `DYNAMODB_ENDPOINT` names another engine.
"""

import copy
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "eu-central-1",
    # botocore would send streams to a host name made of the account id, which moto does not answer
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
}


# Each reader needs its last one; there are a few readers.
MAX_ITERATORS = 64


class _Quiet(WSGIRequestHandler):
    """Keeps connections open, and says nothing of each call."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, ANN401 - werkzeug's signature
        """Say nothing."""


def use_local_credentials() -> None:
    """Give botocore credentials and a region where the environment has none."""
    for name, value in CREDENTIALS.items():
        os.environ.setdefault(name, value)


@contextmanager
def moto_engine() -> Iterator[str]:
    """Run moto's DynamoDB on a free loopback port.

    Yields:
        Its endpoint URL.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    application = _with_fewer_copies(DomainDispatcherApplication(create_backend_app))
    server = make_server(
        "127.0.0.1",
        0,
        one_at_a_time(_without_old_iterators(application)),
        threaded=True,
        request_handler=_Quiet,
    )
    thread = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def one_at_a_time(application: Wsgi) -> Wsgi:
    """Let an application see one call at a time, its whole body included."""
    lock = threading.Lock()

    def locked(environment: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        with lock:
            return [b"".join(application(environment, start_response))]

    return locked


def _with_fewer_copies(application: Wsgi) -> Wsgi:
    """Let moto keep of a transaction's tables what it may have to restore, and no more.

    It copies a whole table, with all that its stream ever brought, for every item of a transaction:
    each costs as much as the table is large. Here a table's twin has the same items, and of one
    that is about to change in its place it has the copy that moto makes of that.
    """
    from moto.dynamodb import models
    from moto.dynamodb.models.dynamo_type import Item
    from moto.dynamodb.models.table import Table

    def copied(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environment.get("HTTP_X_AMZ_TARGET", "").endswith(".TransactWriteItems"):
            return application(environment, start_response)
        twins: dict[int, Any] = {}

        def deepcopy(value: Any) -> Any:  # noqa: ANN401 - whatever moto copies
            if isinstance(value, Table):
                if id(value) not in twins:
                    twins[id(value)] = _twin(value)
                return twins[id(value)]
            made = copy.deepcopy(value)
            if isinstance(value, Item):
                for twin in twins.values():
                    _put_in_place(twin, value, made)
            return made

        vars(models)["copy"] = SimpleNamespace(copy=copy.copy, deepcopy=deepcopy)
        try:
            return application(environment, start_response)
        finally:
            vars(models)["copy"] = copy

    return copied


def _twin(table: Any) -> Any:  # noqa: ANN401 - moto's table
    """Make another table of the same items, with an end of its stream of its own."""
    twin = copy.copy(table)
    twin.items = copy.copy(table.items)
    if table.has_range_key:
        twin.items.update({key: dict(items) for key, items in table.items.items()})
    if table.stream_shard is not None:
        twin.stream_shard = copy.copy(table.stream_shard)
        twin.stream_shard.table = twin
        twin.stream_shard.items = list(table.stream_shard.items)
    return twin


def _put_in_place(twin: Any, item: Any, other: Any) -> None:  # noqa: ANN401 - moto's own
    """Let a table have another item where it has this one."""
    place, key = twin.items, item.hash_key
    if twin.has_range_key:
        place, key = twin.items.get(item.hash_key, {}), item.range_key
    if place.get(key) is item:
        place[key] = other


def _without_old_iterators(application: Wsgi) -> Wsgi:
    """Let moto forget stream iterators that nobody uses any more.

    It keeps every one for ever, two a poll, and with each a copy of the table as it then was.
    """
    from moto.dynamodbstreams.models import dynamodbstreams_backends

    def swept(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = application(environment, start_response)
        for backends in dynamodbstreams_backends.values():
            for backend in backends.values():
                iterators = backend.shard_iterators
                while len(iterators) > MAX_ITERATORS:
                    del iterators[next(iter(iterators))]
        return answer

    return swept
