"""The served system, over real HTTP: what `make run` starts."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import pytest
from websockets.exceptions import InvalidStatus

from local import demo
from local.app_client import AppClient
from tests.local.served import Served

FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"


@pytest.mark.engine
def test_a_phone_goes_from_its_box_to_a_dial_tone(served: Served) -> None:
    """The README's journey: a code, the simulated phone, and the phone is current."""
    token = served.token()
    code = served.code(token)
    command = [sys.executable, "-m", "local.phone", "--pause", "0"]
    arguments = [
        "--url",
        f"http://127.0.0.1:{served.port}/init",
        "--code",
        f"{code[:4]} {code[4:]}",
    ]
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, *arguments, "--mac", "00-90-33-12-34-56", "--source", "127.0.0.9"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "registered: yes, up to date" in done.stdout
    assert f"firmware   {demo.FIRMWARE_BUILD}, boot code {demo.BOOT_BUILD}" in done.stdout
    assert f"/poll {demo.POLL_MINUTES}" in done.stdout
    assert code not in done.stdout
    (phone,) = [phone for phone in served.phones(token) if phone["hw_id"] == "009033123456"]
    assert (phone["state"], phone["local_ip"]) == ("current", "127.0.0.9")


@pytest.mark.engine
def test_fifty_phones_from_fifty_sources_try_one_code(served: Served) -> None:
    """One wins, 49 get the identical refusal, the winner's repeat gets the winner's answer."""
    token = served.token("user2")
    code = served.code(token)

    def attempt(n: int) -> str:
        return served.redeem(code, f"0090330050{n:02x}", f"127.0.1.{n + 1}")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(attempt, range(50)))
    winners = [n for n, answer in enumerate(answers) if "device_token" in answer]
    assert len(winners) == 1
    refusals = {answer for n, answer in enumerate(answers) if n not in winners}
    assert len(refusals) == 1
    assert FORM in refusals.pop()
    assert attempt(winners[0]) == answers[winners[0]]
    assert [phone["hw_id"] for phone in served.phones(token)] == [f"0090330050{winners[0]:02x}"]


def test_parallel_requests_are_not_mixed_up(served: Served) -> None:
    """Each of 16 threads gets its own person's answer, every time."""
    people = [f"user{n}" for n in range(3, 19)]
    tokens = {person: served.token(person) for person in people}

    def ask(person: str) -> int:
        mixed = 0
        for _ in range(25):
            status, _, body = served.ask("GET", "/api/me", token=tokens[person])
            mixed += status != 200 or json.loads(body)["sip"] != person
        return mixed

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, people)) == 0


def test_the_front_has_its_doors_and_no_others(served: Served) -> None:
    """The pages, /init at the root, the issuer, the dev token; everything else is 404."""
    assert served.ask("GET", "/")[:2][0] == 307
    assert served.ask("GET", "/")[1]["location"] == "/api/"
    assert served.ask("GET", "/api/")[0] == 200
    assert FORM in served.ask("GET", "/init?mac=009033aaaaaa")[2]
    discovered = json.loads(served.ask("GET", "/issuer/.well-known/openid-configuration")[2])
    assert discovered["jwks_uri"].endswith("/issuer/keys")
    for method, path in (("GET", "/dev/token"), ("GET", "/nothing"), ("GET", "/api/nothing")):
        status, headers, body = served.ask(method, path)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(body)["status"] == 404
    odd: tuple[object, ...] = ({"user": "nobody"}, {"nobody": 1}, [], "x")
    for body_sent in odd:
        assert served.ask("POST", "/dev/token", body=body_sent)[0] == 400
    status, headers, _ = served.ask("OPTIONS", "/api/me/codes")
    assert status == 200
    assert "Authorization" in headers["access-control-allow-headers"]
    assert served.ask("PATCH", "/api/me")[0] == 405


def test_websockets_open_on_the_same_port_and_are_reached_there(served: Served) -> None:
    """AppWebsocket's two doors, the management API beside them, and no other door."""
    for path in ("/ws", f"/{demo.DOMAIN}/devices"):
        with AppClient.connect(f"ws://127.0.0.1:{served.port}{path}"):
            pass
    with pytest.raises(InvalidStatus):
        AppClient.connect(f"ws://127.0.0.1:{served.port}/{demo.DOMAIN}/nothing")
    status, headers, _ = served.ask("POST", "/@connections/nobody", body="x")
    assert (status, headers["x-amzn-errortype"]) == (410, "GoneException")


def test_the_pages_are_at_one_address(served: Served) -> None:
    """Whoever comes to localhost is sent to where the issuer knows them."""
    for path in ("/", "/api", "/api/"):
        with closing(HTTPConnection("127.0.0.1", served.port, timeout=30)) as connection:
            connection.request("GET", path, headers={"Host": f"localhost:{served.port}"})
            answer = connection.getresponse()
            assert answer.status == 307
            assert answer.headers["Location"] == f"http://127.0.0.1:{served.port}/api/"
    assert served.ask("GET", "/api/")[0] == 200
