"""A network of its own: what `make serve` starts, with every way out of this machine cut."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from chalicelib import settings
from local.identity import AUDIENCE, DemoPerson, Issuer
from local.phone import fetch_from, run_phone
from local.update_client import UpdateClient
from tests.conftest import use
from tests.local.cut_off import MARKER, way_out

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROOT = Path(__file__).parent.parent.parent
DOMAIN = "island.example"
ANNA = DemoPerson("anna", "Anna", DOMAIN, ("devices-admin", "platform-admin"))
FORM = "vars create UPDATE/PROVISIONING-CODE h prompt"
HOST = "127.0.0.2"
"""An address of this machine that is nobody's default."""
_PATIENCE_SECONDS = 60


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


@contextmanager
def issuer_on_loopback() -> Iterator[Issuer]:
    """Publish the documents of an OpenID Connect issuer."""

    class Documents(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            published = issuer.documents().get(self.path)
            self.send_response(404 if published is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(published).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Documents) as server:
        issuer = Issuer(f"http://127.0.0.1:{server.server_port}", (ANNA,))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()


def command(module: str) -> list[str]:
    """Say how a module is started with every way out cut."""
    return [sys.executable, "-m", "tests.local.cut_off", module]


def environment_of(settings_given: Mapping[str, str]) -> dict[str, str]:
    """Make the environment of a server: ours without anything that is the service's."""
    own = {"HOST", "PORT", "PUBLIC_URL", "KEYS_FILE", "ISSUER", "AUDIENCE", "DYNAMODB_ENDPOINT"}
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, **settings_given}


@dataclass
class Island:
    """A network of its own: engine, issuer, tables and keys, and a server that comes and goes."""

    environment: dict[str, str]
    issuer: Issuer
    output: str = ""

    @property
    def url(self) -> str:
        """Tell where its server is, by address."""
        return f"http://{HOST}:{self.environment['PORT']}"

    @contextmanager
    def served(self, **changed: str) -> Iterator[None]:
        """Run the server until the end of the block; what it printed is kept."""
        process = subprocess.Popen(  # noqa: S603 - our own command
            command("local.serve"),
            cwd=ROOT,
            env={**self.environment, **changed},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        too_long = threading.Timer(_PATIENCE_SECONDS, process.kill)
        too_long.start()
        try:
            for line in process.stdout:
                self.output += line
                if line.startswith("Ctrl+C ends it"):
                    break
            else:
                pytest.fail(self.output)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            self.output += process.communicate()[0]
            too_long.cancel()
        assert process.returncode == 0, self.output
        assert "Traceback" not in self.output

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Make one request, as Anna."""
        token = self.issuer.token("anna", datetime.now(UTC))
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=_PATIENCE_SECONDS)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, json.loads(text) if is_json else text
        finally:
            connection.close()


@pytest.fixture
def island(
    engine: str, client: "DynamoDBClient", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Island]:
    """Make a network of its own; the server makes its tables, and they go with the test."""
    names = {concept: f"island-{uuid.uuid4().hex}-{concept}" for concept in settings.TABLES}
    keys = tmp_path / "kept" / "keys.json"
    used = replace(settings.Settings(), tables=names, dynamodb_endpoint=engine)
    use(replace(used, keys_file=str(keys), emit_metrics=False), monkeypatch)
    with issuer_on_loopback() as issuer:
        given = {
            "HOST": HOST,
            "PORT": str(free_port()),
            "DYNAMODB_ENDPOINT": engine,
            "ISSUER": issuer.url,
            "AUDIENCE": AUDIENCE,
            "KEYS_FILE": str(keys),
            **{f"{concept.upper()}_TABLE": name for concept, name in names.items()},
        }
        yield Island(environment_of(given), issuer)
    for name in names.values():
        client.delete_table(TableName=name)


def make_domain(island: Island) -> str:
    """Make Anna's domain with a category, a job and a token, as an operator; tells its line."""
    made = [
        island.ask("POST", "/api/domains", {"domain": DOMAIN, "phone_apps": ["phone"]}),
        island.ask(
            "PUT",
            f"/api/domains/{DOMAIN}/categories/Office",
            {"provisioning": True, "device_types": ["PHONE"]},
        ),
        island.ask(
            "POST",
            f"/api/domains/{DOMAIN}/jobs/config",
            {"category": "*", "type": "ntp", "parameters": {"server": "10.0.0.1"}},
        ),
        island.ask("PUT", f"/api/domains/{DOMAIN}/token", {"category": "Office"}),
    ]
    assert [status for status, _ in made] == [201, 200, 201, 200]
    return str(made[-1][1]["update_client_line"])


@pytest.mark.engine
def test_a_phone_gets_its_dial_tone_and_a_restart_forgets_nothing(island: Island) -> None:
    """By code and by token; after a restart tokens count, and the list of devices is the same."""
    phone = UpdateClient("00-90-33-15-1a-4d", "IP232", "127.0.0.1", f"{island.url}/init")
    fetch = fetch_from(None)
    with island.served():
        line = make_domain(island)
        assert not run_phone(phone, fetch, None).is_registered
        assert phone.shows_code_form
        status, issued = island.ask("POST", "/api/me/codes", {"category": "Office"})
        assert status == 201
        outcome = run_phone(phone, fetch, issued["code"])
        assert outcome.verdict == "registered: yes, up to date"
        assert phone.active_url.startswith(f"{island.url}/api/devices/update?")
        assert "/no-dhcp" in phone.active["UP1"]
        before = island.ask("GET", "/api/me/phones")
        other = UpdateClient("00-90-33-15-1a-4e", "IP232", "127.0.0.1", f"{island.url}/init")
        other.execute(f"{line}\nconfig write\nconfig activate", 12)
        assert run_phone(other, fetch, None).verdict == "registered: yes, up to date"
        assert other.active["NTP0"] == phone.active["NTP0"] == {"/addr": "10.0.0.1"}
    with island.served():
        again = run_phone(phone, fetch, None)
        assert again.verdict == "registered: yes, up to date"
        assert again.polls == 1
        assert run_phone(other, fetch, None).polls == 1
        status, listed = island.ask("GET", f"/api/domains/{DOMAIN}/devices?state=current")
        assert (status, len(listed["items"])) == (200, 2)
        third = UpdateClient("00-90-33-15-1a-4f", "IP232", "127.0.0.1", f"{island.url}/init")
        third.execute(f"{line}\nconfig activate", 12)
        assert run_phone(third, fetch, None).is_registered
        status, listed = island.ask("GET", "/api/me/phones")
        assert (status, [item["hw_id"] for item in listed["items"]]) == (200, ["009033151a4d"])
        assert listed["items"][0]["state"] == before[1]["items"][0]["state"] == "current"
    assert MARKER not in island.output
    assert f"phones ask     {island.url}/api/init" in island.output
    assert f"POST {island.url}/api/domains" in island.output


@pytest.mark.engine
def test_plain_http_by_address_stays_plain(island: Island) -> None:
    """The form comes without a move to https, at the root and below /api, and no door is open."""
    with island.served():
        for path in ("/init", "/api/init"):
            status, script = island.ask("GET", f"{path}?mac=00-90-33-15-1a-4e&type=IP232")
            assert (status, FORM in script) == (200, True)
            assert "/url" not in script
            assert "https" not in script
        assert island.ask("GET", "/api/health")[0] == 200
        assert island.ask("POST", "/dev/token", {"user": "user1"})[0] == 404
        assert island.ask("GET", "/dev/token")[0] == 404
        assert island.ask("GET", "/issuer/.well-known/openid-configuration")[0] == 404
        assert island.ask("GET", "/issuer/keys")[0] == 404
    assert MARKER not in island.output


@pytest.mark.parametrize("elsewhere", ["http://192.0.2.1", "http://issuer.example.com"])
def test_the_cut_bites(island: Island, elsewhere: str) -> None:
    """A server that must ask an issuer on another machine is caught at it, and says 503."""
    with island.served(ISSUER=elsewhere):
        island.issuer.url = elsewhere
        assert island.ask("GET", "/api/me")[0] == 503
    assert f"{MARKER} socket.getaddrinfo {urlsplit(elsewhere).hostname}" in island.output


@pytest.mark.parametrize(
    ("event", "arguments", "where"),
    [
        ("socket.connect", (None, ("192.0.2.1", 80)), "192.0.2.1"),
        ("socket.connect", (None, ("2001:db8::1", 80, 0, 0)), "2001:db8::1"),
        ("socket.connect", (None, ("127.0.0.9", 80)), ""),
        ("socket.connect", (None, ("::1", 80, 0, 0)), ""),
        ("socket.connect", (None, "/run/log"), ""),
        ("socket.sendto", (None, ("192.0.2.53", 53)), "192.0.2.53"),
        ("socket.sendmsg", (None, None), ""),
        ("socket.getaddrinfo", ("example.com", 80), "example.com"),
        ("socket.getaddrinfo", (b"example.com", 80), "example.com"),
        ("socket.getaddrinfo", ("localhost", 80), ""),
        ("socket.getaddrinfo", (None, 80), ""),
        ("subprocess.Popen", ("curl", [], None, None), "subprocess.Popen"),
        ("open", ("/etc/hosts", "r", 0), ""),
    ],
)
def test_the_cut_knows_every_way_out(event: str, arguments: tuple[Any, ...], where: str) -> None:
    """Other machines by address and by name, and children; nothing of this machine."""
    assert way_out(event, arguments) == where


COMPLETE = {
    "DYNAMODB_ENDPOINT": "http://127.0.0.1:1",
    "ISSUER": "http://127.0.0.1:1",
    "AUDIENCE": AUDIENCE,
}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ["DYNAMODB_ENDPOINT", "ISSUER", "AUDIENCE"]),
        ({"DYNAMODB_ENDPOINT": "http://127.0.0.1:1", "AUDIENCE": ""}, ["ISSUER", "AUDIENCE"]),
        (
            {"HOST": "0.0.0.0", "PORT": "high", "ISSUER": "http://127.0.0.1:1"},  # noqa: S104 - refused
            ["DYNAMODB_ENDPOINT", "AUDIENCE", "PUBLIC_URL", "PORT"],
        ),
        ({**COMPLETE, "PORT": "65536"}, ["PORT"]),
        (COMPLETE, ["The engine at http://127.0.0.1:1 (DYNAMODB_ENDPOINT)"]),
        ({**COMPLETE, "DYNAMODB_ENDPOINT": "nowhere"}, ["A setting"]),
    ],
)
def test_a_refused_start_says_everything_at_once(given: dict[str, str], named: list[str]) -> None:
    """One sentence for each thing that is wrong, status 2, and no traceback."""
    done = subprocess.run(  # noqa: S603 - our own command
        command("local.serve"),
        cwd=ROOT,
        env=environment_of(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
    )
    first, *sentences = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert first == "Dialtone does not start."
    assert len(sentences) == len(named), done.stderr
    for sentence, name in zip(sentences, named, strict=True):
        assert sentence.startswith(f"  {name} ")
