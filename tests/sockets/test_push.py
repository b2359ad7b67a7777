import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import app
from chalicelib.core.codes import read_entry
from chalicelib.core.devices import PbxState
from chalicelib.core.errors import CodeNotRedeemableError
from chalicelib.core.user_objects import of_another_user
from chalicelib.roles import analogue_phones, assignments, devices, rollouts, users
from chalicelib.storage import connections, notifications
from chalicelib.storage import devices as device_table
from chalicelib.storage.connection import Transaction
from local.demo import BOOT_BUILD, DOMAIN, FIRMWARE_BUILD
from local.identity import Issuer
from tests import world
from tests.conftest import NOW
from tests.sockets.conftest import Clock
from tests.wires import Wire, Wires, stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.usefixtures("defects")


@dataclass
class Stream:
    """The stream of the notifications table: what was written since it was last read."""

    client: "DynamoDBClient"
    table: str
    issuer: Issuer
    service: Wires

    def __post_init__(self) -> None:
        self.seen: set[str] = set()
        self.last: dict[str, Any] = {"Records": []}

    def new(self) -> dict[str, Any]:
        """Read what is new, as an event."""
        images: list[dict[str, Any]] = [
            item
            for item in self.client.scan(TableName=self.table)["Items"]
            if json.dumps(item, sort_keys=True) not in self.seen
        ]
        self.seen |= {json.dumps(image, sort_keys=True) for image in images}
        return stream_event(*sorted(images, key=lambda image: image["notification_id"]["S"]))

    def flow(self) -> None:
        """Let what is new arrive."""
        self.last = self.new()
        self.follow(self.last)

    def follow(self, event: dict[str, Any]) -> None:
        """Let an event arrive, which never fails."""
        assert app.follow_notifications(event, None) == {"batchItemFailures": []}

    def person(self, sip: str, **claims: Any) -> Wire:  # noqa: ANN401 - any claim
        """Open a connection over which a person has signed in."""
        wire = self.service.connect()
        assert wire.ask("UserLogin", token=self.issuer.token(sip, NOW, **claims))["ok"] is True
        return wire


@pytest.fixture
def stream(
    service: Wires, issuer: Issuer, client: "DynamoDBClient", table_names: dict[str, str]
) -> Stream:
    """Follow the stream from here on."""
    made = Stream(client, table_names["notifications"], issuer, service)
    made.new()
    return made


def news(wire: Wire) -> list[dict[str, Any]]:
    """List what was told without being asked, and forget it."""
    told = [message for message in wire.received if not message["mt"].endswith("Result")]
    wire.received[:] = []
    return told


def names(wire: Wire) -> list[str]:
    """List under which names it was told."""
    return [message["mt"] for message in news(wire)]


def test_whoever_asked_for_a_code_hears_of_its_phone(stream: Stream) -> None:
    """The vendor's members, the src of the question, and a number of ours; told once."""
    other, wire = stream.service.instance(), stream.service.instance()
    asked = wire.ask("GetProvisioningCode", category="Office", sip="user1", src="src3")
    stream.flow()
    world.redeem(asked["code"])
    stream.flow()
    (told,) = news(wire)
    assert isinstance(told["device"].pop("domainId"), int)
    assert told == {
        "mt": "DeviceProvisioned",
        "code": asked["code"],
        "src": "src3",
        "sequence": 1,
        "device": {
            "id": int(world.HW_ID, 16),
            "hwId": world.HW_ID,
            "name": "",
            "product": "IP232",
            "version": "13r1",
            "type": "PHONE",
            "pbxActive": False,
            "online": True,
            "hasLeaseLicenses": False,
            "uri": "",
        },
    }
    stream.follow(stream.last)
    assert news(wire) == []
    assert news(other) == []


def test_whoever_asked_for_a_code_hears_of_an_analogue_phone(stream: Stream) -> None:
    """Its user, too, and of its end; by its gateway's hardware id and the interface."""
    person, wire = stream.person("user1"), stream.service.instance()
    world.redeem(world.issue("user9").digits, "009033460af2")
    gateway = device_table.find("009033460af2")
    asked = wire.ask("GetProvisioningCode", category="Office", sip="user1", src="src3")
    entry = read_entry(asked["code"])
    assert gateway is not None
    assert entry is not None
    stream.flow()
    news(person)
    analogue_phones.register(gateway, "TEL1", entry, world.HOME, NOW)
    stream.flow()
    (told,) = wire.told("DeviceProvisioned")
    assert (told["code"], told["src"]) == (asked["code"], "src3")
    assert (told["device"]["hwId"], told["device"]["online"]) == ("009033460af2-TEL1", True)
    heard = {message["mt"]: message for message in news(person)}
    assert heard["CodeChanged"]["code"]["device"] == heard["PhoneChanged"]["phone"]
    assert heard["PhoneChanged"]["phone"]["hw_id"] == "009033460af2-TEL1"
    assert heard["PhoneChanged"]["phone"]["state"] == "current"
    assignments.release(world.admin(), DOMAIN, "009033460af2")
    stream.flow()
    (gone,) = news(person)
    assert gone == {"mt": "PhoneChanged", "hw_id": "009033460af2-TEL1", "phone": None}


def test_a_question_without_src_is_told_without(stream: Stream) -> None:
    """There is nothing to echo."""
    wire = stream.service.instance()
    world.redeem(wire.ask("GetProvisioningCode", category="Office", sip="user1")["code"])
    stream.flow()
    (told,) = news(wire)
    assert "src" not in told


def test_a_person_hears_of_a_new_code(stream: Stream) -> None:
    """As a read would show it, and no digit of the code; nobody else hears of it."""
    wire, other, instance = (
        stream.person("user1"),
        stream.person("user2"),
        stream.service.instance(),
    )
    issued = world.issue("user1")
    stream.flow()
    assert wire.told("CodeChanged") == [
        {
            "mt": "CodeChanged",
            "code": {
                "code_id": issued.code.code_id,
                "state": "pending",
                "category": "Office",
                "expires_at": "2036-11-24T12:10:00Z",
            },
        }
    ]
    assert issued.digits not in json.dumps(wire.received)
    assert names(wire) == ["CodeChanged"]
    assert news(other) == news(instance) == []


def test_a_person_hears_of_a_revoked_code(stream: Stream) -> None:
    """It is revoked then."""
    issued = world.issue("user1")
    stream.flow()
    wire = stream.person("user1")
    users.revoke_code(world.asking("user1"), issued.code.code_id)
    stream.flow()
    (told,) = news(wire)
    assert told["code"]["state"] == "revoked"


def test_a_person_does_not_hear_who_else_has_their_phone_at_the_pbx(stream: Stream) -> None:
    """That somebody has it is enough."""
    world.redeem(world.issue("user1").digits)
    stream.flow()
    wire = stream.person("user1")
    (device,) = device_table.find_all([world.HW_ID])
    marked = replace(device, pbx=PbxState.FAILED, pbx_reason=of_another_user("carol"))
    fact = notifications.Fact(device.domain, device.user, hw_id=world.HW_ID)

    def also(write: Transaction) -> None:
        notifications.add_fact(write, fact, NOW)

    assert device_table.report(marked, device, also)
    stream.flow()
    (phone,) = news(wire)
    assert phone["phone"]["pbx"]["reason"] == "phone of another user"
    assert "carol" not in json.dumps(phone)


def test_a_person_hears_of_their_phone(stream: Stream) -> None:
    """The code is redeemed, and the phone is there."""
    issued = world.issue("user1")
    stream.flow()
    wire, other = stream.person("user1"), stream.person("user2")
    token = world.redeem(issued.digits).token
    stream.flow()
    code, phone = news(wire)
    assert (code["mt"], code["code"]["state"]) == ("CodeChanged", "redeemed")
    assert code["code"]["device"]["hw_id"] == world.HW_ID
    assert (phone["mt"], phone["hw_id"]) == ("PhoneChanged", world.HW_ID)
    assert phone["phone"]["user"] == "user1"
    for secret in (issued.digits, token):
        assert secret not in json.dumps([code, phone])
    assert news(other) == []


def test_a_person_hears_why_their_code_was_refused(stream: Stream) -> None:
    """Somebody else's phone used it a second time."""
    issued = world.issue("user1")
    world.redeem(issued.digits)
    stream.flow()
    wire = stream.person("user1")
    with pytest.raises(CodeNotRedeemableError):
        world.redeem(issued.digits, "0090330000ff", "198.51.100.1")
    stream.flow()
    assert news(wire)[0]["code"]["reason"]


def test_a_person_hears_when_their_phone_is_current(stream: Stream) -> None:
    """The state changes with what the phone reports, and is told then."""
    token = world.redeem(world.issue("user1").digits).token
    stream.flow()
    wire = stream.person("user1")
    states: list[str] = []
    for minute in range(1, 4):
        facts = world.FACTS
        if minute > 1:
            facts = type(facts)(**{**vars(facts), "prot": FIRMWARE_BUILD, "boot": BOOT_BUILD})
        visit = world.visit(None, token=token, facts=facts)
        script = devices.update_script(visit, NOW + timedelta(minutes=minute))
        check = [line.split()[-1] for line in script.splitlines() if " check " in line]
        if check:
            done = type(facts)(**{**vars(facts), "check": check[-1]})
            visit = world.visit(None, token=token, facts=done)
            devices.update_script(visit, NOW + timedelta(minutes=minute, seconds=30))
        stream.flow()
        states += [told["phone"]["state"] for told in news(wire) if told["mt"] == "PhoneChanged"]
    assert states[-1] == "current"
    assert states == list(dict.fromkeys(states))


def test_a_person_hears_when_their_phone_is_gone(stream: Stream) -> None:
    """It is no phone of theirs any more."""
    world.redeem(world.issue("user1").digits)
    stream.flow()
    wire = stream.person("user1")
    users.release_phone(world.asking("user1"), world.HW_ID)
    stream.flow()
    assert news(wire) == [{"mt": "PhoneChanged", "hw_id": world.HW_ID, "phone": None}]


def test_only_who_rolls_phones_out_hears_of_a_rollout(stream: Stream) -> None:
    """Entries with their users; nobody but a users-admin of that domain, and of no other code."""
    admin = stream.person("admin")
    quiet = [
        stream.person("admin", roles=["devices-admin"]),
        stream.person("admin", domain="other.example"),
        stream.person("user2"),
        stream.person("user3"),
    ]
    world.issue("user1")
    stream.flow()
    assert news(admin) == []
    rollout = world.make_rollout(["user2"])
    stream.flow()
    assert news(admin) == [
        {
            "mt": "RegistrationChanged",
            "rollout_id": rollout.rollout_id,
            "entries": [
                {
                    "sip": "user2",
                    "name": "User 2",
                    "state": "pending",
                    "since": "2036-11-24T12:00:00Z",
                    "changed_at": "2036-11-24T12:00:00Z",
                    "code_id": world.entry(rollout, "user2").code_id,
                    "expires_at": "2036-12-01T12:00:00Z",
                }
            ],
        }
    ]
    assert [news(wire) for wire in quiet] == [[], [], [], []]


def entries_told(wire: Wire) -> list[tuple[str, str, str]]:
    """List what an administrator was told of entries, each as sip, state and reason."""
    return [
        (entry["sip"], entry["state"], entry.get("reason", ""))
        for told in news(wire)
        if told["mt"] == "RegistrationChanged"
        for entry in sorted(told["entries"], key=lambda entry: str(entry["sip"]))
    ]


def test_an_administrator_hears_of_every_change_of_a_rollout(stream: Stream) -> None:
    """Whoever makes it: the administrators, a phone, somebody who guesses, the user."""
    admin = stream.person("admin")
    asking = world.users_admin()
    rollout = world.make_rollout(["user1", "user2"])
    at = rollout.rollout_id
    stream.flow()
    assert entries_told(admin) == [("user1", "pending", ""), ("user2", "pending", "")]
    rollouts.add(asking, at, ["user3", "user1"])
    stream.flow()
    assert entries_told(admin) == [("user3", "pending", "")]
    changes = (
        (rollouts.extend, "user1", "pending"),
        (rollouts.reissue, "user2", "pending"),
        (rollouts.revoke, "user3", "revoked"),
    )
    for change, sip, state in changes:
        change(asking, at, rollouts.Selection([sip]))
        stream.flow()
        assert entries_told(admin) == [(sip, state, "")]
    told = world.told(rollout)
    stream.flow()
    assert news(admin) == []
    token = world.redeem(told["user1"]).token
    stream.flow()
    (changed,) = news(admin)
    assert changed["entries"][0]["device"]["hw_id"] == world.HW_ID
    assert not [one for one in (token, *told.values()) if one in json.dumps(changed)]
    with pytest.raises(CodeNotRedeemableError):
        world.redeem(told["user1"], source="198.51.100.1")
    stream.flow()
    assert entries_told(admin) == [("user1", "registered", "repeated from elsewhere")]
    users.release_phone(world.asking("user1"), world.HW_ID)
    stream.flow()
    assert entries_told(admin) == [("user1", "registered", "phone released")]


def test_an_administrator_hears_whose_phone_a_rollouts_code_took(stream: Stream) -> None:
    """Both entries: of whoever has it now, and of whoever had it."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    stream.flow()
    admin = stream.person("admin")
    world.redeem(told["user2"], source="198.51.100.1")
    stream.flow()
    assert sorted(entries_told(admin)) == [
        ("user1", "registered", "phone released"),
        ("user2", "registered", ""),
    ]


def test_an_administrator_hears_of_many_entries_in_a_few_messages(stream: Stream) -> None:
    """A message for each transaction, none too long for a websocket, every entry in it."""
    sips = world.staff(25)
    admin = stream.person("admin")
    world.make_rollout(sips)
    stream.flow()
    told = news(admin)
    assert sorted(entry["sip"] for one in told for entry in one["entries"]) == sips
    assert len(told) == 2
    assert max(len(json.dumps(one)) for one in told) < 32_000


def test_a_person_hears_of_a_rollouts_phone_and_not_of_its_code(stream: Stream) -> None:
    """The code is none of their own, and Profile does not list it."""
    rollout = world.make_rollout(["user1"])
    digits = world.told(rollout)["user1"]
    wire = stream.person("user1")
    stream.flow()
    assert news(wire) == []
    world.redeem(digits)
    stream.flow()
    (told,) = news(wire)
    assert (told["mt"], told["hw_id"], told["phone"]["user"]) == (
        "PhoneChanged",
        world.HW_ID,
        "user1",
    )


def test_a_person_hears_of_their_phones_new_name(stream: Stream) -> None:
    """An administrator renamed it."""
    world.redeem(world.issue("user1").digits)
    stream.flow()
    wire = stream.person("user1")
    assignments.change(world.admin(), DOMAIN, world.HW_ID, "Kitchen", None)
    stream.flow()
    (told,) = news(wire)
    assert told["phone"]["name"] == "Kitchen"


def test_a_browser_that_is_gone_is_forgotten(stream: Stream) -> None:
    """The others of this person still hear."""
    stays, goes = stream.person("user1"), stream.person("user1")
    goes.vanish()
    world.issue("user1")
    stream.flow()
    assert names(stays) == ["CodeChanged"]
    assert connections.find(goes.connection_id) is None


def test_a_browser_that_takes_nothing_now_stays(stream: Stream) -> None:
    """The next news brings the whole state."""
    wire = stream.person("user1")
    stream.service.failing.add(wire.connection_id)
    world.issue("user1")
    stream.flow()
    assert connections.find(wire.connection_id) is not None
    stream.service.failing.clear()
    world.issue("user1")
    stream.flow()
    assert names(wire) == ["CodeChanged"]


def test_an_expired_browser_hears_nothing(stream: Stream, clock: Clock) -> None:
    """Though nobody has closed it yet."""
    wire = stream.person("user1")
    clock.advance(3_600)
    world.issue("user1", clock.now)
    stream.flow()
    assert wire.is_open
    assert news(wire) == []


@pytest.mark.parametrize("name", ["MODIFY", "REMOVE"])
def test_other_records_are_ignored(stream: Stream, name: str) -> None:
    """Only what was inserted is news; a record without an image is none."""
    wire = stream.person("user1")
    world.issue("user1")
    event = stream.new()
    for record in event["Records"]:
        record["eventName"] = name
    stream.follow(event)
    for record in event["Records"]:
        del record["dynamodb"]["NewImage"]
        record["eventName"] = "INSERT"
    stream.follow(event)
    assert news(wire) == []


def test_what_newer_code_writes_fails_no_batch(stream: Stream) -> None:
    """A kind that is not known here is left out, and so is a row of its keys alone."""
    wire = stream.person("user1")
    world.issue("user1")
    event = stream.new()
    image = event["Records"][0]["dynamodb"]["NewImage"]
    keys = {name: image[name] for name in ("domain", "notification_id")}
    newer = stream_event({**image, "kind": {"S": "of tomorrow"}}, keys)
    stream.follow({"Records": [*newer["Records"], *event["Records"]]})
    assert names(wire) == ["CodeChanged"]


def test_the_same_event_twice_tells_the_same(stream: Stream) -> None:
    """A person hears the state once more."""
    wire = stream.person("user1")
    world.issue("user1")
    stream.flow()
    first = news(wire)
    stream.follow(stream.last)
    assert news(wire) == first != []


def test_people_are_told_what_is_and_not_what_was(stream: Stream) -> None:
    """A late record of a phone that has gone meanwhile does not bring it back."""
    wire = stream.person("user1")
    world.redeem(world.issue("user1").digits)
    late = stream.new()
    users.release_phone(world.asking("user1"), world.HW_ID)
    stream.follow(late)
    assert [told["phone"] for told in news(wire) if told["mt"] == "PhoneChanged"] == [None]
