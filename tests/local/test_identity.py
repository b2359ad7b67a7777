"""The issuer of one machine: authorization code with PKCE, as any other issuer does it."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest

from local import demo
from local.identity import AUDIENCE, Issuer
from tests.conftest import NOW

URL = "http://127.0.0.1:8000/issuer"
PAGES = "http://127.0.0.1:8000/api/"
VERIFIER = "the verifier of a page " * 2
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())
ASKED = {
    "response_type": "code",
    "client_id": AUDIENCE,
    "redirect_uri": PAGES,
    "scope": "openid",
    "state": "s",
    "code_challenge": CHALLENGE.decode().rstrip("="),
    "code_challenge_method": "S256",
}


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(URL, demo.PEOPLE, PAGES)


def pick(issuer: Issuer, name: str, **asked: str) -> dict[str, str]:
    """Pick somebody on the issuer's page; tells what the pages get."""
    status, headers, _ = issuer.answer(
        "/authorize", urlencode({**ASKED, **asked, "as": name}), "", NOW
    )
    assert status == 302
    assert headers["Location"].startswith(PAGES)
    return dict(parse_qsl(urlsplit(headers["Location"]).query))


def exchange(issuer: Issuer, code: str, seconds: int = 0, /, **changed: str) -> tuple[int, Any]:
    """Give a code for tokens."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": PAGES,
        "client_id": AUDIENCE,
        "code_verifier": VERIFIER,
        **changed,
    }
    now = NOW + timedelta(seconds=seconds)
    status, _, body = issuer.answer("/token", "", urlencode(form), now)
    return status, json.loads(body)


def test_a_person_is_picked_and_signed_in(issuer: Issuer) -> None:
    """The page lists everybody; the token is the one that the service checks."""
    status, headers, page = issuer.answer("/authorize", urlencode(ASKED), "", NOW)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.count("<li>") == len(demo.PEOPLE) + 1
    told = pick(issuer, "user1", nonce="n")
    assert told["state"] == "s"
    status, tokens = exchange(issuer, told["code"])
    assert status == 200
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert (claims["sip"], claims["nonce"], claims["aud"]) == ("user1", "n", AUDIENCE)
    form = urlencode({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})
    status, _, body = issuer.answer("/token", "", form, NOW)
    assert (status, sorted(json.loads(body))) == (200, sorted(tokens))
    assert issuer.answer("/token", "", form, NOW)[0] == 400


@pytest.mark.parametrize(
    "changed",
    [
        {"code": "another"},
        {"code_verifier": "another"},
        {"client_id": "another"},
        {"redirect_uri": "http://evil.example/"},
        {"grant_type": "password"},
        {"grant_type": "refresh_token"},
    ],
)
def test_a_code_is_for_whoever_asked_for_it(issuer: Issuer, changed: dict[str, str]) -> None:
    code = pick(issuer, "user1")["code"]
    status, told = exchange(issuer, code, 0, **changed)
    assert (status, told) == (400, {"error": "invalid_grant"})


def test_a_code_counts_once_and_for_a_minute(issuer: Issuer) -> None:
    once, late = pick(issuer, "user1")["code"], pick(issuer, "user1")["code"]
    assert [exchange(issuer, once)[0] for _ in range(2)] == [200, 400]
    assert exchange(issuer, late, 60)[0] == 400


def test_who_is_nobody_is_refused(issuer: Issuer) -> None:
    assert pick(issuer, "") == {"state": "s", "error": "access_denied"}


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "code_challenge", "response_type"])
def test_nobody_is_sent_elsewhere(issuer: Issuer, name: str) -> None:
    """Nor without a challenge; the issuer says so by itself, and sends nobody anywhere."""
    asked = {**ASKED, name: ""}
    status, headers, _ = issuer.answer("/authorize", urlencode({**asked, "as": "user1"}), "", NOW)
    assert status == 400
    assert "Location" not in headers


def test_signing_out_leads_back(issuer: Issuer) -> None:
    status, headers, _ = issuer.answer("/end", "", "", NOW)
    assert (status, headers["Location"]) == (302, PAGES)
    assert issuer.answer("/nothing", "", "", NOW)[0] == 404
