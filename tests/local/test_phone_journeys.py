import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from chalicelib.core import scripts
from local.phone import Outcome, fetch_from, main, run_phone, summary
from local.update_client import CODE, Step, UpdateClient

MAC = "00-90-33-3d-12-34"
CODE_TYPED = "1234 5678 9012"
TOKEN = "t" * 43
FACTORY_URL = "http://central.example/init"
DEVICES_URL = "https://devices.example/api/devices/update"
FORM = scripts.code_form(None)
ON_TO_DEVICES = scripts.to_devices(DEVICES_URL)
NOTHING = scripts.for_device((), (), "")
EVERYTHING = scripts.for_device(
    (
        scripts.load("prot", "https://firmware.example/ip232.bin", "134250"),
        scripts.load("boot", "https://firmware.example/boot232.bin", "131286"),
    ),
    (scripts.poll_interval(5),),
    "abc123",
    token_url=scripts.identified(DEVICES_URL, device_token=TOKEN),
)
JOURNEY = [FORM, ON_TO_DEVICES, EVERYTHING, NOTHING]

Asked = dict[str, str]
Answers = Callable[[str, Asked], tuple[int, str]]


def new_client(url: str = FACTORY_URL) -> UpdateClient:
    return UpdateClient(MAC, "IP232", "127.0.0.1", url)


def query_of(url: str) -> Asked:
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    return {name: values[-1] for name, values in query.items()}


class Script:
    """A service that gives one answer after another, the last one for ever; it keeps the URLs."""

    def __init__(self, *answers: str | int | OSError) -> None:
        self.answers = list(answers)
        self.urls: list[str] = []

    def __call__(self, url: str) -> tuple[int, str]:
        self.urls.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return (answer, "trouble") if isinstance(answer, int) else (200, answer)


def run(*answers: str | int | OSError, code: str | None = CODE_TYPED) -> tuple[Outcome, Script]:
    service = Script(*answers)
    return run_phone(new_client(), service, code), service


@contextmanager
def serving(answers: Answers) -> Iterator[tuple[str, list[str]]]:
    """Serve on a free loopback port: its URL, and the address of every caller."""
    callers: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            callers.append(self.client_address[0])
            status, text = answers(urlsplit(self.path).path, query_of(self.path))
            self.send_response(status)
            if status in {301, 302}:
                self.send_header("Location", text)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", callers
        finally:
            server.shutdown()
            thread.join()


def effect_of(client: UpdateClient, script: str, hour: int = 12) -> str:
    return client.execute(script, hour)[-1].effect


# --- the interpreter


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_with_lf_or_cr_lf(end: str) -> None:
    """Both ends of line are read, and empty lines do nothing."""
    steps = new_client().execute(f"# hello{end}{end}config write{end}", 12)
    assert steps == [Step("# hello", ""), Step("config write", "kept over a restart")]


@pytest.mark.parametrize("inside", ["\v", "\f", "\x85", "\u2028"])
def test_no_other_character_ends_a_line(inside: str) -> None:
    """What merely looks like an end of line does not begin another command."""
    client = new_client()
    client.execute(f"# comment{inside}vars create X p 1\n", 12)
    assert client.variables == {}


def test_the_form_is_announced_for_prompt_alone() -> None:
    """A code that a script stores itself shows no form."""
    client = new_client()
    assert "asks" not in effect_of(client, f"vars create {CODE} h 123456789012")
    assert not client.shows_code_form
    assert "asks" in effect_of(client, f"vars create {CODE} h prompt")
    assert client.shows_code_form


@pytest.mark.parametrize("line", ["config rem UP1 /url", "config change UP1 /poll 5"])
def test_a_phone_without_a_url_polls_where_the_factory_told_it(line: str) -> None:
    """No script can leave the phone with nowhere to ask."""
    client = new_client()
    before = client.url()
    client.execute(f"{line}\nconfig activate", 12)
    assert client.url() == before


@pytest.mark.parametrize("line", ["dance", "config dance", "mod cmd UP9 x", "vars create", "vars"])
def test_an_unknown_command_is_remembered_and_the_script_goes_on(line: str) -> None:
    """A line that is not understood stops nothing."""
    client = new_client()
    steps = client.execute(f"{line}\nvars create X p 1", 12)
    assert steps[0] == Step(line, "not understood")
    assert client.faults == [line]
    assert client.variables == {"X": "1"}


def test_every_line_of_the_service_is_understood() -> None:
    """Nothing that core/scripts.py writes is a fault."""
    client = new_client()
    for script in (*JOURNEY, scripts.code_form("https://h/init"), scripts.to_devices("wss://h/d")):
        client.execute(script, 12)
    assert client.faults == []
    assert client.active["SYSCLIENT"] == {"": "wss://h/d", "/sysadmin": ""}


# --- the journey


def test_a_phone_goes_from_its_box_to_up_to_date() -> None:
    """Form, code, Devices, firmware and token, and a last poll that brings nothing."""
    outcome, service = run(*JOURNEY)
    assert outcome.is_registered
    assert outcome.verdict == "registered: yes, up to date"
    assert outcome.polls == len(service.urls) == 4
    asked = [query_of(url) for url in service.urls]
    codes = [query.get("PROVISIONING-CODE") for query in asked]
    assert codes == [None, CODE_TYPED, CODE_TYPED, None]
    assert [urlsplit(url).hostname for url in service.urls[:2]] == ["central.example"] * 2
    assert asked[2]["sn"] == MAC
    last = asked[3]
    assert (last["device_token"], last["PROT"], last["BOOT"], last["CHECK"]) == (
        TOKEN,
        "134250",
        "131286",
        "abc123",
    )
    up1 = outcome.client.written["UP1"]
    assert (up1["/poll"], up1["/no-dhcp"]) == ("5", "")


def test_a_code_refused_by_devices_is_refused() -> None:
    """Devices shows the form too, after the central service has sent the phone on."""
    outcome, _ = run(FORM, ON_TO_DEVICES, FORM)
    assert outcome.is_refused


def test_comments_alone_keep_the_code_and_bring_the_phone_back() -> None:
    """A service that is limited or down costs no code: the same one is sent again."""
    wait = scripts.comment("later")
    outcome, service = run(wait, FORM, wait, wait, *JOURNEY[1:])
    assert outcome.is_registered
    codes = [query_of(url).get("PROVISIONING-CODE") for url in service.urls]
    assert codes == [None, None, *[CODE_TYPED] * 4, None]


def test_trouble_is_tried_again() -> None:
    """A refused connection and a 503 take a poll each and change nothing."""
    outcome, _ = run(ConnectionRefusedError("refused"), 503, *JOURNEY)
    assert outcome.is_registered


def test_a_service_that_never_answers_ends_the_polls() -> None:
    """At most ten polls, and nothing was reached."""
    outcome, service = run(503)
    assert (outcome.is_reached, outcome.is_registered, len(service.urls)) == (False, False, 10)


def test_two_hundred_phones_run_at_once() -> None:
    """Phones share nothing: each ends with the token that was made for it."""

    def one(number: int) -> Outcome:
        token = f"{number:043d}"
        own = EVERYTHING.replace(TOKEN, token)
        client = UpdateClient(f"00-90-33-00-00-{number:02x}", "IP232", "127.0.0.1", FACTORY_URL)
        return run_phone(client, Script(FORM, ON_TO_DEVICES, own, NOTHING), CODE_TYPED)

    with ThreadPoolExecutor(32) as pool:
        outcomes = list(pool.map(one, range(200)))
    assert all(outcome.is_registered for outcome in outcomes)
    tokens = {query_of(outcome.client.url())["device_token"] for outcome in outcomes}
    assert len(tokens) == 200


# --- what is printed


def test_no_secret_is_printed() -> None:
    """Code and token are masked in URLs, lines, effects, faults and the summary."""
    printed: list[str] = []
    leaky = (
        "mod cmd UP0 boot https://f.example/b?token=sesame iresetn 9\n"
        "dance ?token=sesame\n"
        f"dance 1234-5678-9012\n{EVERYTHING}"
    )
    outcome = run_phone(
        new_client(), Script(FORM, ON_TO_DEVICES, leaky, NOTHING), CODE_TYPED, say=printed.append
    )
    text = "\n".join([*printed, summary(outcome)])
    assert outcome.is_registered
    for secret in (TOKEN, "sesame", CODE_TYPED, quote(CODE_TYPED), "1234-5678-9012"):
        assert secret not in text


def test_no_password_in_force_is_printed() -> None:
    """Decoded as they are in the configuration, whatever stands in them."""
    client = new_client()
    client.execute(
        "config add PHONE /name x /pwd open%20sesame\n"
        "config add CMD0 /user admin,open%2C%20sesame\nconfig activate\n",
        12,
    )
    lines = summary(Outcome(client)).splitlines()
    assert "  PHONE /name x /pwd ***" in lines
    assert "  CMD0 /user admin,***" in lines
    assert "sesame" not in "\n".join(lines)


def test_an_error_of_the_transport_is_printed_masked() -> None:
    """What the library says of a URL may hold the code."""
    printed: list[str] = []
    error = OSError(f"bad URL /init?PROVISIONING-CODE={quote(CODE_TYPED)}")
    run_phone(new_client(), Script(error), None, say=printed.append)
    assert quote(CODE_TYPED) not in "\n".join(printed)


def test_the_summary_says_where_the_phone_ended() -> None:
    """MAC, builds, last check, configuration by module, faults, and the verdict last."""
    outcome, _ = run(*JOURNEY[:2], EVERYTHING + "dance\n", NOTHING)
    lines = summary(outcome).splitlines()
    assert f"phone      {MAC} (IP232)" in lines
    assert "firmware   134250, boot code 131286" in lines
    assert "last check abc123" in lines
    assert any(line.startswith("  UP1 /url https://devices.example/") for line in lines)
    assert "not understood: dance" in lines
    assert lines[-1] == "registered: yes, up to date"


# --- the transport and the command line


def test_a_redirect_is_followed() -> None:
    """A 302 leads on, relative or not, with whatever query it names."""
    with serving(
        lambda path, asked: (200, asked["a"]) if path == "/there" else (302, "/there?a=1")
    ) as (url, _):
        assert fetch_from(None)(f"{url}/here?b=2") == (200, "1")


def test_redirects_end() -> None:
    """A circle of redirects is answered with its last status, not followed for ever."""
    with serving(lambda _path, _asked: (302, "/again")) as (url, callers):
        status, _ = fetch_from(None)(f"{url}/again")
    assert status == 302
    assert len(callers) == 5


def test_a_url_without_a_path_is_asked_at_its_root() -> None:
    """`http://host?query` is a valid URL."""
    with serving(lambda path, asked: (200, path + asked["a"])) as (url, _):
        assert fetch_from(None)(f"{url}?a=1") == (200, "/1")


def test_a_phone_calls_from_the_address_it_is_given() -> None:
    """Any 127.0.0.x is a source of its own."""
    with serving(lambda _path, _asked: (200, "")) as (url, callers):
        fetch_from("127.0.0.9")(url + "/init")
    assert callers == ["127.0.0.9"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:nowhere/init",
        "http://127.0.0.1:70000/init",
        "http://127.0.0.1:1/a b?x=1",
        "http://[::1/init",
    ],
)
def test_a_url_that_cannot_be_asked_is_no_answer(url: str) -> None:
    """A script can configure nonsense; the phone says so instead of breaking."""
    with pytest.raises(OSError, match=r"port|refused|control characters|IPv6"):
        fetch_from(None)(url)


def test_what_is_no_http_is_no_answer() -> None:
    """A server that talks something else counts as not answering."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail ready\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(OSError, match="220 mail"):
            fetch_from(None)(f"http://127.0.0.1:{server.getsockname()[1]}/init")
        thread.join()


@contextmanager
def demo() -> Iterator[str]:
    """Serve the whole journey for the code 123456789012: the URL of its /init."""
    pages: dict[str, str] = {}

    def answer(path: str, asked: Asked) -> tuple[int, str]:
        if asked.get("device_token") == TOKEN:
            return 200, NOTHING
        is_good = asked.get("PROVISIONING-CODE", "").replace(" ", "") == "123456789012"
        return 200, pages[path] if is_good else FORM

    with serving(answer) as (url, _):
        devices_url = f"{url}/devices/update"
        pages["/init"] = scripts.to_devices(devices_url)
        pages["/devices/update"] = EVERYTHING.replace(
            scripts.option(DEVICES_URL), scripts.option(devices_url)
        )
        yield f"{url}/init"


@pytest.mark.parametrize(
    ("arguments", "status", "verdict"),
    [
        (["--code", CODE_TYPED], 0, "registered: yes, up to date"),
        (["--code", "1234 5678 9013"], 1, "registered: no, the code was refused"),
        ([], 0, "registered: no, waiting for a code"),
        (["--code", CODE_TYPED, "--polls", "2"], 2, "registered: not yet"),
    ],
)
def test_the_command_line_tells_how_it_ended(
    arguments: list[str], status: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over real HTTP: 0 registered or waiting, 1 refused, 2 not finished; nothing secret shown."""
    with demo() as url:
        assert main(["--url", url, "--mac", MAC.upper(), "--pause", "0", *arguments]) == status
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == verdict
    assert f"mac={MAC}" in printed
    for secret in (TOKEN, CODE_TYPED, quote(CODE_TYPED)):
        assert secret not in printed


def test_nobody_at_the_port_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A refused connection is printed at each poll."""
    with serving(lambda _path, _asked: (200, "")) as (url, _):
        pass
    assert main(["--url", f"{url}/init", "--polls", "2", "--pause", "0"]) == 2
    printed = capsys.readouterr().out
    assert printed.count("← no answer") == 2
    assert printed.splitlines()[-1] == "registered: no, the service did not answer"
