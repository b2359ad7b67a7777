"""moto's tables past its interface: emptying and filling them was most of a test's set-up.

It must not change what a table does, only what is in it.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Contents = dict[str, Any]


def empty(names: Mapping[str, str]) -> bool:
    """Empty tables of this process, their streams with them.

    Args:
        names: concept → table name.

    Returns:
        Whether they are moto's.
    """
    tables = _tables(names)
    for table in tables.values():
        table.items.clear()
        if table.stream_shard is not None:
            table.stream_shard.items = []
    return bool(tables)


def contents(names: Mapping[str, str]) -> Contents:
    """Copy what is in tables of this process; nothing if they are not moto's."""
    return {name: copy.deepcopy(table.items) for name, table in _tables(names).items()}


def fill(names: Mapping[str, str], wanted: Contents) -> None:
    """Put a copy of what was in these tables into them again."""
    for name, table in _tables(names).items():
        table.items = copy.deepcopy(wanted[name])


@contextmanager
def answering(client: "DynamoDBClient") -> Iterator[None]:
    """Let moto answer the calls of a client in this process, without a port in between."""
    from botocore.awsrequest import AWSResponse
    from moto.core.botocore_stubber import MockRawResponse
    from moto.core.request import normalize_request
    from moto.dynamodb.responses import DynamoHandler

    host = f"https://dynamodb.{client.meta.region_name}.amazonaws.com/"

    def answer(request: Any, **_: Any) -> AWSResponse:  # noqa: ANN401 - botocore's hook
        request.url = host  # moto reads the region there
        asked = normalize_request(request)
        status, headers, body = DynamoHandler.dispatch(asked, host, asked.headers)
        return AWSResponse(host, status, headers, MockRawResponse(body))

    events = client.meta.events
    events.register("before-send.dynamodb", answer)
    try:
        yield
    finally:
        events.unregister("before-send.dynamodb", answer)


def _tables(names: Mapping[str, str]) -> dict[str, Any]:
    from moto.dynamodb.models import dynamodb_backends

    return {
        name: backend.tables[name]
        for backends in dynamodb_backends.values()
        for backend in backends.values()
        for name in names.values()
        if name in backend.tables
    }
