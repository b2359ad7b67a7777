"""The interface as it is described, driven by schemathesis: no answer is undocumented."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.core import NotSet

from tests.http.service import Caller

DESCRIPTION = json.loads(
    (Path(__file__).parent.parent.parent / "chalicelib" / "openapi.json").read_text()
)
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)


@pytest.fixture
def described(caller: Caller) -> Caller:
    """Return the caller, for a fixture by this name is what schemathesis asks for."""
    return caller


@SCHEMA.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_undocumented(case: Any, described: Caller) -> None:  # noqa: ANN401 - schemathesis' own
    """Whatever is sent, the status, the type and the body are as described; nothing is a 500."""
    query = {name: str(value) for name, value in (case.query or {}).items()}
    path = case.formatted_path
    body = None if isinstance(case.body, NotSet) else case.body
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    user = "user1" if "/me" in path else ""
    answer = described.call(case.method, path, user=user, query=query, body=raw)
    operation = DESCRIPTION["paths"][case.operation.path][case.method.lower()]
    assert str(answer.status) in operation["responses"], answer.text
    content = operation["responses"][str(answer.status)].get("content", {})
    if content:
        assert answer.headers["content-type"].split(";")[0] in content
        (schema,) = [one["schema"] for one in content.values()]
        if "json" in answer.headers["content-type"]:
            validator = jsonschema_rs.validator_for(
                {**schema, "components": DESCRIPTION["components"]}
            )
            assert [str(error) for error in validator.iter_errors(answer.json)] == []
