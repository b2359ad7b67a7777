import base64
import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from chalicelib import settings
from chalicelib.core.rate_limits import Limit, LimitName
from chalicelib.sockets import connections, schemas
from local.identity import Issuer
from tests.wires import Wire, Wires

pytestmark = pytest.mark.usefixtures("defects")

MODELS: tuple[type[BaseModel], ...] = (
    schemas.AppLogin,
    schemas.UserLogin,
    schemas.AppInfo,
    schemas.GetProvisioningCategories,
    schemas.GetProvisioningCode,
    schemas.GetProvisionedDevice,
    schemas.GetDevices,
    schemas.GetDevicePhones,
    schemas.RemoveDevicePhone,
)
VALID: dict[str, dict[str, Any]] = {
    "UserLogin": {"token": "a.b.c"},
    "GetProvisioningCode": {"category": "Office"},
    "GetProvisionedDevice": {"code": "123456789012"},
    "GetDevicePhones": {"hwId": "009033460af2"},
    "RemoveDevicePhone": {"hwId": "009033460af2", "id": "TEL1"},
}
VALUES: dict[str, list[Any]] = {
    "string": ["", "text"],
    "integer": [1, -(2**53)],
    "number": [1.5],
    "boolean": [True, False],
    "array": [[], ["text"]],
    "object": [{}, {"a": 1}],
    "null": [None],
}
ODD: list[Any] = [
    "\ud800",
    "a\udfffb",
    "\x00",
    "#",
    "a#b",
    "x" * 1_000,
    "\N{GRINNING FACE}" * 1_000,
    "x" * 100_000,
    -1,
    2**53 + 1,
    2**64,
    10**4_000,
    1e308,
    float("inf"),
    float("nan"),
    "²",
    "٣",
    ",,,",
    "1," * 1_999,
    ["\ud800"],
    {"\ud800": "\ud800"},
]
NAMES = [*connections.BEFORE_LOGIN, *connections.OF_INSTANCES]
FIELDS = [
    (model, field.alias or name) for model in MODELS for name, field in model.model_fields.items()
]


def is_defined(name: str, answers: list[dict[str, Any]]) -> bool:
    """Tell whether there are answers to a message, and none of them is a defect's."""
    return bool(answers) and all(
        answer["mt"] in {f"{name}Result", "Error"}
        and "on our side" not in str(answer.get("error", ""))
        for answer in answers
    )


@pytest.fixture
def instance(service: Wires) -> Wire:
    """Log a Users instance in."""
    return service.instance()


def sender(service: Wires, instance: Wire, name: str) -> Wire:
    """Find a connection that may send a message of this name: a new one for a login."""
    wire = service.connect() if name in connections.LOGINS else instance
    if name == "AppLogin":
        assert wire.ask("AppChallenge")["challenge"]
    return wire


def types_of(schema: dict[str, Any]) -> set[str]:
    """List the JSON types that a field takes."""
    if "anyOf" in schema:
        return set().union(*(types_of(each) for each in schema["anyOf"]))
    return {schema["type"]} if "type" in schema else {"string"}


def test_every_model_is_tested() -> None:
    """A new message comes into the list above."""
    made = [
        each
        for each in vars(schemas).values()
        if isinstance(each, type)
        and issubclass(each, BaseModel)
        and not each.__name__.startswith("_")
    ]
    assert set(made) - {BaseModel} == set(MODELS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"mt":"KeepAlive"',
        "KeepAlive",
        "[]",
        '[{"mt":"KeepAlive"}]',
        '"KeepAlive"',
        "1",
        "null",
        "NaN",
        "{}",
        '{"mt":""}',
        '{"mt":1}',
        '{"mt":null}',
        '{"mt":["KeepAlive"]}',
        '{"mt":{"KeepAlive":1}}',
        '{"MT":"KeepAlive"}',
        json.dumps({"mt": "x" * 101}),
        "[" * 65_000,
        "[" * 65_000 + "]" * 65_000,
        '{"a":' * 25_000,
        '{"mt":' * 20_000,
        '{"mt":"KeepAlive","a":' + "[" * 64_000 + "]" * 64_000 + "}",
        '{"mt":"KeepAlive","a":1' + "0" * 5_000 + "}",
        "\x00",
        '{"mt":"Keep\x00Alive"}',
    ],
)
def test_what_is_no_message_is_answered_with_an_error(service: Wires, text: str) -> None:
    """It is told so, the connection stays and can still be used."""
    wire = service.connect()
    (answer,) = wire.send(text)
    assert answer["mt"] == "Error"
    assert answer["error"]
    assert wire.ask("KeepAlive") == {"mt": "KeepAliveResult"}


def test_an_unknown_message_is_malformed(service: Wires) -> None:
    """Its answer is named after it and carries its src, before a login and after it."""
    for wire in (service.connect(), service.instance()):
        answer = wire.ask("GetCoffee", src="1")
        assert (answer["mt"], answer["src"]) == ("GetCoffeeResult", "1")
        assert answer["error"] == "malformed"
        assert answer["faults"] == [{"field": "mt", "message": "unknown"}]
        assert wire.is_open


@pytest.mark.parametrize("name", connections.OF_INSTANCES)
def test_nothing_of_the_service_is_told_before_a_login(
    service: Wires, issuer: Issuer, name: str
) -> None:
    """Neither to nobody nor to a person who has signed in."""
    person = service.connect()
    token = issuer.token("admin", connections.now())
    assert person.ask("UserLogin", token=token)["ok"] is True
    for wire in (service.connect(), person):
        members = {"mt": f"{name}Result", "error": "not allowed", "src": "s"}
        assert wire.ask(name, src="s", **VALID.get(name, {})) == members
        assert wire.is_open


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_a_wrong_type_is_malformed(
    service: Wires, instance: Wire, model: type[BaseModel], field: str
) -> None:
    """Nothing is converted, whatever the field and the message."""
    name = model.__name__
    taken = types_of(model.model_json_schema(by_alias=True)["properties"][field])
    for kind, values in VALUES.items():
        if kind in taken or (kind == "integer" and "number" in taken):
            continue
        for value in values:
            wire = sender(service, instance, name)
            answer = wire.ask(name, **{**VALID.get(name, {}), field: value}, src="s")
            assert answer["error"] == "malformed", (kind, value)
            assert answer["src"] == "s"
            assert field in [fault["field"].split(".")[0] for fault in answer["faults"]]
            assert "ok" not in answer


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_an_odd_value_has_a_defined_end(
    service: Wires, instance: Wire, model: type[BaseModel], field: str
) -> None:
    """An answer that is no defect's, whatever stands in the field."""
    name = model.__name__
    other = service.instance()
    for value in ODD:
        wire = sender(service, instance, name)
        answers = wire.send(json.dumps({"mt": name, **VALID.get(name, {}), field: value}))
        assert is_defined(name, answers), value
    assert other.ask("GetLoginInfo")["admin"] is False


@pytest.mark.parametrize("name", NAMES)
def test_odd_numbers_and_names_of_members_are_ignored(
    service: Wires, instance: Wire, name: str
) -> None:
    """Members that nobody knows may be anything."""
    wire = sender(service, instance, name)
    members = json.dumps({"mt": name, **VALID.get(name, {})})
    odd = '"\\ud800":1e400,"":-0,"\\u0000":NaN,"x":[[[]]],"MT":1,"mt ":2'
    assert is_defined(name, wire.send(f"{members[:-1]},{odd}}}"))


@pytest.mark.parametrize("name", NAMES)
def test_a_text_as_src_is_echoed(service: Wires, instance: Wire, name: str) -> None:
    """Exactly as it came, whatever is in it."""
    for src in ("", "src0", "ü \N{GRINNING FACE} \"'\\", "\ud800", "\x00", "x" * 200):
        wire = sender(service, instance, name)
        members = {"src": src, "api": src, **VALID.get(name, {})}
        answers = wire.send(json.dumps({"mt": name, **members}))
        assert is_defined(name, answers)
        assert all((answer["src"], answer["api"]) == (src, src) for answer in answers)


@pytest.mark.parametrize("src", [0, 1, 1.5, True, None, [], {}, ["src0"], "x" * 201, 10**4_000])
def test_anything_else_as_src_is_not_echoed(service: Wires, src: object) -> None:
    """The message is answered all the same."""
    wire = service.instance()
    assert wire.ask("KeepAlive", src=src) == {"mt": "KeepAliveResult"}
    assert "code" in wire.ask("GetProvisioningCode", src=src, category="Office", sip="user1")


@pytest.mark.parametrize("sip", ["a#b", "#", "a\nb", "\x00", "a\x7f", "x" * 101])
def test_a_sip_that_could_not_be_a_key_is_malformed(service: Wires, sip: str) -> None:
    """It is never part of a key."""
    answer = service.instance().ask("GetProvisioningCode", category="Office", sip=sip)
    assert answer["error"] == "malformed"


@pytest.mark.parametrize("digest", ["", "ü" * 64, "\x00", "A" * 64, "0" * 1_000])
def test_an_odd_digest_is_a_wrong_one(service: Wires, digest: str) -> None:
    """It is refused, and the connection closed."""
    wire = service.connect()
    assert wire.ask("AppChallenge")["challenge"]
    answer = wire.ask("AppLogin", app="users", domain="example.com", digest=digest)
    assert answer == {"mt": "AppLoginResult", "error": "not allowed"}
    assert not wire.is_open


@pytest.mark.parametrize(
    "header",
    [
        "[" * 5_000,
        "[]",
        "{}",
        '{"alg":[],"kid":"local"}',
        '{"alg":"none","kid":"local"}',
        '{"kid":1}',
        '{"alg":"ES256","kid":"local","x":1' + "0" * 4_500 + "}",
        "\x00",
        '{"alg":"ES256","kid":"\\ud800"}',
    ],
)
def test_an_odd_token_is_refused(service: Wires, issuer: Issuer, header: str) -> None:
    """Whatever its header says, it is no defect."""
    assert issuer
    wire = service.connect()
    text = base64.urlsafe_b64encode(header.encode()).decode().rstrip("=")
    answer = wire.ask("UserLogin", token=f"{text}.e30.AA")
    assert answer == {"mt": "UserLoginResult", "error": "not allowed"}
    assert not wire.is_open


def test_a_flood_is_slowed_and_nobody_else_with_it(
    service: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much is answered so, and counts for this connection alone."""
    limits = {
        **settings.current().limits,
        LimitName.MESSAGES: Limit(LimitName.MESSAGES, burst=5, interval_ms=60_000),
    }
    used = replace(settings.current(), limits=limits)
    monkeypatch.setattr(settings, "current", cache(lambda: used))
    flooding, other = service.connect(), service.connect()
    for _ in range(5):
        assert flooding.ask("KeepAlive") == {"mt": "KeepAliveResult"}
    for _ in range(5):
        answer = flooding.ask("KeepAlive")
        assert answer == {"mt": "Error", "error": "too many, again in 60 seconds"}
    assert flooding.is_open
    assert other.ask("KeepAlive") == {"mt": "KeepAliveResult"}


def anything() -> st.SearchStrategy[Any]:
    """Make any JSON, texts with lone surrogates among it."""
    text = st.text(st.characters(exclude_categories=())) | st.sampled_from(
        ["Office", "1,2", "PHONE"]
    )
    plain = st.none() | st.booleans() | st.integers() | st.floats() | text
    return st.recursive(
        plain, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=8
    )


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | anything().map(json.dumps))
def test_any_text_has_a_defined_end(service: Wires, text: str) -> None:
    """An answer, and the connection goes on."""
    wire = service.connect()
    (answer,) = wire.send(text)
    assert answer["error"]
    assert "on our side" not in answer["error"]


@hypothesis_settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_members_of_a_known_message_have_a_defined_end(
    service: Wires, instance: Wire, data: st.DataObject, name: str
) -> None:
    """An answer or the end of this connection; another one is never affected."""
    fields = [field for model, field in FIELDS if model.__name__ == name]
    known = st.fixed_dictionaries(
        {}, optional={field: anything() for field in [*fields, "src", "api"]}
    )
    members = data.draw(known)
    wire, other = sender(service, instance, name), service.connect()
    answers = wire.send(json.dumps({**members, "mt": name}))
    assert is_defined(name, answers)
    assert other.ask("KeepAlive") == {"mt": "KeepAliveResult"}
