"""Promise 7: no code, token or password in any log line, metric or exception."""

import contextlib
import io
import json
import logging
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, quote_plus, unquote, urlsplit

import pytest
from cryptography.exceptions import InvalidTag

import app
from chalicelib import observability, settings
from chalicelib.api import schemas
from chalicelib.core import auto_provisioning
from chalicelib.core.configuration import CONFIGURATION_TYPES
from chalicelib.core.errors import CodeNotRedeemableError, StoreUnavailableError
from chalicelib.roles import devices as device_roles
from chalicelib.roles import installations as installation_roles
from chalicelib.roles import instances, rollouts, security_tokens, updates, users
from chalicelib.storage import domains as domain_table
from chalicelib.storage import vault
from tests import world
from tests.bus import Bus
from tests.conftest import use
from tests.http.administration import (
    CATEGORY,
    DOMAIN,
    OTHER_PHONE,
    PHONE,
    admin_of,
    line_in,
    make_domain,
    make_job,
    path,
    set_token,
    visit,
)
from tests.http.service import Answer, Caller
from tests.http.test_phones import IDENTIFY, MAC
from tests.http.test_profile import issue
from tests.wires import Wire, Wires, stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def spellings(secret: str) -> list[str]:
    """Write a secret in every way in which it could turn up."""
    grouped = [secret[start : start + 4] for start in range(0, 12, 4)]
    return [secret, " ".join(grouped), "-".join(grouped), "%20".join(grouped), "+".join(grouped)]


def test_promise_7_no_secret_is_in_any_output(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every journey, every refusal and a defect, with logs and metrics on, then a scan."""
    use(replace(settings.current(), emit_metrics=True, log_level="DEBUG"), monkeypatch)
    caplog.set_level(logging.INFO)
    output = io.StringIO()
    secrets: list[str] = []
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        observability.forget()
        signed_in = caller.issuer.token("user1", datetime.now(UTC))
        secrets.append(signed_in)
        code = caller.call("POST", "/me/codes", token=signed_in, body={"category": "Office"}).json[
            "code"
        ]
        other = issue(caller)["code"]
        secrets += [code, other]
        for typed in ("000011112222", "x" + code, code):
            caller.call("GET", "/init", query={**MAC, "PROVISIONING-CODE": typed})
        script = caller.call("GET", "/devices/update", query={**MAC, "code": code}).text
        token = script.split("device_token%3D")[1].split()[0]
        secrets.append(token)
        caller.call("GET", "/devices/update", query={**MAC, "device_token": token, "code": code})
        caller.call("GET", "/devices/update", query={**MAC, "code": code}, source="198.51.100.1")
        body = {**IDENTIFY, "id": "0090330000aa", "provisioningCode": other}
        registered = caller.call("POST", "/devices/register", body=body).json
        secrets.append(registered["device_token"])
        caller.call("GET", "/devices/0090330000aa/jobs", token=registered["device_token"])
        for n in range(12):
            caller.call("GET", "/init", query={**MAC, "code": f"{n:012d}"})
        for error in (ValueError(f"{other} {token} {signed_in}"), StoreUnavailableError("X")):

            def fail(_: object, error: Exception = error) -> None:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(users, "profile", fail)
                caller.call("GET", "/me", token=signed_in)
    observability.forget()
    text = output.getvalue() + caplog.text
    assert "CodeRedeemed" in text
    assert '"route":"/devices/update"' in text
    assert "ValueError" in text
    for secret in secrets:
        if len(secret) == 12:
            assert [one for one in spellings(secret) if one in output.getvalue()] == []
    assert [secret[:8] for secret in secrets if secret in output.getvalue()] == []
    assert "000011112222" not in output.getvalue()


CHOSEN = {
    "security token": "Grüße & 100% #1 vom Amt",
    "websocket password": "open/sesame+1",
    "registration password": "hunter&two hundred",
    "administrator password": "s3same=open#",
    "variable": "variable of mine",
    "raw line": "config change PHONE /pwd of-my-line",
}


CLAIM = {"domain": DOMAIN, "category": CATEGORY, "token": CHOSEN["security token"]}
TOKEN_PATH = path(DOMAIN, "token")
JOBS_PATH = path(DOMAIN, "jobs", "config")
OTHER_JOBS = f"/devices/{OTHER_PHONE}/jobs"


def every_spelling(secret: str) -> set[str]:
    """Write a text in every way in which URLs, JSON and reprs carry it."""
    found = {secret, json.dumps(secret)[1:-1]}
    for _ in range(3):
        found |= {quote(one, safe="") for one in found} | {quote_plus(one) for one in found}
    return found


def secret_jobs() -> list[dict[str, Any]]:
    """Write jobs with every kind of secret parameter."""
    parameters: dict[str, dict[str, Any]] = {
        "phone": {"pbx": "pbx.example", "password": CHOSEN["registration password"]},
        "admin-password": {"password": CHOSEN["administrator password"]},
        "variables": {"secret_variables": {"MINE/X": CHOSEN["variable"]}},
        "expert": {"secret_lines": [CHOSEN["raw line"]]},
    }
    return [
        {"category": CATEGORY, "type": name, "parameters": parameters[name]} for name in parameters
    ]


def test_every_secret_parameter_is_scanned() -> None:
    """A new one must come into the jobs above."""
    known = {
        (known.name, parameter.name)
        for known in CONFIGURATION_TYPES.values()
        for parameter in known.parameters
        if parameter.is_secret
    }
    told = {(job["type"], name) for job in secret_jobs() for name in job["parameters"]}
    assert known <= told


def administer(caller: Caller) -> dict[str, str]:
    """Set every secret, and let phones come for theirs; tell those that were drawn."""
    make_domain(caller)
    admin = admin_of(caller)
    body = {"websocket_password": CHOSEN["websocket password"]}
    caller.call("PATCH", path(DOMAIN), token=admin, body=body)
    for job in secret_jobs():
        make_job(caller, **job)
    drawn = set_token(caller, token=None)
    sheet = set_token(caller, token=CHOSEN["security token"])
    caller.call("GET", TOKEN_PATH, token=admin, query={"category": CATEGORY})
    made = caller.call("POST", "/installations", user="platform", body={"name": "x"}).json
    order = {"devices_url": "https://devices.example/x"}
    caller.call("POST", "/provisioning/codes", token=made["key"], body=order)
    script = visit(caller, sheet["update_client_line"])
    told = caller.call("POST", "/devices/register", body={**IDENTIFY, "id": OTHER_PHONE, **CLAIM})
    other = told.json["device_token"]
    caller.call("GET", OTHER_JOBS, token=other)
    return {
        "ID token": admin,
        "drawn token": parse_qs(urlsplit(drawn["url"]).query)["token"][0],
        "key": made["key"],
        "device token": parse_qs(unquote(line_in(script)))["device_token"][0],
        "other device token": other,
        "line": sheet["update_client_line"],
    }


def read_everything(caller: Caller) -> None:
    """Read all that administrators can read, but for the token sheet."""
    below = ["", "/categories", "/firmware", "/jobs/software", "/jobs/config", "/devices"]
    below += ["/audit", f"/devices/{PHONE}", f"/devices/{PHONE}/explain"]
    for where in (*(path(DOMAIN) + one for one in below), "/domains", "/installations"):
        assert caller.call("GET", where, user="platform").status == 200
    for where in ("/sightings", "/configuration-types"):
        assert caller.call("GET", where, user="platform").status == 200


def get_it_wrong(caller: Caller) -> None:
    """Put every secret into a request that is refused."""
    admin, whole = admin_of(caller), " ".join(CHOSEN.values()) + "\n"
    wrong = {"password": whole, "secret_variables": {"X": whole}, "secret_lines": [whole]}
    for job in secret_jobs():
        known = job["parameters"]
        for more in ({"x": 1}, {name: wrong[name] for name in known if name in wrong}):
            body = {**job, "parameters": {**known, **more}}
            assert caller.call("POST", JOBS_PATH, token=admin, body=body).status == 400
    refused: list[tuple[str, str, object]] = [
        ("PUT", TOKEN_PATH, {"category": CATEGORY, "token": CHOSEN["security token"] + "\n"}),
        ("PUT", TOKEN_PATH, {"category": CATEGORY, "token": [CHOSEN["security token"]]}),
        ("PATCH", path(DOMAIN), {"websocket_password": [CHOSEN["websocket password"]]}),
        ("PATCH", path(DOMAIN), {"websocket_password": CHOSEN["websocket password"] * 9}),
    ]
    for method, where, odd in refused:
        assert caller.call(method, where, token=admin, body=odd).status == 400
    for number in range(12):
        guess = {**IDENTIFY, **CLAIM, "id": "009033000003", "category": f"wrong {number}"}
        assert caller.call("POST", "/devices/register", body=guess).status == 404


def break_it(caller: Caller, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is sealed not open, and let defects name what they were given."""
    admin = admin_of(caller)
    with monkeypatch.context() as patch:
        patch.setattr(vault, "unseal", lambda *_: fail(InvalidTag()))
        shown = {"category": CATEGORY}
        assert caller.call("GET", TOKEN_PATH, token=admin, query=shown).status == 500
        other = secrets["other device token"]
        assert caller.call("GET", OTHER_JOBS, token=other).status == 500
        assert "something went wrong" in visit(caller, secrets["line"], "009033000004")
    for secret in secrets.values():
        with monkeypatch.context() as patch:
            patch.setattr(
                updates, "show_firmware", lambda *_, told=secret: fail(ValueError(f"of {told}!"))
            )
            assert caller.call("GET", path(DOMAIN, "firmware"), token=admin).status == 500


def test_promise_7_administrators_secrets_are_where_they_must_be_and_nowhere_else(
    caller: Caller,
    table_names: dict[str, str],
    client: "DynamoDBClient",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The token sheet, the key's one answer, the phone's own script; no log, no table, no fault."""
    use(replace(settings.current(), emit_metrics=True, log_level="DEBUG"), monkeypatch)
    output, answers, real = io.StringIO(), list[tuple[tuple[str, str], str]](), caller.call

    def kept(method: str, where: str, **arguments: Any) -> Answer:  # noqa: ANN401 - Caller.call's own
        answer = real(method, where, **arguments)
        answers.append(((method, where), answer.text))
        return answer

    monkeypatch.setattr(caller, "call", kept)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        observability.forget()
        secrets = administer(caller)
        read_everything(caller)
        get_it_wrong(caller)
        break_it(caller, secrets, monkeypatch)
    observability.forget()
    logged = output.getvalue()
    for word in ("TokenSet", "JobMade", "DeviceAdmitted", "AdmissionRefused", "InvalidTag"):
        assert word in logged
    items = str([client.scan(TableName=name)["Items"] for name in table_names.values()])
    del secrets["line"]
    telling: dict[tuple[str, str], set[str]] = {}
    for name, secret in {**CHOSEN, **secrets}.items():
        for spelling in every_spelling(secret):
            assert spelling not in logged, name
            assert spelling not in items, name
            for call in [call for call, text in answers if spelling in text]:
                telling.setdefault(call, set()).add(name)
    in_jobs = set(CHOSEN) - {"security token", "websocket password"}
    assert telling == {
        ("PUT", TOKEN_PATH): {"security token", "drawn token"},
        ("GET", TOKEN_PATH): {"security token"},
        ("POST", "/installations"): {"key"},
        ("GET", "/devices/update"): {*in_jobs, "device token"},
        ("POST", "/devices/register"): {*in_jobs, "other device token"},
        ("GET", OTHER_JOBS): in_jobs,
    }


def test_promise_7_no_secret_of_a_websocket_is_in_any_output(
    caller: Caller, wires: Wires, monkeypatch: pytest.MonkeyPatch, client: "DynamoDBClient"
) -> None:
    """Logins right and wrong, a code, its delivery, a push that fails, a refusal, defects."""
    use(replace(settings.current(), emit_metrics=True, log_level="DEBUG"), monkeypatch)
    output = io.StringIO()
    sent: list[str] = []
    real = Wire.send

    def send(wire: Wire, text: str) -> list[dict[str, Any]]:
        sent.append(text)
        return real(wire, text)

    monkeypatch.setattr(Wire, "send", send)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        observability.forget()
        token = caller.sign_in("user1")
        person, instance, wrong = wires.connect(), wires.instance(), wires.connect()
        assert person.ask("UserLogin", token=token)["ok"] is True
        assert wires.connect().ask("UserLogin", token=f"{token}x")["error"]
        assert wrong.log_in(world.DOMAIN, "the wrong password")["error"] == "not allowed"
        key = instance.ask("GetLoginInfo")["key"]
        code = instance.ask("GetProvisioningCode", category="Office", sip="user1")["code"]
        instance.ask("GetProvisionedDevice", code=code)
        registered = world.redeem(code, now=datetime.now(UTC))
        with pytest.raises(CodeNotRedeemableError):
            world.redeem(code, "0090330000ac", "198.51.100.1", datetime.now(UTC))
        images = client.scan(TableName=settings.current().tables["notifications"])["Items"]
        wires.failing |= {person.connection_id, instance.connection_id}
        app.follow_notifications(stream_event(*images), None)
        wires.failing.clear()
        app.follow_notifications(stream_event(*images), None)
        assert [told["code"] for told in instance.told("DeviceProvisioned")] == [code]
        assert person.told("CodeChanged")
        digests = [json.loads(text)["digest"] for text in sent if '"digest"' in text]
        challenges = [
            told["challenge"] for _, told in wires.all_sent if told["mt"] == "AppChallengeResult"
        ]
        secrets = [token, key, code, registered.token, *digests, *challenges]
        secrets.append("the wrong password")
        for secret in (token, code, registered.token):
            with monkeypatch.context() as patch:
                patch.setattr(
                    instances, "domains_of", lambda _, told=secret: fail(ValueError(f"of {told}"))
                )
                assert "on our side" in instance.ask("GetDomains")["error"]
    observability.forget()
    logged = output.getvalue()
    for word in ("LoggedIn", "LoginRefused", "CodeIssued", "PhoneTold", "PushFailed", "ValueError"):
        assert word in logged
    for secret in secrets:
        for spelling in {*every_spelling(secret), *spellings(secret)}:
            assert spelling not in logged
    assert len(digests) == len(challenges) == 2


def roll_out(caller: Caller, drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do everything with a rollout, also wrong, and let a defect name each code.

    Args:
        drawn: the codes so far.
    """
    body = {"name": "Autumn", "category": "Office", "users": ["user1", "user2", "user3"]}
    key = {"Idempotency-Key": "a key of mine"}
    for _ in range(2):
        made = caller.call("POST", "/rollouts", user="admin", body=body, headers=key).json
    below = f"/rollouts/{made['rollout_id']}"
    listed = caller.call("GET", f"{below}/codes.csv", user="admin").text
    assert listed.count("pending") == 3
    for how in ("reissue", "extend"):
        caller.call("POST", f"{below}/{how}", user="admin", body={}, headers=key)
    caller.call("GET", f"{below}/slips", user="admin")
    code = drawn[-1]
    for typed in (code, drawn[0], code):
        caller.call("GET", "/devices/update", query={**MAC, "code": typed})
    caller.call("GET", "/devices/update", query={**MAC, "code": code}, source="198.51.100.1")
    caller.call("POST", f"{below}/revoke", user="admin", body={"users": ["user1"]})
    for where in (below, "/rollouts", "/users", "/domains/example.com/audit"):
        assert caller.call("GET", where, user="admin").status == 200
    file = {"Content-Type": "application/octet-stream"}
    lines = "".join(f"{code},{code}x\n" for code in drawn)
    for query in ({}, {"dry_run": "false"}):
        answer = caller.call(
            "POST",
            "/users",
            user="admin",
            body=f"sip,number\n{lines}".encode(),
            query=query,
            headers=file,
        )
        assert answer.status == 400
    for told in drawn:
        with monkeypatch.context() as patch:
            patch.setattr(rollouts, "show", lambda *_, told=told: fail(ValueError(told)))
            assert caller.call("GET", below, user="admin").status == 500


def test_promise_7_codes_of_a_rollout_are_told_where_they_are_asked_for_and_nowhere_else(
    caller: Caller,
    table_names: dict[str, str],
    client: "DynamoDBClient",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The code list and the slips; no other answer, no log, no table, no audit entry, no fault."""
    use(replace(settings.current(), emit_metrics=True, log_level="DEBUG"), monkeypatch)
    output, answers, real = io.StringIO(), list[tuple[str, str]](), caller.call

    def kept(method: str, where: str, **arguments: Any) -> Answer:  # noqa: ANN401 - Caller.call's own
        answer = real(method, where, **arguments)
        answers.append((where.rpartition("/")[2], answer.text))
        return answer

    monkeypatch.setattr(caller, "call", kept)
    drawn: list[str] = []
    draw = vault.new_code

    def noted() -> str:
        drawn.append(draw())
        return drawn[-1]

    monkeypatch.setattr(vault, "new_code", noted)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        observability.forget()
        roll_out(caller, drawn, monkeypatch)
    observability.forget()
    logged = output.getvalue()
    for word in ("RolloutMade", "CodeIssued", "CodeRedeemed", "CodeRefused", "ValueError"):
        assert word in logged
    items = world.dump(client, table_names)
    assert len(drawn) == 6
    for told in drawn:
        for spelling in spellings(told):
            assert spelling not in logged
            assert spelling not in items
            telling = {where for where, text in answers if spelling in text}
            assert telling <= {"codes.csv", "slips"}
    assert "a key of mine" not in logged + items


def test_promise_7_no_secret_is_in_an_event(
    caller: Caller, bus: Bus, client: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a rollout, and of a phone that goes on to a person; nor in a log where none is taken."""
    use(replace(settings.current(), emit_metrics=True, log_level="DEBUG"), monkeypatch)
    output, drawn, draw = io.StringIO(), list[str](), vault.new_code

    def noted() -> str:
        drawn.append(draw())
        return drawn[-1]

    monkeypatch.setattr(vault, "new_code", noted)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        observability.forget()
        roll_out(caller, drawn, monkeypatch)
        given_up = "/domains/example.com/devices/009033000001/release"
        assert caller.call("POST", given_up, user="admin").status == 204
        code = issue(caller)["code"]
        script = caller.call("GET", "/devices/update", query={**MAC, "code": code}).text
        images = client.scan(TableName=settings.current().tables["notifications"])["Items"]
        for why in ("ThrottlingException", "MalformedDetail", ""):
            bus.refuse_all(why)
            app.hand_over(stream_event(*images), None)
    observability.forget()
    token = script.split("device_token%3D")[1].split()[0]
    told, logged = json.dumps(bus.taken, default=str), output.getvalue()
    for name in ("PhoneProvisioned", "PhoneRemoved", "RegistrationChanged"):
        assert name in told
    for word in ("EventPut", "EventNotTaken", "EventLost", "event put"):
        assert word in logged
    assert len(drawn) == 7
    for digits in drawn:
        assert [one for one in spellings(digits) if one in told + logged] == []
    assert token not in told + logged


def fail(error: Exception) -> None:
    """Raise it."""
    raise error


def test_promise_7_no_repr_shows_what_an_administrator_set(caller: Caller) -> None:
    """What comes in, what is kept, and what goes out."""
    make_domain(caller)
    asking = world.asking("admin", datetime.now(UTC), DOMAIN, ("devices-admin",))
    for job in secret_jobs():
        make_job(caller, **job)
    token = CHOSEN["security token"]
    sheet = security_tokens.put(asking, DOMAIN, CATEGORY, token, None)
    claim = auto_provisioning.Claim(DOMAIN, token, CATEGORY)
    visited = replace(world.visit(None), claim=claim)
    registration = device_roles.register(visited, claim, datetime.now(UTC))
    installation = installation_roles.create(world.platform(datetime.now(UTC)), "x")
    made = [
        sheet,
        visited,
        registration,
        installation,
        domain_table.find_token(DOMAIN),
        schemas.NewToken(category="x", token=token),
        schemas.NewDomain(domain="x", websocket_password=CHOSEN["websocket password"]),
        schemas.IdentifyByClaim.model_validate(
            {**IDENTIFY, "domain": "x", "token": token, "category": "x"}
        ),
        *(schemas.NewConfigurationJob(**job) for job in secret_jobs()),
    ]
    printed = "".join(map(repr, made))
    assert len(registration.plan.jobs) == len(secret_jobs())
    for secret in (*CHOSEN.values(), registration.token, installation.key, sheet.url):
        assert [one for one in every_spelling(secret) if one in printed] == []


def test_promise_7_exceptions_and_reprs_do_not_show_secrets(caller: Caller) -> None:
    """What a traceback with local variables would print."""
    issued = world.issue("user3")
    registration = world.redeem(issued.digits)
    visit = world.visit(issued.digits, token=registration.token)
    printed = f"{issued!r} {registration!r} {visit!r}"
    assert issued.digits not in printed
    assert registration.token not in printed
    typed = str(999988887777)
    with pytest.raises(CodeNotRedeemableError) as refused:
        world.redeem(typed, "0090330000ac")
    assert typed not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("code 1234 5678 9012 typed", "code *** typed"),
        ("123456789012", "***"),
        ("1234-5678-9012#", "***#"),
        (
            "GET /init?mac=00-90-33-12-34-56&PROVISIONING-CODE=1",
            "GET /init?mac=00-90-33-12-34-56&PROVISIONING-CODE=***",
        ),
        ("?code=prompt&x=1", "?code=prompt&x=1"),
        ("code=123", "code=***"),
        ("request", "request"),
        ("%3Fdevice_token%3Dabc", "%3Fdevice_token%3D***"),
        ("%253Ftoken%253Dabc%2526x", "%253Ftoken%253D***%2526x"),
        ("%3Fsn%3D%23m%26device_token%3Dabc%26x", "%3Fsn%3D%23m%26device_token%3D***%26x"),
        ("/url http%253A%26token%253Dabc%2526x", "/url http%253A%26token%253D***%2526x"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "***"),
        ("00-90-33-12-34-56 at 2036-11-24T12:00:00", "00-90-33-12-34-56 at 2036-11-24T12:00:00"),
    ],
)
def test_free_text_is_redacted(text: str, redacted: str) -> None:
    """What nobody thought of is masked; hardware ids with separators and times stay."""
    assert observability.redact(text) == redacted
