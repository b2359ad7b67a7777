"""Tables of an engine that is no moto: filled and emptied in as few calls as can be."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from local import tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Contents = list[tuple[str, Any]]
"""Table names and items."""

_BATCH = 25


def contents(client: "DynamoDBClient", names: Mapping[str, str]) -> Contents:
    """Copy what is in tables."""
    return [
        (name, item)
        for name in names.values()
        for page in client.get_paginator("scan").paginate(TableName=name)
        for item in page["Items"]
    ]


def fill(client: "DynamoDBClient", wanted: Contents) -> None:
    """Put items into tables."""
    _write(client, [(name, {"PutRequest": {"Item": item}}) for name, item in wanted])


def empty(client: "DynamoDBClient", names: Mapping[str, str]) -> None:
    """Empty tables, their streams with them.

    Args:
        names: concept → table name.
    """
    deletes: list[tuple[str, Any]] = []
    for concept, properties in tables.definitions().items():
        name = names[concept]
        if "StreamSpecification" in properties:
            # a stream cannot be emptied
            client.delete_table(TableName=name)
            tables.create_one(client, name, properties)
            continue
        keys = [key["AttributeName"] for key in properties["KeySchema"]]
        for _, item in contents(client, {concept: name}):
            deletes.append((name, {"DeleteRequest": {"Key": {key: item[key] for key in keys}}}))
    _write(client, deletes)


def _write(client: "DynamoDBClient", requests: Sequence[tuple[str, Any]]) -> None:
    for start in range(0, len(requests), _BATCH):
        wanted: dict[str, list[Any]] = {}
        for name, request in requests[start : start + _BATCH]:
            wanted.setdefault(name, []).append(request)
        client.batch_write_item(RequestItems=wanted)
