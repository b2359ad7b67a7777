"""Promise 10: a write repeated with the same Idempotency-Key has the same result for 24 hours."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import observability, settings
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles import issuing, users
from tests import faults, world
from tests.conftest import use
from tests.http.administration import (
    CATEGORY,
    DOMAIN,
    TOKEN,
    admin_of,
    make_domain,
    path,
    register,
    set_token,
)
from tests.http.service import Answer, Caller
from tests.http.test_problems import assert_problem
from tests.http.test_profile import HW_ID, issue, redeem

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
PATHS = json.loads(
    (Path(__file__).parent.parent.parent / "chalicelib" / "openapi.json").read_text()
)["paths"]
OF_PEOPLE = [
    where
    for where, methods in PATHS.items()
    if methods.get("post", {}).get("security") == [{"person": []}]
]


def post(
    caller: Caller,
    where: str,
    body: object = None,
    key: str = KEY,
    **arguments: Any,  # noqa: ANN401 - Caller.call's own
) -> Answer:
    """Make a write under a key."""
    headers = {"Idempotency-Key": key}
    return caller.call("POST", where, body=body, headers=headers, **arguments)


def ask(caller: Caller, user: str = "user1", category: str = "Office", key: str = KEY) -> Answer:
    """Ask for a code under a key."""
    return post(caller, "/me/codes", {"category": category}, key, user=user)


def test_promise_10_a_token_is_drawn_once(caller: Caller) -> None:
    """A second one would take the place of the one that phones still have."""
    make_domain(caller)
    set_token(caller)
    before = set_token(caller, token=None)
    arguments: dict[str, Any] = {
        "body": {"category": CATEGORY},
        "headers": {"Idempotency-Key": KEY},
    }
    where = path(DOMAIN, "token")
    first, second = (
        caller.call("PUT", where, token=admin_of(caller), **arguments) for _ in range(2)
    )
    assert (first.status, first) == (200, second)
    assert first.json["url"] != before["url"]
    shown = caller.call("GET", where, token=admin_of(caller), query={"category": CATEGORY})
    assert shown.json["url"] == first.json["url"]


def codes_of(caller: Caller, user: str = "user1") -> list[str]:
    """List the codes that a person has."""
    found = caller.call("GET", "/me/codes", user=user).json["items"]
    return [code["code_id"] for code in found]


def test_promise_10_a_code_is_issued_once(caller: Caller) -> None:
    """Status, headers and body are the same, and there is one code."""
    first = ask(caller)
    assert first.status == 201
    assert [ask(caller) for _ in range(3)] == [first] * 3
    assert codes_of(caller) == [first.json["code_id"]]


def test_promise_10_without_a_key_nothing_is_once(caller: Caller) -> None:
    """Two codes, as ever; another key is another write, too."""
    assert issue(caller)["code"] != issue(caller)["code"]
    assert ask(caller).json["code"] != ask(caller, key="another").json["code"]
    assert len(codes_of(caller)) == 4


def test_promise_10_another_person_has_their_own(caller: Caller) -> None:
    """The same key, of the same domain or of another, tells nobody anything."""
    answers = [ask(caller, user) for user in ("user1", "user2")]
    abroad = caller.sign_in("user1", domain="other.example")
    answers.append(post(caller, "/me/codes", {"category": "Sales"}, token=abroad))
    other = caller.sign_in("user1", sub="somebody else")
    answers.append(post(caller, "/me/codes", {"category": "Office"}, token=other))
    assert [answer.status for answer in answers] == [201] * 4
    assert len({answer.json["code"] for answer in answers}) == 4


def test_promise_10_holds_over_a_new_sign_in(caller: Caller) -> None:
    """The person counts, not the token."""
    first = post(caller, "/me/codes", {"category": "Office"}, token=caller.sign_in("user1"))
    renewed = caller.sign_in("user1", jti="another token")
    assert post(caller, "/me/codes", {"category": "Office"}, token=renewed) == first


def test_promise_10_another_route_or_parameter_is_another_write(caller: Caller) -> None:
    """A domain, an installation, and two phones that are released."""
    answers = [
        post(caller, "/domains", {"domain": "new.example"}, user="platform"),
        post(caller, "/installations", {"name": "new.example"}, user="platform"),
    ]
    assert [answer.status for answer in answers] == [201, 201]
    make_domain(caller)
    set_token(caller)
    for hw_id in ("009033000001", "009033000002"):
        register(caller, hw_id)
        where = path(DOMAIN, "devices", hw_id) + "/release"
        answers = [post(caller, where, token=admin_of(caller)) for _ in range(2)]
        assert answers[0] == answers[1]
        assert (answers[0].status, answers[0].body) == (204, b"")
        assert caller.call("POST", where, token=admin_of(caller)).status in {404, 409}


def test_promise_10_other_content_under_the_same_key_is_a_conflict(caller: Caller) -> None:
    """Another body, or another query; the first stays what it was."""
    first = ask(caller)
    body = assert_problem(ask(caller, category="Reception"), 409, "conflict")
    assert "Idempotency-Key" in body["detail"]
    assert_problem(
        post(caller, "/me/codes", {"category": "Office"}, user="user1", query={"dry_run": "true"}),
        409,
        "conflict",
    )
    assert ask(caller) == first
    assert len(codes_of(caller)) == 1


def test_promise_10_an_error_is_not_kept(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Malformed, unknown, and limited: each is answered anew, and then it works."""
    assert ask(caller, category="").status == 400
    assert ask(caller, category="nonsense").status == 404
    for _ in range(10):
        issue(caller)
    assert_problem(ask(caller), 429, "limit-reached")
    used = settings.current()
    roomy = replace(used.limits[LimitName.ISSUES], burst=20)
    use(replace(used, limits={**used.limits, LimitName.ISSUES: roomy}), monkeypatch)
    first = ask(caller)
    assert first.status == 201
    assert ask(caller) == first


def test_promise_10_a_defect_is_not_kept(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500 may be another answer next time."""

    def fail(*_: object) -> None:
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr(users, "issue_code", fail)
        assert_problem(ask(caller), 500, "internal")
    assert ask(caller).status == 201


@pytest.mark.engine
def test_promise_10_of_many_at_once_one_issues(caller: Caller) -> None:
    """One code; everybody gets it, or is told to come back, and gets it then."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(caller), range(8)))
    assert {answer.status for answer in answers} <= {201, 409}
    first = ask(caller)
    for answer in answers:
        if answer.status == 409:
            assert_problem(answer, 409, "in-progress")
            assert answer.headers["retry-after"] == "2"
        else:
            assert answer.body == first.body
    assert codes_of(caller) == [first.json["code_id"]]


def test_a_request_that_is_not_done_yet_is_refused_with_a_pause(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own situation, so that a caller knows that the answer will come."""
    begun, go_on = threading.Event(), threading.Event()
    real = users.issue_code

    def slowly(*arguments: Any) -> issuing.IssuedCode:  # noqa: ANN401 - passed on
        begun.set()
        assert go_on.wait(60)
        return real(*arguments)

    monkeypatch.setattr(users, "issue_code", slowly)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, caller)
        assert begun.wait(60)
        try:
            refused = ask(caller)
        finally:
            go_on.set()
        answer = first.result()
    assert_problem(refused, 409, "in-progress")
    assert refused.headers["retry-after"] == "2"
    assert ask(caller) == answer


def test_a_throttled_store_is_known_before_anything_is_done(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with a pause, and the same key works then."""
    error = faults.client_error("ThrottlingException", "PutItem")
    with faults.failing(monkeypatch, "PutItem", error):
        refused = ask(caller)
    assert_problem(refused, 503, "unavailable")
    assert refused.headers["retry-after"] == "5"
    assert codes_of(caller) == []
    assert ask(caller).status == 201


def test_a_key_costs_two_calls_more(caller: Caller) -> None:
    """And a repeat one in all; without a key it costs nothing."""
    issue(caller)
    with world.calls() as without:
        issue(caller)
    with world.calls() as once:
        ask(caller)
    with world.calls() as again:
        ask(caller)
    assert once == ["PutItem", *without, "UpdateItem"]
    assert again == ["PutItem"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "Schlüssel", "a\x7f", "a\nb"])
def test_a_malformed_key_is_a_fault(caller: Caller, key: str) -> None:
    """By the header's name, without its value; nothing is done."""
    body = assert_problem(ask(caller, key=key), 400, "malformed")
    fault = {"field": "Idempotency-Key", "message": "1 to 255 printable ASCII characters"}
    assert body["faults"] == [fault]
    assert codes_of(caller) == []


@pytest.mark.parametrize("key", ["x", " ", "~" * 255, '"quoted", twice', "%00#*"])
def test_a_key_may_be_any_printable_text(caller: Caller, key: str) -> None:
    """Up to 255 characters."""
    first = ask(caller, key=key)
    assert first.status == 201
    assert ask(caller, key=key) == first


def test_a_header_has_no_case(caller: Caller) -> None:
    """As browsers and other clients spell it."""
    answers = [
        caller.call(
            "POST", "/me/codes", user="user1", body={"category": "Office"}, headers={name: KEY}
        )
        for name in ("idempotency-key", "IDEMPOTENCY-KEY", "Idempotency-Key")
    ]
    assert answers[0] == answers[1] == answers[2]


def test_nobody_learns_of_a_key_who_is_not_signed_in(caller: Caller) -> None:
    """401, and 413 before that; neither is anything asked for, not even with a malformed key."""
    first = ask(caller)
    with world.calls() as made:
        for key in (KEY, ""):
            for token in ("", "x.y.z", caller.sign_in("user1", exp=1)):
                answer = post(caller, "/me/codes", {"category": "Office"}, key, token=token)
                assert_problem(answer, 401, "not-signed-in")
        assert_problem(post(caller, "/me/codes", b"x" * 70_000, user="user1"), 413, "too-large")
    assert made == []
    assert ask(caller) == first


def test_a_right_that_is_missing_is_missed_every_time(caller: Caller) -> None:
    """403 is an error as any other."""
    for _ in range(2):
        answer = post(caller, "/domains", {"domain": "new.example"}, user="user1")
        assert_problem(answer, 403, "not-allowed")


@pytest.mark.parametrize("where", OF_PEOPLE)
def test_every_post_of_people_reads_the_key(caller: Caller, where: str) -> None:
    """As the interface describes it: who is not signed in first, then a malformed key."""
    there = where.format(domain=DOMAIN, hw_id=HW_ID, job_id="x", rollout_id="x")
    assert_problem(post(caller, there, {}, key=""), 401, "not-signed-in")
    body = assert_problem(post(caller, there, {}, key="", user="platform"), 400, "malformed")
    assert [fault["field"] for fault in body["faults"]] == ["Idempotency-Key"]


def test_a_foreign_installation_has_no_such_header(caller: Caller) -> None:
    """Nor have phones: each of its codes is a new one, whatever it sends."""
    made = caller.call("POST", "/installations", user="platform", body={"name": "Elsewhere"})
    body = {"devices_url": "https://f.example/devices/update"}
    answers = [
        post(caller, "/provisioning/codes", body, key, token=made.json["key"])
        for key in (KEY, KEY, "")
    ]
    assert [answer.status for answer in answers] == [201] * 3
    assert len({answer.json["code"] for answer in answers}) == 3


def test_promise_12_a_dump_tells_neither_answers_nor_requests_of_writes(
    caller: Caller,
    client: "DynamoDBClient",
    table_names: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nor does any output: no code, key, token, password or header, and Powertools at its loudest.

    The code was redeemed meanwhile, so that its own item has dropped it.
    """
    use(replace(settings.current(), emit_metrics=True, log_level="DEBUG"), monkeypatch)
    observability.forget()
    caplog.set_level(logging.DEBUG, logger="aws_lambda_powertools")
    token = caller.sign_in("user1")
    code = post(caller, "/me/codes", {"category": "Office"}, token=token).json["code"]
    redeem(caller, code)
    key = post(caller, "/installations", {"name": "Elsewhere"}, user="platform").json["key"]
    make_domain(caller)
    password = "hunter-two-hundred"
    where = path(DOMAIN, "jobs", "config")
    job = {"category": "*", "type": "admin-password", "parameters": {"password": password}}
    for body in (job, job, {**job, "category": "Gateways"}):
        post(caller, where, body, token=admin_of(caller))
    error = faults.client_error("ThrottlingException", "PutItem")
    with faults.failing(monkeypatch, "PutItem", error):
        ask(caller, key="another key")
    observability.forget()
    dump = world.dump(client, table_names)
    output = capsys.readouterr().out
    assert "persistence store" in caplog.text
    assert "CodeRedeemed" in output
    for secret in (KEY, "another key", code, key, key.partition(".")[2], password, token, TOKEN):
        assert secret not in dump
        assert secret not in output
        assert secret not in caplog.text
    assert datetime.now(UTC).isoformat()[:10] in dump
