"""Lists: one page of a partition at a time, in one call, for every table.

Only people ask for lists, so a phone's cold start does not load this (docs/decisions/0006).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chalicelib.storage.connection import Item, call, can_be_there, table_name

_T = TypeVar("_T")
_I = TypeVar("_I", bound=Item)


@dataclass(frozen=True)
class Page(Generic[_T]):
    """A page of a list.

    Args:
        items: at most as many as were asked for; fewer do not mean the end.
        next_after: where the next page begins, None at the end.
    """

    items: list[_T]
    next_after: str | None


@dataclass(frozen=True)
class Span:
    """Which items of a partition to list.

    Args:
        prefix: what their sort keys begin with.
        limit: how many at most.
        after: `next_after` of the page before, None for the first.
        low, high: between which, behind the prefix; both empty for all that begin with it.
    """

    prefix: str
    limit: int
    after: str | None = None
    newest_first: bool = False
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Index:
    """A secondary index: its name, its keys, and how its sort key names the item's other key."""

    name: str
    hash_key: str
    range_key: str
    item_key: Callable[[str], str]


def query(
    kind: type[_I], partition: str, span: Span, index: Index | None = None
) -> Page[dict[str, Any]]:
    """Read one page of a partition in one call; consistently, unless from an index.

    Returns:
        Raw items, the whole of a table's, the keys alone from an index; none if the keys that were
        asked for cannot be there.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    hash_key, range_key = _keys(kind, index)
    arguments = _reading(kind, partition, span, index)
    arguments |= {"ScanIndexForward": not span.newest_first, "Limit": span.limit}
    at = f"{span.prefix}{span.after or ''}"
    is_possible = can_be_there(partition, at or "-")
    if span.after is not None and index:
        is_possible = is_possible and can_be_there(index.item_key(at))
    if span.after is not None and span.high:
        # DynamoDB takes no beginning outside of what it is asked for
        is_possible = is_possible and span.low <= span.after <= span.high
    if not is_possible:
        return Page([], None)
    if span.after is not None:
        own_keys = [name for name in _keys(kind, None) if name and name != hash_key]
        own = {name: {"S": index.item_key(at)} for name in own_keys} if index else {}
        arguments["ExclusiveStartKey"] = {
            **own,
            hash_key: {"S": partition},
            range_key: {"S": at},
        }
    answer = call("Query", **arguments)
    last = answer.get("LastEvaluatedKey")
    after = last[range_key]["S"].removeprefix(span.prefix) if last else None
    return Page(answer["Items"], after)


def count(kind: type[_I], partition: str, span: Span, index: Index | None = None) -> int:
    """Count the items of a span, all of them, a megabyte of keys a call.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    arguments = {**_reading(kind, partition, span, index), "Select": "COUNT"}
    counted = 0
    while True:
        answer = call("Query", **arguments)
        counted += int(answer["Count"])
        if "LastEvaluatedKey" not in answer:
            return counted
        arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _keys(kind: type[_I], index: Index | None) -> tuple[str, str]:
    if index:
        return index.hash_key, index.range_key
    return str(kind._hash_keyname), kind._range_keyname or ""  # noqa: SLF001 - PynamoDB keeps them there


def _reading(kind: type[_I], partition: str, span: Span, index: Index | None) -> dict[str, Any]:
    """Write what of a partition is read."""
    hash_key, range_key = _keys(kind, index)
    condition, values = "#hash = :hash", {":hash": partition}
    if span.high:
        condition += " AND #range BETWEEN :low AND :high"
        values |= {":low": f"{span.prefix}{span.low}", ":high": f"{span.prefix}{span.high}"}
    elif span.prefix:
        condition += " AND begins_with(#range, :prefix)"
        values |= {":prefix": span.prefix}
    is_ranged = len(values) > 1
    return {
        "TableName": table_name(kind.concept),
        "KeyConditionExpression": condition,
        "ExpressionAttributeNames": {
            "#hash": hash_key,
            **({"#range": range_key} if is_ranged else {}),
        },
        "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items()},
        **({"IndexName": index.name} if index else {"ConsistentRead": True}),
    }
