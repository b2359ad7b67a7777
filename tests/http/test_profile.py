from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chalicelib.core.codes import read_entry
from chalicelib.core.devices import PbxState
from chalicelib.core.user_objects import of_another_user
from chalicelib.roles import analogue_phones
from chalicelib.storage import devices
from tests.http.service import Caller

HW_ID = "009033000001"


def issue(caller: Caller, user: str = "user1", category: str = "Office") -> dict[str, str]:
    """Issue a code over HTTP."""
    answer = caller.call("POST", "/me/codes", user=user, body={"category": category})
    assert answer.status == 201
    return dict(answer.json)


def redeem(caller: Caller, code: str, source: str = "192.0.2.1") -> str:
    """Redeem a code over HTTP."""
    query = {"sn": "00-90-33-00-00-01", "type": "IP232", "PROVISIONING-CODE": code}
    return caller.call("GET", "/devices/update", query=query, source=source).text


def test_who_am_i(caller: Caller) -> None:
    """The signed-in person, and whether they may add phones."""
    answer = caller.call("GET", "/me", user="admin")
    assert answer.status == 200
    assert answer.json == {
        "sip": "admin",
        "name": "Administrator",
        "domain": "example.com",
        "roles": ["devices-admin", "users-admin"],
        "may_add_phones": True,
    }
    assert answer.headers["cache-control"] == "no-store"


def test_categories(caller: Caller) -> None:
    """Those that take phones."""
    answer = caller.call("GET", "/me/categories", user="user1")
    assert answer.json == {"items": [{"name": "Office"}, {"name": "Reception"}], "next": None}


def test_a_code_is_issued_shown_and_revoked(caller: Caller) -> None:
    """Its digits are told once; then its state."""
    issued = issue(caller)
    assert set(issued) == {"code_id", "code", "category", "expires_at"}
    assert len(issued["code"]) == 12
    assert issued["expires_at"].endswith("Z")
    path = f"/me/codes/{issued['code_id']}"
    shown = caller.call("GET", path, user="user1").json
    assert shown == {
        "code_id": issued["code_id"],
        "state": "pending",
        "category": "Office",
        "expires_at": issued["expires_at"],
    }
    assert caller.call("GET", path, user="user2").status == 404
    assert caller.call("DELETE", path, user="user2").status == 404
    assert caller.call("DELETE", path, user="user1").status == 204
    assert caller.call("GET", path, user="user1").json["state"] == "revoked"


def test_a_handle_that_is_none_is_not_there(caller: Caller) -> None:
    """However long it is: a key that DynamoDB would refuse is never asked for."""
    for handle in ("A" * 2000, "01X", "*"):
        assert caller.call("GET", f"/me/codes/{handle}", user="user1").status == 404
        assert caller.call("DELETE", f"/me/codes/{handle}", user="user1").status == 404


def test_a_redeemed_code_shows_its_phone_and_cannot_be_revoked(caller: Caller) -> None:
    """The phone is the device object; the list has it too."""
    issued = issue(caller)
    redeem(caller, issued["code"])
    (listed,) = caller.call("GET", "/me/codes", user="user1").json["items"]
    assert (listed["state"], listed["device"]["hw_id"]) == ("redeemed", HW_ID)
    assert caller.call("DELETE", f"/me/codes/{issued['code_id']}", user="user1").status == 409
    redeem(caller, issued["code"], source="198.51.100.4")
    shown = caller.call("GET", f"/me/codes/{issued['code_id']}", user="user1").json
    assert shown["reason"] == "repeated from elsewhere"


def test_who_else_has_a_phone_at_the_pbx_is_told_to_administrators(caller: Caller) -> None:
    """Its user hears that somebody has."""
    redeem(caller, issue(caller)["code"])
    (device,) = devices.find_all([HW_ID])
    reason = of_another_user("carol")
    marked = replace(device, pbx=PbxState.FAILED, pbx_reason=reason)
    assert devices.report(marked, device)
    (phone,) = caller.call("GET", "/me/phones", user="user1").json["items"]
    (code,) = caller.call("GET", "/me/codes", user="user1").json["items"]
    for own in (phone, code["device"]):
        assert own["pbx"] == {"state": "failed", "reason": "phone of another user"}
    path = f"/domains/example.com/devices/{HW_ID}"
    assert caller.call("GET", path, user="admin").json["pbx"]["reason"] == reason


def test_phones_are_listed_and_given_up(caller: Caller) -> None:
    """Page by page; somebody else's is not there."""
    redeem(caller, issue(caller)["code"])
    (phone,) = caller.call("GET", "/me/phones", user="user1").json["items"]
    assert (phone["hw_id"], phone["product"], phone["state"]) == (HW_ID, "IP232", "registered")
    for path in (f"/me/phones/{HW_ID}", "/me/phones/nonsense"):
        assert caller.call("DELETE", path, user="user2").status == 404
    assert caller.call("DELETE", f"/me/phones/{HW_ID}", user="user1").status == 204
    assert caller.call("GET", "/me/phones", user="user1").json["items"] == []


def test_an_analogue_phone_is_a_phone_like_any_other(caller: Caller) -> None:
    """Listed and given up by its gateway's hardware id and its interface, however that is spelt."""
    redeem(caller, issue(caller, "user2")["code"])
    gateway = devices.find(HW_ID)
    assert gateway is not None
    below = "/domains/example.com/devices"
    for spelt in (f"{HW_ID}-TEL1", "00-90-33-00-00-01-TEL1"):
        entry = read_entry(issue(caller)["code"])
        assert entry is not None
        analogue_phones.register(gateway, "TEL1", entry, "192.0.2.1", datetime.now(UTC))
        (phone,) = caller.call("GET", "/me/phones", user="user1").json["items"]
        assert (phone["hw_id"], phone["state"]) == (f"{HW_ID}-TEL1", "current")
        shown = caller.call("GET", f"{below}/{spelt}", user="admin")
        assert (shown.status, shown.json["user"]) == (200, "user1")
        listed = caller.call("GET", below, user="admin").json["items"]
        assert [device["hw_id"] for device in listed] == [HW_ID, f"{HW_ID}-TEL1"]
        for path in (f"/me/phones/{HW_ID}-TEL2", f"/me/phones/{HW_ID}-TEL1-TEL1"):
            assert caller.call("DELETE", path, user="user1").status == 404
        assert caller.call("DELETE", f"/me/phones/{spelt}", user="user2").status == 404
        assert caller.call("DELETE", f"/me/phones/{spelt}", user="user1").status == 204
        assert caller.call("GET", "/me/phones", user="user1").json["items"] == []


def test_lists_have_pages(caller: Caller) -> None:
    """A cursor leads to the next page, and null to the end."""
    ids = [issue(caller)["code_id"] for _ in range(3)]
    seen, query = [], {"limit": "2"}
    for _ in range(3):
        page = caller.call("GET", "/me/codes", user="user1", query=query).json
        seen += [item["code_id"] for item in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert sorted(seen) == sorted(ids)


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"limit": "0"}, ["limit"]),
        ({"limit": "101"}, ["limit"]),
        ({"limit": "many", "cursor": "*"}, ["limit", "cursor"]),
        ({"limit": "\u0663"}, ["limit"]),
        ({"cursor": "_w=="}, ["cursor"]),
        ({"cursor": ""}, ["cursor"]),
        ({"cursor": "QUFB" * 400}, ["cursor"]),
    ],
)
def test_a_malformed_page_is_refused_with_every_fault(
    caller: Caller, query: dict[str, str], fields: list[str]
) -> None:
    """All at once, by field."""
    answer = caller.call("GET", "/me/codes", user="user1", query=query)
    assert answer.status == 400
    assert [fault["field"] for fault in answer.json["faults"]] == fields
