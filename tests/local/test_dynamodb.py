"""A transaction that is refused leaves everything as it was, on one machine as in AWS."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

KEYS = {"plain": ["id"], "sorted": ["id", "at"]}


@pytest.fixture
def names(client: "DynamoDBClient") -> Iterator[dict[str, str]]:
    """Make a table with a sort key and one without, and fill them."""
    made = {kind: f"{kind}-{os.getpid()}" for kind in KEYS}
    for kind, name in made.items():
        schema: list[Any] = [
            {"AttributeName": key, "KeyType": role}
            for key, role in zip(KEYS[kind], ("HASH", "RANGE"), strict=False)
        ]
        client.create_table(
            TableName=name,
            AttributeDefinitions=[
                {"AttributeName": key, "AttributeType": "S"} for key in KEYS[kind]
            ],
            KeySchema=schema,
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        for number in range(3):
            client.put_item(TableName=name, Item=item(kind, number, tags={"L": [{"S": "old"}]}))
    yield made
    for name in made.values():
        client.delete_table(TableName=name)


def item(kind: str, number: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - DynamoDB's
    """Write an item, or its key."""
    return {key: {"S": f"{key}{number}"} for key in KEYS[kind]} | more


def writes(kind: str, name: str) -> list[Any]:
    """Change one, put one over another, delete a third, add two in different ways."""
    changed: dict[str, Any] = {
        "UpdateExpression": "SET tags[0] = :new, more = :new",
        "ExpressionAttributeValues": {":new": {"S": "new"}},
    }
    added = {**changed, "UpdateExpression": "SET more = :new"}
    return [
        {"Update": {"TableName": name, "Key": item(kind, 0), **changed}},
        {"Put": {"TableName": name, "Item": item(kind, 1, more={"S": "new"})}},
        {"Delete": {"TableName": name, "Key": item(kind, 2)}},
        {"Put": {"TableName": name, "Item": item(kind, 3)}},
        {"Update": {"TableName": name, "Key": item(kind, 4), **added}},
    ]


def contents(client: "DynamoDBClient", name: str) -> list[Any]:
    """Read all of a table, in an order."""
    return sorted(client.scan(TableName=name)["Items"], key=lambda one: one["id"]["S"])


@pytest.mark.parametrize("last", KEYS)
def test_a_refused_transaction_changes_nothing(
    client: "DynamoDBClient", names: dict[str, str], last: str
) -> None:
    """In either table, whichever refuses it when all others were written; then it goes well."""
    before = {kind: contents(client, name) for kind, name in names.items()}
    check: Any = {"TableName": names[last], "Key": item(last, 9)}
    check["ConditionExpression"] = "attribute_exists(id)"
    every = [write for kind, name in names.items() for write in writes(kind, name)]
    for _ in range(2):
        with pytest.raises(client.exceptions.TransactionCanceledException):
            client.transact_write_items(TransactItems=[*every, {"ConditionCheck": check}])
        assert {kind: contents(client, name) for kind, name in names.items()} == before
    client.transact_write_items(TransactItems=every)
    for kind, name in names.items():
        new = {"S": "new"}
        assert contents(client, name) == [
            item(kind, 0, tags={"L": [new]}, more=new),
            item(kind, 1, more=new),
            item(kind, 3),
            item(kind, 4, more=new),
        ]
