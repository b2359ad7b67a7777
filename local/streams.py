"""Streams and schedules on one machine: calls functions as event source mappings and rules do.

It must keep a stream's order, must not lose or repeat a record on its own account, and must not
run on the event loop.
"""

import asyncio
import base64
import logging
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.api_gateway import Context

Function = Callable[[dict[str, Any], Any], Any]
Record = dict[str, Any]
Wait = Callable[[float], object]

# Two calls a poll cost moto much: where nothing happens, it is asked less often.
POLL_SECONDS = 0.05
QUIET_POLL_SECONDS = 0.15
QUIET_AFTER_SECONDS = 5.0
LISTING_SECONDS = 5.0
ENGINE_TROUBLE_SECONDS = 1.0
MAX_BATCH = 100
MAX_RETRIES = 5
PATIENT_RETRIES = 70
"""About an hour of them: what Lambda does where only a record's age ends it."""

BACK_OFF_SECONDS = 0.1
MAX_BACK_OFF_SECONDS = 60.0
_NOTHING_YET = frozenset({"TrimmedDataAccessException", "ExpiredIteratorException"})
_log = logging.getLogger(__name__)


@dataclass
class _Shard:
    """How far a shard has been read.

    Args:
        parent_id: the shard that must have been read to its end before this one.
    """

    shard_id: str
    parent_id: str
    last_number: str = ""
    is_done: bool = False


@dataclass
class StreamPump:
    """Reads a table's stream and hands its new items to a function.

    Args:
        client: of dynamodbstreams, with the table's endpoint.
        wait: takes seconds; returns earlier when everything is to end.
        is_ending: whether everything is to end.
        max_retries: how often a record is tried again.
    """

    client: Any
    table_name: str
    function: Function
    wait: Wait
    is_ending: Callable[[], bool] = lambda: False
    max_retries: int = MAX_RETRIES
    _stream_arn: str = ""
    _shards: dict[str, _Shard] = field(default_factory=dict)
    _listed_at: float = float("-inf")

    def run(self) -> None:
        """Follow the stream until everything is to end."""
        busy_until = 0.0
        while not self.is_ending():
            try:
                count = self.poll()
            except (BotoCoreError, ClientError) as error:
                if not self.is_ending():
                    _log.warning("The stream of %s cannot be read: %s", self.table_name, error)
                self.wait(ENGINE_TROUBLE_SECONDS)
                continue
            if count:
                busy_until = monotonic() + QUIET_AFTER_SECONDS
            else:
                self.wait(POLL_SECONDS if monotonic() < busy_until else QUIET_POLL_SECONDS)

    def poll(self) -> int:
        """Hand on what is there now.

        Returns:
            How many records were read, of whatever kind.

        Raises:
            BotoCoreError, ClientError: the engine does not answer, or has no such stream.
        """
        if monotonic() - self._listed_at > LISTING_SECONDS:
            self._list()
        count = 0
        for shard in self._shards.values():
            parent = self._shards.get(shard.parent_id)
            if shard.is_done or (parent is not None and not parent.is_done):
                continue
            records = self._read(shard)
            count += len(records)
            self._hand_on([record for record in records if record["eventName"] == "INSERT"])
            if records:
                shard.last_number = records[-1]["dynamodb"]["SequenceNumber"]
        return count

    def _list(self) -> None:
        if not self._stream_arn:
            streams = self.client.list_streams(TableName=self.table_name)["Streams"]
            if not streams:
                return
            # a table that was deleted and made again may still show its old stream beside
            self._stream_arn = max(streams, key=lambda each: each["StreamLabel"])["StreamArn"]
        arguments = {"StreamArn": self._stream_arn}
        while True:
            described = self.client.describe_stream(**arguments)["StreamDescription"]
            for shard in described["Shards"]:
                shard_id = shard["ShardId"]
                known = _Shard(shard_id, shard.get("ParentShardId", ""))
                self._shards.setdefault(shard_id, known)
            if not described.get("LastEvaluatedShardId"):
                break
            arguments["ExclusiveStartShardId"] = described["LastEvaluatedShardId"]
        self._listed_at = monotonic()

    def _read(self, shard: _Shard) -> list[Record]:
        """Read on with a fresh iterator: moto's go stale, DynamoDB Local's need a first record."""
        where = {"ShardIteratorType": "TRIM_HORIZON"}
        if shard.last_number:
            where = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "SequenceNumber": shard.last_number,
            }
        try:
            iterator = self.client.get_shard_iterator(
                StreamArn=self._stream_arn, ShardId=shard.shard_id, **where
            )["ShardIterator"]
            got = self.client.get_records(ShardIterator=iterator, Limit=MAX_BATCH)
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOTHING_YET:
                return []
            raise
        records: list[Record] = got["Records"]
        if not records and not got.get("NextShardIterator"):
            # a closed shard that is read to its end has successors
            shard.is_done = True
            self._listed_at = float("-inf")
        return records

    def _hand_on(self, records: list[Record]) -> None:
        """Call the function; what it cannot take is tried again, a few times, and then left."""
        left = [self._as_lambda_gets(record) for record in records]
        retries, stuck_at = 0, ""
        while left and not self.is_ending():
            position, is_whole = self._call(left)
            if position == len(left):
                return
            number = left[position]["dynamodb"]["SequenceNumber"]
            retries = retries + 1 if number == stuck_at else 1
            stuck_at = number
            if retries > self.max_retries:
                _log.error("Records of %s from %s on are given up", self.table_name, number)
                left = [] if is_whole else left[position + 1 :]
                continue
            left = left[position:]
            self.wait(min(BACK_OFF_SECONDS * 2 ** (retries - 1), MAX_BACK_OFF_SECONDS))

    def _call(self, records: Sequence[Record]) -> tuple[int, bool]:
        """Call the function → where the first failure is, and whether it failed as a whole."""
        try:
            result = self.function({"Records": list(records)}, Context(str(uuid.uuid4())))
        except Exception:  # noqa: BLE001 - whatever a function raises, Lambda only reports
            _log.exception("The function for the stream of %s failed", self.table_name)
            return 0, True
        failures = (result or {}).get("batchItemFailures") or []
        failed = {failure.get("itemIdentifier") for failure in failures}
        if not failed:
            return len(records), False
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        # as on AWS, a failure that names none of the records is one of all of them
        positions = [numbers.index(number) for number in failed if number in numbers]
        return (min(positions), False) if len(positions) == len(failed) else (0, True)

    def _as_lambda_gets(self, record: Record) -> Record:
        told = dict(record["dynamodb"])
        created = told.get("ApproximateCreationDateTime")
        told["ApproximateCreationDateTime"] = (
            created.timestamp() if isinstance(created, datetime) else float(created or 0)
        )
        for part in ("Keys", "NewImage", "OldImage"):
            if part in told:
                told[part] = {name: _in_json(value) for name, value in told[part].items()}
        return {
            "eventID": record["eventID"],
            "eventName": record["eventName"],
            "eventVersion": record["eventVersion"],
            "eventSource": "aws:dynamodb",
            "awsRegion": self.client.meta.region_name,
            "eventSourceARN": self._stream_arn,
            "dynamodb": {"SizeBytes": 0, "StreamViewType": "NEW_IMAGE", **told},
        }


def _in_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Write an attribute's value as JSON has it: bytes in base64."""
    ((kind, content),) = value.items()
    if kind == "B":
        return {kind: base64.b64encode(content).decode()}
    if kind == "BS":
        return {kind: [base64.b64encode(part).decode() for part in content]}
    if kind == "L":
        return {kind: [_in_json(part) for part in content]}
    if kind == "M":
        return {kind: {name: _in_json(part) for name, part in content.items()}}
    return {kind: content}


@dataclass
class Schedule:
    """Calls a function at intervals, as a rule of EventBridge does.

    Args:
        wait, is_ending: as for StreamPump.
    """

    name: str
    function: Function
    every_seconds: float
    region: str
    wait: Wait
    is_ending: Callable[[], bool]

    def run(self) -> None:
        """Call until everything is to end; the first time after one interval."""
        for event in self._events():
            try:
                self.function(event, Context(event["id"]))
            except Exception:  # noqa: BLE001 - whatever a function raises, Lambda only reports
                _log.exception("The function for the schedule %s failed", self.name)

    def _events(self) -> Iterator[dict[str, Any]]:
        while True:
            self.wait(self.every_seconds)
            if self.is_ending():
                return
            yield {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": "Scheduled Event",
                "source": "aws.events",
                "account": "000000000000",
                "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "region": self.region,
                "resources": [f"arn:aws:events:{self.region}:000000000000:rule/{self.name}"],
                "detail": {},
            }


def in_threads(
    made: Callable[[threading.Event], Sequence[StreamPump | Schedule]],
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Make what runs pumps and schedules beside a server, each in a thread, until it is cancelled.

    Args:
        made: makes them, given the event that tells that everything is to end.
    """

    async def beside() -> None:
        ending = threading.Event()
        threads = [
            threading.Thread(target=one.run, name=type(one).__name__) for one in made(ending)
        ]
        for thread in threads:
            thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            # a function that is still running may need the server to answer it
            for thread in threads:
                await asyncio.to_thread(thread.join)

    return beside
