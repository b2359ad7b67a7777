"""The gateway's role against what its code asks of DynamoDB, read from the calls themselves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.core.errors import CodeNotRedeemableError, DeviceElsewhereError, NotSignedInError
from chalicelib.roles import devices, security_tokens
from chalicelib.storage import connection
from tests import world
from tests.conftest import NOW
from tests.infra.test_gateway import granted

TOKEN = "the token of this domain"
IN_TRANSACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
"""What may be done in a transaction is granted by the names of what it does."""


def rights(operation: str, sent: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name the actions that a call needs, each with its table."""
    if operation == "TransactWriteItems":
        for each in sent["TransactItems"]:
            ((kind, one),) = each.items()
            yield IN_TRANSACTIONS[kind], one["TableName"]
    elif operation == "BatchGetItem":
        yield from ((operation, table) for table in sent["RequestItems"])
    else:
        yield operation, sent["TableName"]


@contextmanager
def asked(table_names: dict[str, str]) -> Iterator[set[tuple[str, str]]]:
    """Note what is asked of DynamoDB, as a role would have to grant it."""
    resources = {name: f"{concept.title()}Table" for concept, name in table_names.items()}
    found: set[tuple[str, str]] = set()

    def note(model: Any, params: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - botocore's hook
        for action, table in rights(model.name, json.loads(params["body"])):
            found.add((f"dynamodb:{action}", resources[table]))

    events = connection.shared().client.meta.events
    events.register("before-call.dynamodb", note)
    try:
        yield found
    finally:
        events.unregister("before-call.dynamodb", note)


def come(visit: devices.Visit, seconds: int = 0) -> str:
    """Let a phone register by what it brings; its token, empty if it is refused."""
    grounds = visit.entry or visit.claim
    assert grounds is not None
    try:
        return devices.register(visit, grounds, NOW + timedelta(seconds=seconds)).token
    except (CodeNotRedeemableError, DeviceElsewhereError):
        return ""


def test_its_role_lets_it_do_what_phones_come_for(table_names: dict[str, str]) -> None:
    """By a code of a user and of a rollout, repeated, refused, by a token, and jobs reported."""
    world.seed()
    security_tokens.put(world.admin(), world.DOMAIN, "Office", TOKEN, None)
    mine, again, rolled = world.issue(), world.issue(), world.issue_rollout()
    with asked(table_names) as found:
        token = come(world.visit(mine.digits))
        assert token
        assert come(world.visit(mine.digits), 60) == token
        assert come(world.visit(again.digits), 90)
        # a rollout's code takes it from one user to another
        token = come(world.visit(rolled.digits), 120)
        assert token
        assert not come(world.visit(mine.digits, "00903300000c", "198.51.100.1"))
        assert not come(world.visit("000000000000", "00903300000c", "198.51.100.1"))
        assert come(world.claiming(TOKEN, "00903300000d"))
        assert not come(world.claiming("another token", "00903300000e", "198.51.100.2"))
        plan = devices.jobs_of(world.HW_ID, token, NOW)
        for job in plan.configuration:
            report = devices.Report(job.job_id, devices.Outcome.FAILED, "line 1 of 2")
            devices.report_job(world.HW_ID, token, report, NOW)
            report = replace(report, outcome=devices.Outcome.DONE, reason="")
            devices.report_job(world.HW_ID, token, report, NOW)
        with pytest.raises(NotSignedInError):
            devices.jobs_of(world.HW_ID, "not its token", NOW)
    assert plan.configuration
    assert found <= granted("TaskRole")
    # what it may change, it does, but for the phones that are online
    changing = ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
    unused = {
        (action, table) for action, table in granted("TaskRole") - found if action in changing
    }
    assert {table for _, table in unused} == {"ConnectionsTable"}
