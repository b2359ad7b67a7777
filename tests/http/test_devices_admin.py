import re
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.core.configuration import CONFIGURATION_TYPES
from chalicelib.roles import assignments
from chalicelib.storage import devices as device_table
from chalicelib.storage import jobs as job_table
from local.phone import run_phone
from tests.http.administration import (
    CATEGORY,
    DOMAIN,
    FIRMWARE,
    OTHER_PHONE,
    PHONE,
    PHONE_JOB,
    admin_of,
    fetch_through,
    make_domain,
    make_job,
    path,
    phone,
    register,
    set_token,
    visit,
)
from tests.http.service import Answer, Caller
from tests.http.test_phones import FORM, MAC
from tests.http.test_problems import assert_problem
from tests.http.test_profile import issue, redeem

DEVICE = path(DOMAIN, "devices", "00-90-33-00-00-01")


def ask(caller: Caller, method: str, where: str, body: object = None, **query: str) -> Answer:
    """Call as the administrator of the domain's devices."""
    return caller.call(method, where, token=admin_of(caller), body=body, query=query)


def fields_of(answer: Answer) -> list[str]:
    """Tell which fields of a body are malformed."""
    found = assert_problem(answer, 400, "malformed")
    return sorted(fault["field"] for fault in found["faults"])


def explained(caller: Caller, **query: str) -> dict[str, tuple[str, str | None]]:
    """Tell how each job fits the device and where it stands: job_id → both."""
    items = ask(caller, "GET", f"{DEVICE}/explain", **query).json["items"]
    return {item["job_id"]: (item["fit"], item["standing"]) for item in items}


def test_the_journey_of_a_domain(caller: Caller) -> None:
    """From nothing to a phone that runs what its administrator wants, and on to another phone."""
    make_domain(caller)
    assert ask(caller, "GET", path(DOMAIN, "firmware")).json == {}
    assert ask(caller, "PUT", path(DOMAIN, "firmware"), FIRMWARE).json == FIRMWARE
    assert ask(caller, "GET", path(DOMAIN, "firmware")).json == FIRMWARE
    software = make_job(caller, category="*")
    assert (software["type"], software["parameters"]) == ("software", FIRMWARE)
    registration = make_job(caller, **PHONE_JOB)
    assert registration["parameters"] == {"pbx": "pbx.acme.example", "password": "***"}
    assert (registration["created_by"], registration["category"]) == ("admin", CATEGORY)

    client = phone()
    client.execute(set_token(caller)["scripts"]["update_client"], hour=12)
    outcome = run_phone(client, fetch_through(caller), None)
    assert (outcome.is_registered, client.faults) == (True, [])
    assert client.active["PHONE"]["/pwd"] == "hunter-two-hundred"
    assert client.running == {"prot": "134250", "boot": "131286"}
    shown = ask(caller, "GET", DEVICE).json
    assert (shown["state"], shown["prot"], shown["local_ip"]) == ("current", "134250", "10.0.0.7")
    assert (shown["category"], shown["failures"], shown["stuck_since"]) == (CATEGORY, [], None)
    matching = ("matches", "confirmed")
    assert explained(caller) == {software["job_id"]: matching, registration["job_id"]: matching}

    time = {"server": "ntp.acme.example", "time_zone": "CET-1CEST-2,M3.5.0/2,M10.5.0/3"}
    later = make_job(caller, category=CATEGORY, type="ntp", parameters=time)
    assert explained(caller)[later["job_id"]] == ("matches", "open")
    assert run_phone(client, fetch_through(caller), None).is_registered
    assert client.active["NTP0"]["/addr"] == "ntp.acme.example"
    assert explained(caller)[later["job_id"]] == matching

    new = make_job(caller, **PHONE_JOB)
    assert explained(caller)[registration["job_id"]] == ("superseded by a later job", None)
    assert ask(caller, "DELETE", path(DOMAIN, "jobs", new["job_id"])).status == 204
    assert explained(caller)[registration["job_id"]] == matching

    replaced = ask(caller, "POST", f"{DEVICE}/replace", {"hw_id": OTHER_PHONE}).json
    assert (replaced["device"]["hw_id"], replaced["device"]["category"]) == (OTHER_PHONE, CATEGORY)
    assert run_phone(client, fetch_through(caller), None, max_polls=2).client.shows_code_form
    successor = phone(OTHER_PHONE)
    outcome = run_phone(successor, fetch_through(caller), replaced["code"]["code"])
    assert (outcome.is_registered, successor.faults) == (True, [])
    assert successor.active["PHONE"]["/name"] == OTHER_PHONE
    other = path(DOMAIN, "devices", OTHER_PHONE)
    assert ask(caller, "POST", f"{other}/release").status == 204
    assert ask(caller, "GET", other).status == 404
    assert run_phone(successor, fetch_through(caller), None, max_polls=2).client.shows_code_form


def test_firmware_must_be_whole(caller: Caller) -> None:
    """Every fault of it by product and part; nothing of it is kept."""
    make_domain(caller)
    firmware, load = path(DOMAIN, "firmware"), {"url": "https://firmware.example/x.bin"}
    body = {
        "IP232": {"prot": load, "boot": {"build": "a b", "url": "ftp://x"}},
        "IP222": {},
        "IP112": {"prot": {**load, "build": "1", "size": 5}},
    }
    assert fields_of(ask(caller, "PUT", firmware, body)) == [
        "IP112.prot",
        "IP222",
        "IP232.boot.build",
        "IP232.boot.url",
        "IP232.prot.build",
    ]
    odd_ones: list[object] = [{}, [], 7, {" ": {"prot": {**load, "build": "1"}}}]
    for odd in odd_ones:
        assert fields_of(ask(caller, "PUT", firmware, odd)) == [""]
    assert ask(caller, "GET", firmware).json == {}
    software = path(DOMAIN, "jobs", "software")
    none = ask(caller, "POST", software, {"category": CATEGORY})
    assert assert_problem(none, 409, "conflict")["detail"] == "the domain has no firmware yet"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["category", "parameters", "type"]),
        ({**PHONE_JOB, "parameters": []}, ["parameters"]),
        ({**PHONE_JOB, "note": "x"}, ["note"]),
        ({**PHONE_JOB, "parameters": {}}, ["pbx"]),
        (
            {**PHONE_JOB, "parameters": {"pbx": "a b", "protocol": "SIPS", "pin": 1}},
            ["pbx", "pin", "protocol"],
        ),
        (
            {
                "category": "*",
                "type": "expert",
                "parameters": {"lines": ["good", "config\nrem", ""]},
            },
            ["lines.1", "lines.2"],
        ),
        (
            {"category": "*", "type": "variables", "parameters": {"secret_variables": {"A": "\r"}}},
            ["secret_variables.A"],
        ),
        (
            {"category": "*", "type": "update-client", "parameters": {"poll_minutes": True}},
            ["poll_minutes"],
        ),
        (
            {"category": "*", "type": "admin-password", "parameters": {"password": "x" * 16}},
            ["password"],
        ),
    ],
    ids=str,
)
def test_a_malformed_job_is_refused(
    caller: Caller, body: dict[str, object], fields: list[str]
) -> None:
    """With every fault by field; a value that ends its line is none of a phone's."""
    make_domain(caller)
    assert fields_of(ask(caller, "POST", path(DOMAIN, "jobs", "config"), body)) == fields
    assert ask(caller, "GET", path(DOMAIN, "jobs", "config")).json["items"] == []


def test_an_unknown_type_is_told_the_known_ones(caller: Caller) -> None:
    """And the same are listed for forms."""
    make_domain(caller)
    odd = ask(caller, "POST", path(DOMAIN, "jobs", "config"), {**PHONE_JOB, "type": "software"})
    (fault,) = assert_problem(odd, 400, "malformed")["faults"]
    assert fault == {"field": "type", "message": f"one of {', '.join(CONFIGURATION_TYPES)}"}
    listed = ask(caller, "GET", "/configuration-types").json
    assert [known["type"] for known in listed["items"]] == list(CONFIGURATION_TYPES)
    (password,) = [
        parameter
        for known in listed["items"]
        if known["type"] == "admin-password"
        for parameter in known["parameters"]
        if parameter["name"] == "password"
    ]
    assert password == {
        "name": "password",
        "about": "of the administrator",
        "kind": "text",
        "is_required": True,
        "is_secret": True,
        "choices": [],
    }


def test_a_job_that_is_too_large_is_told_the_limit(caller: Caller) -> None:
    """400 KB would not fit into the table either."""
    make_domain(caller)
    lines = ["vars create X p " + "x" * 1_000] * 400
    body = {"category": "*", "type": "expert", "parameters": {"lines": lines}}
    answer = ask(caller, "POST", path(DOMAIN, "jobs", "config"), body)
    found = assert_problem(answer, 413, "too-large")
    assert found["faults"] == [{"field": "body", "message": "at most 65536 bytes"}]


@pytest.mark.parametrize("kind", ["software", "config"])
def test_a_job_is_for_a_category_that_is_there(caller: Caller, kind: str) -> None:
    """Or for every one."""
    make_domain(caller)
    ask(caller, "PUT", path(DOMAIN, "firmware"), FIRMWARE)
    body = PHONE_JOB if kind == "config" else {}
    for name in ("Office", "Acme"):
        answer = ask(caller, "POST", path(DOMAIN, "jobs", kind), {**body, "category": name})
        assert assert_problem(answer, 404, "not-found")["detail"] == "unknown category"
    every = ask(caller, "POST", path(DOMAIN, "jobs", kind), {**body, "category": "*"})
    assert (every.status, every.json["category"]) == (201, "*")
    malformed = ask(caller, "POST", path(DOMAIN, "jobs", kind), {**body, "category": "a#"})
    assert fields_of(malformed) == ["category"]


def test_jobs_are_listed_page_by_page_and_deleted_once(caller: Caller) -> None:
    """Newest first; what is no job is not there."""
    make_domain(caller)
    made = [make_job(caller, **PHONE_JOB)["job_id"] for _ in range(3)]
    jobs = path(DOMAIN, "jobs", "config")
    first = ask(caller, "GET", jobs, limit="2").json
    rest = ask(caller, "GET", jobs, limit="2", cursor=first["next"]).json
    listed = [job["job_id"] for job in first["items"] + rest["items"]]
    assert listed == sorted(made, reverse=True)
    assert [job["parameters"]["password"] for job in first["items"]] == ["***"] * 2
    one = path(DOMAIN, "jobs", made[0])
    assert ask(caller, "DELETE", one).status == 204
    for gone in (made[0], "x", "ü" * 26, "x" * 5_000):
        answer = ask(caller, "DELETE", path(DOMAIN, "jobs", gone))
        assert assert_problem(answer, 404, "not-found")["detail"] == "unknown job"
    assert ask(caller, "DELETE", jobs).status == 405


def test_a_job_beside_which_another_is_made_is_not_deleted(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The administrator looks again."""
    make_domain(caller)
    job = make_job(caller, **PHONE_JOB)
    monkeypatch.setattr(job_table, "delete", lambda *_: False)
    answer = ask(caller, "DELETE", path(DOMAIN, "jobs", job["job_id"]))
    assert_problem(answer, 409, "conflict")


def test_devices_are_listed_by_category_and_state(caller: Caller) -> None:
    """Page by page, with a cursor that holds any category."""
    make_domain(caller)
    set_token(caller)
    hw_ids = [f"00903300000{number}" for number in range(5)]
    lines = [register(caller, hw_id) for hw_id in hw_ids]
    visit(caller, lines[0], hw_ids[0])
    ask(caller, "PATCH", path(DOMAIN, "devices", hw_ids[4]), {"category": "Gateways"})
    devices, in_category = path(DOMAIN, "devices"), hw_ids[:4]
    for wanted, query in (
        ([hw_ids[4], *in_category], {}),
        (in_category, {"category": CATEGORY}),
        ([hw_ids[4]], {"category": "Gateways"}),
        ([], {"category": "ü" * 2_000}),
        ([hw_ids[0]], {"state": "current"}),
        (in_category[1:], {"state": "registered", "category": CATEGORY}),
        ([], {"state": "updating"}),
    ):
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            more = {"cursor": cursor} if cursor else {}
            page = ask(caller, "GET", devices, limit="2", **query, **more).json
            seen += [item["hw_id"] for item in page["items"]]
            cursor = page["next"]
        assert seen == wanted, query
    for state in ("released", "stuck", ""):
        assert fields_of(ask(caller, "GET", devices, state=state)) == ["state"]
    assert fields_of(ask(caller, "GET", devices, limit="x", cursor="_w==")) == ["cursor", "limit"]
    # a cursor that nobody was given leads nowhere, and is no defect
    assert ask(caller, "GET", devices, cursor="YSM=").json == {"items": [], "next": None}


def test_a_device_is_renamed_and_moved(caller: Caller) -> None:
    """Its next poll brings what the other category has."""
    make_domain(caller)
    set_token(caller)
    line = register(caller)
    body = {"category": "Gateways", "type": "expert", "parameters": {"lines": ["config show"]}}
    job = make_job(caller, **body)["job_id"]
    assert explained(caller)[job] == ("another category", None)
    assert explained(caller, category="Gateways")[job] == ("matches", "open")
    assert "config show" not in visit(caller, line)
    moved = ask(caller, "PATCH", DEVICE, {"name": "Türsprechstelle", "category": "Gateways"})
    assert (moved.json["name"], moved.json["category"]) == ("Türsprechstelle", "Gateways")
    assert ask(caller, "PATCH", DEVICE, {}).json == moved.json
    assert ask(caller, "PATCH", DEVICE, {"name": ""}).json["name"] == ""
    assert "config show" in visit(caller, line)
    away = ask(caller, "PATCH", DEVICE, {"category": "Office"})
    assert assert_problem(away, 404, "not-found")["detail"] == "unknown category"
    for name in (" ", "Tür\u202e", "a\nb"):
        assert fields_of(ask(caller, "PATCH", DEVICE, {"name": name})) == ["name"]
    odd = {"name": "x" * 201, "category": "", "user": "x"}
    assert fields_of(ask(caller, "PATCH", DEVICE, odd)) == ["category", "name", "user"]
    unknown = ask(caller, "GET", f"{DEVICE}/explain", category="Office")
    assert assert_problem(unknown, 404, "not-found")["detail"] == "unknown category"


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("GET", "/explain", None),
        ("POST", "/release", None),
        ("POST", "/replace", {"hw_id": OTHER_PHONE}),
    ],
)
def test_an_unknown_device_is_not_there(
    caller: Caller, method: str, below: str, body: object
) -> None:
    """Nonsense, one that nobody saw, and another domain's: one answer."""
    make_domain(caller)
    redeem(caller, issue(caller)["code"])
    answers = {
        (answer.status, answer.body)
        for hw_id in ("nonsense", "0" * 12, OTHER_PHONE, PHONE, "x" * 5_000)
        if (answer := ask(caller, method, path(DOMAIN, "devices", hw_id) + below, body))
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 404
    assert caller.call("GET", path("example.com", "devices", PHONE), user="admin").status == 200


def test_a_device_that_changes_hands_meanwhile_is_a_conflict(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is done to it: nothing happens to its new owner's phone."""
    make_domain(caller)
    set_token(caller)
    register(caller)
    before = device_table.find(PHONE)
    ask(caller, "POST", f"{DEVICE}/release")
    redeem(caller, issue(caller)["code"])
    after = device_table.find(PHONE)
    assert before
    assert after
    real = device_table.find
    monkeypatch.setattr(
        device_table, "find", lambda hw_id: before if hw_id == PHONE else real(hw_id)
    )
    calls: list[tuple[str, str, Any]] = [
        ("PATCH", DEVICE, {"name": "mine"}),
        ("DELETE", DEVICE, None),
        ("POST", f"{DEVICE}/release", None),
        ("POST", f"{DEVICE}/replace", {"hw_id": OTHER_PHONE}),
    ]
    for method, where, body in calls:
        assert_problem(ask(caller, method, where, body), 409, "conflict")
    assert real(PHONE) == after
    assert real(OTHER_PHONE) is None


def test_a_device_is_not_replaced_by_itself_nor_by_another_domains(caller: Caller) -> None:
    """A phone that is here already goes on with its own token, and needs no code."""
    make_domain(caller)
    set_token(caller)
    register(caller)
    own = register(caller, OTHER_PHONE)
    assert fields_of(ask(caller, "POST", f"{DEVICE}/replace", {"hw_id": PHONE})) == ["hw_id"]
    for body in ({}, {"hw_id": "nonsense"}, {"hw_id": "f" * 12}, {"hw_id": 7}):
        assert fields_of(ask(caller, "POST", f"{DEVICE}/replace", body)) == ["hw_id"]
    other = {**MAC, "mac": "00-90-33-00-00-03", "code": issue(caller)["code"]}
    caller.call("GET", "/devices/update", query=other)
    elsewhere = ask(caller, "POST", f"{DEVICE}/replace", {"hw_id": "009033000003"})
    assert_problem(elsewhere, 409, "device-elsewhere")
    here = ask(caller, "POST", f"{DEVICE}/replace", {"hw_id": "00:90:33:00:00:02"}).json
    assert (here["device"]["hw_id"], here["code"]) == (OTHER_PHONE, None)
    assert FORM not in visit(caller, own, OTHER_PHONE)


def test_a_device_that_is_forgotten_comes_in_anew(caller: Caller) -> None:
    """Its own token is dead; its domain's is not."""
    make_domain(caller)
    set_token(caller)
    line = register(caller)
    assert ask(caller, "DELETE", DEVICE).status == 204
    assert FORM in visit(caller, line)
    assert ask(caller, "GET", DEVICE).status == 404
    register(caller)
    assert ask(caller, "GET", DEVICE).json["state"] == "registered"


def test_a_phone_tells_why_a_job_failed(caller: Caller) -> None:
    """It waits with that one alone, and its administrator reads why."""
    make_domain(caller)
    set_token(caller)
    line = register(caller)
    token = re.split("device_token%3D", line)[1]
    job = make_job(caller, **PHONE_JOB)["job_id"]
    other = make_job(caller, category="*", type="expert", parameters={"lines": ["x"]})["job_id"]
    jobs = f"/devices/{PHONE}/jobs"
    report = {"outcome": "failed", "reason": "no such option"}
    assert caller.call("POST", f"{jobs}/{job}", token=token, body=report).status == 204
    (failure,) = ask(caller, "GET", DEVICE).json["failures"]
    assert (failure["job_id"], failure["count"], failure["reason"]) == (job, 1, "no such option")
    assert failure["retry_at"] > failure["at"]
    assert explained(caller) == {
        job: ("matches", "paused after a failure"),
        other: ("matches", "open"),
    }
    due = caller.call("GET", jobs, token=token).json
    assert [one["job_id"] for one in due["configuration"]] == [other]


def test_sightings_list_what_phones_told(caller: Caller) -> None:
    """By day and page; the code they sent as a fingerprint alone."""
    first = {**MAC, "ver": "13r1 sr5", "PROT": "130100", "BOOT": "130101", "localip": "10.0.0.9"}
    caller.call("GET", "/init", query=first)
    code = issue(caller)["code"]
    caller.call("GET", "/init", query={**first, "PROT": "130200", "code": code})
    caller.call("GET", "/init", query={"sn": OTHER_PHONE}, source="2001:db8::1")
    listed = caller.call("GET", "/sightings", user="platform", query={"limit": "1"}).json
    (seen,) = listed["items"]
    fingerprint = seen.pop("code_fingerprint")
    assert re.fullmatch("[0-9a-f]{64}", fingerprint)
    assert seen.pop("last_seen_at") > seen.pop("first_seen_at")
    assert seen == {
        "hw_id": PHONE,
        "product": "IP232",
        "version": "13r1 sr5",
        "prot": "130200",
        "boot": "130101",
        "local_ip": "10.0.0.9",
        "source": "192.0.2.1",
    }
    more = {"limit": "1", "cursor": listed["next"], "day": f"{datetime.now(UTC):%Y-%m-%d}"}
    (other,) = caller.call("GET", "/sightings", user="platform", query=more).json["items"]
    assert (other["hw_id"], other["source"]) == (OTHER_PHONE, "2001:db8::/56")
    assert other["first_seen_at"] == other["last_seen_at"]
    past = caller.call("GET", "/sightings", user="platform", query={"day": "2001-01-01"})
    assert past.json == {"items": [], "next": None}
    for day in ("2036-11", "today", "", "\u0662036-11-24"):
        odd = caller.call("GET", "/sightings", user="platform", query={"day": day})
        assert fields_of(odd) == ["day"]


def test_a_store_that_is_down_is_not_the_administrators_fault(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, with when to come back."""
    from chalicelib.core.errors import CentralUnavailableError, StoreUnavailableError

    for error, slug in (
        (StoreUnavailableError("Throttled", 5), "unavailable"),
        (CentralUnavailableError("URLError", 60), "central-unavailable"),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(assignments, "put_in_place", fail)
        answer = ask(caller, "POST", f"{DEVICE}/replace", {"hw_id": OTHER_PHONE})
        assert_problem(answer, 503, slug)
        assert answer.headers["retry-after"] == str(error.retry_after_seconds)
