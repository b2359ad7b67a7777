import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from local import phone
from local.update_client import UpdateClient

FORM = "vars create UPDATE/PROVISIONING-CODE h prompt\r\n"
URL = "http://127.0.0.1:8000/init"


def run(*answers: tuple[int, str] | OSError, code: str | None = "123456789012") -> phone.Outcome:
    """Run a phone against these answers, one after another."""
    pending = list(answers)

    def fetch(_: str) -> tuple[int, str]:
        answer = pending.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    client = UpdateClient("00-90-33-3d-12-34", "IP232", "127.0.0.1", URL)
    return phone.run_phone(client, fetch, code, max_polls=len(answers))


def test_a_phone_without_anybody_waits_for_a_code() -> None:
    """It shows the form, and that is all."""
    outcome = run((200, FORM), code=None)
    assert outcome.verdict == "registered: no, waiting for a code"


def test_a_refused_code_is_not_typed_again() -> None:
    """The form comes back: the person is told."""
    outcome = run((200, FORM), (200, FORM))
    assert outcome.is_refused
    assert outcome.verdict == "registered: no, the code was refused"


def test_a_phone_that_is_told_to_wait_keeps_its_code() -> None:
    """A comment, an error and no answer at all change nothing."""
    outcome = run(
        (200, FORM), (200, "# later\r\n"), (503, ""), OSError("refused"), (200, "# later")
    )
    assert outcome.client.url().endswith("PROVISIONING-CODE=123456789012")
    assert outcome.verdict == "registered: not yet"
    assert run(OSError("refused")).verdict == "registered: no, the service did not answer"


def test_a_phone_with_its_token_and_nothing_to_do_is_up_to_date() -> None:
    """Only then it is through."""
    token = "config add UP1 /url http%3A%2F%2Fx%2F%3Fdevice_token%3Dabc\r\nconfig activate\r\n"
    assert run((200, "# idle\r\n")).is_registered is False
    outcome = run((200, FORM), (200, token), (200, "# idle\r\n"))
    assert outcome.is_registered
    assert "abc" not in phone.summary(outcome)


@pytest.fixture
def server() -> Iterator[str]:
    """Run a server that shows the form, behind a redirect."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_moved = self.path.startswith("/old")
            self.send_response(302 if is_moved else 200)
            if is_moved:
                self.send_header("Location", "/new")
            self.end_headers()
            self.wfile.write(b"" if is_moved else FORM.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join()


def test_the_command_says_how_it_ended(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By words and by its exit code; the code that was typed is not shown."""
    assert phone.main(["--url", f"{server}/old"]) == 0
    assert "waiting for a code" in capsys.readouterr().out
    arguments = ["--url", f"{server}/new", "--code", "1234 5678 9012", "--source", "127.0.0.7"]
    assert phone.main([*arguments, "--pause", "0"]) == 1
    printed = capsys.readouterr().out
    assert "refused" in printed
    assert "1234" not in printed.replace("00-90-33", "")
    assert phone.main(["--url", "http://127.0.0.1:9/", "--polls", "1"]) == 2


def test_macs_are_of_the_vendors_range() -> None:
    """And differ."""
    macs = {phone.new_mac() for _ in range(20)}
    assert len(macs) == 20
    assert all(mac.startswith("00-90-33-") for mac in macs)
