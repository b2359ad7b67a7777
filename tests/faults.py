"""Faults of AWS on demand: the next calls of an operation fail as the real service lets them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from chalicelib.storage import connection


def client_error(code: str, operation: str, reasons: list[str] | None = None) -> ClientError:
    """Make the error that botocore raises for an answer of DynamoDB."""
    response: Any = {"Error": {"Code": code, "Message": "as DynamoDB says"}}
    if reasons is not None:
        response["CancellationReasons"] = [{"Code": reason, "Message": ""} for reason in reasons]
    return ClientError(response, operation)


def timeout() -> ConnectTimeoutError:
    """Make the error of a network that does not answer."""
    return ConnectTimeoutError(endpoint_url="http://127.0.0.1")


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    *errors: Exception,
    after_commit: bool = False,
    spare: int = 0,
) -> Iterator[list[Exception]]:
    """Let the next calls of an operation fail, one with each error, whichever thread makes them.

    Args:
        after_commit: let the call reach the engine first: the answer is lost, not the write.
        spare: how many calls go well before that.

    Yields:
        The errors that are still to come.
    """
    pending: list[Exception | None] = [None] * spare + list(errors)
    still_to_come = list(errors)
    lock = threading.Lock()

    def call(name: str, real: Callable[[], Any], _: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        with lock:
            error = pending.pop(0) if name == operation and pending else None
            if error is not None:
                still_to_come.remove(error)
        if error is None:
            return real()
        if after_commit:
            real()
        raise error

    with _calling(monkeypatch, call):
        yield still_to_come


@contextmanager
def meanwhile(
    monkeypatch: pytest.MonkeyPatch, operation: str, act: Callable[[], object]
) -> Iterator[None]:
    """Let something happen before the next call of an operation, and after all calls before it."""
    acts = [act]

    def call(name: str, real: Callable[[], Any], _: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        if name == operation and acts:
            acts.pop()()
        return real()

    with _calling(monkeypatch, call):
        yield
    assert not acts


@contextmanager
def conflicts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Cancel a transaction on an item that another is writing, as AWS does and no engine here.

    Whoever is to try again waits until the items that it was in conflict about are free.

    Yields:
        The tables of the items that were in conflict, as it happens.
    """
    met: list[str] = []
    held: set[tuple[str, str]] = set()
    ended = threading.Condition()
    waiting = threading.local()

    def call(name: str, real: Callable[[], Any], arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        if name != "TransactWriteItems":
            return real()
        items = [_item_of(one) for one in arguments["TransactItems"]]
        with ended:
            taken = [item in held for item in items]
            if any(taken):
                waiting.items = held.intersection(items)
                met.extend(concept for concept, _ in waiting.items)
                reasons = ["TransactionConflict" if one else "None" for one in taken]
                raise client_error("TransactionCanceledException", name, reasons)
            held.update(items)
        try:
            return real()
        finally:
            with ended:
                held.difference_update(items)
                ended.notify_all()

    def pause(_: float) -> None:
        with ended:
            ended.wait_for(lambda: held.isdisjoint(waiting.items), _PATIENCE_SECONDS)

    with monkeypatch.context() as patch, _calling(monkeypatch, call):
        patch.setattr(connection.SharedConnection, "pause", staticmethod(pause))
        yield met


@dataclass
class Trouble:
    """What becomes of the next calls.

    Args:
        spare: how many go well before it.
        count: how many fail then.
        is_after_commit: they reach the engine, and their answers are lost.
    """

    spare: int = 0
    count: int = 0
    is_after_commit: bool = False

    def strikes(self) -> bool:
        """Tell whether this call is one that fails."""
        if not self.count:
            return False
        if self.spare:
            self.spare -= 1
            return False
        self.count -= 1
        return True


@contextmanager
def troubled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    """Let calls be throttled, whatever they are, as is said meanwhile."""
    trouble = Trouble()

    def call(name: str, real: Callable[[], Any], _: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        is_struck = trouble.strikes()
        answer = real() if trouble.is_after_commit or not is_struck else None
        if is_struck:
            raise client_error("ThrottlingException", name)
        return answer

    with _calling(monkeypatch, call):
        yield trouble


_PATIENCE_SECONDS = 30


def _item_of(write: dict[str, Any]) -> tuple[str, str]:
    """Tell which item a part of a transaction is about: its table and its key."""
    (part,) = write.values()
    kinds = {connection.table_name(kind.concept): kind for kind in connection.Item.__subclasses__()}
    kind = kinds[part["TableName"]]
    known = part.get("Key") or part["Item"]
    names = (kind._hash_keyname, kind._range_keyname)  # noqa: SLF001 - PynamoDB keeps them there
    return kind.concept, str([known[name] for name in names if name])


@contextmanager
def _calling(
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[str, Callable[[], Any], dict[str, Any]], Any],
) -> Iterator[None]:
    client = connection.shared().client
    real = client._make_api_call  # noqa: SLF001 - where botocore's own tests hook in, too

    def passed_on(name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        return call(name, lambda: real(name, arguments), arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, "_make_api_call", passed_on)
        yield
