"""Processes that die on purpose between any two calls, and a clock that goes when it is told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib import sending
from chalicelib.storage import connection
from tests.conftest import NOW


class Died(BaseException):
    """The process is no more; nothing of ours may catch it."""


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.stopped = threading.RLock()
        """Whoever holds it lets no time pass."""

    def __call__(self) -> datetime:
        """Tell the time."""
        return NOW + timedelta(seconds=self.seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self.stopped:
            self.seconds += seconds


class Process:
    """Watches every call that a thread makes to DynamoDB and to API Gateway.

    Args:
        before, after: told each call's number (1, …) and name; whatever they raise ends it.
    """

    def __init__(self) -> None:
        self.before: Callable[[int, str], None] = lambda *_: None
        self.after: Callable[[int, str], None] = lambda *_: None
        self.made = 0
        self._thread = threading.get_ident()
        self._is_watched = True

    def call(self, name: str, made: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it answers
        """Make a call."""
        if threading.get_ident() != self._thread or not self._is_watched:
            return made()
        self.made += 1
        self._tell(self.before, name)
        answer = made()
        self._tell(self.after, name)
        return answer

    def _tell(self, hook: Callable[[int, str], None], name: str) -> None:
        self._is_watched = False
        try:
            hook(self.made, name)
        finally:
            self._is_watched = True


@contextmanager
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """Watch the calls of this thread."""
    watched = Process()
    client = connection.shared().client
    real_call, real_post = client._make_api_call, sending.post  # noqa: SLF001 - as in tests/faults.py

    def call(name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        return watched.call(name, lambda: real_call(name, arguments))

    def post(connection_id: str, message: str) -> bool:
        return bool(watched.call("post", lambda: real_post(connection_id, message)))

    with monkeypatch.context() as patch:
        patch.setattr(client, "_make_api_call", call)
        patch.setattr(sending, "post", post)
        yield watched
