"""The one connection to DynamoDB: every table, every call, every AWS failure passes here.

One botocore client serves all tables, for making one costs more than a request. It must not know
what any table holds.
"""

import gc
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from functools import cache
from typing import Any, Self, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.attributes import Attribute, MapAttribute
from pynamodb.connection import Connection
from pynamodb.connection.table import TableConnection
from pynamodb.constants import STRING
from pynamodb.exceptions import TransactWriteError, VerboseClientError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from chalicelib import settings
from chalicelib.core.errors import StoreUnavailableError

MAX_CONFLICT_RETRIES = 5
MAX_BATCH_KEYS = 100
MAX_BATCH_PUTS = 25
MAX_TRANSACTION_ITEMS = 100
MAX_HASH_KEY_BYTES = 2_048
MAX_RANGE_KEY_BYTES = 1_024
_READ_SECONDS = 2
_PATIENT_READ_SECONDS = 20
"""Another engine than AWS's may take its time, and a write that is sent again is a second one."""

_PAUSE_SECONDS = 0.02
_WORKERS = 8
_PATIENCE = 3
"""How many doublings the pause begins with of those who write much, and let no phone wait."""

_CONFLICT = "TransactionConflict"
_CONDITION_FAILED = "ConditionalCheckFailed"
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
    }
)
_UNAVAILABLE = _THROTTLED | {
    "InternalServerError",
    "ServiceUnavailable",
    "TransactionInProgressException",
}
_T = TypeVar("_T")
_P = TypeVar("_P")
_E = TypeVar("_E", bound=Enum)


class SharedConnection(Connection):
    """PynamoDB's connection with one client for all, and AWS's failures turned into ours."""

    pause: Callable[[float], None] = staticmethod(time.sleep)

    def _make_api_call(self, operation_name: str, operation_kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - PynamoDB's signature
        """Make one call; a conflict between transactions is tried again with jitter.

        Raises:
            StoreUnavailableError: throttled, unreachable, or in conflict after five more tries.
            ClientError: anything else that DynamoDB says, for the caller who expects it.
        """
        for attempt in range(MAX_CONFLICT_RETRIES + 1):
            try:
                return super()._make_api_call(operation_name, operation_kwargs)
            except (ClientError, BotoCoreError) as error:
                ours = as_ours(error)
                if ours is not error:
                    raise ours from error
                codes = _codes_of(error)
                if not codes & {_CONFLICT, f"{_CONFLICT}Exception"}:
                    raise
                if _CONDITION_FAILED in codes:
                    raise
            if attempt < MAX_CONFLICT_RETRIES:
                self.pause_after(attempt)
        raise StoreUnavailableError(_CONFLICT)

    def pause_after(self, attempt: int) -> None:
        """Wait with jitter, longer after each attempt (0, 1, …)."""
        self.pause(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311 - jitter


def as_ours(error: Exception) -> Exception:
    """Turn a failure of AWS into ours, also of a call that is not made here.

    Returns:
        StoreUnavailableError for throttled or unreachable, anything else as it is.
    """
    if isinstance(error, BotoCoreError):
        return StoreUnavailableError(type(error).__name__)
    unavailable = _codes_of(error) & _UNAVAILABLE
    return StoreUnavailableError(min(unavailable)) if unavailable else error


def _codes_of(error: Exception) -> set[str]:
    if not isinstance(error, ClientError):
        return set()
    codes = {error.response.get("Error", {}).get("Code", "")}
    reasons = getattr(error, "cancellation_reasons", ())
    return codes | {reason.code for reason in reasons if reason is not None}


@cache
def _connect() -> SharedConnection:
    endpoint = settings.current().dynamodb_endpoint
    connection = SharedConnection(
        host=endpoint or None,
        connect_timeout_seconds=1,
        read_timeout_seconds=_PATIENT_READ_SECONDS if endpoint else _READ_SECONDS,
        max_retry_attempts=2,
        max_pool_connections=64,
    )
    # botocore reads megabytes of JSON to make a client; the garbage collector would walk all that
    # was imported again and again meanwhile, and all of it stays (docs/decisions/0006)
    gc.disable()
    try:
        connection.client  # noqa: B018 - made now, under the lock, for it is not thread-safe
        gc.freeze()
    finally:
        gc.enable()
    return connection


_lock = threading.RLock()


def shared() -> SharedConnection:
    """Return the one connection of this process, made at first use."""
    with _lock:
        return _connect()


def client_of(service: str) -> Any:  # noqa: ANN401 - botocore makes its classes itself
    """Make a client of another service from what botocore has read already.

    boto3 would begin anew, which takes a cold start longer than to fetch a secret.
    """
    with _lock:
        return shared().session.create_client(service)


def call(operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - DynamoDB's own JSON
    """Make a call that PynamoDB has no word for.

    Args:
        operation: `UpdateItem`, …
        arguments: as the DynamoDB API takes them.

    Raises:
        ClientError: botocore's own, with all that DynamoDB answered.
        StoreUnavailableError: throttled or unreachable.
    """
    try:
        return dict(shared().dispatch(operation, arguments))
    except VerboseClientError as error:
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None


def forget() -> None:
    """Drop the connection, so that the next use reads the settings again; for tests and servers."""
    with _lock:
        gc.unfreeze()
        _connect.cache_clear()
        for item in Item.__subclasses__():
            item._connection = None  # noqa: SLF001 - PynamoDB keeps it there


class EnumAttribute(Attribute[_E]):
    """A member of an enumeration, stored as its value."""

    attr_type = STRING

    def __init__(self, kind: type[_E], **arguments: Any) -> None:  # noqa: ANN401 - PynamoDB's own
        """Take the enumeration and what every attribute takes."""
        super().__init__(**arguments)
        self._kind = kind

    def serialize(self, value: _E) -> str:
        """Write the member's value."""
        return str(value.value)

    def deserialize(self, value: str) -> _E:
        """Read the member."""
        return self._kind(value)


class Item(Model):
    """An item of one of our tables; subclasses name their concept, settings name the table."""

    class Meta:
        """What PynamoDB demands of every model."""

        table_name = ""

    concept: str = ""

    @classmethod
    def _get_connection(cls) -> TableConnection:
        with _lock:
            if cls._connection is None:
                name = table_name(cls.concept)
                meta = type("Meta", (Item.Meta,), {"table_name": name})
                setattr(cls, "Meta", meta)  # noqa: B010 - each class has its own, types cannot say so
                table = super()._get_connection()
                shared().add_meta_table(table.get_meta_table())
                table.connection = shared()
            return cls._connection  # type: ignore[return-value]  # made above

    @classmethod
    def key_of(cls, *key: str) -> dict[str, Any]:
        """Write a key as DynamoDB takes it."""
        names = filter(None, (cls._hash_keyname, cls._range_keyname))
        return {name: {"S": value} for name, value in zip(names, key, strict=True)}

    @classmethod
    def of(cls, facts: object) -> Self:
        """Make the item of a core dataclass, member by member; what is empty is not stored."""
        values = {member.name: getattr(facts, member.name) for member in fields(facts)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in values.items() if value not in ("", None, ())})

    @classmethod
    def read(cls, raw: Mapping[str, Any], kind: type[_T]) -> _T:
        """Make the core dataclass of a raw item as `to` does, without an item in between.

        A list has thousands, and making items of them would take half of its time. Not for a class
        whose `to` does more.
        """
        stored = {}
        for name, attribute in _stored_members(cls, kind):  # type: ignore[arg-type]  # a class is hashable
            value = raw.get(attribute.attr_name)
            if value is not None:
                stored[name] = plain(attribute.deserialize(attribute.get_value(value)))
        return kind(**stored)

    def to(self, kind: type[_T]) -> _T:
        """Make the core dataclass of this item; what is not stored keeps its default."""
        stored = {}
        for member in fields(kind):  # type: ignore[arg-type]
            value = plain(getattr(self, member.name, None))
            if value is not None:
                stored[member.name] = value
        return kind(**stored)


@cache
def _stored_members(item: type[Item], kind: type) -> list[tuple[str, Attribute[Any]]]:
    known = item.get_attributes()
    return [(member.name, known[member.name]) for member in fields(kind) if member.name in known]


def plain(value: object) -> object:
    """Turn PynamoDB's map into a dict; anything else stays as it is."""
    return dict(value.attribute_values) if isinstance(value, MapAttribute) else value


def table_name(concept: str) -> str:
    """Tell the name of a table by its concept (`codes`)."""
    return settings.current().tables[concept]


def at_once(work: Callable[[_P], _T], parts: Sequence[_P]) -> list[_T]:
    """Do the same with each part, a few at a time, results in order; one alone needs no thread.

    What is logged and written there has the correlation id of whoever waits for it.
    """
    if len(parts) <= 1:
        return [work(part) for part in parts]
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    runs = [copy_context().run for _ in parts]
    with ThreadPoolExecutor(_WORKERS) as workers:
        return list(workers.map(lambda run, part: run(work, part), runs, parts))


def batch_get(
    *wanted: tuple[type[Item], Iterable[tuple[str, ...]]], only: Sequence[str] = ()
) -> dict[type[Item], list[Any]]:
    """Read items of any tables consistently, in calls of at most 100 keys, several at once.

    Args:
        wanted: an item class and the keys wanted of it, hash key first; one that DynamoDB would
            not take is one that is not there.
        only: which attributes to read, empty for all.

    Returns:
        Item class → the items that exist, in no order.

    Raises:
        StoreUnavailableError: throttled, also in part, or unreachable.
    """
    found: dict[type[Item], list[Any]] = {kind: [] for kind, _ in wanted}
    kinds = {table_name(kind.concept): kind for kind in found}
    keys = [
        (kind, key) for kind, some in wanted for key in dict.fromkeys(some) if can_be_there(*key)
    ]
    names = {f"#{position}": name for position, name in enumerate(only)}
    projection = (
        {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        if only
        else {}
    )

    def read(some: Sequence[tuple[type[Item], tuple[str, ...]]]) -> list[tuple[type[Item], Any]]:
        pending: dict[str, Any] = {}
        for kind, key in some:
            request = pending.setdefault(
                table_name(kind.concept), {"ConsistentRead": True, "Keys": [], **projection}
            )
            request["Keys"].append(kind.key_of(*key))
        answered: list[tuple[type[Item], Any]] = []
        for attempt in range(MAX_CONFLICT_RETRIES + 1):
            answer = call("BatchGetItem", RequestItems=pending)
            for name, items in answer["Responses"].items():
                kind = kinds[name]
                answered += [(kind, kind.from_raw_data(item)) for item in items]
            pending = answer.get("UnprocessedKeys", {})
            if not pending:
                return answered
            shared().pause_after(attempt)
        raise StoreUnavailableError("UnprocessedKeys")

    for answered in at_once(read, _parts(keys, MAX_BATCH_KEYS)):
        for kind, item in answered:
            found[kind].append(item)
    return found


def batch_put(items: Sequence[Item]) -> None:
    """Write whole items of one table over what is there, in calls of 25, several at once.

    Many items of one partition are more than DynamoDB takes in a moment: it writes a part of a
    call, and the rest is asked for again as long as that goes on.

    Raises:
        StoreUnavailableError: throttled or unreachable; what was written stays.
    """

    def write(some: Sequence[Item]) -> None:
        name = table_name(some[0].concept)
        pending = [{"PutRequest": {"Item": item.serialize()}} for item in some]
        attempt = 0
        while pending:
            answer = call("BatchWriteItem", RequestItems={name: pending})
            left = answer.get("UnprocessedItems", {}).get(name, [])
            attempt = attempt + 1 if len(left) == len(pending) else 0
            if attempt > MAX_CONFLICT_RETRIES:
                raise StoreUnavailableError("UnprocessedItems")
            if left:
                shared().pause_after(attempt + _PATIENCE)
            pending = left

    at_once(write, _parts(items, MAX_BATCH_PUTS))


def _parts(whole: Sequence[_P], size: int) -> list[Sequence[_P]]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def can_be_there(hash_key: str, range_key: str = "-") -> bool:
    """Tell whether DynamoDB takes such a key; it calls any other a defect of ours."""
    return (
        0 < len(hash_key.encode()) <= MAX_HASH_KEY_BYTES
        and 0 < len(range_key.encode()) <= MAX_RANGE_KEY_BYTES
    )


class Refused(Exception):  # noqa: N818 - a situation that callers handle, not a defect
    """A transaction was refused by conditions; nothing was written.

    Args:
        items: name given to the write → the item as it is instead, or None if there is none.
    """

    def __init__(self, items: Mapping[str, dict[str, Any] | None]) -> None:
        """Keep the items for whoever handles it; the text names the writes alone."""
        super().__init__(f"refused: {', '.join(items)}")
        self.items = items


class Transaction:
    """Writes that happen all or not at all, each under a name that a refusal speaks of.

    PynamoDB sends checks, deletes, puts and updates in this order, whatever the order of the calls,
    and DynamoDB numbers its reasons by that; names undo it.
    """

    def __init__(self) -> None:
        self._write = TransactWrite(connection=shared())
        self._names: dict[str, list[str]] = {"check": [], "delete": [], "put": [], "update": []}

    def check(
        self, name: str, kind: type[Item], key: tuple[str, ...], condition: Condition
    ) -> None:
        """Demand a condition of an item that is not written, by its key, hash key first."""
        named = dict(zip(("hash_key", "range_key"), key, strict=False))
        self._write.condition_check(kind, **named, condition=condition)
        self._names["check"].append(name)

    def delete(self, name: str, item: Item, condition: Condition | None = None) -> None:
        """Delete an item."""
        self._write.delete(item, condition=condition)
        self._names["delete"].append(name)

    def put(self, name: str, item: Item, condition: Condition | None = None) -> None:
        """Write a whole item."""
        self._write.save(item, condition=condition, return_values="ALL_OLD")
        self._names["put"].append(name)

    def update(
        self, name: str, item: Item, actions: list[Action], condition: Condition | None = None
    ) -> None:
        """Change an item."""
        self._write.update(item, actions, condition=condition, return_values="ALL_OLD")
        self._names["update"].append(name)

    def commit_patiently(self) -> None:
        """Write, and wait for room when there is too much to write at once: nothing was written.

        Raises:
            Refused: conditions failed; says which.
            StoreUnavailableError: throttled for several seconds, unreachable, or in conflict.
        """
        for attempt in range(MAX_CONFLICT_RETRIES):
            try:
                return self.commit()
            except StoreUnavailableError as error:
                if error.what not in _THROTTLED:
                    raise
            shared().pause_after(attempt + _PATIENCE)
        return self.commit()

    def commit(self) -> None:
        """Write, if there is anything to write: DynamoDB takes no empty transaction.

        Raises:
            Refused: conditions failed; says which.
            StoreUnavailableError: throttled, unreachable, or in conflict for too long.
        """
        if not any(self._names.values()):
            return
        try:
            self._write._commit()  # noqa: SLF001 - the context manager's only act
        except TransactWriteError as error:
            order = [name for names in self._names.values() for name in names]
            refused = {
                name: reason.raw_item
                for name, reason in zip(order, error.cancellation_reasons, strict=False)
                if reason is not None and reason.code == _CONDITION_FAILED
            }
            if not refused:
                raise
            raise Refused(refused) from None
