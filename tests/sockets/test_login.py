import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

import app
from chalicelib import sending
from chalicelib.core.errors import NotDeliveredError
from chalicelib.sockets import push
from chalicelib.storage import connections
from local.demo import DOMAIN, INSTANCE_DOMAIN
from local.identity import Issuer
from tests.conftest import NOW
from tests.http.service import new_issuer
from tests.sockets.conftest import Clock
from tests.wires import Wire, Wires, event

pytestmark = pytest.mark.usefixtures("defects")


def is_forgotten(wire: Wire) -> bool:
    """Tell whether nothing is kept of a connection."""
    return connections.find(wire.connection_id) is None


def test_a_build_needs_no_other_url(service: Wires) -> None:
    """The answer has no url, which leaves a client where it is."""
    asked = {"url": "https://x.example/devices/0123abc/page.htm"}
    assert service.connect().ask("CheckBuild", **asked) == {"mt": "CheckBuildResult"}


def test_a_challenge_is_short_printable_and_new(service: Wires) -> None:
    """At most 16 characters, each of one printable byte."""
    wire = service.connect()
    drawn = {wire.ask("AppChallenge")["challenge"] for _ in range(20)}
    assert len(drawn) == 20
    for challenge in drawn:
        assert 0 < len(challenge) <= 16
        assert challenge.isascii()
        assert challenge.isprintable()


@pytest.mark.parametrize(
    "info",
    [
        None,
        "{}",
        "{ }",
        '{"cn":"Jürgen Öß"}',
        '{"cn":"J\\u00fcrgen"}',
        '{ "b" : 1 ,\t"a":[ 1.0e3, 1E+3, -0, 0.10, 1e400 ] }',
        '{"appurl":"https:\\/\\/x.example\\/a","u":"https://x.example/a"}',
        '{"info":{"info":"}"},"q":"\\"info\\":{"}',
        '{"a":1,"a":2,"":""}',
        '{"n":12345678901234567890123,"t":true,"z":null}',
    ],
)
def test_a_login_is_proven_with_info_as_it_was_sent(service: Wires, info: str | None) -> None:
    """Without info, and with it in any spelling: nothing is written anew before it is hashed."""
    wire = service.connect()
    answer = wire.log_in(DOMAIN, "dialtone", info, app="innovaphone-users")
    assert answer == {
        "mt": "AppLoginResult",
        "ok": True,
        "app": "innovaphone-users",
        "domain": INSTANCE_DOMAIN,
    }
    assert wire.is_open
    assert wire.ask("GetLoginInfo")["admin"] is False


def test_no_domain_means_the_instances_own(service: Wires) -> None:
    """It administers all domains."""
    wire = service.connect()
    assert wire.log_in("", "platform")["ok"] is True
    assert wire.ask("GetLoginInfo")["admin"] is True


@pytest.mark.parametrize(
    ("domain", "password"),
    [
        (DOMAIN, "wrong"),
        (DOMAIN, ""),
        (DOMAIN, "platform"),
        (INSTANCE_DOMAIN, "dialtone"),
        ("", "dialtone"),
        ("nowhere.example", "dialtone"),
        ("nowhere.example", "-"),
        ("other.example", "-"),
        ("other.example", ""),
    ],
)
def test_a_wrong_login_is_told_and_closed(service: Wires, domain: str, password: str) -> None:
    """Without ok, and alike whatever is wrong: no domain, no password, another one's."""
    wire = service.connect()
    answer = wire.log_in(domain, password, "{}")
    assert answer == {"mt": "AppLoginResult", "error": "not allowed"}
    assert not wire.is_open
    assert is_forgotten(wire)


def test_a_login_without_a_challenge_is_refused(service: Wires) -> None:
    """Even if its digest is computed with none."""
    wire = service.connect()
    answer = wire.ask("AppLogin", app="users", domain=DOMAIN, digest="0" * 64, src="1")
    assert answer == {"mt": "AppLoginResult", "src": "1", "error": "not allowed"}
    assert not wire.is_open


def caught(wire: Wire) -> str:
    """Log in; returns the message that did it."""
    sent: list[str] = []
    real = wire.send

    def send(text: str) -> list[dict[str, Any]]:
        sent.append(text)
        return real(text)

    wire.send = send  # type: ignore[method-assign]
    assert wire.log_in(DOMAIN, "dialtone")["ok"] is True
    wire.send = real  # type: ignore[method-assign]
    return sent[-1]


def test_a_login_cannot_be_used_again(service: Wires) -> None:
    """Neither over its own connection nor over another, with a challenge of its own or without."""
    wire = service.connect()
    login = caught(wire)
    assert wire.send(login) == [{"mt": "AppLoginResult", "error": "not allowed"}]
    assert not wire.is_open
    for challenged in (False, True):
        other = service.connect()
        if challenged:
            other.ask("AppChallenge")
        assert other.send(login) == [{"mt": "AppLoginResult", "error": "not allowed"}]
        assert not other.is_open


def test_there_is_no_challenge_after_a_login(service: Wires) -> None:
    """Who has logged in stays who they are, and stays."""
    wire = service.instance()
    assert wire.ask("AppChallenge") == {"mt": "AppChallengeResult", "error": "not allowed"}
    assert wire.is_open
    assert "key" in wire.ask("GetLoginInfo")


def test_only_the_last_challenge_counts(service: Wires) -> None:
    """The one before is void."""
    wire = service.connect()
    wire.ask("AppChallenge")
    assert wire.log_in(DOMAIN, "dialtone")["ok"] is True


def test_wrong_logins_are_limited_and_right_ones_are_not(service: Wires) -> None:
    """Per source: others still come in, and whoever is right pays nothing."""
    for _ in range(12):
        service.instance().disconnect()
    for _ in range(10):
        assert service.connect().log_in(DOMAIN, "wrong")["error"] == "not allowed"
    wire = service.connect()
    answer = wire.log_in(DOMAIN, "dialtone")
    assert answer["error"].startswith("too many, again in ")
    assert answer["retryAfter"] > 0
    assert "ok" not in answer
    assert service.connect("198.51.100.9").log_in(DOMAIN, "dialtone")["ok"] is True


def test_a_pbx_finds_the_service(service: Wires) -> None:
    """PbxInfo is taken, and AppInfo publishes it under the vendor's name."""
    wire = service.instance()
    info = {"domain": DOMAIN, "pbx": "pbx", "pbxDns": "pbx.example.com", "apis": ["Services"]}
    assert wire.ask("PbxInfo", **info) == {"mt": "PbxInfoResult"}
    assert wire.ask("AppInfo", app="devices", src="1") == {
        "mt": "AppInfoResult",
        "src": "1",
        "app": "devices",
        "info": {},
        "serviceInfo": {"apis": {"com.innovaphone.devices": {}}},
    }


def test_keep_alive_is_answered_before_and_after_a_login(service: Wires) -> None:
    """Clients wait for any message."""
    wire = service.connect()
    assert wire.ask("KeepAlive") == {"mt": "KeepAliveResult"}
    wire.log_in(DOMAIN, "dialtone")
    assert wire.ask("KeepAlive") == {"mt": "KeepAliveResult"}


def test_a_person_signs_in_with_an_id_token(service: Wires, issuer: Issuer) -> None:
    """Told until when; a second time is refused and closed."""
    wire = service.connect()
    answer = wire.ask("UserLogin", token=issuer.token("user1", NOW), src="1")
    assert answer == {
        "mt": "UserLoginResult",
        "src": "1",
        "ok": True,
        "sip": "user1",
        "domain": DOMAIN,
        "until": "2036-11-24T13:00:00Z",
    }
    assert wire.ask("UserLogin", token=issuer.token("user2", NOW))["error"] == "not allowed"
    assert not wire.is_open


def wrong_tokens(issuer: Issuer) -> Iterable[str]:
    """Make tokens that do not hold."""
    yield issuer.token("user1", NOW - timedelta(hours=2))
    yield issuer.token("user1", NOW + timedelta(minutes=5))
    yield issuer.token("user1", NOW, aud="another")
    yield issuer.token("user1", NOW, iss="https://evil.example")
    yield issuer.token("user1", NOW, sip=None)
    yield issuer.token("user1", NOW, domain="a#b")
    yield new_issuer().token("user1", NOW)
    yield issuer.token("user1", NOW)[:-4]
    yield "x"


def test_a_token_that_does_not_hold_is_told_and_closed(service: Wires, issuer: Issuer) -> None:
    """Expired, of the future, for others, foreign, naming nobody."""
    for token in wrong_tokens(issuer):
        wire = service.connect()
        answer = wire.ask("UserLogin", token=token)
        assert answer == {"mt": "UserLoginResult", "error": "not allowed"}
        assert not wire.is_open
        assert is_forgotten(wire)


def test_a_connection_ends_with_its_token(service: Wires, issuer: Issuer, clock: Clock) -> None:
    """By the schedule, or by its next message, which is not answered."""
    reminded, speaking = service.connect(), service.connect()
    for wire in (reminded, speaking):
        wire.ask("UserLogin", token=issuer.token("user1", NOW))
    clock.advance(3_599)
    assert speaking.ask("KeepAlive") == {"mt": "KeepAliveResult"}
    push.remind()
    assert reminded.is_open
    clock.advance(1)
    assert speaking.send('{"mt":"KeepAlive"}') == []
    assert not speaking.is_open
    push.remind()
    assert not reminded.is_open
    assert is_forgotten(reminded)
    assert is_forgotten(speaking)


def test_who_does_not_log_in_within_a_minute_is_closed(service: Wires, clock: Clock) -> None:
    """By the schedule, or by its next message, which is not answered; who has logged in stays."""
    idle, asking, instance = service.connect(), service.connect(), service.instance()
    clock.advance(59)
    push.remind()
    assert idle.is_open
    assert "challenge" in asking.ask("AppChallenge")
    clock.advance(1)
    assert asking.send(json.dumps({"mt": "AppChallenge"})) == []
    push.remind()
    assert [idle.is_open, asking.is_open, instance.is_open] == [False, False, True]
    assert is_forgotten(idle)
    clock.advance(3_600)
    push.remind()
    assert instance.ask("KeepAlive") == {"mt": "KeepAliveResult"}


def test_whoever_is_not_known_is_closed(service: Wires) -> None:
    """A message over a connection that was forgotten has no answer."""
    wire = service.connect()
    app.websocket_disconnect(event(wire.connection_id, "DISCONNECT"), None)
    assert wire.send('{"mt":"KeepAlive"}') == []
    assert not wire.is_open


def unavailable(*_: object) -> None:
    """Do nothing, as a table or an API in trouble."""
    raise NotDeliveredError("ThrottlingException")


def test_a_connection_that_cannot_be_closed_is_tried_again(
    service: Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next minute has it; others are closed now."""
    stuck, idle = service.connect(), service.connect()
    clock.advance(60)
    real = sending.close
    with monkeypatch.context() as patch:
        patch.setattr(
            sending,
            "close",
            lambda name: unavailable() if name == stuck.connection_id else real(name),
        )
        push.remind()
    assert [stuck.is_open, idle.is_open] == [True, False]
    assert not is_forgotten(stuck)
    push.remind()
    assert not stuck.is_open
    assert is_forgotten(stuck)


def test_a_connection_that_cannot_be_forgotten_is_closed(
    service: Wires, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the schedule as after a wrong login, and forgotten a minute later."""
    idle, wrong = service.connect(), service.connect()
    with monkeypatch.context() as patch:
        patch.setattr(connections, "close", unavailable)
        answer = wrong.log_in(DOMAIN, "wrong")
        clock.advance(60)
        push.remind()
    assert answer == {"mt": "AppLoginResult", "error": "not allowed"}
    assert [idle.is_open, wrong.is_open] == [False, False]
    assert not is_forgotten(idle)
    push.remind()
    assert is_forgotten(idle)
    assert is_forgotten(wrong)
