import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pynamodb.attributes import TTLAttribute

from chalicelib import settings
from chalicelib.storage import (  # noqa: F401 - every table's module is imported, so that its model exists
    audit,
    codes,
    connections,
    devices,
    domains,
    holdings,
    installations,
    jobs,
    limits,
    notifications,
    registrations,
    rollouts,
    sightings,
    users,
)
from chalicelib.storage.connection import Item
from local import tables
from tests import world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RESOURCES = json.loads(tables.RESOURCES.read_text())["Resources"]
TABLES = {
    name: made for name, made in RESOURCES.items() if made.get("Type") == "AWS::DynamoDB::Table"
}
MODELS = Item.__subclasses__()
WRITTEN_BY_POWERTOOLS = "idempotency"
"""A table without a model of ours; its attributes are in tests/storage/test_idempotency.py."""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.concept)
def test_each_model_fits_its_table(model: type[Item]) -> None:
    """Keys, key types and the TTL attribute are those of infra/resources.json."""
    defined = tables.definitions()[model.concept]
    keys = [key["AttributeName"] for key in defined["KeySchema"]]
    assert [name for name in (model._hash_keyname, model._range_keyname) if name] == keys  # noqa: SLF001 - PynamoDB keeps them there
    types = {
        entry["AttributeName"]: entry["AttributeType"] for entry in defined["AttributeDefinitions"]
    }
    attributes = model.get_attributes()
    assert {name: attributes[name].attr_type for name in types} == types
    expiring = [name for name, kind in attributes.items() if isinstance(kind, TTLAttribute)]
    ttl = defined.get("TimeToLiveSpecification", {}).get("AttributeName")
    assert expiring == ([ttl] if ttl else [])


def test_every_table_in_use_has_its_model_and_its_setting() -> None:
    """None is written that the tests above do not hold against its definition."""
    modelled = {model.concept for model in MODELS}
    assert modelled | {WRITTEN_BY_POWERTOOLS} == set(settings.TABLES)
    assert WRITTEN_BY_POWERTOOLS not in modelled
    assert set(settings.TABLES) <= set(tables.definitions())


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_safe(name: str) -> None:
    """Point-in-time recovery, deletion protection, encryption, pay per request, kept."""
    properties = TABLES[name]["Properties"]
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["DeletionProtectionEnabled"] is True
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert TABLES[name]["DeletionPolicy"] == TABLES[name]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.engine
def test_the_engine_has_ttl_as_defined(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """What CloudFormation would set, set through the API; a second start changes nothing."""
    for concept, properties in tables.definitions().items():
        told = client.describe_time_to_live(TableName=table_names[concept])
        is_on = told["TimeToLiveDescription"]["TimeToLiveStatus"] in {"ENABLED", "ENABLING"}
        assert is_on is ("TimeToLiveSpecification" in properties)
    prefix = table_names["codes"].removesuffix("codes")
    assert tables.create(client, prefix) == table_names


def test_what_has_passed_is_swept_and_nothing_else(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """On one machine expired codes go, as TTL would take them."""
    world.seed()
    old, new = world.issue(now=NOW - timedelta(hours=1)), world.issue()
    assert tables.sweep(client, table_names, NOW) >= 1
    assert codes.find_all([old.code.fingerprint]) == []
    assert len(codes.find_all([new.code.fingerprint])) == 1


@pytest.mark.engine
def test_ttl_removes_an_expired_code(
    client: "DynamoDBClient", table_names: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """AWS's own engine deletes it within seconds, when nothing else does."""
    import time
    from datetime import UTC, datetime

    if not request.config.getoption("--engine"):
        pytest.skip("moto has no TTL; make test-engine has")
    world.seed()
    issued = world.issue(now=datetime.now(UTC) - timedelta(seconds=601))
    for _ in range(600):
        if not codes.find_all([issued.code.fingerprint]):
            return
        time.sleep(0.1)
    pytest.fail("still there after a minute")
