import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.core.codes import read_entry
from chalicelib.core.devices import State
from chalicelib.roles import analogue_phones, users
from chalicelib.sockets.frames import MAX_MESSAGE_BYTES
from chalicelib.storage import audit, connection, domains, vault
from chalicelib.storage import devices as device_table
from chalicelib.storage.devices import DeviceItem
from local.demo import DOMAIN, INSTANCE_DOMAIN
from tests import world
from tests.conftest import NOW
from tests.sockets.conftest import Clock
from tests.wires import Wire, Wires

pytestmark = pytest.mark.usefixtures("defects")

OTHER = "other.example"
GATEWAY = "009033460af2"
MARKS = {"src": "src7", "api": "com.innovaphone.devices"}
ECHOED = {"src": "src7", "api": "com.innovaphone.devices"}


def number_of(domain: str) -> int:
    """Tell a domain's number."""
    found = domains.find(domain)
    assert found is not None
    return found.number


def category_number(domain: str, name: str) -> int:
    """Tell a category's number."""
    found = domains.find_category(domain, name)
    assert found is not None
    return found.number


def set_domain(domain: str, **changes: Any) -> None:  # noqa: ANN401 - members of Domain
    """Change a domain."""
    write = connection.Transaction()
    domains.change(write, domain, changes)
    write.commit()


def instance_of_other(service: Wires) -> Wire:
    """Log a Users instance of the other domain in."""
    sealed = vault.seal("other password", f"websocket password {OTHER}")
    set_domain(OTHER, sealed_websocket_password=sealed)
    return service.instance(OTHER, "other password")


def code_of(wire: Wire, category: str = "Office", **members: Any) -> str:  # noqa: ANN401 - any JSON
    """Ask for a code."""
    return str(wire.ask("GetProvisioningCode", category=category, **members)["code"])


def type_at(interface: str, code: str, at: str = GATEWAY) -> None:
    """Type a code on the analogue phone at an interface of a gateway."""
    gateway, entry = device_table.find(at), read_entry(code)
    assert gateway is not None
    assert entry is not None
    analogue_phones.register(gateway, interface, entry, world.HOME, NOW)


def fill(count: int) -> set[str]:
    """Write devices with long names into the table; returns their hardware ids."""
    known = world.redeem(world.issue("user9").digits, "0090330f0000").device
    hw_ids = {f"00903301{number:04x}" for number in range(count)}
    with DeviceItem.batch_write() as batch:
        for hw_id in hw_ids:
            batch.save(DeviceItem.of(replace(known, hw_id=hw_id, name="ü" * 60)))
    return hw_ids


def asked(wire: Wire, name: str, **members: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON
    """Send a message; returns all answers, which say which one is the last."""
    answers = wire.send(json.dumps({"mt": name, **members}))
    assert [answer.get("last") for answer in answers] == [None] * (len(answers) - 1) + [True]
    return answers


def test_login_info_tells_a_key_and_the_rights(service: Wires) -> None:
    """32 hex digits, another for every connection; GetUserInfo is its older twin."""
    one, two = service.instance(), service.instance(INSTANCE_DOMAIN, "platform")
    answer = one.ask("GetLoginInfo", **MARKS)
    key = answer["key"]
    assert answer == {"mt": "GetLoginInfoResult", **ECHOED, "key": key, "admin": False}
    assert len(key) >= 32
    assert int(key, 16) >= 0
    assert one.ask("GetUserInfo") == {"mt": "GetUserInfoResult", "key": key, "admin": False}
    other = two.ask("GetLoginInfo")
    assert other["admin"] is True
    assert other["key"] != key


def test_domains_have_numbers_and_categories(service: Wires) -> None:
    """The vendor's members, and no other."""
    (answer,) = asked(service.instance(), "GetDomains", recvUpdates=True, **MARKS)
    (domain,) = answer.pop("domains")
    assert answer == {"mt": "GetDomainsResult", **ECHOED, "last": True}
    categories = domain.pop("categories")
    assert domain == {
        "id": number_of(DOMAIN),
        "name": DOMAIN,
        "deployAdminPasswords": False,
        "isInstanceDomain": False,
    }
    assert categories == [
        {"id": category_number(DOMAIN, name), "name": name, "config": name != "Gateways"}
        for name in ("Gateways", "Office", "Reception")
    ]
    (all_,) = asked(service.instance(INSTANCE_DOMAIN, "platform"), "GetDomains")
    told = {each["name"]: each["isInstanceDomain"] for each in all_["domains"]}
    assert told == {DOMAIN: False, OTHER: False, INSTANCE_DOMAIN: True}


def test_categories_are_those_that_codes_can_be_asked_for(service: Wires) -> None:
    """Of the login's domain unless told; for phones those that are for phones, else none."""
    wire = service.instance()
    (answer,) = asked(wire, "GetProvisioningCategories", type="PHONE", **MARKS)
    listed = [
        {
            "domainId": number_of(DOMAIN),
            "id": category_number(DOMAIN, name),
            "name": name,
            "config": True,
        }
        for name in ("Office", "Reception")
    ]
    assert answer == {
        "mt": "GetProvisioningCategoriesResult",
        **ECHOED,
        "categories": listed,
        "last": True,
    }
    for members in ({}, {"domainId": number_of(DOMAIN)}, {"domainId": None, "type": None}):
        assert asked(wire, "GetProvisioningCategories", **members)[0]["categories"] == listed
    for other in ("VA", "GW", "DECT", "APP_PLATFORM"):
        assert asked(wire, "GetProvisioningCategories", type=other)[0]["categories"] == []


@pytest.mark.parametrize(("rollout", "seconds"), [(None, 600), (False, 600), (True, 7 * 86_400)])
def test_a_code_is_valid_for_ten_minutes_or_a_week(
    service: Wires, rollout: bool | None, seconds: int
) -> None:
    """Told in Unix seconds."""
    members = {} if rollout is None else {"rollout": rollout}
    answer = service.instance().ask(
        "GetProvisioningCode", category="Office", sip="user1", **members, **MARKS
    )
    code = answer.pop("code")
    assert len(code) == 12
    assert code.isdecimal()
    valid_until = int((NOW + timedelta(seconds=seconds)).timestamp())
    assert answer == {"mt": "GetProvisioningCodeResult", **ECHOED, "validUntil": valid_until}


def test_a_code_needs_a_provisioning_category(service: Wires) -> None:
    """Anything else is told by name of what was not found."""
    wire = service.instance()
    for category in ("Gateways", "Nowhere", "Sales", "office"):
        answer = wire.ask("GetProvisioningCode", category=category, src="1")
        assert answer == {
            "mt": "GetProvisioningCodeResult",
            "src": "1",
            "error": "unknown category",
        }


def vendors(hw_id: str, **members: object) -> dict[str, object]:
    """Write a Device object as the vendor does."""
    return {
        "id": int(hw_id, 16),
        "hwId": hw_id,
        "name": "",
        "domainId": number_of(DOMAIN),
        "product": "IP232",
        "version": "13r1",
        "type": "PHONE",
        "pbxActive": False,
        "online": True,
        "hasLeaseLicenses": False,
        "uri": "",
        **members,
    }


def test_a_provisioned_device_is_told(service: Wires, clock: Clock) -> None:
    """Without a device while the code is open, and then with the vendor's members."""
    wire = service.instance()
    code = code_of(wire, sip="user1")
    open_ = {"mt": "GetProvisionedDeviceResult", **ECHOED, "code": code}
    assert wire.ask("GetProvisionedDevice", code=code, **MARKS) == open_
    world.redeem(code)
    told = wire.ask("GetProvisionedDevice", code=code, domainId=number_of(DOMAIN), **MARKS)
    assert told == {**open_, "device": vendors(world.HW_ID)}
    assert wire.ask("GetProvisionedDevice", code=f"{code[:4]} {code[4:8]}-{code[8:]}")["device"]
    clock.advance(1_200)
    away = wire.ask("GetProvisionedDevice", code=code)["device"]
    assert away == vendors(world.HW_ID, online=False)


@pytest.mark.parametrize("code", ["000000000000", "x", "1" * 200])
def test_no_code_is_no_device(service: Wires, code: str) -> None:
    """It says what was not found."""
    answer = service.instance().ask("GetProvisionedDevice", code=code)
    assert answer["error"] == "unknown code"
    assert "device" not in answer


def test_a_code_that_has_expired_is_none(service: Wires, clock: Clock) -> None:
    """Though the table still has it."""
    wire = service.instance()
    code = code_of(wire)
    clock.advance(600)
    assert wire.ask("GetProvisionedDevice", code=code)["error"] == "unknown code"


def test_devices_are_listed(service: Wires) -> None:
    """All, by domain, by category; none is unassigned."""
    wire = service.instance()
    world.redeem(code_of(wire, sip="user1"))
    world.redeem(code_of(wire, "Reception"), "0090330000aa")
    own, office = number_of(DOMAIN), category_number(DOMAIN, "Office")
    reception = category_number(DOMAIN, "Reception")
    first, second = vendors(world.HW_ID), vendors("0090330000aa")
    cases: list[tuple[dict[str, object], list[object]]] = [
        ({}, [first, second]),
        ({"recvUpdates": True, "domainIds": ""}, [first, second]),
        ({"domainIds": f"{own}"}, [first, second]),
        ({"domainIds": f" {own} , {own},"}, [first, second]),
        ({"categories": f"{office}"}, [first]),
        ({"categories": f"{reception},{office}"}, [first, second]),
        ({"categories": "1"}, []),
        ({"unassigned": True}, []),
        ({"unassigned": False}, [first, second]),
    ]
    for members, expected in cases:
        (answer,) = asked(wire, "GetDevices", **members, **MARKS)
        listed = sorted(answer.pop("devices"), key=lambda known: known["hwId"])
        assert answer == {"mt": "GetDevicesResult", **ECHOED, "last": True}
        assert listed == expected, members


def test_long_lists_come_in_parts(service: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is longer than a frame, nothing is missing, and the final one says so."""
    hw_ids = fill(300)
    wire = service.instance()
    sizes: list[int] = []
    real = service.post

    def post(connection_id: str, message: str) -> bool:
        sizes.append(len(message.encode()))
        return real(connection_id, message)

    monkeypatch.setattr("chalicelib.sending.post", post)
    answers = asked(wire, "GetDevices", **{**MARKS, "src": "ü" * 200})
    assert len(answers) > 2
    assert max(sizes) <= MAX_MESSAGE_BYTES
    assert min(sizes[:-1]) > MAX_MESSAGE_BYTES / 2
    listed = [each["hwId"] for answer in answers for each in answer["devices"]]
    assert len(listed) == len(set(listed))
    assert hw_ids <= set(listed)
    assert all(answer["src"] == "ü" * 200 for answer in answers)


def test_two_domains_never_see_anything_of_each_other(service: Wires) -> None:
    """A sweep: every message with the other's numbers, names and codes."""
    own, other = service.instance(), instance_of_other(service)
    code, redeemed = code_of(own, sip="user1"), code_of(own, sip="user2")
    world.redeem(redeemed)
    world.redeem(code_of(own), GATEWAY)
    type_at("TEL1", code_of(own, sip="user3"))
    number, foreign = number_of(DOMAIN), number_of(OTHER)
    sweep: list[tuple[str, dict[str, Any]]] = [
        ("GetProvisioningCategories", {"domainId": number}),
        ("GetProvisioningCode", {"domainId": number, "category": "Office"}),
        ("GetProvisioningCode", {"category": "Office"}),
        ("GetDevices", {"domainIds": f"{number}"}),
        ("GetDevices", {"domainIds": f"{foreign},{number}"}),
        ("GetDevicePhones", {"hwId": GATEWAY}),
        ("RemoveDevicePhone", {"hwId": GATEWAY, "id": "TEL1"}),
        *(
            ("GetProvisionedDevice", {"code": each, **members})
            for each in (code, redeemed)
            for members in ({}, {"domainId": number}, {"domainId": foreign})
        ),
    ]
    for name, members in sweep:
        (answer,) = other.send(json.dumps({"mt": name, **members}))
        assert set(answer) == {"mt", "error"}, (name, members)
        nowhere = {key: 404 if key == "domainId" else value for key, value in members.items()}
        if name != "GetDevices":
            assert other.send(json.dumps({"mt": name, **nowhere}))[0].keys() == answer.keys()
    for name in ("GetDomains", "GetDevices", "GetProvisioningCategories"):
        text = json.dumps(asked(other, name))
        for secret in (DOMAIN, "Office", world.HW_ID, GATEWAY, str(number)):
            assert secret not in text, name
    categories = f"{category_number(DOMAIN, 'Office')}"
    assert asked(other, "GetDevices", categories=categories)[0]["devices"] == []
    assert other.told("DeviceProvisioned") == []
    assert asked(own, "GetDevicePhones", hwId=GATEWAY)[0]["phones"] == ["TEL1"]


def test_granted_domains_are_seen_until_they_are_no_longer(service: Wires) -> None:
    """Everything works with their numbers; the other way nothing was granted."""
    other, own = instance_of_other(service), service.instance()
    set_domain(OTHER, granted_domains=[DOMAIN])
    number = number_of(DOMAIN)
    (told,) = asked(other, "GetDomains")
    assert [each["name"] for each in told["domains"]] == [DOMAIN, OTHER]
    (found,) = asked(other, "GetProvisioningCategories", domainId=number)
    assert [each["name"] for each in found["categories"]] == ["Office", "Reception"]
    code = code_of(other, domainId=number, sip="user1")
    world.redeem(code)
    assert other.ask("GetProvisionedDevice", code=code)["device"]["domainId"] == number
    assert asked(other, "GetDevices")[0]["devices"] == [vendors(world.HW_ID)]
    refused = own.ask("GetProvisioningCategories", domainId=number_of(OTHER))
    assert set(refused) == {"mt", "error"}
    set_domain(OTHER, granted_domains=[])
    assert set(other.ask("GetProvisionedDevice", code=code)) == {"mt", "error"}
    assert asked(other, "GetDevices")[0]["devices"] == []


def test_the_instances_domain_sees_all(service: Wires) -> None:
    """Codes and devices of every domain, by number."""
    wire = service.instance(INSTANCE_DOMAIN, "platform")
    code = code_of(wire, domainId=number_of(DOMAIN), sip="user1")
    world.redeem(code)
    assert wire.ask("GetProvisionedDevice", code=code)["device"] == vendors(world.HW_ID)
    assert asked(wire, "GetDevices")[0]["devices"] == [vendors(world.HW_ID)]
    assert asked(wire, "GetProvisioningCategories", domainId=number_of(OTHER))[0]["categories"]


def test_a_released_phone_is_no_device_of_its_code(service: Wires) -> None:
    """Nobody has it any more."""
    wire = service.instance()
    code = code_of(wire, sip="user1")
    known = world.redeem(code).device
    assert known.state is not State.RELEASED
    users.release_phone(world.asking("user1"), world.HW_ID)
    assert set(wire.ask("GetProvisionedDevice", code=code)) == {"mt", "error"}


def test_the_phones_of_a_gateway_are_listed_and_removed(service: Wires) -> None:
    """By interface, as people count; the one that is removed is forgotten, in the trail."""
    wire = service.instance()
    world.redeem(code_of(wire, sip="user9"), GATEWAY)
    none = {"mt": "GetDevicePhonesResult", **ECHOED, "phones": [], "last": True}
    assert asked(wire, "GetDevicePhones", hwId=GATEWAY, **MARKS) == [none]
    for interface in ("TEL10", "TEL2"):
        type_at(interface, code_of(wire, sip="user1"))
    for spelt in (GATEWAY, "00-90-33-46-0A-F2"):
        (listed,) = asked(wire, "GetDevicePhones", hwId=spelt, **MARKS)
        assert listed == {**none, "phones": ["TEL2", "TEL10"]}
    removed = wire.ask("RemoveDevicePhone", hwId=GATEWAY, id="TEL2", **MARKS)
    assert removed == {"mt": "RemoveDevicePhoneResult", **ECHOED}
    assert asked(wire, "GetDevicePhones", hwId=GATEWAY)[0]["phones"] == ["TEL10"]
    trail = audit.list_month(DOMAIN, f"{NOW:%Y-%m}", 100, None).items
    told = [(one.actor, one.subject, one.owner) for one in trail if one.action == "device removed"]
    assert told == [(f"users ({DOMAIN})", f"{GATEWAY}-TEL2", "user1")]
    type_at("TEL2", code_of(wire, sip="user2"))
    assert asked(wire, "GetDevicePhones", hwId=GATEWAY)[0]["phones"] == ["TEL2", "TEL10"]


def test_only_the_phones_of_a_device_that_is_there(service: Wires) -> None:
    """An unknown or released gateway, an interface without a phone: all the same answer."""
    wire = service.instance()
    world.redeem(code_of(wire, sip="user9"), GATEWAY)
    for name, members in (
        ("GetDevicePhones", {"hwId": "0090330000aa"}),
        ("RemoveDevicePhone", {"hwId": "0090330000aa", "id": "TEL1"}),
        ("RemoveDevicePhone", {"hwId": GATEWAY, "id": "TEL1"}),
    ):
        assert wire.ask(name, **members, **MARKS) == {
            "mt": f"{name}Result",
            **ECHOED,
            "error": "unknown device",
        }
    users.release_phone(world.asking("user9"), GATEWAY)
    assert wire.ask("GetDevicePhones", hwId=GATEWAY)["error"] == "unknown device"


@pytest.mark.parametrize(
    "members",
    [
        {"hwId": "TEL1", "id": "TEL1"},
        {"hwId": f"{GATEWAY}-TEL1", "id": "TEL1"},
        {"hwId": GATEWAY, "id": ""},
        {"hwId": GATEWAY, "id": "TEL#1"},
        {"hwId": GATEWAY, "id": "T" * 17},
        {"hwId": GATEWAY},
        {"id": "TEL1"},
    ],
)
def test_what_names_no_phone_is_malformed(service: Wires, members: dict[str, str]) -> None:
    """It never becomes part of a key."""
    answer = service.instance().ask("RemoveDevicePhone", **members)
    assert answer["error"] == "malformed"
    assert answer["faults"]


def test_the_phones_of_granted_domains_are_seen_until_they_are_no_longer(service: Wires) -> None:
    """And the instance's domain sees all."""
    other, own = instance_of_other(service), service.instance()
    every = service.instance(INSTANCE_DOMAIN, "platform")
    world.redeem(code_of(own, sip="user9"), GATEWAY)
    type_at("TEL1", code_of(own, sip="user1"))
    type_at("TEL2", code_of(own, sip="user2"))
    assert other.ask("GetDevicePhones", hwId=GATEWAY)["error"] == "unknown device"
    set_domain(OTHER, granted_domains=[DOMAIN])
    assert other.ask("GetDevicePhones", hwId=GATEWAY)["phones"] == ["TEL1", "TEL2"]
    assert "error" not in other.ask("RemoveDevicePhone", hwId=GATEWAY, id="TEL1")
    assert every.ask("GetDevicePhones", hwId=GATEWAY)["phones"] == ["TEL2"]
    assert "error" not in every.ask("RemoveDevicePhone", hwId=GATEWAY, id="TEL2")
    set_domain(OTHER, granted_domains=[])
    assert other.ask("GetDevicePhones", hwId=GATEWAY)["error"] == "unknown device"


def test_an_analogue_phone_is_its_codes_device_and_none_of_its_own(service: Wires) -> None:
    """Told for its code, with a number that no hardware id has; never among the devices."""
    wire = service.instance()
    world.redeem(code_of(wire, sip="user9"), GATEWAY)
    codes = [code_of(wire, sip="user1"), code_of(wire, sip="user2")]
    for interface, code in zip(("TEL1", "TEL2"), codes, strict=True):
        type_at(interface, code)
    told = [wire.ask("GetProvisionedDevice", code=code)["device"] for code in codes]
    numbers = [device.pop("id") for device in told]
    assert len({*numbers, int(GATEWAY, 16)}) == 3
    assert all(2**48 <= number < 2**53 for number in numbers)
    for device, interface in zip(told, ("TEL1", "TEL2"), strict=True):
        expected = vendors(GATEWAY, hwId=f"{GATEWAY}-{interface}", version="")
        assert {**device, "id": int(GATEWAY, 16)} == expected
    (answer,) = asked(wire, "GetDevices")
    assert answer["devices"] == [vendors(GATEWAY)]
