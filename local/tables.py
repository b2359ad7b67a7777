"""Creates the tables of infra/resources.json on any DynamoDB engine, TTL included.

moto's CloudFormation ignores TTL, so they are made through the DynamoDB API, from the same file.
It must not define a table itself.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RESOURCES = Path(__file__).parent.parent / "infra" / "resources.json"
_CREATED_AS_DEFINED = (
    "BillingMode",
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
)


def definitions() -> dict[str, dict[str, Any]]:
    """Read every table: concept (`codes`) → its CloudFormation properties."""
    resources = json.loads(RESOURCES.read_text())["Resources"]
    return {
        name.removesuffix("Table").lower(): resource["Properties"]
        for name, resource in resources.items()
        if resource.get("Type") == "AWS::DynamoDB::Table"
    }


def sweep(client: "DynamoDBClient", names: dict[str, str], now: datetime) -> int:
    """Delete what has passed its `purge_at`, as TTL does; only for engines that do not themselves.

    Args:
        names: concept → table name.

    Returns:
        How many items went.
    """
    deleted = 0
    for concept, properties in definitions().items():
        if "TimeToLiveSpecification" not in properties:
            continue
        keys = [key["AttributeName"] for key in properties["KeySchema"]]
        for page in client.get_paginator("scan").paginate(TableName=names[concept]):
            for item in page["Items"]:
                if float(item.get("purge_at", {}).get("N", "inf")) < now.timestamp():
                    key = {name: item[name] for name in keys}
                    client.delete_item(TableName=names[concept], Key=key)
                    deleted += 1
    return deleted


def create(
    client: "DynamoDBClient", prefix: str, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Create every table that is not there yet.

    Args:
        prefix: stands before each concept in the table's name.
        given: concept → table name, for tables that are named otherwise.

    Returns:
        concept → table name.
    """
    names = {}
    for concept, properties in definitions().items():
        names[concept] = (given or {}).get(concept, f"{prefix}{concept}")
        try:
            create_one(client, names[concept], properties)
        except client.exceptions.ResourceInUseException:
            continue
    return names


def create_one(client: "DynamoDBClient", name: str, properties: Mapping[str, Any]) -> None:
    """Create a table.

    Args:
        properties: as `definitions` tells them.

    Raises:
        ResourceInUseException: it is there already.
    """
    wanted: dict[str, Any] = {
        member: properties[member] for member in _CREATED_AS_DEFINED if member in properties
    }
    if "StreamSpecification" in properties:
        wanted["StreamSpecification"] = {"StreamEnabled": True, **properties["StreamSpecification"]}
    client.create_table(TableName=name, **wanted)
    if "TimeToLiveSpecification" in properties:
        client.update_time_to_live(
            TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"]
        )
