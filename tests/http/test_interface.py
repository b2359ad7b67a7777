"""The interface as it is described, driven by schemathesis: no answer is undocumented."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.core import NotSet
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode

from local import demo
from tests.http.service import Caller
from tests.http.test_profile import HW_ID, issue, redeem

DESCRIPTION = json.loads(
    (Path(__file__).parent.parent.parent / "chalicelib" / "openapi.json").read_text()
)
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)

FILE = "application/octet-stream"
WITH_RULES_IN_WORDS = {
    "importUsers": "what may stand in a number, an address, a sip; nobody twice",
    "createRollout": "category, app and users must be there",
    "addEntries": "users must be there",
    "extendEntries": "users must have an entry; users and cursor exclude each other",
    "reissueEntries": "users must have an entry; users and cursor exclude each other",
    "revokeEntries": "users must have an entry; users and cursor exclude each other",
    "register": "what is typed must hold a code, a hardware id is not all zeros",
    "createDomain": "a URL must be one",
    "changeDomain": "a URL must be one",
    "setToken": "a token is printable",
    "putCategory": "`*` stands for every category",
    "putPbx": "a URL must be one, and with TLS; a first one needs a password",
    "putFirmware": "a URL must be one, a product is printable",
    "makeConfigurationJob": "lines are printable, a URL must be one",
    "changeDevice": "a name is not blank, and can be read whole",
    "replaceDevice": "a hardware id is not all zeros",
    "issueForeignCode": "a URL must be one",
}
"""Operations that may refuse a body that fits its schema, and the rule that no schema can tell."""


@dataclass(frozen=True)
class Described:
    """A caller, and a token for each security scheme."""

    caller: Caller
    device_token: str
    key: str
    rollout_id: str

    def signed_in(self, case: Any) -> tuple[str, str]:  # noqa: ANN401 - schemathesis' own
        """Tell who makes this call, by name or by token: whoever the operation is for."""
        (scheme,) = [name for need in operation_of(case)["security"] for name in need] or [""]
        if scheme == "person":
            first = case.operation.path.split("/")[1]
            return {"me": "user1", "users": "admin", "rollouts": "admin"}.get(first, "platform"), ""
        return "", {"device": self.device_token, "installation": self.key, "": ""}[scheme]


def operation_of(case: Any) -> dict[str, Any]:  # noqa: ANN401 - schemathesis' own
    """Find the description of what is called."""
    return dict(DESCRIPTION["paths"][case.operation.path][case.method.lower()])


@pytest.fixture
def described(caller: Caller) -> Described:
    """Register a phone and an installation; a fixture by this name is what schemathesis needs."""
    script = redeem(caller, issue(caller)["code"])
    made = caller.call("POST", "/installations", user="platform", body={"name": "Elsewhere"})
    token = script.split("device_token%3D")[1].split()[0]
    wanted = {"name": "Autumn", "category": "Office", "users": ["user1", "user2"]}
    rollout = caller.call("POST", "/rollouts", user="admin", body=wanted)
    # nobody listens there, so that a test of the connection ends at once
    pbx = {"address": "wss://127.0.0.1:1", "app_object": "dialtone", "password": "x"}
    put = caller.call("PUT", f"/domains/{demo.DOMAIN}/pbx", user="admin", body=pbx)
    assert put.status == 200, put.text
    return Described(caller, token, made.json["key"], rollout.json["rollout_id"])


def put_what_is_there(case: Any, rollout_id: str) -> None:  # noqa: ANN401 - schemathesis' own
    """Put names that are there into every other case, for those that are drawn are unknown."""
    there = {
        "domain": demo.DOMAIN,
        "category": "Office",
        "hw_id": HW_ID,
        "rollout_id": rollout_id,
    }
    drawn = case.path_parameters or {}
    if sum(len(str(value)) for value in drawn.values()) % 2:
        case.path_parameters = {**drawn, **{name: there[name] for name in drawn if name in there}}
        for part in (case.query, case.body):
            if isinstance(part, dict) and isinstance(part.get("category"), str):
                part["category"] = there["category"]


@SCHEMA.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_undocumented(case: Any, described: Described) -> None:  # noqa: ANN401 - schemathesis' own
    """Whatever is sent, the status, the type and the body are as described; nothing is a 500."""
    operation = operation_of(case)
    put_what_is_there(case, described.rollout_id)
    query = {name: str(value) for name, value in (case.query or {}).items()}
    body = None if isinstance(case.body, NotSet) else case.body
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if case.media_type == FILE and isinstance(body, str):
        raw = body.encode("utf-8", "surrogatepass")
    user, token = described.signed_in(case)
    drawn = {name: str(value) for name, value in (case.headers or {}).items()}
    headers = {name: drawn[name] for name in ("Idempotency-Key",) if name in drawn}
    if case.media_type and raw is not None:
        headers["Content-Type"] = case.media_type
    answer = described.caller.call(
        case.method,
        case.formatted_path,
        user=user,
        token=token,
        query=query,
        body=raw,
        headers=headers,
    )
    assert str(answer.status) in operation["responses"], answer.text
    assert answer.status != 401 or not user
    response = operation["responses"][str(answer.status)]
    assert {name.lower() for name in response.get("headers", {})} <= set(answer.headers)
    content = response.get("content", {})
    if content:
        assert answer.headers["content-type"].split(";")[0] in content
        (schema,) = [one["schema"] for one in content.values()]
        if "json" in answer.headers["content-type"]:
            assert [str(error) for error in validator_of(schema).iter_errors(answer.json)] == []
    if body is not None and not isinstance(body, bytes) and case.media_type != FILE:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        fits = validator_of(schema).is_valid(json.loads(raw or b""))
        assert fits or answer.status >= 400, "accepted what the description forbids"
        is_only_body = all(
            part.mode is GenerationMode.POSITIVE
            for location, part in case.meta.components.items()
            if location is not ParameterLocation.BODY
        )
        if fits and is_only_body and operation["operationId"] not in WITH_RULES_IN_WORDS:
            assert answer.status != 400, answer.text


def validator_of(schema: dict[str, Any]) -> Any:  # noqa: ANN401 - has no public type
    """Read a schema of the description."""
    return jsonschema_rs.validator_for({**schema, "components": DESCRIPTION["components"]})
