"""The administrators' command line, against the served system and answers that a test plays."""

import base64
import json
import os
import pty
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local import admin, admin_files, admin_screen, serve, tables
from local.admin_calls import AdminError, Calls, UnavailableError
from local.phone import fetch_from, run_phone
from local.update_client import UpdateClient
from tests.local.conftest import running
from tests.local.served import Served
from tests.local.websockets_served import eventually

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

COMMAND = [sys.executable, "-m", "local.admin"]
MANY = [f"many{number}" for number in range(1, 61)]
FEW = [f"user{number}" for number in range(1, 8)]
CODE = re.compile(r"\d{4} \d{4} \d{4}")
ID = re.compile(r"[0-9A-Z]{26}")
TOKEN = "a-token-that-nobody-must-see"
SECRET_CODE = "1234 5678 9012"


@dataclass
class Ended:
    """How a command ended, and what it printed."""

    exit_code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def served(engine: str, client: "DynamoDBClient") -> Iterator[Served]:
    """Serve the system on an engine that the test can look into."""
    with running({"DYNAMODB_ENDPOINT": engine}) as made:
        body = {"users": [{"sip": sip, "name": sip.title()} for sip in MANY]}
        status, _, _ = made.ask("POST", "/api/users", token=made.token("admin"), body=body)
        assert status == 200
        yield made
    for concept in tables.definitions():
        client.delete_table(TableName=f"{serve.PREFIX}{concept}")


class Admin:
    """An administrator at a command line that is no terminal."""

    def __init__(
        self,
        served: Served,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._served = served
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.token = served.token("admin")
        self.url = f"http://127.0.0.1:{served.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """Say where and who, as a shell would."""
        return {**os.environ, "DIALTONE_URL": self.url, "DIALTONE_TOKEN": self.token}

    def __call__(self, *arguments: str, token: str | None = None, typed: str = "") -> Ended:
        """Run a command; nothing secret may stand in what it says beside its result."""
        used = self.token if token is None else token
        with self._monkeypatch.context() as patch:
            patch.setenv("DIALTONE_URL", self.url)
            patch.setenv("DIALTONE_TOKEN", used)
            patch.setattr(sys, "stdin", _typed(typed))
            try:
                exit_code = admin.main(list(arguments), pause=lambda _: None)
            except SystemExit as ended:
                exit_code = int(str(ended.code))
        printed = self._capsys.readouterr()
        assert not used or used not in printed.out + printed.err
        assert not CODE.search(printed.err)
        return Ended(exit_code, printed.out, printed.err)

    def file(self, *lines: str) -> str:
        """Write a file, a line each."""
        path = self._folder / f"file{len(list(self._folder.iterdir()))}"
        path.write_text("\n".join(lines))
        return str(path)

    def rollout(self, *sips: str, name: str = "Autumn") -> str:
        """Make a rollout for these users: its id."""
        made = self("rollout", "create", *self.new(name), "--users", self.file(*sips))
        assert made.exit_code == 0, made.err
        assert ID.fullmatch(made.out.strip())
        return made.out.strip()

    @staticmethod
    def new(name: str) -> list[str]:
        """Say what a rollout is made of."""
        return ["--name", name, "--category", "Office"]

    def show(self, rollout_id: str, limit: int = 100) -> dict[str, Any]:
        """Ask the service itself about a rollout."""
        path = f"/api/rollouts/{rollout_id}?limit={limit}"
        return dict(json.loads(self._served.ask("GET", path, token=self.token)[2]))

    def states(self, rollout_id: str) -> dict[str, str]:
        """Tell in which state whose entry is."""
        return {entry["sip"]: entry["state"] for entry in self.show(rollout_id)["items"]}

    def codes(self, rollout_id: str) -> list[str]:
        """Tell the codes that are pending, by sip."""
        return CODE.findall(self("rollout", "export", rollout_id).out)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command in a process of its own."""
        return subprocess.Popen(  # noqa: S603 - our own command
            [*COMMAND, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: "subprocess.Popen[str]", signal_number: int) -> Ended:
        """End a command by a signal."""
        process.send_signal(signal_number)
        out, err = process.communicate(timeout=60)
        assert self.token not in out + err
        assert not CODE.search(err)
        return Ended(process.returncode, out, err)


def _typed(text: str) -> TextIOWrapper:
    """Make a standard input with some text."""
    return TextIOWrapper(BytesIO(text.encode()))


@pytest.fixture
def administrator(
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Admin:
    """Sit an administrator down."""
    return Admin(served, tmp_path, monkeypatch, capsys)


def register(admin_: Admin, code: str, number: int) -> None:
    """Let a phone type a code."""
    mac = f"00-90-33-ad-00-{number:02x}"
    url = admin_.url.removesuffix("/api") + "/init"
    client = UpdateClient(mac, "IP232", "127.0.0.1", url)
    assert run_phone(client, fetch_from(None), code).is_registered


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free loopback port: its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def on_terminal(command: list[str], environment: dict[str, str], typed: str = "") -> Ended:
    """Run a command on a terminal of its own, with everything typed ahead."""
    master, slave = pty.openpty()
    environment = {**environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        os.write(master, typed.encode())
        shown = b""
        try:
            while read := os.read(master, 65536):
                shown += read
        except OSError:
            # how a terminal ends when nobody holds its other side
            pass
        os.close(master)
    return Ended(process.returncode, shown.decode(), "")


# --- users


def test_users_are_imported_as_they_are_in_a_file(administrator: Admin) -> None:
    """A dry run writes nothing; a second import changes nothing; the list tells all."""
    file = administrator.file("Benutzer;Anzeigename;Kostenstelle", "anna;Änne Ü;1", "bert;Bert;2")
    tried = administrator("users", "import", file, "--dry-run")
    assert (tried.exit_code, tried.err) == (0, "")
    assert "would be 2 added, 0 changed, 0 unchanged, 0 wrong" in tried.out
    assert "ignored columns: Kostenstelle" in tried.out
    assert "anna" not in administrator("users", "list").out
    assert "2 added" in administrator("users", "import", file).out
    text = Path(file).read_text()
    assert "2 unchanged" in administrator("users", "import", "-", typed=text).out
    listed = administrator("users", "list").out.splitlines()
    assert listed[0] == "sip\tname\tnumber\temail\tmay_add_phones"
    assert "anna\tÄnne Ü\t\t\t" in listed
    assert "user1\tUser 1\t101\tuser1@example.com\t" in listed


def test_wrong_lines_are_told_with_every_fault(administrator: Admin) -> None:
    """Nothing is written unless they are to be skipped."""
    file = administrator.file("sip,number", "carl,abc", ",1", "dora,5")
    refused = administrator("users", "import", file)
    assert refused.exit_code == 1
    assert "line 2: number: digits" in refused.out
    assert "line 3: sip: is missing" in refused.out
    tried = administrator("users", "import", file, "--dry-run")
    assert tried.exit_code == 1
    assert "would be 1 added, 0 changed, 0 unchanged, 2 wrong" in tried.out
    assert "line 2, carl: number: digits" in tried.out
    assert "dora" not in administrator("users", "list").out
    skipped = administrator("users", "import", file, "--skip-wrong")
    assert skipped.exit_code == 0
    assert "1 added, 0 changed, 0 unchanged, 2 wrong" in skipped.out
    listed = administrator("users", "list").out
    assert "dora" in listed
    assert "carl" not in listed


def test_a_file_that_is_no_list_is_refused_as_a_whole(administrator: Admin) -> None:
    """The service says what is wrong with it, and the command passes it on."""
    refused = administrator("users", "import", administrator.file("phone,color", "1,red"))
    assert refused.exit_code == 1
    assert "sip: no column has the user's sip" in refused.err
    assert administrator("users", "import", "/nowhere").exit_code == 2


# --- rollouts


def test_a_rollout_goes_from_a_file_to_registered_phones(
    administrator: Admin, tmp_path: Path
) -> None:
    """Options, create, export, phones that type codes, watch until the last one, list."""
    options = administrator("rollout", "options")
    assert options.out.splitlines() == [
        "option\tname",
        "category\tOffice",
        "category\tReception",
        "app\tphone",
    ]
    file = administrator.file("Name,Login", "One,user1", "Two,user2", "Two,user2", "Bad,user3")
    more = ["--app", "phone", "--note", "by\x1b[2J hand", "--users", file, "--chunk", "2"]
    made = administrator("rollout", "create", *administrator.new("Winter"), *more)
    assert (made.exit_code, made.err.splitlines()) == (
        0,
        ["users: 2 of 3", "users: 3 of 3", "3 added, 0 there already"],
    )
    rollout_id = made.out.strip()
    listed = administrator("rollout", "list").out.splitlines()
    (line,) = [line for line in listed if line.startswith(rollout_id)]
    assert line.startswith(f"{rollout_id}\tWinter\tOffice\tphone\t")
    assert line.endswith("\tadmin\tby\ufffd[2J hand")
    out = str(tmp_path / "codes.csv")
    assert administrator("rollout", "export", rollout_id, "--out", out).exit_code == 0
    codes = CODE.findall(Path(out).read_text())
    assert len(codes) == 3
    watching = administrator.start("rollout", "watch", rollout_id, "--every", "0.05")
    assert watching.stdout is not None
    assert watching.stdout.readline() == "0 of 3 registered, 3 pending, 0 expired, 0 revoked\n"
    for number, code in enumerate(codes):
        register(administrator, code, number)
    rest, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (0, "")
    for number, sip in enumerate(("user1", "user2", "user3")):
        name = f"{sip} (User {sip[-1]})"
        assert f"{name}: registered, IP232 009033ad000{number}" in rest
    assert rest.endswith("3 of 3 registered, 0 pending, 0 expired, 0 revoked\n")
    assert not any(code in rest for code in codes)


def test_who_is_there_already_stays(administrator: Admin) -> None:
    """Adding the same users again changes no code."""
    rollout_id = administrator.rollout(*FEW)
    codes = administrator.codes(rollout_id)
    again = administrator(
        "rollout", "add", rollout_id, "--users", administrator.file(*FEW, "admin")
    )
    assert (again.exit_code, again.err.splitlines()[-1]) == (0, "1 added, 7 there already")
    assert set(codes) < set(administrator.codes(rollout_id))


def test_unknown_users_keep_nobody_else_back(administrator: Admin) -> None:
    """Each is told with its line, and everybody else is added, changed, whatever the chunk."""
    rollout_id = administrator.rollout("user1")
    file = administrator.file("user2", "nobody1", "", "user3", "user4", "nobody2")
    added = administrator("rollout", "add", rollout_id, "--users", file, "--chunk", "2")
    assert added.exit_code == 1
    assert "3 added, 0 there already" in added.err
    assert "line 2, nobody1: no user of this domain" in added.err
    assert "line 6, nobody2: no user of this domain" in added.err
    assert set(administrator.states(rollout_id)) == {"user1", "user2", "user3", "user4"}
    revoked = administrator("rollout", "revoke", rollout_id, "--users", file)
    assert (revoked.exit_code, revoked.out) == (1, "3 revoked\n")
    assert "line 2, nobody1: not in this rollout" in revoked.err
    assert administrator.states(rollout_id)["user1"] == "pending"
    nobody = administrator.file("nobody1")
    assert "0 added" in administrator("rollout", "add", rollout_id, "--users", nobody).err


def test_entries_are_changed_all_or_some(administrator: Admin) -> None:
    """Extend keeps the codes, reissue replaces them, revoke ends them."""
    rollout_id = administrator.rollout(*FEW)
    codes = administrator.codes(rollout_id)
    extended = administrator("rollout", "extend", rollout_id, "--yes")
    assert (extended.exit_code, extended.out) == (0, "7 extended\n")
    assert administrator.codes(rollout_id) == codes
    some = administrator.file(*FEW[:2])
    reissued = administrator("rollout", "reissue", rollout_id, "--users", some, "--chunk", "1")
    assert (reissued.exit_code, reissued.out) == (0, "2 reissued\n")
    assert len(set(administrator.codes(rollout_id)) & set(codes)) == 5
    revoked = administrator("rollout", "revoke", rollout_id, "--yes")
    assert (revoked.exit_code, revoked.out) == (0, "7 revoked\n")
    watched = administrator("rollout", "watch", rollout_id)
    assert watched.exit_code == 0
    assert watched.out == "0 of 7 registered, 0 pending, 0 expired, 7 revoked\n"


def test_all_entries_are_changed_by_nobody_s_accident(administrator: Admin) -> None:
    """Where nobody can be asked, --yes must be said; on a terminal, a no is a no."""
    rollout_id = administrator.rollout(*FEW[:2])
    for action in ("extend", "reissue", "revoke"):
        refused = administrator("rollout", action, rollout_id, typed="y\n")
        assert refused.exit_code == 2
        assert "say --yes" in refused.err
    command = [*COMMAND, "rollout", "revoke", rollout_id]
    unwanted = on_terminal(command, administrator.environment, "\n")
    assert unwanted.exit_code == 130
    assert "Revoke the codes of all 2 entries that are pending in Autumn? [y/N]" in unwanted.out
    assert set(administrator.states(rollout_id).values()) == {"pending"}
    wanted = on_terminal(command, administrator.environment, "y\n")
    assert wanted.exit_code == 0
    assert "2 revoked" in wanted.out
    assert set(administrator.states(rollout_id).values()) == {"revoked"}


def test_codes_are_written_for_their_owner_alone(administrator: Admin, tmp_path: Path) -> None:
    """0600 whatever was there, and nothing is overwritten unless it is said."""
    rollout_id = administrator.rollout("user1", "user2")
    out = tmp_path / "codes.csv"
    out.write_text("keep me")
    out.chmod(0o644)
    command = ["rollout", "export", rollout_id, "--out", str(out)]
    assert administrator(*command).exit_code == 2
    assert out.read_text() == "keep me"
    assert administrator(*command, "--force", "--delimiter", "semicolon").exit_code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.read_bytes().startswith(b"\xef\xbb\xbfname;number;")
    later = administrator(*command, "--force", "--changed-since", "2126-01-01T00:00:00+02:00")
    assert later.exit_code == 0
    assert not CODE.search(out.read_text())
    wrong = administrator(*command, "--force", "--changed-since", "yesterday")
    assert (wrong.exit_code, "changed_since: a time as" in wrong.err) == (1, True)
    nowhere = str(tmp_path / "nowhere" / "codes.csv")
    assert administrator("rollout", "export", rollout_id, "--out", nowhere).exit_code == 2


def test_codes_come_as_raw_bytes(administrator: Admin) -> None:
    """What is redirected into a file is the file that the service made."""
    rollout_id = administrator.rollout("user1")
    done = subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, "rollout", "export", rollout_id, "--delimiter", "tab"],
        env=administrator.environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"\xef\xbb\xbfname\tnumber\t")
    assert done.stdout.endswith(b"pending\r\n")
    assert done.stderr == b""


def test_slips_are_written_page_by_page(administrator: Admin, tmp_path: Path) -> None:
    """Files of a folder of their own; old ones stay, or all go."""
    rollout_id = administrator.rollout("user1", "user2")
    folder = tmp_path / "slips"
    command = ["rollout", "slips", rollout_id, "--out", str(folder)]
    written = administrator(*command)
    assert (written.exit_code, written.out) == (0, f"{folder / 'slips-1.html'}\n")
    page = folder / "slips-1.html"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert set(CODE.findall(page.read_text())) == set(administrator.codes(rollout_id))
    (folder / "slips-2.html").write_text("of an earlier time")
    assert administrator(*command).exit_code == 2
    assert administrator("rollout", "slips", "X" * 26, *command[3:], "--force").exit_code == 1
    assert len(list(folder.iterdir())) == 2
    assert administrator(*command, "--force").exit_code == 0
    assert [each.name for each in folder.iterdir()] == ["slips-1.html"]
    assert administrator(*command[:-1], str(page)).exit_code == 2


def test_a_terminal_shows_bars_and_tables(administrator: Admin, tmp_path: Path) -> None:
    """The live view ends by itself, and shows who changed last."""
    people = administrator.file("user5")
    command = [*COMMAND, "rollout", "create", *administrator.new("Spring"), "--users", people]
    made = on_terminal(command, administrator.environment)
    assert made.exit_code == 0
    assert "━" in made.out
    assert "1/1" in made.out
    (rollout_id,) = ID.findall(made.out)
    administrator("rollout", "revoke", rollout_id, "--yes")
    watched = on_terminal([*COMMAND, "rollout", "watch", rollout_id], administrator.environment)
    assert watched.exit_code == 0
    assert "Spring (Office)" in watched.out
    assert "0 of 1 registered, 0 pending, 0 expired, 1 revoked" in watched.out
    assert re.search(r"user5 \(User 5\)\s+revoked", watched.out)
    listed = on_terminal([*COMMAND, "rollout", "list"], administrator.environment)
    assert re.search(rf"{rollout_id}\s+Spring\s+Office", listed.out)
    assert "\t" not in listed.out


# --- what ends in the middle


def uploaded(admin_: Admin, rollout_id: str) -> int:
    """Tell how many entries there are."""
    return sum(admin_.show(rollout_id, limit=1)["counts"].values())


@contextmanager
def uploading(admin_: Admin, name: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start an upload of many users, and wait until some of them are there: process and id."""
    file = admin_.file("sip", *MANY)
    arguments = ["--users", file, "--chunk", "2"]
    process = admin_.start("rollout", "create", *admin_.new(name), *arguments)
    assert process.stdout is not None
    rollout_id = process.stdout.readline().strip()
    eventually(lambda: uploaded(admin_, rollout_id) >= 4)
    yield process, rollout_id
    assert uploaded(admin_, rollout_id) < len(MANY)


def test_an_upload_that_was_killed_goes_on(
    administrator: Admin, served: Served, client: "DynamoDBClient"
) -> None:
    """Started again, it gives each user exactly one entry and one code that lives."""
    with uploading(administrator, "Killed") as (process, rollout_id):
        killed = administrator.end(process, signal.SIGKILL)
    assert killed.exit_code == -signal.SIGKILL
    file = administrator.file("sip", *MANY)
    done = administrator("rollout", "add", rollout_id, "--users", file, "--chunk", "7")
    assert done.exit_code == 0
    added, already = map(int, re.findall(r"\d+", done.err.splitlines()[-1]))
    assert added + already == len(MANY)
    assert already >= 4
    found = stored(client, "registrations", rollout_id)
    assert sorted(entry["sip"] for entry in found) == sorted(MANY)
    assert {entry["state"] for entry in found} == {"pending"}
    pending = [code for code in stored(client, "codes", rollout_id) if code["state"] == "pending"]
    assert {code["fingerprint"]: code["owner"] for code in pending} == {
        entry["fingerprint"]: entry["sip"] for entry in found
    }


def stored(client: "DynamoDBClient", concept: str, rollout_id: str) -> list[dict[str, str]]:
    """Read what a table holds of a rollout, texts alone."""
    pages = client.get_paginator("scan").paginate(TableName=f"{serve.PREFIX}{concept}")
    items = [item for page in pages for item in page["Items"]]
    texts = [{name: value.get("S", "") for name, value in item.items()} for item in items]
    return [item for item in texts if item.get("rollout_id") == rollout_id]


def test_an_upload_that_was_interrupted_says_how_to_go_on(administrator: Admin) -> None:
    """Ctrl+C ends it with 130, and what it says can be run as it stands."""
    with uploading(administrator, "Interrupted") as (process, rollout_id):
        interrupted = administrator.end(process, signal.SIGINT)
    assert interrupted.exit_code == 130
    assert re.search(r"Interrupted\.\n\d+ of 60 users were sent\. Go on with:", interrupted.err)
    line = shlex.split(interrupted.err.splitlines()[-1])
    assert line[:6] == [".venv/bin/python", "-m", "local.admin", "rollout", "add", rollout_id]
    assert administrator(*line[3:]).exit_code == 0
    assert uploaded(administrator, rollout_id) == len(MANY)


def test_a_lost_answer_makes_no_second_rollout(administrator: Admin, served: Served) -> None:
    """Every other answer is lost on the way; each call is done once all the same."""
    calls_count = 0

    class Lossy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal calls_count
            calls_count += 1
            body = self.rfile.read(int(self.headers["content-length"]))
            way = HTTPConnection("127.0.0.1", served.port, timeout=30)
            way.request("POST", self.path, body, dict(self.headers.items()))
            answer = way.getresponse()
            content = answer.read()
            way.close()
            if calls_count % 2:
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Lossy) as url:
        arguments = ["--users", administrator.file(*FEW), "--chunk", "4", "--url", f"{url}/api"]
        made = administrator("rollout", "create", *administrator.new("Lossy"), *arguments)
    assert (made.exit_code, calls_count) == (0, 6)
    assert made.err.splitlines()[-1] == "7 added, 0 there already"
    listed = administrator("rollout", "list").out
    assert listed.count("\tLossy\t") == 1
    assert set(administrator.states(made.out.strip())) == set(FEW)


def test_watching_can_be_interrupted(administrator: Admin) -> None:
    """It ends with 130, and changes nothing."""
    rollout_id = administrator.rollout("user1")
    watching = administrator.start("rollout", "watch", rollout_id)
    assert watching.stdout is not None
    assert watching.stdout.readline()
    interrupted = administrator.end(watching, signal.SIGINT)
    assert (interrupted.exit_code, interrupted.err) == (130, "Interrupted.\n")


def test_a_reader_may_go_early(administrator: Admin) -> None:
    """Whoever reads the result closes it, and nothing complains."""
    listing = administrator.start("users", "list")
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.stderr is not None
    assert listing.stderr.read() == ""
    assert listing.wait(60) == 130
    listing.stderr.close()


# --- exit codes and refusals


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["users"],
        ["rollout", "create", "--name", "x"],
        ["rollout", "add", "X", "--users", "x", "--chunk", "1001"],
        ["rollout", "add", "X", "--users", "x", "--chunk", "0"],
        ["rollout", "watch", "X", "--every", "0"],
        ["rollout", "watch", "X", "--every", "soon"],
        ["rollout", "export", "X", "--delimiter", "pipe"],
        ["users", "list", "--tries", "0"],
        ["users", "list", "--url", "ftp://127.0.0.1/api"],
        ["users", "list", "--url", "file:///etc/passwd"],
        ["users", "list", "--url", "http://user:password@127.0.0.1/api"],
        ["users", "list", "--url", "http://127.0.0.1:99999/api"],
        ["users", "list", "--url", "http://127.0.0.1/api?x=1"],
        ["users", "list", "--url", "http://"],
        ["rollout", "add", "X", "--users", "/nowhere"],
    ],
)
def test_what_cannot_be_run_ends_with_2(administrator: Admin, arguments: list[str]) -> None:
    ended = administrator(*arguments)
    assert ended.exit_code == 2
    assert ended.err
    assert "password" not in ended.err


def test_what_is_refused_ends_with_1_and_every_fault(administrator: Admin) -> None:
    """Also what cannot be found, and what is found at the wrong place."""
    one = administrator.file("user1")
    command = ["rollout", "create", "--name", "x", "--category", "Gateways", "--app", "none"]
    refused = administrator(*command, "--users", one)
    assert refused.exit_code == 1
    assert "category: no provisioning category for phones" in refused.err
    assert "app: no phone app of this domain" in refused.err
    assert refused.out == ""
    unknown = administrator("rollout", "add", "Y" * 26, "--users", one)
    assert (unknown.exit_code, "unknown rollout" in unknown.err) == (1, True)
    elsewhere = administrator("users", "list", "--url", administrator.url.removesuffix("/api"))
    assert (elsewhere.exit_code, "Check --url" in elsewhere.err) == (1, True)


def expired_token() -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_700_000_000}).encode()).decode()
    return f"eyJhbGciOiJFUzI1NiJ9.{claims.rstrip('=')}.c2ln"


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", "set DIALTONE_TOKEN"),
        ("two words", "DIALTONE_TOKEN holds no token"),
        ("no-token", "does not take what DIALTONE_TOKEN holds"),
        ("eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "does not take what DIALTONE_TOKEN holds"),
        ("eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjk5OTk5OTk5OTl9.c2ln", "is it made for this one?"),
        (expired_token(), "Your token expired at 2023-11-14 22:13 UTC. Get a new one"),
    ],
)
def test_who_is_not_signed_in_is_told_what_to_do(
    administrator: Admin, token: str, said: str
) -> None:
    """It ends with 3, and the token is in nothing that is printed."""
    ended = administrator("users", "list", token=token)
    assert ended.exit_code == 3
    assert said in ended.err


def test_who_is_no_users_admin_may_not(administrator: Admin, served: Served) -> None:
    """It ends with 3 for every command that asks the service."""
    token = served.token("user1")
    ended = administrator("rollout", "list", token=token)
    assert ended.exit_code == 3
    assert "You may not do this" in ended.err
    assert "users-admin" in ended.err


def test_nobody_there_ends_with_4(administrator: Admin) -> None:
    """After as many tries as were wanted, each announced."""
    ended = administrator("users", "list", "--url", "http://127.0.0.1:1/api", "--tries", "3")
    assert ended.exit_code == 4
    assert "trying again in" in ended.err
    assert "(3 of 3)" in ended.err
    assert ended.err.endswith("Connection refused. Tried 3 of 3 times.\n")


# --- calls that are made again, against a service that a test plays

Reply = tuple[int, dict[str, str], bytes] | None
"""Status, headers and body; None closes the connection without a word."""


@dataclass
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Played:
    """A service that a test plays: one reply after another, the last one for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        self.said: list[str] = []
        self.pauses: list[float] = []

    def calls(self, tries: int = 6) -> Calls:
        """Make calls to it."""
        return Calls(self.url, TOKEN, self.said.append, self.pauses.append, tries)

    def keys(self) -> list[str]:
        """Tell the keys under which writes came."""
        return [asked.headers["idempotency-key"] for asked in self.asked]


def reply(status: int, document: object, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"content-type": "application/json", **named}, json.dumps(document).encode()


def later(status: int, seconds: str = "7") -> Reply:
    return reply(status, {"title": "Not now", "status": status}, retry_after=seconds)


DONE = reply(200, {"added": 1, "already": 0})


@pytest.fixture
def played() -> Iterator[Callable[..., Played]]:
    """Serve replies on a free loopback port."""
    made = Played()

    class Replies(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            made.asked.append(Asked(self.command, self.path, headers, body))
            given = made.replies.pop(0) if len(made.replies) > 1 else made.replies[0]
            if given is None:
                return
            status, told, content = given
            self.send_response(status)
            for name, value in told.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _reply  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    def play(*replies: Reply) -> Played:
        made.replies = list(replies)
        return made

    with serving(Replies) as url:
        made.url = f"{url}/api"
        yield play


def test_a_lost_answer_is_asked_for_under_the_same_key(played: Callable[..., Played]) -> None:
    """The next call has a key of its own, and every repetition is the same to the byte."""
    service = played(later(503), None, later(429), reply(502, {}), later(409), DONE)
    calls = service.calls()
    assert calls.post("rollouts", "R", "entries", body={"users": ["Änne"]})["added"] == 1
    calls.post("rollouts", "R", "entries", body={"users": ["Änne"]})
    assert len(service.asked) == 7
    *repeated, other = service.keys()
    assert len(set(repeated)) == 1
    assert other != repeated[0]
    assert {asked.body for asked in service.asked} == {'{"users": ["Änne"]}'.encode()}
    assert {asked.headers["authorization"] for asked in service.asked} == {f"Bearer {TOKEN}"}
    assert len(service.said) == 5


def test_pauses_are_never_shorter_than_told_and_grow(played: Callable[..., Played]) -> None:
    """At most half as long again; without a word from the service, from one second on."""
    service = played(later(503), later(503, "0"), later(503, "soon"), None, DONE)
    service.calls().get("users")
    for pause, least in zip(service.pauses, (7, 2, 4, 8), strict=True):
        assert least <= pause <= least * 1.5


def test_tries_are_bounded(played: Callable[..., Played]) -> None:
    """Then it says what the trouble was, and how long to stay away."""
    service = played(later(503))
    with pytest.raises(UnavailableError, match=r"503: Not now\. Tried 3 of 3 times\..* 7 seconds"):
        service.calls(tries=3).get("users")
    assert (len(service.asked), len(service.pauses)) == (3, 2)


def test_nobody_waits_for_an_hour(played: Callable[..., Played]) -> None:
    """Who is told to come back much later is not kept."""
    service = played(later(429, "3600"))
    with pytest.raises(UnavailableError, match="come back in 3600 seconds"):
        service.calls().get("users")
    assert (len(service.asked), service.pauses) == (1, [])


@pytest.mark.parametrize(
    ("given_reply", "exit_code", "said"),
    [
        (reply(500, {"title": "Something went wrong"}), 4, "Something went wrong."),
        (reply(409, {"title": "Conflict", "detail": "it has ended"}), 1, "Conflict: it has ended."),
        (reply(307, {}, location="http://127.0.0.1:1/elsewhere"), 1, "has moved"),
        (reply(413, ["no", "problem"]), 1, "answered 413"),
        (reply(400, {"title": "Bad", "faults": [{"field": "", "message": "m"}, 1]}), 1, "\n  m"),
        (reply(400, {"title": "Bad", "faults": "x"}), 1, "Bad."),
        ((200, {"content-type": "application/json"}, b"<html>"), 4, "is not Dialtone"),
        ((200, {"content-type": "text/html"}, b"{}"), 4, "is not Dialtone"),
        ((404, {"content-type": "text/html"}, b"<html>"), 1, "answered 404. Check --url."),
    ],
)
def test_other_answers_are_not_asked_for_again(
    played: Callable[..., Played], given_reply: Reply, exit_code: int, said: str
) -> None:
    service = played(given_reply)
    with pytest.raises(AdminError) as ended:
        service.calls().get("users")
    assert ended.value.exit_code == exit_code
    assert said in str(ended.value)
    assert len(service.asked) == 1


def test_no_secret_of_an_answer_is_passed_on(played: Callable[..., Played]) -> None:
    """Whatever the service, or what stands between, puts into an error."""
    text = f"{TOKEN} and {SECRET_CODE}"
    fault = {"field": text, "message": text}
    for status in (400, 403, 500, 503):
        service = played(reply(status, {"title": text, "detail": text, "faults": [fault]}))
        with pytest.raises(AdminError) as ended:
            service.calls(tries=2).get("users")
        for line in (str(ended.value), *service.said):
            assert TOKEN not in line
            assert SECRET_CODE not in line


def test_a_link_to_another_place_is_not_followed(
    played: Callable[..., Played],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Pages are followed within the service, and the token goes nowhere else."""
    html = {"content-type": "text/html; charset=utf-8"}
    second = {**html, "link": '<slips?cursor=abc>; rel="next"'}
    service = played((200, second, b"1"), (200, html, b"2"))
    monkeypatch.setenv("DIALTONE_TOKEN", TOKEN)
    command = ["rollout", "slips", "R", "--url", f"{service.url}/", "--out"]
    assert admin.main([*command, str(tmp_path / "two")]) == 0
    assert [urlsplit(asked.path).query for asked in service.asked] == ["", "cursor=abc"]
    assert {asked.path.partition("?")[0] for asked in service.asked} == {"/api/rollouts/R/slips"}
    assert [page.read_bytes() for page in sorted((tmp_path / "two").iterdir())] == [b"1", b"2"]
    away = {**html, "link": '<http://127.0.0.2:1/slips>; rel="next"'}
    service.replies = [(200, away, b"1")]
    assert admin.main([*command, str(tmp_path / "away")]) == 1
    assert "points to another place" in capsys.readouterr().err


def test_all_entries_are_changed_page_after_page(
    played: Callable[..., Played],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cursor is followed; what fails in the middle says where to go on."""
    first = reply(200, {"changed": 998, "missed": ["user1", "user2"], "next": "Y3Vyc29y"})
    last = reply(200, {"changed": 5, "missed": [], "next": None})
    service = played(first, last)
    monkeypatch.setenv("DIALTONE_TOKEN", TOKEN)
    command = ["rollout", "reissue", "R", "--yes", "--url", service.url]
    assert admin.main(command) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "1003 reissued"
    assert printed.out.splitlines()[-2:] == ["  user1", "  user2"]
    assert [json.loads(asked.body) for asked in service.asked] == [{}, {"cursor": "Y3Vyc29y"}]
    service.replies = [first, reply(409, {"title": "Conflict", "detail": "it has ended"})]
    assert admin.main(command) == 1
    told = capsys.readouterr().err
    assert "998 reissued before. Go on with:" in told
    service.replies = [last]
    assert admin.main(shlex.split(told.splitlines()[-1])[3:]) == 0
    assert json.loads(service.asked[-1].body) == {"cursor": "Y3Vyc29y"}


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("add", "4 of 5 users were sent. Go on with:"),
        ("extend", "4 of 5 users were sent, in the order of the file; 2 extended."),
    ],
)
def test_what_ends_in_the_middle_tells_what_was_found_before(
    played: Callable[..., Played],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    action: str,
    said: str,
) -> None:
    """A fault of an earlier call is not forgotten when a later one fails."""
    unknown = {"field": "users.1", "message": "unknown"}
    done = reply(200, {"added": 1, "changed": 1})
    service = played(
        reply(400, {"title": "Bad", "faults": [unknown]}), done, done, reply(401, {"title": "Who?"})
    )
    file = tmp_path / "users"
    file.write_text("a\nb\nc\nd\ne\n")
    monkeypatch.setenv("DIALTONE_TOKEN", TOKEN)
    arguments = ["--users", str(file), "--chunk", "2", "--url", service.url]
    assert admin.main(["rollout", action, "R", *arguments]) == 3
    told = capsys.readouterr().err
    assert "line 2, b: unknown" in told
    assert said in told
    sent = [json.loads(asked.body)["users"] for asked in service.asked]
    assert sent == [["a", "b"], ["a"], ["c", "d"], ["e"]]


def test_a_list_is_put_together(
    played: Callable[..., Played],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Page by page, until the end."""
    user = {"sip": "a", "name": "\t\x9b", "number": "", "email": "", "may_add_phones": False}
    page = {"items": [user], "next": "abc"}
    service = played(reply(200, page), reply(200, {"items": [user], "next": None}))
    monkeypatch.setenv("DIALTONE_TOKEN", TOKEN)
    assert admin.main(["--url", service.url, "users", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["a\t\ufffd\ufffd\t\t\tno"] * 2
    assert [asked.path for asked in service.asked] == [
        "/api/users?limit=1000",
        "/api/users?limit=1000&cursor=abc",
    ]


def entry(sip: str, second: int, state: str = "registered") -> dict[str, str]:
    at = f"2036-11-24T12:00:{second:02}Z"
    return {"sip": sip, "name": "", "state": state, "changed_at": at, "reason": "released"}


def test_watching_misses_nothing_between_two_looks(
    played: Callable[..., Played],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It reads on as long as there is news, and tells what the list brings late, too."""

    def look(pending: int, items: list[dict[str, str]], next_: str | None = None) -> Reply:
        counts = {"pending": pending, "registered": 9, "expired": 0, "revoked": 0}
        return reply(200, {"counts": counts, "items": items, "next": next_})

    old = entry("old", 1, "pending")
    service = played(
        look(3, [old]),
        look(2, [entry("c", 9), entry("b", 8)], "more"),
        look(2, [entry("a", 7), old]),
        look(2, [entry("c", 9), entry("b", 8)], "more"),
        look(0, [entry("c", 9), entry("b", 8), entry("late", 6), entry("a", 7), old]),
    )
    monkeypatch.setenv("DIALTONE_TOKEN", TOKEN)
    pauses: list[float] = []
    command = ["rollout", "watch", "R", "--url", service.url, "--every", "5"]
    assert admin.main(command, pauses.append) == 0
    told = capsys.readouterr().out.splitlines()
    changes = [line.split()[2] for line in told if "released" in line]
    assert changes == ["a:", "b:", "c:", "late:"]
    assert len([line for line in told if "of" in line.split()]) == 3
    assert pauses == [5.0, 5.0, 5.0]
    followed = ["cursor=more" in asked.path for asked in service.asked]
    assert followed == [False, False, True, False, False]


# --- files


SIPS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters=";,\t'\"#="),
    min_size=1,
    max_size=20,
).map(lambda text: f"u{text}")


@given(
    sips=st.lists(SIPS, min_size=1, max_size=20, unique=True),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_list_and_a_csv_name_the_same_users(
    tmp_path_factory: pytest.TempPathFactory, sips: list[str], encoding: str
) -> None:
    """A sip a line, or a column of any name, in any encoding that spreadsheets write."""
    folder = tmp_path_factory.getbasetemp()
    listed, table = folder / "list", folder / "table"
    listed.write_bytes("\r\n".join(["", *sips, sips[0]]).encode(encoding))
    table.write_bytes("\n".join(["Name;Benutzer", *(f"x;{sip}" for sip in sips)]).encode(encoding))
    assert [user.sip for user in admin_files.users_of(str(listed))] == sips
    assert [user.sip for user in admin_files.users_of(str(table))] == sips
    assert [user.line for user in admin_files.users_of(str(table))] == list(range(2, len(sips) + 2))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"sip,name\n", "cannot be used"),
        (b"name,color\nA,red\n", "sip: no column"),
        (b"ok\nbad#one\n", "line 2: sip without #, control and invisible characters"),
        (b"sip,name\nbob,Miller,1\n,x\n", "line 2: more cells than the header has columns"),
        (b"sip,name\nbob,Miller,1\n,x\n", "line 3: sip is missing"),
        (b"\xff\xfe\xff", "neither UTF-8 nor UTF-16"),
        (b"PK\x03\x04", "a workbook and no CSV"),
        ("\n".join(f"u{n}" for n in range(20_001)).encode(), "more than 20000 users"),
    ],
)
def test_a_file_that_names_nobody_properly_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """With every fault and its line, before anything is sent."""
    file = tmp_path / "users"
    file.write_bytes(content)
    with pytest.raises(AdminError, match=re.escape(said)) as refused:
        admin_files.users_of(str(file))
    assert refused.value.exit_code == 1


def test_what_is_wrong_with_a_number_is_no_matter_for_a_rollout(tmp_path: Path) -> None:
    """It is the sip that is wanted."""
    file = tmp_path / "users"
    file.write_text("sip,number\nuser1,abc\n")
    assert [user.sip for user in admin_files.users_of(str(file))] == ["user1"]


@given(text=st.text())
def test_nothing_that_is_shown_moves_a_terminal(text: str) -> None:
    """Whatever somebody has called a user, a line stays a line."""
    shown = admin_screen.clean(text)
    assert len(shown) == len(text)
    assert shown.encode().decode() == shown
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in shown)
    assert len(shown.splitlines()) <= 1
