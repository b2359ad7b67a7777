"""Faults of AWS on demand: the next calls of an operation fail as the real service lets them."""

from collections.abc import Iterator
from contextlib import contextmanager
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
    monkeypatch: pytest.MonkeyPatch, operation: str, *errors: Exception, after_commit: bool = False
) -> Iterator[list[Exception]]:
    """Let the next calls of an operation fail, one with each error.

    Args:
        after_commit: let the call reach the engine first: the answer is lost, not the write.

    Yields:
        The errors that are still to come.
    """
    pending = list(errors)
    client = connection.shared().client
    real = client._make_api_call  # noqa: SLF001 - where botocore's own tests hook in, too

    def call(name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's answer
        if name == operation and pending:
            if after_commit:
                real(name, arguments)
            raise pending.pop(0)
        return real(name, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, "_make_api_call", call)
        yield pending
