"""Promise 7: no code, token or password in any log line, metric or exception."""

import contextlib
import io
import logging
import traceback
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chalicelib import observability, settings
from chalicelib.core.errors import CodeNotRedeemableError, StoreUnavailableError
from chalicelib.roles import users
from tests.conftest import use
from tests.http.service import Caller
from tests.http.test_phones import IDENTIFY, MAC
from tests.http.test_profile import issue


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


def test_promise_7_exceptions_and_reprs_do_not_show_secrets(caller: Caller) -> None:
    """What a traceback with local variables would print."""
    from tests import world

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
        ("00-90-33-12-34-56 at 2026-11-24T12:00:00", "00-90-33-12-34-56 at 2026-11-24T12:00:00"),
    ],
)
def test_free_text_is_redacted(text: str, redacted: str) -> None:
    """What nobody thought of is masked; hardware ids with separators and times stay."""
    assert observability.redact(text) == redacted
