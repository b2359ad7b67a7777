import json
import re
from dataclasses import replace

import pytest

from chalicelib import settings
from tests.conftest import use
from tests.http.service import Caller
from tests.http.test_problems import assert_problem


def test_the_service_tells_of_itself(caller: Caller) -> None:
    """Health without a dependency, how to sign in, the interface, a front page."""
    assert caller.call("GET", "/health").json == {"status": "ok"}
    config = caller.call("GET", "/config.json").json
    assert config == {
        "issuer": "http://127.0.0.1/issuer",
        "client_id": "dialtone",
        "websocket_url": "",
        "is_sandbox": False,
    }
    assert caller.call("GET", "/openapi.json").json["openapi"].startswith("3.")


def test_the_pages_are_one_document_and_files_that_never_change(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document is asked for anew each time, and names its files by their version."""
    used = replace(
        settings.current(),
        websocket_url="wss://ws.example/api",
        sign_in_url="https://login.example/x",
    )
    use(used, monkeypatch)
    page = caller.call("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self' http://127.0.0.1 https://login.example wss://ws.example; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    named = re.findall(r'(?:href|src)="(web/[^"]+)"', page.text)
    assert len(named) >= 3
    for path in named:
        answer = caller.call("GET", f"/{path}")
        assert answer.status == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
    version = named[0].split("/")[1]
    for wrong in (f"/web/{version}/nothing.js", "/web/0/app.js", f"/web/{version}/index.html"):
        assert_problem(caller.call("GET", wrong), 404, "not-found")


def test_our_own_url_is_a_setting_or_api_gateways(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the Host header."""
    query = {"mac": "009033000001", "code": ""}
    code = caller.call("POST", "/me/codes", user="user1", body={"category": "Office"}).json["code"]
    headers = {"host": "evil.example"}
    script = caller.call("GET", "/init", query={**query, "code": code}, headers=headers).text
    assert "https%3A%2F%2Fdialtone.example%2Fapi%2Fdevices" in script
    use(replace(settings.current(), public_url="https://phones.example/x"), monkeypatch)
    code = caller.call("POST", "/me/codes", user="user1", body={"category": "Office"}).json["code"]
    script = caller.call("GET", "/init", query={**query, "code": code}, headers=headers).text
    assert "https%3A%2F%2Fphones.example%2Fx%2Fdevices" in script
    assert "evil" not in script


def test_settings_are_read_from_the_environment_and_nowhere_else() -> None:
    """Defaults where nothing is set; numbers must be numbers."""
    read = settings.read(
        {
            "CODES_TABLE": "c",
            "PUBLIC_URL": "https://d.example/api/",
            "GUESSES_BURST": "3",
            "GUESSES_INTERVAL_SECONDS": "1.5",
            "AUDIT_DAYS": "7",
            "EMIT_METRICS": "false",
        }
    )
    assert read.tables["codes"] == "c"
    assert read.tables["devices"] == "dialtone-devices"
    assert read.public_url == "https://d.example/api"
    guesses = read.limits[next(name for name in read.limits if name == "guesses")]
    assert (guesses.burst, guesses.interval_ms) == (3, 1500)
    assert (read.audit_days, read.emit_metrics) == (7, False)
    assert settings.read({}) == settings.Settings()
    with pytest.raises(ValueError, match="seven"):
        settings.read({"AUDIT_DAYS": "seven"})
    assert json.dumps(sorted(read.tables))


def test_the_gateway_has_settings_of_its_own() -> None:
    """Whose word counts is networks, and what is none ends the process at its start."""
    read = settings.read(
        {
            "GATEWAY_PORT": "8443",
            "GATEWAY_PROXIES": "10.0.1.0/24 2001:DB8::/64\t192.0.2.7",
            "GATEWAY_DRAIN_SECONDS": "90",
        }
    )
    assert (read.gateway_port, read.gateway_drain_seconds) == (8443, 90)
    assert read.gateway_proxies == ("10.0.1.0/24", "2001:db8::/64", "192.0.2.7/32")
    assert settings.read({"GATEWAY_PROXIES": " "}).gateway_proxies == ()
    for wrong in ("10.0.1.7/24", "balancer", "*"):
        with pytest.raises(ValueError, match=r"host bits|not appear"):
            settings.read({"GATEWAY_PROXIES": wrong})
