"""The served system: what `make run` starts, on a free port."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest

from local import serve, tables
from tests.local.served import Served

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_START_SECONDS = 60


@contextmanager
def running(given: Mapping[str, str], command: Sequence[str] = ("local.run",)) -> Iterator[Served]:
    """Start the server as the README says, on a free port, with some settings beside.

    Args:
        command: another module that does so, and its arguments.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # into a file: a pipe that nobody reads is full after 64 KiB, and then the server stands still
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", *command],
            env={**os.environ, "PORT": str(port), "PBX_PORT": "0", **given},
            stdout=told,
            stderr=subprocess.STDOUT,
        )
        made = Served(port)
        for _ in range(_START_SECONDS * 10):
            try:
                made.ask("GET", "/api/health")
                break
            except ConnectionRefusedError:
                assert process.poll() is None, _written(told)
                time.sleep(0.1)
        yield made
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        output = _written(told)
    assert "Dialtone is ready" in output
    assert "Traceback" not in output
    assert process.returncode == 0


def _written(told: IO[str]) -> str:
    told.seek(0)
    return told.read()


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, engine: str, client: "DynamoDBClient"
) -> Iterator[Served]:
    """Serve what `make run` starts, on an engine of its own unless one is given."""
    if not request.config.getoption("--engine"):
        with running({}) as made:
            yield made
        return
    with running({"DYNAMODB_ENDPOINT": engine}) as made:
        yield made
    # the demo people are the same in every module, their phones must not be
    for concept in tables.definitions():
        client.delete_table(TableName=f"{serve.PREFIX}{concept}")
