import pytest

from chalicelib.storage import domains as domain_table
from chalicelib.storage.connection import Transaction
from tests.http.administration import (
    CATEGORY,
    DOMAIN,
    FIRMWARE,
    OTHER_PHONE,
    PHONE,
    TOKEN,
    admin_of,
    line_in,
    make_domain,
    make_job,
    path,
    register,
    set_token,
    visit,
)
from tests.http.service import Caller
from tests.http.test_phones import FORM, IDENTIFY
from tests.http.test_problems import assert_problem

NONE = {
    "devices_url": "",
    "phone_apps": [],
    "may_add_phones": True,
    "granted_domains": [],
    "has_websocket_password": False,
    "has_pbx": False,
}


def test_a_domain_is_made_changed_listed_and_deleted(caller: Caller) -> None:
    """By the platform; its own administrator changes all but what it may see."""
    body = {"domain": DOMAIN, "websocket_password": "open sesame", "phone_apps": ["phone"]}
    made = caller.call("POST", "/domains", user="platform", body=body)
    assert made.status == 201
    numbered = made.json.pop("id")
    wanted = {**NONE, "domain": DOMAIN, "phone_apps": ["phone"], "has_websocket_password": True}
    assert made.json == {**wanted, "id": numbered}
    admin, own = admin_of(caller), path(DOMAIN)
    assert caller.call("GET", own, token=admin).json == {**wanted, "id": numbered}
    change = {"may_add_phones": False, "devices_url": "wss://devices.acme.example/x"}
    changed = caller.call("PATCH", own, token=admin, body={**change, "websocket_password": ""})
    assert changed.json == {**wanted, **change, "id": numbered, "has_websocket_password": False}
    assert caller.call("PATCH", own, token=admin, body={}).json == changed.json
    granted = {"granted_domains": ["example.com"]}
    assert_problem(caller.call("PATCH", own, token=admin, body=granted), 403, "not-allowed")
    changed = caller.call("PATCH", own, user="platform", body=granted)
    assert changed.json["granted_domains"] == ["example.com"]
    assert caller.call("DELETE", own, user="platform").status == 204
    for method in ("GET", "DELETE"):
        gone = caller.call(method, own, user="platform")
        assert assert_problem(gone, 404, "not-found")["detail"] == "unknown domain"


def test_domains_are_listed_page_by_page(caller: Caller) -> None:
    """All for the platform, by name, umlauts too; an administrator's own alone."""
    for name in ("a.example", "ü.example", "z.example"):
        caller.call("POST", "/domains", user="platform", body={"domain": name})
    seen, query = [], {"limit": "1"}
    while query.get("cursor") != "":
        page = caller.call("GET", "/domains", user="platform", query=query).json
        seen += [item["domain"] for item in page["items"]]
        query["cursor"] = page["next"] or ""
    known = ["a.example", "example.com", "other.example", "platform.example", "z.example"]
    assert seen == [*known, "ü.example"]
    own = caller.call("GET", "/domains", user="admin").json
    assert ([item["domain"] for item in own["items"]], own["next"]) == (["example.com"], None)
    nobody = caller.call("GET", "/domains", token=caller.sign_in("admin", domain="new.example"))
    assert nobody.json["items"] == []


def test_a_name_is_given_once(caller: Caller) -> None:
    """The second time is a conflict, and changes nothing."""
    body = {"domain": "example.com", "phone_apps": ["other"]}
    answer = caller.call("POST", "/domains", user="platform", body=body)
    found = assert_problem(answer, 409, "conflict")
    assert found["detail"] == "there is a domain of this name"
    assert caller.call("GET", path("example.com"), user="admin").json["phone_apps"] == ["phone"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["domain"]),
        (
            {"domain": "a#b", "phone_apps": ["x" * 101], "may_add_phones": "yes", "odd": 1},
            ["domain", "may_add_phones", "odd", "phone_apps.0"],
        ),
        ({"domain": "x" * 254, "granted_domains": [""]}, ["domain", "granted_domains.0"]),
        ({"domain": "Bad Domain!"}, ["domain"]),
        ({"domain": "-a.example", "odd": 1}, ["domain", "odd"]),
        ({"domain": "x", "websocket_password": "x" * 101}, ["websocket_password"]),
        ({"domain": "x", "phone_apps": ["x"] * 21}, ["phone_apps"]),
        ({"domain": "x", "devices_url": "ftp://x"}, ["devices_url"]),
        ({"domain": "x", "devices_url": "https://x y"}, ["devices_url"]),
        ({"domain": "x", "devices_url": "https://x#y"}, ["devices_url"]),
        ({"domain": "x", "devices_url": "https://[x"}, ["devices_url"]),
    ],
)
def test_malformed_settings_have_all_their_faults(
    caller: Caller, body: dict[str, object], fields: list[str]
) -> None:
    """By field, at once, and no value is repeated."""
    answer = caller.call("POST", "/domains", user="platform", body=body)
    found = assert_problem(answer, 400, "malformed")
    assert sorted(fault["field"] for fault in found["faults"]) == fields
    assert caller.call("GET", path("x"), user="platform").status == 404


def test_an_older_domain_keeps_its_name(caller: Caller) -> None:
    """One that no new domain may have: it is read, granted, changed and deleted as any other."""
    name = "Bad Domain!"
    transaction = Transaction()
    domain_table.create(transaction, domain_table.Domain(name, domain_table.new_number()))
    transaction.commit()
    own, admin = path(name), caller.sign_in("admin", domain=name)
    changed = caller.call("PATCH", own, token=admin, body={"phone_apps": ["phone"]})
    assert changed.json["phone_apps"] == ["phone"]
    granted = {"granted_domains": [name]}
    assert caller.call("PATCH", path("example.com"), user="platform", body=granted).status == 200
    assert caller.call("GET", own, user="platform").json["domain"] == name
    assert caller.call("DELETE", own, user="platform").status == 204


def test_what_is_in_use_stays(caller: Caller) -> None:
    """A domain and a category say how many of what still need them."""
    make_domain(caller)
    set_token(caller)
    register(caller)
    make_job(caller, category=CATEGORY, type="expert", parameters={"lines": ["config write"]})
    admin, category = admin_of(caller), path(DOMAIN, "categories", CATEGORY)
    found = assert_problem(caller.call("DELETE", category, token=admin), 409, "in-use")
    assert found["used_by"] == {"devices": 1, "jobs": 1}
    found = assert_problem(caller.call("DELETE", path(DOMAIN), user="platform"), 409, "in-use")
    assert found["used_by"] == {"devices": 1, "categories": 2}
    caller.call("DELETE", path(DOMAIN, "devices", PHONE), token=admin)
    (job,) = caller.call("GET", path(DOMAIN, "jobs", "config"), token=admin).json["items"]
    caller.call("DELETE", path(DOMAIN, "jobs", job["job_id"]), token=admin)
    for name in (CATEGORY, "Gateways"):
        gone = caller.call("DELETE", path(DOMAIN, "categories", name), token=admin)
        assert gone.status == 204
    assert caller.call("DELETE", path(DOMAIN), user="platform").status == 204


def test_categories_are_made_changed_and_listed(caller: Caller) -> None:
    """Any name that the path can carry, encoded once; a change keeps the number."""
    make_domain(caller)
    admin = admin_of(caller)
    listed = caller.call("GET", path(DOMAIN, "categories"), token=admin).json
    assert [item["name"] for item in listed["items"]] == ["Gateways", CATEGORY]
    number = listed["items"][1]["id"]
    category = path(DOMAIN, "categories", CATEGORY)
    changed = caller.call("PUT", category, token=admin, body={"device_types": ["ANALOG_PHONE"]})
    assert changed.json == {
        "id": number,
        "name": CATEGORY,
        "provisioning": False,
        "device_types": ["ANALOG_PHONE"],
    }
    assert caller.call("DELETE", category, token=admin).status == 204
    gone = assert_problem(caller.call("DELETE", category, token=admin), 404, "not-found")
    assert gone["detail"] == "unknown category"


@pytest.mark.parametrize(
    ("name", "body", "fields"),
    [
        ("*", {}, ["category"]),
        ("a#b", {}, ["category"]),
        ("x" * 101, {}, ["category"]),
        ("x", {"provisioning": 1, "device_types": ["FAX"]}, ["device_types.0", "provisioning"]),
        ("x", {"number": 1}, ["number"]),
    ],
)
def test_a_malformed_category_is_refused(
    caller: Caller, name: str, body: dict[str, object], fields: list[str]
) -> None:
    """Its name too, which stands in the path."""
    answer = caller.call("PUT", path("example.com", "categories", name), user="admin", body=body)
    found = assert_problem(answer, 400, "malformed")
    assert sorted(fault["field"] for fault in found["faults"]) == fields


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("GET", (), None),
        ("PATCH", (), {"phone_apps": []}),
        ("DELETE", (), None),
        ("GET", ("categories",), None),
        ("PUT", ("categories", "x"), {}),
        ("DELETE", ("categories", "x"), None),
        ("PUT", ("token",), {"category": "x"}),
        ("DELETE", ("token",), None),
        ("GET", ("firmware",), None),
        ("PUT", ("firmware",), FIRMWARE),
        ("GET", ("jobs", "software"), None),
        ("POST", ("jobs", "software"), {"category": "*"}),
        ("GET", ("jobs", "config"), None),
        (
            "POST",
            ("jobs", "config"),
            {"category": "*", "type": "expert", "parameters": {"lines": ["x"]}},
        ),
        ("DELETE", ("jobs", "0" * 26), None),
        ("GET", ("devices", PHONE, "explain"), None),
    ],
    ids=str,
)
def test_an_unknown_domain_is_not_there(
    caller: Caller, method: str, below: tuple[str, ...], body: object
) -> None:
    """However it is asked for, and however long its name is."""
    for name in ("ünknown.example", "x" * 5_000):
        answer = caller.call(method, path(name, *below), user="platform", body=body)
        assert assert_problem(answer, 404, "not-found")["detail"] == "unknown domain"


def test_a_domain_that_goes_while_it_is_changed_is_not_there(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of it."""
    monkeypatch.setattr(domain_table, "find", domain_table.Domain)
    answer = caller.call("PATCH", path(DOMAIN), user="platform", body={"phone_apps": ["x"]})
    assert_problem(answer, 404, "not-found")


def test_a_token_is_set_shown_rotated_and_removed(caller: Caller) -> None:
    """With both lines, which carry any character; the one before counts for a while."""
    make_domain(caller)
    shown = {"category": CATEGORY}
    admin, token = admin_of(caller), path(DOMAIN, "token")
    none = assert_problem(caller.call("GET", token, token=admin, query=shown), 404, "not-found")
    assert none["detail"] == "unknown token"
    sheet = set_token(caller)
    values = (
        "domain=acme.example&token=Gr%C3%BC%C3%9Fe%20%26%20100%25%20%231%20vom%20Amt"
        "&category=acme%20IP%20Phone%20%C3%BC%2F50%25"
    )
    assert sheet["url"] == f"wss://dialtone.example/acme.example/devices/sysclients?{values}"
    assert sheet["update_client_url"] == f"https://dialtone.example/api/devices/update?{values}"
    assert sheet["config_line"].startswith("config change SYSCLIENT wss%3A%2F%2Fdialtone")
    assert "%2520%2526%2520100%2525%2520%25231" in sheet["config_line"]
    assert sheet["config_line"] in sheet["scripts"]["sysclient"]
    assert sheet["update_client_line"] in sheet["scripts"]["update_client"]
    assert (sheet["is_weak"], sheet["old_until"]) == (False, None)
    assert "web browser" in sheet["warning"]
    assert caller.call("GET", token, token=admin, query=shown).json == sheet
    drawn = set_token(caller, token=None)
    assert drawn["old_until"]
    assert TOKEN not in drawn["url"]
    assert "device_token" in line_in(visit(caller, sheet["update_client_line"]))
    assert "device_token" in line_in(visit(caller, drawn["update_client_line"], OTHER_PHONE))
    assert set_token(caller, token="x" * 10, keep_old_seconds=0)["is_weak"]
    late = visit(caller, drawn["update_client_line"], "009033000003")
    assert FORM in late
    assert caller.call("DELETE", token, token=admin).status == 204
    assert caller.call("GET", token, token=admin, query=shown).status == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"category": CATEGORY, "token": "x" * 9}, ["token"]),
        ({"category": CATEGORY, "token": "x" * 201}, ["token"]),
        ({"category": CATEGORY, "token": "0123456789\n"}, ["token"]),
        ({"category": CATEGORY, "token": 1234567890}, ["token"]),
        (
            {"keep_old_seconds": -1, "token": [], "x": 1},
            ["category", "keep_old_seconds", "token", "x"],
        ),
        ({"category": CATEGORY, "keep_old_seconds": 366 * 86_400 + 1}, ["keep_old_seconds"]),
    ],
    ids=str,
)
def test_a_malformed_token_is_refused(
    caller: Caller, body: dict[str, object], fields: list[str]
) -> None:
    """With every fault, and the one that counts stays."""
    make_domain(caller)
    set_token(caller)
    answer = caller.call("PUT", path(DOMAIN, "token"), token=admin_of(caller), body=body)
    found = assert_problem(answer, 400, "malformed")
    assert sorted(fault["field"] for fault in found["faults"]) == fields
    assert "device_token" in register(caller)


def test_a_token_is_for_provisioning_categories(caller: Caller) -> None:
    """Any other category, and one that is not there, are not found."""
    make_domain(caller)
    set_token(caller)
    admin, token = admin_of(caller), path(DOMAIN, "token")
    for name in ("Gateways", "Office", "*", "ü" * 1_000):
        shown = caller.call("GET", token, token=admin, query={"category": name})
        found = assert_problem(shown, 404, "not-found")
        assert found["detail"] == "unknown provisioning category"
    for name in ("Gateways", "Office"):
        answer = caller.call("PUT", token, token=admin, body={"category": name})
        assert_problem(answer, 404, "not-found")
    for query in ({}, {"category": ""}):
        missing = assert_problem(
            caller.call("GET", token, token=admin, query=query), 400, "malformed"
        )
        assert missing["faults"] == [{"field": "category", "message": "is missing"}]


def test_somebody_else_who_sets_the_token_meanwhile_is_a_conflict(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nobody hands out lines with a token that does not count."""
    make_domain(caller)
    set_token(caller)
    monkeypatch.setattr(domain_table, "find_token", lambda _: None)
    body = {"category": CATEGORY, "token": "another token of mine"}
    answer = caller.call("PUT", path(DOMAIN, "token"), token=admin_of(caller), body=body)
    assert_problem(answer, 409, "conflict")


def test_another_kind_of_phone_comes_into_the_longest_domain(caller: Caller) -> None:
    """Whatever a domain may be called, a phone can name it."""
    name = ".".join(["x" * 63] * 3 + ["x" * 61])
    assert caller.call("POST", "/domains", user="platform", body={"domain": name}).status == 201
    kind, wanted = {"provisioning": True}, {"category": CATEGORY, "token": TOKEN}
    for kept, body in ((("categories", CATEGORY), kind), (("token",), wanted)):
        assert caller.call("PUT", path(name, *kept), user="platform", body=body).status == 200
    claim = {"domain": name, "token": TOKEN, "category": CATEGORY}
    answer = caller.call("POST", "/devices/register", body={**IDENTIFY, **claim})
    assert (answer.status, answer.json["domain"]) == (200, name), answer.text
    beyond = {**IDENTIFY, **claim, "domain": f"x{name}"}
    found = assert_problem(caller.call("POST", "/devices/register", body=beyond), 400, "malformed")
    assert [fault["field"] for fault in found["faults"]] == ["domain"]


def test_another_kind_of_phone_comes_in_by_its_domains_token(caller: Caller) -> None:
    """With all three; two are a malformed body, and a wrong one has the one answer."""
    make_domain(caller)
    set_token(caller)
    claim = {"domain": DOMAIN, "token": TOKEN, "category": CATEGORY}
    answer = caller.call("POST", "/devices/register", body={**IDENTIFY, **claim})
    assert answer.status == 200
    assert (answer.json["domain"], answer.json["category"]) == (DOMAIN, CATEGORY)
    own = answer.json["device_token"]
    assert caller.call("GET", f"/devices/{PHONE}/jobs", token=own).status == 200
    again = caller.call("POST", "/devices/register", body={**IDENTIFY, **claim})
    assert_problem(again, 409, "device-elsewhere")
    for name in claim:
        partly = {key: value for key, value in claim.items() if key != name}
        malformed = caller.call("POST", "/devices/register", body={**IDENTIFY, **partly})
        found = assert_problem(malformed, 400, "malformed")
        assert [fault["field"] for fault in found["faults"]] == [name]
    other = {**IDENTIFY, "id": OTHER_PHONE, **claim}
    wrong = (
        {"token": "x" * 10},
        {"category": "Gateways"},
        {"domain": "x"},
        {"category": "x" * 200},
    )
    answers = {
        (answer.status, answer.body)
        for one in wrong
        if (answer := caller.call("POST", "/devices/register", body={**other, **one}))
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 404


def test_guesses_at_a_token_are_limited(caller: Caller) -> None:
    """Each different one counts; then even the good one waits, but not from elsewhere."""
    make_domain(caller)
    set_token(caller)
    body = {**IDENTIFY, "domain": DOMAIN, "token": TOKEN, "category": CATEGORY}
    for number in range(10):
        wrong = {**body, "token": f"wrong token {number}"}
        assert caller.call("POST", "/devices/register", body=wrong).status == 404
    limited = caller.call("POST", "/devices/register", body=body)
    assert_problem(limited, 429, "limit-reached")
    assert int(limited.headers["retry-after"]) > 0
    elsewhere = caller.call("POST", "/devices/register", body=body, source="198.51.100.1")
    assert elsewhere.status == 200


def test_the_audit_trail_says_who_did_what(caller: Caller) -> None:
    """Newest first, month by month, page by page; it never holds what is secret."""
    make_domain(caller)
    set_token(caller)
    register(caller)
    admin, audit = admin_of(caller), path(DOMAIN, "audit")
    seen, query = [], {"limit": "2"}
    while query.get("cursor") != "":
        page = caller.call("GET", audit, token=admin, query=query).json
        seen += page["items"]
        query["cursor"] = page["next"] or ""
    assert sorted((entry["action"], entry["actor"], entry["subject"]) for entry in seen) == [
        ("category made", "admin", "Gateways"),
        ("category made", "admin", CATEGORY),
        ("device admitted", PHONE, PHONE),
        ("domain made", "platform (platform.example)", DOMAIN),
        ("token set", "admin", DOMAIN),
        ("token shown", "admin", DOMAIN),
    ]
    assert {entry["source"] for entry in seen} == {"192.0.2.1"}
    assert [entry["at"] for entry in seen] == sorted((entry["at"] for entry in seen), reverse=True)
    assert caller.call("GET", audit, token=admin, query={"month": "2001-01"}).json["items"] == []
    month = seen[0]["at"][:7]
    whole = caller.call("GET", audit, token=admin, query={"month": month}).json
    assert whole == {"items": seen, "next": None}


@pytest.mark.parametrize("month", ["2036-13", "2036-1", "now", "", "\u0662036-11"])
def test_a_month_is_a_month(caller: Caller, month: str) -> None:
    """Anything else is a fault of that parameter."""
    answer = caller.call("GET", path("example.com", "audit"), user="admin", query={"month": month})
    found = assert_problem(answer, 400, "malformed")
    assert [fault["field"] for fault in found["faults"]] == ["month"]
