import pytest

from chalicelib.core.errors import StoreUnavailableError
from chalicelib.roles import devices, provisioning
from local import demo
from tests.http.service import Answer, Caller
from tests.http.test_profile import issue

FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"
MAC = {"mac": "00-90-33-00-00-01", "type": "IP232"}
IDENTIFY = {
    "id": "009033000001",
    "product": "SomePhone 7",
    "version": "1.2.3",
    "platform": {"type": "PHONE"},
}


def assert_script(answer: Answer) -> str:
    """Check what every answer to a phone has in common."""
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("# dialtone: ")
    return answer.text


def has_commands(script: str) -> bool:
    """Tell whether a script does anything."""
    return any(not line.startswith("#") for line in script.splitlines())


@pytest.mark.parametrize("name", ["PROVISIONING-CODE", "provisioningCode", "code", "CODE"])
def test_the_journey_of_a_phone(caller: Caller, name: str) -> None:
    """Form, way to Devices, jobs and token, idle: whatever the parameter is called."""
    assert FORM in assert_script(caller.call("GET", "/init", query=MAC))
    assert FORM in assert_script(caller.call("GET", "/init", query={**MAC, name: "prompt"}))
    code = issue(caller)["code"]
    typed = f"{code[:4]} {code[4:8]} {code[8:]}#"
    script = assert_script(caller.call("GET", "/init", query={**MAC, name: typed}))
    assert "https%3A%2F%2Fdialtone.example%2Fapi%2Fdevices%2Fupdate" in script
    script = assert_script(caller.call("GET", "/devices/update", query={**MAC, name: typed}))
    assert demo.EXPERT_LINES[0] in script
    token = script.split("device_token%3D")[1].split()[0]
    check = script.split("check ser ")[1].split()[0]
    facts = {"PROT": demo.FIRMWARE_BUILD, "BOOT": demo.BOOT_BUILD, "CHECK": check}
    query = {**MAC, "device_token": token, **facts}
    assert not has_commands(assert_script(caller.call("GET", "/devices/update", query=query)))
    (phone,) = caller.call("GET", "/me/phones", user="user1").json["items"]
    assert phone["state"] == "current"


@pytest.mark.parametrize("path", ["/init", "/devices/update"])
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"mac": "nonsense"},
        {"sn": "00-90-33", "code": "123456789012"},
        {"mac": "00-90-33-00-00-01", "ver": "x" * 5000},
    ],
)
def test_a_phone_that_asks_nonsense_gets_a_comment(
    caller: Caller, path: str, query: dict[str, str]
) -> None:
    """No hardware id, or too much of everything: nothing to run, and nothing charged."""
    for _ in range(12):
        assert not has_commands(assert_script(caller.call("GET", path, query=query)))
    wrong = {**MAC, "code": "000000000000"}
    assert FORM in assert_script(caller.call("GET", path, query=wrong))


@pytest.mark.parametrize("path", ["/init", "/devices/update"])
def test_a_limited_phone_keeps_its_code(caller: Caller, path: str) -> None:
    """A comment alone, so that it comes back with what was typed."""
    wrong = {**MAC, "code": "000000000000"}
    answers = [assert_script(caller.call("GET", path, query=wrong)) for _ in range(11)]
    assert all(FORM in answer for answer in answers[:10])
    assert not has_commands(answers[10])
    assert FORM in caller.call("GET", path, query=wrong, source="192.0.2.2").text


@pytest.mark.parametrize("error", [StoreUnavailableError("ThrottlingException"), ValueError("odd")])
def test_a_phone_always_gets_something_it_can_live_with(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A store that is down and a defect of ours are a comment to a phone."""

    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(provisioning, "answer", fail)
    monkeypatch.setattr(devices, "update_script", fail)
    for path in ("/init", "/devices/update"):
        script = assert_script(caller.call("GET", path, query=MAC))
        assert not has_commands(script)
        assert "odd" not in script


def test_a_phone_that_comes_in_clear_is_moved_to_https(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local gateway tells the scheme as API Gateway does; tests/http/test_edge.py: the edge."""
    from chalicelib.api.views import Call

    monkeypatch.setattr(Call, "came_in_clear", True)
    script = assert_script(caller.call("GET", "/init", query=MAC))
    assert "config add UP1 /url https%3A%2F%2Fdialtone.example%2Fapi%2Finit" in script
    assert script.index("/url") < script.index(FORM)


def test_another_kind_of_phone_registers_and_reports(caller: Caller) -> None:
    """One JSON call in, jobs and token out; then a report for each job."""
    code = issue(caller)["code"]
    told = {"product": "ip232", "fwBuild": "100", "unknown": {"ignored": True}}
    body = {**IDENTIFY, **told, "provisioningCode": code}
    answer = caller.call("POST", "/devices/register", body=body)
    assert answer.status == 200
    registered = answer.json
    assert (registered["hw_id"], registered["domain"], registered["category"]) == (
        "009033000001",
        "example.com",
        "Office",
    )
    assert registered["software"]["parameters"] == demo.FIRMWARE
    kinds = [job["type"] for job in registered["configuration"]]
    assert kinds == ["update-client", "expert"]
    path, token = "/devices/00-90-33-00-00-01/jobs", registered["device_token"]
    plan = caller.call("GET", path, token=token).json
    assert plan == {name: registered[name] for name in ("software", "configuration")}
    for job in (plan["software"], *plan["configuration"]):
        done = caller.call("POST", f"{path}/{job['job_id']}", token=token, body={"outcome": "done"})
        assert (done.status, done.body) == (204, b"")
    (phone,) = caller.call("GET", "/me/phones", user="user1").json["items"]
    assert (phone["state"], phone["product"]) == ("current", "ip232")
    assert caller.call("POST", f"{path}/01X", token=token, body={"outcome": "done"}).status == 404
    odd = caller.call("POST", f"{path}/01X", token=token, body={"outcome": "perhaps"})
    assert [fault["field"] for fault in odd.json["faults"]] == ["outcome"]


def test_a_device_without_its_token_is_not_signed_in(caller: Caller) -> None:
    """No token, a wrong one, and no hardware id: 401 each."""
    for path in ("/devices/009033000001/jobs", "/devices/nonsense/jobs"):
        assert caller.call("GET", path).status == 401
        assert caller.call("GET", path, token="guess").status == 401
        basic = caller.call("GET", path, headers={"authorization": "Basic eDp5"})
        assert (basic.status, basic.headers["www-authenticate"]) == (401, "Bearer")


def test_a_malformed_registration_has_all_its_faults_and_is_not_charged(caller: Caller) -> None:
    """By field, at once; twelve of them leave every attempt."""
    body = {"id": "nonsense", "product": 7, "platform": {"type": "TOASTER"}, "fwBuild": "a b"}
    for _ in range(12):
        answer = caller.call("POST", "/devices/register", body=body)
    assert answer.status == 400
    fields = sorted(fault["field"] for fault in answer.json["faults"])
    assert fields == ["fwBuild", "id", "platform.type", "product", "provisioningCode", "version"]
    for body_of_nonsense in (b"{", b"[" * 30_000, b'{"a":' * 12_000):
        answer = caller.call("POST", "/devices/register", body=body_of_nonsense)
        assert [fault["field"] for fault in answer.json["faults"]] == [""]
    prompt = {**IDENTIFY, "provisioningCode": "prompt"}
    assert caller.call("POST", "/devices/register", body=prompt).status == 400
    wrong = {**IDENTIFY, "provisioningCode": "000000000000"}
    assert caller.call("POST", "/devices/register", body=wrong).status == 404


def test_promise_5_registering_has_one_answer_for_every_bad_code(caller: Caller) -> None:
    """Unknown, too short, with letters, revoked and used: the same bytes."""
    revoked, used = issue(caller), issue(caller)
    caller.call("DELETE", f"/me/codes/{revoked['code_id']}", user="user1")
    first = {**IDENTIFY, "provisioningCode": used["code"]}
    assert caller.call("POST", "/devices/register", body=first, source="198.51.100.1").status == 200
    other = {**IDENTIFY, "id": "009033000002"}
    typed = ["000000000000", "123", "12345678901x", revoked["code"], used["code"]]
    answers = {
        (answer.status, answer.body)
        for code in typed
        if (
            answer := caller.call(
                "POST", "/devices/register", body={**other, "provisioningCode": code}
            )
        )
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 404


def test_a_device_that_belongs_elsewhere_is_a_conflict(caller: Caller) -> None:
    """Somebody else's phone, with a good code of one's own: 409, and nothing moves."""
    body = {**IDENTIFY, "provisioningCode": issue(caller, "user1")["code"]}
    token = caller.call("POST", "/devices/register", body=body).json["device_token"]
    caller.call("GET", "/devices/009033000001/jobs", token=token)
    mine = {**IDENTIFY, "provisioningCode": issue(caller, "user2")["code"]}
    answer = caller.call("POST", "/devices/register", body=mine, source="198.51.100.1")
    assert (answer.status, answer.json["type"]) == (409, "urn:dialtone:problem:device-elsewhere")
    assert caller.call("GET", "/me/phones", user="user2").json["items"] == []
