import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.error import URLError

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from chalicelib import identity, settings
from chalicelib.core.errors import NotAllowedError, NotSignedInError, StoreUnavailableError
from local.identity import AUDIENCE, Issuer
from tests.conftest import use
from tests.http.service import ISSUER_URL, Caller, new_issuer

pytestmark = pytest.mark.usefixtures("caller")


def now() -> datetime:
    """Tell the time, as the issuer does."""
    return datetime.now(UTC)


def part(value: dict[str, Any]) -> str:
    """Write a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unknown_token(key_id: str) -> str:
    """Write a token of a key that nobody has."""
    return jwt.encode({}, "x" * 32, algorithm="HS256", headers={"kid": key_id})


def test_a_good_token_is_a_person(caller: Caller) -> None:
    """With roles as a list or as words."""
    token = caller.issuer.token("admin", now())
    person = identity.check(token, now())
    assert person.roles == {"users-admin", "devices-admin"}
    words = caller.issuer.token("admin", now(), roles="users-admin platform-admin")
    assert identity.check(words, now()).roles == {"users-admin", "platform-admin"}


def test_a_token_of_cognito_is_a_person(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attributes and groups, as the template names them; without a group, without a role."""
    template = json.loads((Path(__file__).parents[2] / "infra" / "resources.json").read_text())
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    claims = {
        name.lower(): variables[name]["Fn::If"][1]
        for name in ("SIP_CLAIM", "DOMAIN_CLAIM", "ROLES_CLAIM")
    }
    use(replace(settings.current(), **claims), monkeypatch)
    told = {
        "token_use": "id",
        "cognito:username": "0b1c2d3e-0000-4000-8000-000000000000",
        "custom:sip": "anna",
        "custom:domain": "example.com",
        "sip": "somebody",
        "domain": "else.example",
        "roles": ["platform-admin"],
    }
    person = identity.check(caller.issuer.token("user1", now(), **told), now())
    assert (person.sip, person.domain, person.roles) == ("anna", "example.com", frozenset())
    grouped = {**told, "cognito:groups": ["users-admin", "devices-admin"]}
    person = identity.check(caller.issuer.token("user1", now(), **grouped), now())
    assert person.roles == {"users-admin", "devices-admin"}
    access = caller.issuer.token("user1", now(), **{**grouped, "token_use": "access"})
    with pytest.raises(NotSignedInError):
        identity.check(access, now())


def test_a_token_tells_when_it_ends(caller: Caller) -> None:
    """Whoever keeps a connection open must know; also if it ends after all calendars."""
    soon = int(now().timestamp()) + 60
    until = identity.check(caller.issuer.token("user1", now(), exp=soon), now()).signed_in_until
    assert until == datetime.fromtimestamp(soon, UTC)
    late = identity.check(caller.issuer.token("user1", now(), exp=10**18), now()).signed_in_until
    assert late == datetime(9999, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": None},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"sub": None},
        {"token_use": "access"},
        {"typ": "Bearer"},
        {"aud": [AUDIENCE, "another"], "azp": "another"},
    ],
    ids=str,
)
def test_a_token_that_does_not_hold_is_refused(caller: Caller, claims: dict[str, Any]) -> None:
    """Another audience or issuer, other times, an access token: 401, and never why."""
    answer = caller.call("GET", "/me", token=caller.issuer.token("user1", now(), **claims))
    assert answer.status == 401
    assert answer.body == caller.call("GET", "/me", token="nonsense").body


def test_the_servers_clock_alone_counts(caller: Caller) -> None:
    """To the second of its end, with some patience for an issuer whose clock is ahead."""
    made = now().replace(microsecond=0)
    token = caller.issuer.token("user1", made)
    assert identity.check(token, made + timedelta(seconds=3599)).sip == "user1"
    with pytest.raises(NotSignedInError):
        identity.check(token, made + timedelta(seconds=3600))
    assert identity.check(token, made - timedelta(seconds=60)).sip == "user1"
    with pytest.raises(NotSignedInError):
        identity.check(token, made - timedelta(seconds=61))


def test_forged_tokens_are_refused(caller: Caller) -> None:
    """`alg: none`, another key under a known name, an unknown key, a header that says otherwise."""
    good = caller.issuer.token("user1", now())
    header, claims, signature = good.split(".")
    stranger = new_issuer().token("user1", now())
    unknown = jwt.encode(
        jwt.decode(good, options={"verify_signature": False}),
        ec.generate_private_key(ec.SECP256R1()),
        algorithm="ES256",
        headers={"kid": "unknown"},
    )
    access = jwt.encode(
        jwt.decode(good, options={"verify_signature": False}),
        caller.issuer._key,  # noqa: SLF001 - the real key, the wrong kind
        algorithm="ES256",
        headers={"kid": "local", "typ": "at+jwt"},
    )
    for forged in (
        f"{part({'alg': 'none'})}.{claims}.",
        f"{part({'alg': 'none', 'kid': 'local'})}.{claims}.",
        f"{part({'alg': 'HS256', 'kid': 'local'})}.{claims}.{signature}",
        f"{header}.{part({'sub': 'admin'})}.{signature}",
        stranger,
        unknown,
        access,
        good + "x" * 9000,
    ):
        with pytest.raises(NotSignedInError):
            identity.check(forged, now())


def test_a_token_that_names_no_user_is_refused(caller: Caller) -> None:
    """Known, but nobody's: 403. A name that could be another key is none."""
    for claims in ({"sip": None}, {"domain": None}, {"sip": "a#b"}, {"domain": ""}):
        with pytest.raises(NotAllowedError):
            identity.check(caller.issuer.token("user1", now(), **claims), now())


def with_nulls(issuer: Issuer, **claims: Any) -> str:  # noqa: ANN401 - any JSON
    """Sign a token that says null where the issuer's own would lack a claim."""
    told = jwt.decode(issuer.token("admin", now()), options={"verify_signature": False})
    key = issuer._key  # noqa: SLF001 - the real key
    return jwt.encode({**told, **claims}, key, algorithm="ES256", headers={"kid": "local"})


def test_a_claim_that_is_null_is_absent(caller: Caller) -> None:
    """No role, and the sip for a name."""
    person = identity.check(with_nulls(caller.issuer, roles=None, name=None), now())
    assert (person.name, person.roles) == ("admin", frozenset())


@pytest.mark.parametrize(
    "claims",
    [
        {"roles": 1},
        {"roles": True},
        {"roles": {"users-admin": False}},
        {"roles": ["users-admin", None]},
        {"roles": [["users-admin"]]},
        {"name": 1},
        {"name": ["Anna"]},
    ],
    ids=str,
)
def test_a_malformed_name_or_role_is_refused(caller: Caller, claims: dict[str, Any]) -> None:
    """403, as without a sip."""
    answer = caller.call("GET", "/me", token=caller.issuer.token("user1", now(), **claims))
    assert answer.status == 403
    assert answer.body == caller.call("GET", "/me", token=caller.sign_in("user1", sip=1)).body


def test_no_issuer_means_nobody(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment without an issuer lets nobody in."""
    token = caller.issuer.token("user1", now())
    monkeypatch.setattr(settings, "current", settings.Settings)
    with pytest.raises(NotSignedInError):
        identity.check(token, now())


def test_keys_are_kept_and_fetched_again_for_a_new_one(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once an hour, and for an unknown key at most every half minute."""
    fetched: list[str] = []
    issuer = caller.issuer

    def get(url: str) -> dict[str, Any]:
        fetched.append(url)
        return issuer.documents()[url.removeprefix(ISSUER_URL)]

    monkeypatch.setattr(identity, "_get_json", get)
    identity.forget()
    start = now()
    token = issuer.token("user1", start)
    for _ in range(5):
        identity.check(token, start)
    assert len(fetched) == 2
    for seconds in (1, 29, 30, 31):
        with pytest.raises(NotSignedInError):
            identity.check(unknown_token("new"), start + timedelta(seconds=seconds))
    assert len(fetched) == 4


@pytest.mark.parametrize(
    "error",
    [URLError("down"), TimeoutError(), RemoteDisconnected("gone"), IncompleteRead(b""), OSError()],
    ids=repr,
)
def test_an_issuer_that_does_not_answer_is_not_the_callers_fault(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """503, and not 401, however it fails."""
    token = caller.issuer.token("user1", now())
    identity.forget()

    def down(_: str) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(identity, "_get_json", down)
    with pytest.raises(StoreUnavailableError):
        identity.check(token, now())
    assert caller.call("GET", "/me", token=token).status == 503


@pytest.mark.parametrize("document", ["null", "[1]", "5", "{", '{"keys": null}', '{"keys": [1]}'])
def test_an_issuer_that_talks_nonsense_is_not_the_callers_fault(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    """Neither in the document that names its keys nor in that of the keys."""
    token = caller.issuer.token("user1", now())
    configuration = {"jwks_uri": f"{ISSUER_URL}/keys"}
    for documents in ([document], [json.dumps(configuration), document]):
        identity.forget()
        told = iter(documents)
        # as the real one does
        monkeypatch.setattr(
            identity, "_get_json", lambda _, told=told: dict(json.loads(next(told)))
        )
        with pytest.raises(StoreUnavailableError):
            identity.check(token, now())


def test_an_issuer_that_is_away_is_not_asked_for_each_token(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keys tokens name; without any key it is asked again when callers are told to."""
    asked: list[str] = []
    back, start = identity._get_json, now()  # noqa: SLF001 - what the issuer answers

    def down(url: str) -> dict[str, Any]:
        asked.append(url)
        raise URLError("down")

    monkeypatch.setattr(identity, "_get_json", down)
    identity.forget()
    for number in range(20):
        with pytest.raises(StoreUnavailableError) as away:
            identity.check(unknown_token(f"junk {number}"), start)
    assert len(asked) == 1
    monkeypatch.setattr(identity, "_get_json", back)
    later = start + timedelta(seconds=away.value.retry_after_seconds)
    assert identity.check(caller.issuer.token("user1", start), later).sip == "user1"


def test_known_keys_count_while_the_issuer_is_away(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than an hour; it is asked twice a minute, and who has a new key must wait."""
    asked: list[str] = []
    start = now()
    identity.check(caller.issuer.token("user1", start), start)

    def down(url: str) -> dict[str, Any]:
        asked.append(url)
        raise URLError("down")

    monkeypatch.setattr(identity, "_get_json", down)
    for seconds in (3599, 3600, 3601, 3629, 3630, 9999):
        at = start + timedelta(seconds=seconds)
        assert identity.check(caller.issuer.token("user1", at), at).sip == "user1"
        if asked:
            with pytest.raises(StoreUnavailableError):
                identity.check(unknown_token("new"), at)
    assert len(asked) == 3
