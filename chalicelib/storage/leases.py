"""Leases: the right to do something for a domain alone, for a short time; items of notifications.

Whoever finds one taken says that there is more to do, and whoever has it looks once more before
giving it back, so no wake-up is lost (docs/decisions/0015). It must not know what is done under it.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.storage import connection

TABLE = "notifications"
USERS_INSTANCES = "lease"
"""Who tells a domain's Users instances."""

PBX = "pbx-lease"
"""Who speaks to a domain's PBX."""

PBX_USERS = "pbx-users-lease"
"""Who reads its table of users."""

_REFUSED = "ConditionalCheckFailedException"


@dataclass(frozen=True)
class Lease:
    """The right to do something for a domain, for a short time.

    Args:
        name: for what, the sort key of its item.
        wanted: how often others have asked for it in vain.
        sequence: number of the last notification that was told; 0 for a lease that counts none.
        until: when it ends.
    """

    domain: str
    name: str
    holder: str
    wanted: int
    sequence: int
    until: datetime


def acquire(domain: str, name: str, holder: str, now: datetime, until: datetime) -> Lease | None:
    """Take a lease if it is free or has ended.

    Returns:
        None if another holds it.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    try:
        answer = _change(
            domain,
            name,
            "SET #kind = :kind, holder = :holder, until_ms = :until ADD wanted :zero, #seq :zero",
            "attribute_not_exists(holder) OR until_ms < :now",
            {
                ":kind": {"S": "lease"},
                ":holder": {"S": holder},
                ":until": _ms(until),
                ":now": _ms(now),
                ":zero": {"N": "0"},
            },
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != _REFUSED:
            raise
        return None
    kept = answer["Attributes"]
    wanted, sequence = int(kept["wanted"]["N"]), int(kept["sequence"]["N"])
    return Lease(domain, name, holder, wanted, sequence, until)


def want(domain: str, name: str) -> None:
    """Tell the holder of a lease that there may be more to do, before it gives the lease back.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    values = {":kind": {"S": "lease"}, ":one": {"N": "1"}}
    _change(domain, name, "SET #kind = :kind ADD wanted :one", None, values)


def prolong(lease: Lease, until: datetime) -> Lease | None:
    """Keep a lease for longer.

    Returns:
        The lease as it is now, None if it was lost to another.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    values = {":holder": {"S": lease.holder}, ":until": _ms(until)}
    try:
        _change(lease.domain, lease.name, "SET until_ms = :until", "holder = :holder", values)
    except ClientError as error:
        if error.response["Error"]["Code"] != _REFUSED:
            raise
        return None
    return replace(lease, until=until)


def give_back(lease: Lease) -> Lease | None:
    """Give a lease back, unless somebody wanted it meanwhile.

    Returns:
        The lease with what is wanted now, to look once more; None if it is given back or lost.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    try:
        _change(
            lease.domain,
            lease.name,
            "REMOVE holder, until_ms",
            "holder = :holder AND wanted = :wanted",
            {":holder": {"S": lease.holder}, ":wanted": {"N": str(lease.wanted)}},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != _REFUSED:
            raise
        kept = error.response.get("Item", {})
        if kept.get("holder", {}).get("S") != lease.holder:
            return None
        return replace(lease, wanted=int(kept["wanted"]["N"]))
    return None


def milliseconds(moment: datetime) -> int:
    """Write a time as a lease keeps it."""
    return int(moment.timestamp() * 1000)


def _change(
    domain: str, name: str, expression: str, condition: str | None, values: dict[str, Any]
) -> dict[str, Any]:
    names = {"#kind": "kind", "#seq": "sequence"}
    used = {short: full for short, full in names.items() if short in expression}
    refused = {
        "ConditionExpression": condition,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    return connection.call(
        "UpdateItem",
        TableName=connection.table_name(TABLE),
        Key={"domain": {"S": domain}, "notification_id": {"S": name}},
        UpdateExpression=expression,
        ExpressionAttributeValues=values,
        ReturnValues="ALL_NEW",
        **({"ExpressionAttributeNames": used} if used else {}),
        **(refused if condition else {}),
    )


def _ms(moment: datetime) -> dict[str, str]:
    return {"N": str(milliseconds(moment))}
