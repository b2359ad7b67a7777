import json
from typing import Any

import pytest

from chalicelib.api import problems
from chalicelib.core import errors
from chalicelib.roles import users
from tests.http.service import Answer, Caller

FAULT = errors.Fault("category", "missing")
SITUATIONS = [
    (errors.InvalidRequestError(FAULT), 400, "malformed"),
    (errors.RequestTooLargeError(FAULT), 413, "too-large"),
    (errors.NotSignedInError("why"), 401, "not-signed-in"),
    (errors.NotAllowedError("why"), 403, "not-allowed"),
    (errors.NotFoundError("category"), 404, "not-found"),
    (errors.CodeNotRedeemableError(errors.Refusal.EXPIRED), 404, "code-not-redeemable"),
    (errors.ConflictError("why"), 409, "conflict"),
    (errors.InProgressError(2), 409, "in-progress"),
    (errors.InUseError({"devices": 3, "jobs": 1}), 409, "in-use"),
    (errors.DeviceElsewhereError(errors.Refusal.DEVICE_OF_ANOTHER_USER), 409, "device-elsewhere"),
    (errors.LimitReachedError("guesses", 7), 429, "limit-reached"),
    (errors.StoreUnavailableError("ThrottlingException", 5), 503, "unavailable"),
    (errors.CentralUnavailableError("URLError", 60), 503, "central-unavailable"),
    (ValueError("123456789012"), 500, "internal"),
]


def assert_problem(answer: Answer, status: int, slug: str) -> dict[str, Any]:
    """Check what every error has in common."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json
    assert (body["type"], body["status"]) == (f"urn:dialtone:problem:{slug}", status)
    assert body["title"]
    return dict(body)


@pytest.mark.parametrize(("error", "status", "slug"), SITUATIONS, ids=lambda value: str(value)[:20])
def test_every_situation_has_its_problem(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, slug: str
) -> None:
    """From one table; what is not in it says nothing of itself."""

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(users, "profile", fail)
    answer = caller.call("GET", "/me", user="user1")
    body = assert_problem(answer, status, slug)
    if isinstance(error, errors.InvalidRequestError):
        assert body["faults"] == [{"field": "category", "message": "missing"}]
    assert body.get("used_by") == getattr(error, "used_by", None)
    if hasattr(error, "retry_after_seconds"):
        assert answer.headers["retry-after"] == str(error.retry_after_seconds)
    assert "123456789012" not in answer.text
    assert "expired" not in answer.text


def test_the_table_names_every_core_error() -> None:
    """A new error without a row would be a 500."""
    rows = set(problems.TABLE)
    named = {
        kind
        for kind in errors.DialtoneError.__subclasses__()
        if kind.__module__ == errors.__name__  # the gateway has errors that no view can meet
    }
    assert named <= rows
    assert rows <= {type(error) for error, _, _ in SITUATIONS}


def test_a_narrower_error_stands_before_the_wider_one() -> None:
    """For the first row that fits is taken."""
    rows = list(problems.TABLE)
    for position, row in enumerate(rows):
        assert not [wider for wider in rows[:position] if issubclass(row, wider)]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "slug"),
    [
        ("PUT", "/me", {}, None, 405, "method-not-allowed"),
        ("POST", "/me/codes", {"content-type": "text/plain"}, b"x", 415, "unsupported-media-type"),
        ("GET", "/nothing/here", {}, None, 404, "not-found"),
        ("POST", "/me/codes", {}, b"x" * 70_000, 413, "too-large"),
        ("POST", "/me/codes", {}, b"x" * (10 * 1024 * 1024 + 1), 413, "too-large"),
        ("GET", "/me", {}, None, 401, "not-signed-in"),
    ],
)
def test_all_three_places_that_answer_errors_use_one_form(
    caller: Caller,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | None,
    status: int,
    slug: str,
) -> None:
    """Our views, Chalice itself, and API Gateway."""
    answer = caller.call(method, path, headers=headers, body=body)
    assert_problem(answer, status, slug)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{", [""]),
        (b"[]", [""]),
        (b"", [""]),
        (b"\xff\xfe", [""]),
        (b"[" * 30_000, [""]),
        (b"{}", ["category"]),
        (b'{"category": 5}', ["category"]),
        (b'{"category": ""}', ["category"]),
        (b'{"category": "a#b"}', ["category"]),
        (b'{"category": null}', ["category"]),
        (json.dumps({"category": "x" * 201}).encode(), ["category"]),
    ],
)
def test_a_malformed_body_is_refused_with_every_fault(
    caller: Caller, body: bytes, fields: list[str]
) -> None:
    """Broken JSON, wrong types, missing fields: all faults, by field, and no code is charged."""
    answer = caller.call("POST", "/me/codes", user="user1", body=body)
    found = assert_problem(answer, 400, "malformed")
    assert [fault["field"] for fault in found["faults"]] == fields


def test_a_long_query_is_refused_before_any_work(caller: Caller) -> None:
    """Before anybody is even asked who they are."""
    answer = caller.call("GET", "/me/phones", query={"limit": "1" * 5000})
    assert_problem(answer, 413, "too-large")


def test_an_answer_of_a_view_is_not_reshaped(caller: Caller) -> None:
    """Only what Chalice says by itself is."""
    assert caller.call("GET", "/health").json == {"status": "ok"}
    assert caller.call("OPTIONS", "/me").headers["access-control-allow-origin"] == "*"


def test_another_users_category_is_not_there(caller: Caller) -> None:
    """Another domain's category, a group, and nonsense: 404 alike."""
    answers = {
        caller.call("POST", "/me/codes", user="user1", body={"category": name}).body
        for name in ("Sales", "Gateways", "nonsense")
    }
    assert len(answers) == 1
