"""The second function on the stream: events, from what happened to whoever listens."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.session import Session

import app
from chalicelib import settings
from chalicelib.core.codes import read_entry
from chalicelib.roles import analogue_phones, assignments, rollouts, security_tokens, users
from chalicelib.roles.rollouts import Selection
from chalicelib.sockets import outward
from chalicelib.storage import devices as device_table
from local import tables
from local.demo import DOMAIN
from local.streams import MAX_BACK_OFF_SECONDS, PATIENT_RETRIES, StreamPump
from tests import bus as buses
from tests import world
from tests.bus import Bus, Entry
from tests.conftest import NOW, use
from tests.wires import stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

GATEWAY = "009033460af2"
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def clock(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock, with demo data behind the function."""
    monkeypatch.setattr(outward, "now", lambda: NOW)
    world.seed()


class Stream:
    """What was written since it was last read."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._seen: set[str] = set()

    def new(self) -> dict[str, Any]:
        """Read what is new, as an event, in the order of its time."""
        images = [
            item
            for item in self._client.scan(TableName=self._table)["Items"]
            if item["notification_id"]["S"] not in self._seen
        ]
        self._seen |= {image["notification_id"]["S"] for image in images}
        return stream_event(*sorted(images, key=lambda one: one["notification_id"]["S"][-26:]))

    def flow(self) -> None:
        """Let what is new arrive, all of which is taken."""
        assert app.hand_over(self.new(), None) == {"batchItemFailures": []}


@pytest.fixture
def stream(client: "DynamoDBClient", table_names: dict[str, str]) -> Stream:
    """Follow the stream from here on."""
    made = Stream(client, table_names["notifications"])
    made.new()
    return made


@pytest.fixture(autouse=True)
def held(bus: Bus) -> Iterator[None]:
    """Hold every event of these tests against docs/events.md."""
    yield
    for entry in bus.taken:
        buses.hold(entry)


def test_a_phone_that_a_user_adds_and_gives_up(bus: Bus, stream: Stream) -> None:
    """As it was then, and nothing of its code."""
    world.redeem(world.issue().digits)
    later = NOW + timedelta(minutes=1)
    users.release_phone(world.asking(now=later), world.HW_ID)
    stream.flow()
    (came,), (left,) = bus.told("PhoneProvisioned"), bus.told("PhoneRemoved")
    told = {
        "hw_id": world.HW_ID,
        "user": "user1",
        "category": "Office",
        "product": "IP232",
        "version": "13r1",
    }
    assert came == {
        "version": "1",
        "id": came["id"],
        "at": "2036-11-24T12:00:00Z",
        "domain": DOMAIN,
        "rollout_id": None,
        "phone": told,
    }
    assert left["phone"] == told
    assert left["at"] == "2036-11-24T12:01:00Z"
    assert len(bus.taken) == 2


def test_a_phone_that_changes_hands_leaves_one_and_comes_to_the_other(
    bus: Bus, stream: Stream
) -> None:
    """At the same time, told in any order."""
    world.redeem(world.issue().digits)
    stream.flow()
    assert len(bus.taken) == 1
    later = NOW + timedelta(minutes=1)
    world.redeem(world.issue_rollout(later, "user2").digits, now=later)
    stream.flow()
    (_, came), (left,) = bus.told("PhoneProvisioned"), bus.told("PhoneRemoved")
    assert (left["phone"]["user"], came["phone"]["user"]) == ("user1", "user2")
    assert left["at"] == came["at"]
    assert left["rollout_id"] is None
    assert came["rollout_id"] == bus.told("RegistrationChanged")[-1]["rollout_id"]


def test_a_phone_of_nobody_is_told_as_such(bus: Bus, stream: Stream) -> None:
    """It came by its domain's security token."""
    token = "security token of the demo domain"
    security_tokens.put(world.admin(), DOMAIN, "Office", token, 0)
    world.admit(world.claiming(token))
    assignments.remove(world.admin(), DOMAIN, world.HW_ID)
    stream.flow()
    for name in ("PhoneProvisioned", "PhoneRemoved"):
        (told,) = bus.told(name)
        assert told["phone"]["user"] is None


def test_an_analogue_phone_goes_with_its_gateway(bus: Bus, stream: Stream) -> None:
    """Each by its own hardware id."""
    world.redeem(world.issue("user9").digits, GATEWAY)
    gateway, entry = device_table.find(GATEWAY), read_entry(world.issue().digits)
    assert gateway is not None
    assert entry is not None
    analogue_phones.register(gateway, "TEL1", entry, world.HOME, NOW)
    assignments.release(world.admin(), DOMAIN, GATEWAY)
    stream.flow()
    for name in ("PhoneProvisioned", "PhoneRemoved"):
        told = {one["phone"]["hw_id"] for one in bus.told(name)}
        assert told == {GATEWAY, f"{GATEWAY}-TEL1"}


def test_a_rollout_is_told_from_its_codes_to_its_phones(bus: Bus, stream: Stream) -> None:
    """Entries as the list shows them, a device as soon as there is one."""
    sips = world.staff(3)
    rollout = world.make_rollout(sips)
    stream.flow()
    told = bus.told("RegistrationChanged")
    assert {entry["sip"] for one in told for entry in one["entries"]} == set(sips)
    assert {entry["state"] for one in told for entry in one["entries"]} == {"pending"}
    world.redeem(world.told(rollout)[sips[0]])
    rollouts.revoke(world.users_admin(), rollout.rollout_id, Selection(sips=sips[1:2]))
    bus.taken.clear()
    stream.flow()
    now = {
        entry["sip"]: entry for one in bus.told("RegistrationChanged") for entry in one["entries"]
    }
    assert now[sips[0]]["state"] == "registered"
    assert now[sips[0]]["device"]["hw_id"] == world.HW_ID
    assert now[sips[1]]["state"] == "revoked"
    assert {one["rollout_id"] for one in bus.told("PhoneProvisioned")} == {rollout.rollout_id}
    assert len(set(bus.ids)) == len(bus.ids)


def test_an_event_that_comes_twice_has_the_same_id(bus: Bus, stream: Stream) -> None:
    """Streams deliver twice."""
    world.redeem(world.issue_rollout().digits)
    event = stream.new()
    for _ in range(2):
        assert app.hand_over(event, None) == {"batchItemFailures": []}
    half = len(bus.ids) // 2
    assert half >= 2
    assert bus.ids[:half] == bus.ids[half:]


def test_the_stream_goes_on_from_what_was_not_taken(bus: Bus, stream: Stream) -> None:
    """The first such record, whatever kinds of rows are between."""
    for number in range(4):
        world.redeem(world.issue(f"user{number + 1}").digits, f"00903300000{number}")
    event = stream.new()
    bus.refuse = lambda entry: "ThrottlingException" if "009033000002" in entry["Detail"] else ""
    (failed,) = app.hand_over(event, None)["batchItemFailures"]
    (record,) = [
        one
        for one in event["Records"]
        if one["dynamodb"]["SequenceNumber"] == failed["itemIdentifier"]
    ]
    image = record["dynamodb"]["NewImage"]
    assert (image["hw_id"]["S"], image["change"]["S"]) == ("009033000002", "provisioned")


def test_what_is_no_fact_is_passed_over(bus: Bus, stream: Stream) -> None:
    """Other rows, rows that newer code writes, rows that go."""
    world.redeem(world.issue().digits)
    event = stream.new()
    (known, *_) = [one for one in event["Records"] if "change" in one["dynamodb"]["NewImage"]]
    image = known["dynamodb"]["NewImage"]
    newer = {**image, "kind": {"S": "something newer"}, "change": {"S": "something newer"}}
    woken = {**image, "kind": {"S": "wake"}}
    odd = stream_event(newer, woken)
    odd["Records"] += [{**known, "eventName": "REMOVE"}, {**known, "dynamodb": {}}]
    assert app.hand_over(odd, None) == {"batchItemFailures": []}
    assert bus.calls == []


def test_without_a_bus_the_function_does_without(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, bus: Bus
) -> None:
    """Nothing is put, and nothing fails."""
    used = replace(settings.current(), event_bus="")
    monkeypatch.setattr(settings, "current", lambda: used)
    world.redeem(world.issue().digits)
    stream.flow()
    assert bus.calls == []


class Followed:
    """A stream of its own, as the machine's own pump reads it."""

    def __init__(self, streams: Any, name: str) -> None:  # noqa: ANN401 - botocore's client has no types
        self.waits: list[float] = []
        self.pump = StreamPump(
            streams, name, app.hand_over, self.waits.append, max_retries=PATIENT_RETRIES
        )
        self._streams = streams

    def records(self) -> dict[str, Any]:
        """Read all that the stream has, as get-records tells it."""
        arn = self.pump._stream_arn  # noqa: SLF001 - what it has found
        (shard,) = self._streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        iterator = self._streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        return dict(self._streams.get_records(ShardIterator=iterator))

    def facts(self) -> list[str]:
        """List the ids of the facts of phones, in the stream's order."""
        return [
            record["dynamodb"]["Keys"]["notification_id"]["S"][-26:]
            for record in self.records()["Records"]
            if "change" in record["dynamodb"]["NewImage"]
        ]


@pytest.fixture
def followed(
    engine: str,
    client: "DynamoDBClient",
    table_names: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Followed]:
    """Let notifications be written to a table whose stream nobody has written to."""
    name = f"{table_names['notifications']}-outward-{next(_numbers)}"
    tables.create_one(client, name, tables.definitions()["notifications"])
    used = settings.current()
    use(replace(used, tables={**used.tables, "notifications": name}), monkeypatch)
    streams = Session().create_client("dynamodbstreams", endpoint_url=engine)
    yield Followed(streams, name)
    client.delete_table(TableName=name)


def bring_phones(count: int) -> None:
    """Let phones come, each a minute after the other."""
    for number in range(count):
        at = NOW + timedelta(minutes=number)
        issued = world.issue(f"user{number + 1}", at)
        world.redeem(issued.digits, f"0090330000{number:02x}", now=at)


def test_every_event_is_put_however_long_eventbridge_is_away(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which it happened, and the pump waits longer and longer meanwhile."""
    bus = Bus(monkeypatch)
    bus.away = 12
    bring_phones(5)
    while followed.pump.poll():
        pass
    assert bus.ids == followed.facts()
    assert len(bus.ids) == 5
    assert followed.waits == sorted(followed.waits)
    assert len(followed.waits) == 12
    assert followed.waits[-1] == MAX_BACK_OFF_SECONDS


def test_every_event_is_put_however_many_are_refused_at_first(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each at least once, and what is repeated ends in the order in which it happened."""
    bus = Bus(monkeypatch)
    refused: list[str] = []

    def refuse(entry: Entry) -> str:
        fact_id = json.loads(entry["Detail"])["id"]
        if refused.count(fact_id) < 2:
            refused.append(fact_id)
            return "ThrottlingException"
        return ""

    bus.refuse = refuse
    bring_phones(5)
    while followed.pump.poll():
        pass
    last = {fact_id: place for place, fact_id in enumerate(bus.ids)}
    assert sorted(last, key=last.__getitem__) == followed.facts()
    assert len(last) == 5


def test_records_as_the_command_line_reads_them_are_put_again(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docs/operations.md has done with the failure queue: get-records, and invoke."""
    bring_phones(2)
    followed.pump.function = lambda *_: {}
    followed.pump.poll()
    bus = Bus(monkeypatch)
    records = json.loads(json.dumps(followed.records(), default=str))
    assert app.hand_over(records, None) == {"batchItemFailures": []}
    assert bus.ids == followed.facts()
