"""The stream and the schedule on one machine: every record once, in order, and retries that end."""

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.session import Session
from chalice.app import Chalice, DynamoDBEvent
from moto.dynamodbstreams.models import dynamodbstreams_backends

from local import dynamodb, tables
from local.streams import (
    BACK_OFF_SECONDS,
    ENGINE_TROUBLE_SECONDS,
    MAX_RETRIES,
    Schedule,
    StreamPump,
    in_threads,
)
from tests.local.websockets_served import eventually

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Event = dict[str, Any]


_numbers = itertools.count()


@pytest.fixture
def table_names(table_names: dict[str, str], client: "DynamoDBClient") -> Iterator[dict[str, str]]:
    """Give each test a stream that nobody has written to, under a name that was never used."""
    name = f"{table_names['notifications']}-{next(_numbers)}"
    tables.create_one(client, name, tables.definitions()["notifications"])
    yield {**table_names, "notifications": name}
    client.delete_table(TableName=name)


class Follower:
    """Takes what the pump hands on, and fails where a test wants it to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.events: list[Event] = []
        self.failing: set[str] = set()
        self.is_broken = False

    def __call__(self, event: Event, _: object) -> Event:
        self.events.append(event)
        self.batches.append([name_of(record) for record in event["Records"]])
        if self.is_broken:
            raise RuntimeError("broken on purpose")
        return {
            "batchItemFailures": [
                {"itemIdentifier": record["dynamodb"]["SequenceNumber"]}
                for record in event["Records"]
                if name_of(record) in self.failing
            ]
        }

    @property
    def names(self) -> list[str]:
        """Tell everything that was handed on, in order."""
        return [name for batch in self.batches for name in batch]


def name_of(record: Event) -> str:
    """Tell which item a record is about."""
    return str(record["dynamodb"]["Keys"]["notification_id"]["S"])


def item(name: str) -> dict[str, Any]:
    """Make a notification with an attribute of every kind that is sealed or nested."""
    return {
        "domain": {"S": "example.com"},
        "notification_id": {"S": name},
        "sealed": {"B": b"\x00\xff"},
        "nested": {"M": {"list": {"L": [{"BS": [b"\x01"]}, {"N": "1"}]}}},
    }


class Table:
    """The notifications of one test, and a pump that follows them by hand."""

    def __init__(self, client: "DynamoDBClient", streams: Any, name: str) -> None:  # noqa: ANN401 - botocore's client has no types
        self.client = client
        self.name = name
        self.follower = Follower()
        self.waits: list[float] = []
        self.pump = StreamPump(streams, name, self.follower, self.waits.append)

    def insert(self, name: str) -> None:
        """Write a new item."""
        self.client.put_item(TableName=self.name, Item=item(name))

    def refuse(self, name: str) -> None:
        """Write in a transaction whose condition does not hold."""
        key = {"domain": {"S": "example.com"}, "notification_id": {"S": "nowhere"}}
        check: Any = {
            "TableName": self.name,
            "Key": key,
            "ConditionExpression": "attribute_exists(#d)",
            "ExpressionAttributeNames": {"#d": "domain"},
        }
        with pytest.raises(self.client.exceptions.TransactionCanceledException):
            self.client.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": self.name, "Item": item(name)}},
                    {"ConditionCheck": check},
                ]
            )

    def follow(self) -> list[str]:
        """Poll until nothing more comes → everything that was handed on so far."""
        while self.pump.poll():
            pass
        return self.follower.names


@pytest.fixture
def table(engine: str, client: "DynamoDBClient", table_names: dict[str, str]) -> Table:
    """Make a table with a stream, and a pump."""
    streams = Session().create_client("dynamodbstreams", endpoint_url=engine)
    return Table(client, streams, table_names["notifications"])


@pytest.mark.engine
def test_every_inserted_item_is_handed_on_once_and_in_order(table: Table) -> None:
    assert table.follow() == []
    names = [f"n{number:03}" for number in range(250)]
    for name in names[:120]:
        table.insert(name)
    assert table.follow() == names[:120]
    for name in names[120:]:
        table.insert(name)
    assert table.follow() == names
    assert table.follow() == names
    assert max(map(len, table.follower.batches)) == 100


@pytest.mark.engine
def test_a_refused_transaction_loses_nothing(table: Table) -> None:
    """Moto puts another table in the place of the one that a reader has begun to read."""
    table.insert("first")
    assert table.follow() == ["first"]
    table.refuse("never")
    table.insert("second")
    table.refuse("never")
    assert table.follow() == ["first", "second"]
    table.insert("third")
    assert table.follow() == ["first", "second", "third"]


@pytest.mark.engine
def test_changes_and_deletions_are_not_handed_on(table: Table) -> None:
    table.insert("one")
    key: Any = {name: item("one")[name] for name in ("domain", "notification_id")}
    table.client.update_item(
        TableName=table.name,
        Key=key,
        UpdateExpression="SET sent = :t",
        ExpressionAttributeValues={":t": {"BOOL": True}},
    )
    table.client.delete_item(TableName=table.name, Key=key)
    table.insert("two")
    assert table.follow() == ["one", "two"]


@pytest.mark.engine
def test_a_record_is_as_lambda_gets_it(table: Table) -> None:
    before = datetime.now(UTC).timestamp()
    table.insert("one")
    table.follow()
    (record,) = table.follower.events[0]["Records"]
    assert record["eventName"] == "INSERT"
    assert record["eventSource"] == "aws:dynamodb"
    assert record["awsRegion"] == "eu-central-1"
    assert f"table/{table.name}/stream/" in record["eventSourceARN"]
    told = record["dynamodb"]
    assert told["NewImage"]["sealed"] == {"B": "AP8="}
    assert told["NewImage"]["nested"] == {"M": {"list": {"L": [{"BS": ["AQ=="]}, {"N": "1"}]}}}
    # some engines tell whole seconds, and DynamoDB Local whole minutes
    assert abs(told["ApproximateCreationDateTime"] - before) < 120

    seen: list[str] = []
    app = Chalice("streams", configure_logs=False)

    def follow(event: DynamoDBEvent) -> None:
        seen.extend(f"{one.table_name} {one.sequence_number}" for one in event)

    app.on_dynamodb_record("arn:aws:dynamodb:::x")(follow)
    app.handler_map["follow"](table.follower.events[0], None)
    assert seen == [f"{table.name} {told['SequenceNumber']}"]


def test_moto_forgets_the_iterators_of_old_polls(table: Table) -> None:
    table.insert("one")
    for _ in range(dynamodb.MAX_ITERATORS):
        table.pump.poll()
    assert table.follow() == ["one"]
    kept = [
        len(backend.shard_iterators)
        for backends in dynamodbstreams_backends.values()
        for backend in backends.values()
    ]
    assert 0 < max(kept) <= dynamodb.MAX_ITERATORS


def test_what_failed_is_tried_again_from_there_and_then_left(table: Table) -> None:
    for name in ("one", "two", "three"):
        table.insert(name)
    table.follower.failing = {"two"}
    table.follow()
    again = [["two", "three"]] * MAX_RETRIES
    assert table.follower.batches == [["one", "two", "three"], *again, ["three"]]
    assert table.waits == [BACK_OFF_SECONDS * 2**n for n in range(MAX_RETRIES)]
    table.insert("four")
    assert table.follow()[-1] == "four"


def test_what_recovers_goes_on(table: Table) -> None:
    table.insert("one")
    table.follower.failing = {"one"}
    table.pump.wait = lambda _: table.follower.failing.clear()
    assert table.follow() == ["one", "one"]


def test_a_function_that_raises_is_tried_again_a_few_times(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    table.follower.is_broken = True
    for name in ("one", "two"):
        table.insert(name)
    table.follow()
    assert table.follower.batches == [["one", "two"]] * (MAX_RETRIES + 1)
    assert "are given up" in caplog.text
    table.follower.is_broken = False
    table.insert("three")
    assert table.follow()[-1] == "three"


def test_a_failure_that_names_no_record_is_one_of_all(table: Table) -> None:
    calls = 0

    def follow(event: Event, context: object) -> Event:
        nonlocal calls
        calls += 1
        table.follower(event, context)
        return {"batchItemFailures": [{"itemIdentifier": "" if calls == 1 else None}][: calls < 3]}

    table.pump.function = follow
    table.insert("one")
    assert table.follow() == ["one", "one", "one"]


class Shards:
    """A stream whose shards follow each other, as the real service's do."""

    def __init__(self, shards: dict[str, list[str]], closed: set[str]) -> None:
        self.shards, self.closed = shards, closed

    class meta:  # noqa: N801 - botocore's name
        """What botocore says of a client."""

        region_name = "eu-central-1"

    def list_streams(self, **_: object) -> Event:
        return {"Streams": [{"StreamArn": "arn", "StreamLabel": "2036"}]}

    def describe_stream(self, **_: object) -> Event:
        names = list(self.shards)
        parents = dict(zip(names[1:], names, strict=False))
        shards = [
            {"ShardId": name, **({"ParentShardId": parents[name]} if name in parents else {})}
            for name in reversed(names)
        ]
        return {"StreamDescription": {"Shards": shards}}

    def get_shard_iterator(self, **given: str) -> Event:
        start = int(given.get("SequenceNumber", "-1")) + 1
        return {"ShardIterator": f"{given['ShardId']} {start}"}

    def get_records(self, **given: Any) -> Event:  # noqa: ANN401 - botocore's
        shard, start = given["ShardIterator"].split()
        records = [
            {
                "eventID": name,
                "eventName": "INSERT",
                "eventVersion": "1.1",
                "dynamodb": {
                    "Keys": {"notification_id": {"S": name}},
                    "SequenceNumber": str(number),
                },
            }
            for number, name in enumerate(self.shards[shard])
        ]
        following = {} if shard in self.closed else {"NextShardIterator": "x"}
        return {"Records": records[int(start) :], **following}


def test_a_shard_is_read_to_its_end_before_the_next() -> None:
    shards = Shards({"a": ["1", "2"]}, set())
    follower = Follower()
    pump = StreamPump(shards, "t", follower, lambda _: None)
    assert pump.poll() == 2
    shards.shards["a"].append("3")
    shards.shards["b"] = ["4"]
    shards.closed.add("a")
    for _ in range(4):
        pump.poll()
    assert follower.names == ["1", "2", "3", "4"]


class Trouble:
    """An engine that does not answer at first."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = list(errors)

    def list_streams(self, **_: object) -> Event:
        if self.errors:
            raise self.errors.pop(0)
        return {"Streams": []}


def test_trouble_with_the_engine_is_waited_out() -> None:
    errors = [
        EndpointConnectionError(endpoint_url="http://x"),
        ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "ListStreams"),
    ]
    trouble, waits = Trouble(errors), list[float]()
    pump = StreamPump(trouble, "t", Follower(), waits.append, lambda: len(waits) > 2)
    pump.run()
    assert waits[:2] == [ENGINE_TROUBLE_SECONDS] * 2
    assert trouble.errors == []


def test_a_schedule_calls_until_it_ends_whatever_the_function_does() -> None:
    events: list[Event] = []

    def function(event: Event, _: object) -> None:
        events.append(event)
        raise RuntimeError("broken on purpose")

    waits: list[float] = []
    Schedule("r", function, 60, "eu-central-1", waits.append, lambda: len(waits) > 2).run()
    assert waits == [60, 60, 60]
    first, second = events
    assert first["id"] != second["id"]
    assert (first["source"], first["detail-type"]) == ("aws.events", "Scheduled Event")
    assert first["resources"] == ["arn:aws:events:eu-central-1:000000000000:rule/r"]


def test_pump_and_schedule_run_beside_a_server_until_it_ends(table: Table) -> None:
    ticked = threading.Event()

    def made(ending: threading.Event) -> tuple[StreamPump, Schedule]:
        table.pump.wait, table.pump.is_ending = ending.wait, ending.is_set
        tick = Schedule("r", lambda *_: ticked.set(), 0.01, "x", ending.wait, ending.is_set)
        return table.pump, tick

    async def serve() -> None:
        running = asyncio.create_task(in_threads(made)())
        await asyncio.to_thread(table.insert, "one")
        await asyncio.to_thread(eventually, lambda: table.follower.names == ["one"])
        await asyncio.to_thread(eventually, ticked.is_set)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    before = threading.active_count()
    asyncio.run(serve())
    # the engine's own threads come and go
    eventually(lambda: threading.active_count() <= before)
