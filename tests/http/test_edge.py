"""Behind the edge: who calls is what it tells, and nobody comes past it."""

from dataclasses import replace
from hashlib import sha256

import pytest

from chalicelib import settings
from tests.conftest import use
from tests.http.service import Caller
from tests.http.test_problems import assert_problem

SECRET = "s" * 43
MAC = {"mac": "009033000001"}


@pytest.fixture
def behind_edge(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Put the service behind an edge."""
    hashes = (sha256(SECRET.encode()).hexdigest(),)
    use(replace(settings.current(), edge_hashes=hashes), monkeypatch)
    return caller


def told(address: str, scheme: str = "https") -> dict[str, str]:
    """Write what the edge adds to a request."""
    return {
        "X-Dialtone-Edge": SECRET,
        "CloudFront-Viewer-Address": f"{address}:46532",
        "CloudFront-Forwarded-Proto": scheme,
    }


def is_limited(caller: Caller, headers: dict[str, str]) -> bool:
    """Guess a code once; tell whether this source has nothing left."""
    query = {**MAC, "code": "000000000000"}
    return "too many" in caller.call("GET", "/init", query=query, headers=headers).text


def test_limits_count_who_calls_the_edge(behind_edge: Caller) -> None:
    """And not the edge, from which all requests come."""
    guesses = [is_limited(behind_edge, told("198.51.100.7")) for _ in range(11)]
    assert guesses == [False] * 10 + [True]
    assert not is_limited(behind_edge, told("198.51.100.8"))


def test_nobody_chooses_their_source(caller: Caller) -> None:
    """Without an edge, what a request says of its source counts nothing."""
    sources = [f"198.51.100.{number}" for number in range(11)]
    guesses = [is_limited(caller, told(source)) for source in sources]
    assert guesses == [False] * 10 + [True]


@pytest.mark.parametrize("shown", [{}, {"X-Dialtone-Edge": "guessed"}])
def test_nobody_comes_past_the_edge(behind_edge: Caller, shown: dict[str, str]) -> None:
    """Neither people nor phones, which keep what they have."""
    headers = {**told("198.51.100.7"), **shown}
    if not shown:
        del headers["X-Dialtone-Edge"]
    assert_problem(behind_edge.call("GET", "/health", headers=headers), 403, "not-allowed")
    me = behind_edge.call("GET", "/me", user="user1", headers=headers)
    assert_problem(me, 403, "not-allowed")
    answer = behind_edge.call("GET", "/init", query=MAC, headers=headers)
    assert (answer.status, answer.text) == (200, "# dialtone: not at this address\r\n")


def test_both_ways_can_be_open(behind_edge: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as phones have the old address; past the edge, their own address counts."""
    use(replace(settings.current(), is_edge_only=False), monkeypatch)
    assert behind_edge.call("GET", "/health").status == 200
    headers = {**told("198.51.100.7"), "X-Dialtone-Edge": "guessed"}
    guesses = [is_limited(behind_edge, headers) for _ in range(11)]
    assert guesses == [False] * 10 + [True]
    assert not is_limited(behind_edge, told("198.51.100.7"))


@pytest.mark.parametrize(("scheme", "is_moved"), [("http", True), ("https", False)])
def test_the_edge_tells_what_came_in_clear(
    behind_edge: Caller, scheme: str, is_moved: bool
) -> None:
    """A phone that asked over plain HTTP is moved to HTTPS before it is asked for a code."""
    headers = told("198.51.100.7", scheme)
    script = behind_edge.call("GET", "/init", query=MAC, headers=headers).text
    assert ("config add UP1 /url https%3A%2F%2Fdialtone.example%2Fapi%2Finit" in script) is is_moved


def test_an_edge_is_a_setting() -> None:
    """Of hashes; without one nothing is demanded."""
    read = settings.read({"EDGE_HASHES": "aa bb", "EDGE_ONLY": "false"})
    assert (read.edge_hashes, read.is_edge_only, read.demands_edge) == (("aa", "bb"), False, False)
    assert settings.read({"EDGE_HASHES": "aa"}).demands_edge
    assert not settings.read({}).demands_edge
