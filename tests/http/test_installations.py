from dataclasses import replace

import pytest

from chalicelib import settings
from chalicelib.core.rate_limits import Limit, LimitName
from chalicelib.roles import issuing
from tests.conftest import use
from tests.http.administration import fetch_through, phone
from tests.http.service import Caller
from tests.http.test_phones import FORM, IDENTIFY, MAC
from tests.http.test_problems import assert_problem

ELSEWHERE = {"devices_url": "wss://devices.elsewhere.example/sysclients"}


def make(caller: Caller, name: str = "Elsewhere") -> dict[str, str]:
    """Make an installation."""
    answer = caller.call("POST", "/installations", user="platform", body={"name": name})
    assert answer.status == 201
    return dict(answer.json)


def test_an_installation_is_made_listed_and_deleted(caller: Caller) -> None:
    """Its key is told once, and dead as soon as it is gone."""
    made = [make(caller, f"Änstalt {number}") for number in range(3)]
    assert all(one["key"].startswith(f"{one['installation_id']}.") for one in made)
    first = caller.call("GET", "/installations", user="platform", query={"limit": "2"}).json
    more = {"limit": "2", "cursor": first["next"]}
    rest = caller.call("GET", "/installations", user="platform", query=more).json
    listed = first["items"] + rest["items"]
    known = [{name: one[name] for name in one if name != "key"} for one in made]
    assert listed == sorted(known, key=lambda one: one["installation_id"], reverse=True)
    assert {one["created_by"] for one in listed} == {"platform"}
    where, key = f"/installations/{made[0]['installation_id']}", made[0]["key"]
    assert caller.call("POST", "/provisioning/codes", token=key, body=ELSEWHERE).status == 201
    assert caller.call("DELETE", where, user="platform").status == 204
    dead = caller.call("POST", "/provisioning/codes", token=key, body=ELSEWHERE)
    assert_problem(dead, 401, "not-signed-in")
    for gone in (where, "/installations/x", "/installations/" + "%C3%BC" * 26):
        answer = caller.call("DELETE", gone, user="platform")
        assert assert_problem(answer, 404, "not-found")["detail"] == "unknown installation"


@pytest.mark.parametrize("lifetime", [None, "user", "rollout"])
def test_a_foreign_phone_is_sent_to_its_own_devices(caller: Caller, lifetime: str | None) -> None:
    """And cannot be registered with us: we know of its code only where the phone goes."""
    key, more = make(caller)["key"], {"lifetime": lifetime} if lifetime else {}
    answer = caller.call("POST", "/provisioning/codes", token=key, body={**ELSEWHERE, **more})
    assert answer.status == 201
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json) == {"code", "expires_at"}
    query = {**MAC, "code": answer.json["code"]}
    script = caller.call("GET", "/init", query=query).text
    assert "wss%3A%2F%2Fdevices.elsewhere.example%2Fsysclients" in script
    assert FORM in caller.call("GET", "/devices/update", query=query).text
    body = {**IDENTIFY, "provisioningCode": answer.json["code"]}
    refused = caller.call("POST", "/devices/register", body=body)
    assert_problem(refused, 404, "code-not-redeemable")
    client = phone()
    fetch = fetch_through(caller)
    for _ in range(2):
        client.execute(fetch(client.url())[1], hour=12)
        client.type_code(answer.json["code"])
    assert client.faults == []


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["devices_url"]),
        ({"devices_url": 7, "lifetime": "forever"}, ["devices_url", "lifetime"]),
        ({"devices_url": "ftp://x"}, ["devices_url"]),
        ({"devices_url": ""}, ["devices_url"]),
        ({"devices_url": "https://x\r\nvars create X"}, ["devices_url"]),
        ({"devices_url": "https://" + "x" * 1_000}, ["devices_url"]),
    ],
    ids=str,
)
def test_a_malformed_order_is_refused(
    caller: Caller, body: dict[str, object], fields: list[str]
) -> None:
    """With every fault, and before the limit counts."""
    answer = caller.call("POST", "/provisioning/codes", token=make(caller)["key"], body=body)
    found = assert_problem(answer, 400, "malformed")
    assert sorted(fault["field"] for fault in found["faults"]) == fields


def test_only_an_installations_key_gets_codes(caller: Caller) -> None:
    """No person's token, no device's, no half a key: one answer."""
    made = make(caller)
    keys = [
        "",
        "x",
        caller.sign_in("platform"),
        made["installation_id"],
        f"{made['installation_id']}.x",
        made["key"] + "x",
        "Ü" * 26 + ".x",
    ]
    answers = set()
    for key in keys:
        answer = caller.call("POST", "/provisioning/codes", token=key, body=ELSEWHERE)
        assert answer.headers["www-authenticate"] == "Bearer"
        answers.add((answer.status, answer.body))
    assert len(answers) == 1
    assert answers.pop()[0] == 401


def test_an_installation_has_a_limit_of_its_own(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told when to come back; another one is not touched."""
    known = settings.current()
    limit = Limit(LimitName.FOREIGN_CODES, burst=2, interval_ms=60_000)
    limits = {**known.limits, LimitName.FOREIGN_CODES: limit}
    use(replace(known, limits=limits), monkeypatch)
    one, other = make(caller)["key"], make(caller)["key"]
    statuses = [
        caller.call("POST", "/provisioning/codes", token=one, body=ELSEWHERE).status
        for _ in range(2)
    ]
    assert statuses == [201, 201]
    limited = caller.call("POST", "/provisioning/codes", token=one, body=ELSEWHERE)
    assert_problem(limited, 429, "limit-reached")
    assert 0 < int(limited.headers["retry-after"]) <= 60
    assert caller.call("POST", "/provisioning/codes", token=other, body=ELSEWHERE).status == 201


def test_a_store_that_is_down_is_not_the_installations_fault(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, with when to come back."""
    from chalicelib.core.errors import StoreUnavailableError

    def fail(*_: object) -> None:
        raise StoreUnavailableError("Throttled", 5)

    key = make(caller)["key"]
    monkeypatch.setattr(issuing, "issue", fail)
    answer = caller.call("POST", "/provisioning/codes", token=key, body=ELSEWHERE)
    assert_problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "5"


def test_a_malformed_installation_is_refused(caller: Caller) -> None:
    """With every fault."""
    for body, fields in (
        ({}, ["name"]),
        ({"name": "", "key": "mine"}, ["key", "name"]),
        ({"name": "x" * 101}, ["name"]),
    ):
        answer = caller.call("POST", "/installations", user="platform", body=body)
        found = assert_problem(answer, 400, "malformed")
        assert sorted(fault["field"] for fault in found["faults"]) == fields
    odd = caller.call("GET", "/installations", user="platform", query={"cursor": "*"})
    assert_problem(odd, 400, "malformed")
