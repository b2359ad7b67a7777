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
    """

    prefix: str
    limit: int
    after: str | None = None
    newest_first: bool = False


@dataclass(frozen=True)
class Index:
    """A secondary index: its name, its keys, and how its sort key names the item's own hash key."""

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
    hash_key, range_key = (
        (index.hash_key, index.range_key) if index else (kind._hash_keyname, kind._range_keyname)  # noqa: SLF001 - PynamoDB keeps them there
    )
    arguments: dict[str, Any] = {
        "TableName": table_name(kind.concept),
        "KeyConditionExpression": "#hash = :hash AND begins_with(#range, :prefix)",
        "ExpressionAttributeNames": {"#hash": hash_key, "#range": range_key},
        "ExpressionAttributeValues": {":hash": {"S": partition}, ":prefix": {"S": span.prefix}},
        "ScanIndexForward": not span.newest_first,
        "Limit": span.limit,
        **({"IndexName": index.name} if index else {"ConsistentRead": True}),
    }
    if not span.prefix:
        arguments["KeyConditionExpression"] = "#hash = :hash"
        del arguments["ExpressionAttributeNames"]["#range"]
        del arguments["ExpressionAttributeValues"][":prefix"]
    at = f"{span.prefix}{span.after or ''}"
    is_possible = can_be_there(partition, at or "-")
    if span.after is not None and index:
        is_possible = is_possible and can_be_there(index.item_key(at))
    if not is_possible:
        return Page([], None)
    if span.after is not None:
        start = {hash_key: {"S": partition}, range_key: {"S": at}}
        own = {kind._hash_keyname: {"S": index.item_key(at)}} if index else {}  # noqa: SLF001 - as above
        arguments["ExclusiveStartKey"] = {**start, **own}
    answer = call("Query", **arguments)
    last = answer.get("LastEvaluatedKey")
    after = last[range_key]["S"].removeprefix(span.prefix) if last else None
    return Page(answer["Items"], after)
