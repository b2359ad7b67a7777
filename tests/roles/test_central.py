"""A foreign central service that issues our digits: asked once, in time, and never followed."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalicelib import central, settings
from chalicelib.core.codes import Lifetime
from chalicelib.core.errors import (
    CentralUnavailableError,
    ConflictError,
    LimitReachedError,
    StoreUnavailableError,
)
from chalicelib.roles import rollouts, users
from tests import faults, world
from tests.conftest import KEYS, NOW, use

pytestmark = pytest.mark.usefixtures("table_names")
KEY = "01INSTALLATION.a-key-of-the-foreign-central-service-for-us"
DIGITS = "012345678901"
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]]


def good(_: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Answer as agreed, with an end before our own."""
    expires_at = (NOW + timedelta(seconds=500)).isoformat().replace("+00:00", "Z")
    return 201, {}, json.dumps({"code": DIGITS, "expires_at": expires_at}).encode()


@contextmanager
def foreign(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a foreign central service: its URL, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told = {"path": self.path, "key": self.headers["Authorization"], "body": body.decode()}
            asked.append(told)
            status, headers, text = answer(told)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST  # noqa: N815 - the standard library's name

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return what lets our codes be drawn at a URL, with our key in the keys file."""
    world.seed()
    keys = tmp_path / "with-central.json"
    keys.write_text(json.dumps({**KEYS, "central": {"current": "1", "1": KEY}}))

    def configured(url: str) -> None:
        used = replace(settings.current(), central_url=url, keys_file=str(keys))
        use(used, monkeypatch)

    return configured


def test_our_code_has_the_digits_of_the_foreign_service(configure: Callable[[str], None]) -> None:
    """It is told where our Devices are and which lifetime is meant; ours ends no later."""
    with foreign(good) as (url, asked):
        configure(url)
        issued = world.issue()
    assert issued.digits == DIGITS
    assert issued.code.expires_at == NOW + timedelta(seconds=500)
    (told,) = asked
    assert told["path"] == "/api/provisioning/codes"
    assert told["key"] == f"Bearer {KEY}"
    wanted = {"devices_url": world.UPDATE_URL, "lifetime": Lifetime.USER}
    assert json.loads(told["body"]) == wanted
    assert world.redeem(DIGITS).device.user == "user1"


def test_codes_of_the_foreign_service_cannot_be_extended(configure: Callable[[str], None]) -> None:
    """It sends no phone on with them after it said; a phone that has them gets new ones."""
    who = world.users_admin()
    rollout, _ = rollouts.create(who, name="All", category="Office", app="", note="", sips=[])
    configure("http://127.0.0.1:9")
    with pytest.raises(ConflictError, match="issue new ones"):
        rollouts.extend(who, rollout.rollout_id, rollouts.Selection([]))


def test_our_own_end_counts_where_theirs_is_later(configure: Callable[[str], None]) -> None:
    """A user's code lives for ten minutes, whatever they say."""
    body = {"code": DIGITS, "expires_at": (NOW + timedelta(days=1)).isoformat()}
    with foreign(lambda _: (201, {}, json.dumps(body).encode())) as (url, _):
        configure(url)
        assert world.issue().code.expires_at == NOW + timedelta(seconds=600)


def test_a_code_that_has_expired_already_is_none(configure: Callable[[str], None]) -> None:
    """Clocks that disagree are said, and nobody is handed a dead code."""
    body = {"code": DIGITS, "expires_at": NOW.isoformat()}
    with foreign(lambda _: (201, {}, json.dumps(body).encode())) as (url, _):
        configure(url)
        with pytest.raises(CentralUnavailableError, match="expired already"):
            world.issue()
    assert users.list_codes(world.person(), 10, None) == ([], None)


@pytest.mark.parametrize(
    ("status", "headers", "body", "what"),
    [
        (401, {}, b"{}", "HTTP 401"),
        (500, {}, b"", "HTTP 500"),
        (429, {"Retry-After": "17"}, b"", "HTTP 429"),
        (429, {"Retry-After": "soon"}, b"", "HTTP 429"),
        (201, {}, b"no json", "other than agreed"),
        (201, {}, b"[]", "other than agreed"),
        (201, {}, b'{"code": "123", "expires_at": "2036-11-24T12:00:00Z"}', "other than agreed"),
        (201, {}, b'{"code": "", "expires_at": "2036-11-24T12:00:00Z"}', "other than agreed"),
        (201, {}, b'{"code": 5, "expires_at": "2036-11-24T12:00:00Z"}', "other than agreed"),
        (201, {}, b'{"code": "012345678901", "expires_at": "later"}', "other than agreed"),
        (201, {}, b'{"code": "012345678901"}', "other than agreed"),
        (201, {}, b"[" * 9_000, "other than agreed"),
        (
            201,
            {},
            b'{"code": "012345678901", "expires_at": "2036-11-24T12:00"}',
            "other than agreed",
        ),
        (201, {}, b'{"code": "012345678901", "expires_at": 5}', "other than agreed"),
    ],
)
def test_an_answer_other_than_agreed_issues_nothing(
    configure: Callable[[str], None], status: int, headers: dict[str, str], body: bytes, what: str
) -> None:
    """The caller hears what failed, and neither the key nor the digits."""
    with foreign(lambda _: (status, headers, body)) as (url, _):
        configure(url)
        with pytest.raises(CentralUnavailableError) as failed:
            world.issue()
    assert what in str(failed.value)
    assert KEY not in str(failed.value)
    assert DIGITS not in str(failed.value)
    pause = 17 if headers.get("Retry-After") == "17" else 5
    assert failed.value.retry_after_seconds == pause
    assert users.list_codes(world.person(), 10, None) == ([], None)


def test_a_service_that_is_away_costs_nobody_their_codes(
    configure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did not issue does not count; a refund that fails changes no answer."""
    with foreign(lambda _: (503, {}, b"")) as (url, asked):
        configure(url)
        for _ in range(11):
            with pytest.raises(CentralUnavailableError):
                world.issue()
        with (
            faults.failing(monkeypatch, "UpdateItem", faults.timeout(), spare=1) as to_come,
            pytest.raises(CentralUnavailableError),
        ):
            world.issue()
    assert (len(asked), to_come) == (12, [])
    configure("")
    for _ in range(9):
        world.issue()
    with pytest.raises(LimitReachedError):
        world.issue()


def test_the_key_is_never_sent_elsewhere(configure: Callable[[str], None]) -> None:
    """A redirect is an answer other than agreed."""
    with (
        foreign(good) as (other, asked),
        foreign(lambda _: (307, {"Location": other}, b"")) as (
            url,
            _,
        ),
    ):
        configure(url)
        with pytest.raises(CentralUnavailableError, match="HTTP 307"):
            world.issue()
    assert asked == []


def test_a_service_that_is_slow_or_away_is_given_up(
    configure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time, and with a refused connection at once."""
    monkeypatch.setattr(central, "TIMEOUT_SECONDS", 0.1)
    released = threading.Event()

    def slow(told: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        released.wait(10)
        return good(told)

    with foreign(slow) as (url, _):
        configure(url)
        with pytest.raises(CentralUnavailableError):
            world.issue()
        released.set()
    with pytest.raises(CentralUnavailableError):
        world.issue()


def test_a_setting_that_is_no_web_address_is_said(configure: Callable[[str], None]) -> None:
    """Nothing is opened that is none."""
    configure("file:///etc")
    with pytest.raises(CentralUnavailableError, match="no web address"):
        world.issue()


def test_without_a_key_nobody_is_asked(
    configure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The keys file has none: that is said, and no code is issued."""
    with foreign(good) as (url, asked):
        configure(url)
        bare = tmp_path / "keys.json"
        use(replace(settings.current(), keys_file=str(bare)), monkeypatch)
        with pytest.raises(StoreUnavailableError, match="no central key"):
            world.issue()
    assert asked == []


def test_the_keys_key_can_be_a_secret_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By ARN, like the other two."""
    from chalicelib.storage import vault

    used = replace(settings.current(), central_key_secret="arn:aws:secretsmanager:x")
    use(used, monkeypatch)
    monkeypatch.setattr(vault, "_keys_by_arn", lambda arn: {"current": "2", "2": f"key at {arn}"})
    assert vault.central_key() == "key at arn:aws:secretsmanager:x"
