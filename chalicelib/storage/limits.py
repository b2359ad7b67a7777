"""Limits, kept as one timestamp a bucket, exact under concurrency.

It must not decide: core/rate_limits.py does, and the conditions here hold it to that. Whatever a
limit refuses is counted here, once, whoever asked.
"""

import random
import time
from collections.abc import Callable
from datetime import datetime

from botocore.exceptions import ClientError
from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute

from chalicelib import observability
from chalicelib.core.errors import LimitReachedError, StoreUnavailableError
from chalicelib.core.rate_limits import Decision, Limit, decide
from chalicelib.storage import connection
from chalicelib.storage.connection import Item

MAX_TRIES_WHEN_FULL = 3
KEEP_SECONDS = 86_400
_PAUSE_SECONDS = 0.15
_MAX_RACES = 4


class LimitItem(Item):
    """One bucket; docs/data-model.md, limits."""

    concept = "limits"
    bucket = UnicodeAttribute(hash_key=True)
    arrival_ms = NumberAttribute()
    purge_at = TTLAttribute()


def bucket_key(limit: Limit, subject: str) -> tuple[str]:
    """Tell the key of a bucket, for a read together with others."""
    return (f"{limit.name}#{subject}",)


def demand_room(limit: Limit, item: LimitItem | None, now: datetime) -> None:
    """Refuse when a bucket that was read is full; nothing is taken from it.

    Raises:
        LimitReachedError: it is full; says for how long.
    """
    stored_ms = int(item.arrival_ms) if item is not None else None
    decision = decide(_milliseconds(now), limit, stored_ms)
    if not decision.is_allowed:
        raise _reached(limit, decision)


def take(limit: Limit, subject: str, now: datetime) -> bool:
    """Take one attempt from a bucket if there is one, without waiting for refunds.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    return _try(limit, subject, _milliseconds(now)).is_allowed


def demand(limit: Limit, subject: str, now: datetime) -> None:
    """Take one attempt from a bucket, without waiting for refunds.

    Raises:
        LimitReachedError: the bucket is full; says for how long.
        StoreUnavailableError: throttled or unreachable.
    """
    decision = _try(limit, subject, _milliseconds(now))
    if not decision.is_allowed:
        raise _reached(limit, decision)


def reserve(
    limit: Limit, subject: str, now: datetime, pause: Callable[[float], None] = time.sleep
) -> None:
    """Take one attempt from a bucket, before the work that it pays for.

    A bucket that is full is tried three times with jitter, for attempts that succeed are refunded.

    Args:
        subject: whose bucket: a source, a user.
        now: the server's clock.

    Raises:
        LimitReachedError: the bucket is full; says for how long.
        StoreUnavailableError: throttled or unreachable.
    """
    decision = _try(limit, subject, _milliseconds(now))
    for attempt in range(1, MAX_TRIES_WHEN_FULL):
        if decision.is_allowed:
            return
        pause(random.uniform(0, _PAUSE_SECONDS * attempt))  # noqa: S311 - jitter
        decision = _try(limit, subject, _milliseconds(now))
    if not decision.is_allowed:
        raise _reached(limit, decision)


def refund(limit: Limit, subject: str) -> None:
    """Give one attempt back, after success or trouble of ours; what fails here fails nothing."""
    change = "SET arrival_ms = arrival_ms - :interval"
    values = {":interval": limit.interval_ms}
    try:
        _update(limit, subject, change, "attribute_exists(arrival_ms)", values)
    except StoreUnavailableError as error:
        observability.logger().warning("attempt not refunded", extra={"why": error.what})


def _try(limit: Limit, subject: str, now_ms: int) -> Decision:
    """Decide as if there were no debt; where there is, once more with what the refusal returned.

    Each write repeats its assumption as a condition, so attempts at the same time cannot both take
    the last place.
    """
    decision = decide(now_ms, limit, None)
    for _ in range(_MAX_RACES):
        stored_ms = _write(limit, subject, now_ms, decision)
        if stored_ms is None:
            return decision
        decision = decide(now_ms, limit, stored_ms)
        if not decision.is_allowed:
            return decision
    raise StoreUnavailableError("limits changed too often")


def _write(limit: Limit, subject: str, now_ms: int, decision: Decision) -> int | None:
    """Keep a decision; returns None when kept, else the timestamp that contradicts it."""
    if decision.stored_ms == now_ms + limit.interval_ms:
        change = "arrival_ms = :arrival"
        condition = "attribute_not_exists(arrival_ms) OR arrival_ms <= :now"
        values = {":now": now_ms, ":arrival": decision.stored_ms}
    else:
        change = "arrival_ms = arrival_ms + :interval"
        condition = "arrival_ms > :now AND arrival_ms <= :last"
        last_ms = now_ms + (limit.burst - 1) * limit.interval_ms
        values = {":now": now_ms, ":interval": limit.interval_ms, ":last": last_ms}
    values[":purge"] = decision.stored_ms // 1000 + KEEP_SECONDS
    return _update(limit, subject, f"SET {change}, purge_at = :purge", condition, values)


def _update(
    limit: Limit, subject: str, expression: str, condition: str, values: dict[str, int]
) -> int | None:
    try:
        connection.call(
            "UpdateItem",
            TableName=connection.table_name("limits"),
            Key={"bucket": {"S": bucket_key(limit, subject)[0]}},
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeValues={name: {"N": str(value)} for name, value in values.items()},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return int(error.response.get("Item", {}).get("arrival_ms", {"N": "0"})["N"])
    return None


def _reached(limit: Limit, decision: Decision) -> LimitReachedError:
    observability.count("LimitReached", limit=limit.name)
    return LimitReachedError(limit.name, -(-decision.retry_after_ms // 1000))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
