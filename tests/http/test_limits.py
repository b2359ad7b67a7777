"""Every limit that refuses is counted: once, and under its own name."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from chalicelib import observability, settings
from chalicelib.core.rate_limits import Limit, LimitName
from tests import world
from tests.conftest import use
from tests.http.service import Caller
from tests.http.test_installations import ELSEWHERE
from tests.http.test_installations import make as make_installation
from tests.http.test_phones import IDENTIFY, MAC
from tests.http.test_profile import issue
from tests.wires import Wires

LOGINS = (LimitName.LOGINS, LimitName.DOMAIN_LOGINS, LimitName.MESSAGES)
Attempt = Callable[[], object]


def guesses(caller: Caller) -> Attempt:
    """Type a wrong code."""
    return lambda: caller.call("GET", "/init", query={**MAC, "code": "000000000000"})


def issues(caller: Caller) -> Attempt:
    """Ask for a code of one's own."""
    return lambda: caller.call("POST", "/me/codes", user="user1", body={"category": "Office"})


def sightings(caller: Caller) -> Attempt:
    """Invent phones."""
    phones = count(10)
    return lambda: caller.call("GET", "/init", query={"mac": f"00-90-33-00-00-{next(phones):02}"})


def tokens(caller: Caller) -> Attempt:
    """Guess a domain's security token, another one each time."""
    claim = {**IDENTIFY, "domain": world.DOMAIN, "category": "Office"}
    tried = count()
    return lambda: caller.call(
        "POST", "/devices/register", body={**claim, "token": f"wrong token {next(tried)}"}
    )


def foreign_codes(caller: Caller) -> Attempt:
    """Ask for codes as a foreign installation."""
    key = make_installation(caller)["key"]
    return lambda: caller.call("POST", "/provisioning/codes", token=key, body=ELSEWHERE)


def pbx_requests(caller: Caller) -> Attempt:
    """Set a PBX."""
    wanted = {"address": "wss://127.0.0.1:9", "app_object": "a", "password": "p"}
    path = f"/domains/{world.DOMAIN}/pbx"
    return lambda: caller.call("PUT", path, user="admin", body=wanted)


OVER_HTTP: dict[LimitName, Callable[[Caller], Attempt]] = {
    LimitName.GUESSES: guesses,
    LimitName.ISSUES: issues,
    LimitName.SIGHTINGS: sightings,
    LimitName.TOKENS: tokens,
    LimitName.FOREIGN_CODES: foreign_codes,
    LimitName.PBX_REQUESTS: pbx_requests,
}


def over_websockets(wires: Wires, name: LimitName) -> Attempt:
    """Log in with a wrong password, from elsewhere each time or not; or send too much."""
    places = count(10)
    if name is LimitName.MESSAGES:
        wire = wires.connect()
        return lambda: wire.send(json.dumps({"mt": "AppChallenge"}))

    def attempt() -> object:
        source = world.HOME if name is LimitName.LOGINS else f"192.0.2.{next(places)}"
        return wires.connect(source).log_in(world.DOMAIN, "the wrong password")

    return attempt


def narrow(name: LimitName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a limit allow one attempt, and metrics be written."""
    known = settings.current()
    limits = {**known.limits, name: Limit(name, burst=1, interval_ms=3_600_000)}
    use(replace(known, limits=limits, emit_metrics=True), monkeypatch)
    observability.forget()


def counted(written: str) -> list[str]:
    """Find which limits were counted."""
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in written.splitlines() if '"LimitReached"' in line
    ]
    assert all(line["LimitReached"] == [1.0] for line in lines)
    return [line["limit"] for line in lines]


def test_every_limit_that_refuses_is_tried_here() -> None:
    """All but the one that only says how often the same attempt counts."""
    assert {*OVER_HTTP, *LOGINS, LimitName.SAME_TOKEN} == set(LimitName)


@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_limit_that_refuses_over_http_is_counted_once(
    name: LimitName,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One attempt is allowed and not counted, and each of two others once."""
    narrow(name, monkeypatch)
    attempt = OVER_HTTP[name](caller)
    for known in ([], [name], [name]):
        capsys.readouterr()
        attempt()
        assert counted(capsys.readouterr().out) == known


@pytest.mark.parametrize("name", LOGINS)
def test_a_limit_that_refuses_over_a_websocket_is_counted_once(
    name: LimitName,
    wires: Wires,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However it is refused: by an answer, or by closing the connection."""
    world.seed()
    narrow(name, monkeypatch)
    attempt = over_websockets(wires, name)
    for known in ([], [name], [name]):
        capsys.readouterr()
        attempt()
        assert counted(capsys.readouterr().out) == known


def test_a_guest_who_uses_a_source_up_stops_no_registered_phone(caller: Caller) -> None:
    """It gets its jobs by its token; a code typed meanwhile is kept, and good from elsewhere."""
    code, other = (issue(caller, user)["code"] for user in ("user1", "user2"))
    script = caller.call("GET", "/devices/update", query={**MAC, "code": code}).text
    token = script.split("device_token%3D")[1].split()[0]
    attempt = guesses(caller)
    for _ in range(12):
        attempt()
    poll = caller.call("GET", "/devices/update", query={**MAC, "device_token": token}).text
    assert "mod cmd UP1 check ser" in poll
    new = {"mac": "00-90-33-00-00-99", "code": other}
    waits = caller.call("GET", "/devices/update", query=new).text
    assert waits.startswith("# ")
    assert "vars" not in waits
    assert (
        "device_token"
        in caller.call("GET", "/devices/update", query=new, source="198.51.100.9").text
    )
