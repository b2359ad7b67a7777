"""What every test can ask for: an engine, tables of its own, and the settings that lead there."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import hypothesis
import pytest
from botocore.session import Session

from chalicelib import settings
from chalicelib.storage import connection
from local import dynamodb, tables
from local.serve import forget
from tests import engine_tables, moto_tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from tests.bus import Bus
    from tests.wires import Wires

NOW = datetime(2036, 11, 24, 12, 0, 0, tzinfo=UTC)
"""Far ahead: an engine that deletes what has expired goes by the clock of the machine."""

KEYS = {name: {"current": "1", "1": f"{name} key of the tests"} for name in ("code", "vault")}
_START_SECONDS = 30

_JAVA = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""For tests it lives for minutes: what the thorough compiler costs never comes back."""

_LONGEST = {"test_histories", "test_faults"}
"""Modules whose single tests take longest; a core that has one of them last waits for nothing."""

# A busy machine is no defect; nothing here is decided by the clock of the machine.
hypothesis.settings.register_profile("dialtone", deadline=None)
hypothesis.settings.load_profile("dialtone")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the engine."""
    parser.addoption("--engine", help="a folder with DynamoDBLocal.jar; default: moto")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that all cores end together; the rest keeps its order."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


def pytest_runtest_setup() -> None:
    """Let tests reach this machine and nothing else."""
    import pytest_socket

    pytest_socket.socket_allow_hosts(
        ["127.0.0.1", "127.0.0.2", "localhost", "::1"], allow_unix_socket=True
    )


@contextmanager
def dynamodb_local(folder: Path, *java: str) -> Iterator[str]:
    """Run AWS's DynamoDB Local on a free loopback port.

    Args:
        java: options of Java itself.
    """
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["java", *java, f"-Djava.library.path={folder}/DynamoDBLocal_lib", "-jar"]
    arguments = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*command, f"{folder}/DynamoDBLocal.jar", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(_START_SECONDS * 10):
            try:
                urlopen(url, timeout=1)
            except HTTPError:
                break
            except (URLError, TimeoutError):
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start a DynamoDB: moto, or AWS's own with --engine."""
    dynamodb.use_local_credentials()
    folder = request.config.getoption("--engine")
    with dynamodb_local(Path(folder), *_JAVA) if folder else dynamodb.moto_engine() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def client(engine: str) -> "DynamoDBClient":
    """Return a client of the engine that is not the service's own."""
    return Session().create_client("dynamodb", endpoint_url=engine)  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def kept_tables(engine: str, client: "DynamoDBClient") -> Iterator[dict[str, str]]:
    """Make the tables once a process: making them costs more than most tests."""
    assert engine
    names = tables.create(client, f"t{os.getpid()}-")
    yield names
    for name in names.values():
        client.delete_table(TableName=name)


@pytest.fixture
def table_names(
    engine: str,
    client: "DynamoDBClient",
    kept_tables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, str]]:
    """Give a test empty tables of its own, and let the service find them."""
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(KEYS))
    used = replace(
        settings.Settings(),
        tables={concept: kept_tables[concept] for concept in settings.TABLES},
        dynamodb_endpoint=engine,
        keys_file=str(keys),
        emit_metrics=False,
    )
    use(used, monkeypatch)
    yield kept_tables
    if not moto_tables.empty(kept_tables):
        engine_tables.empty(client, kept_tables)


_connected: list[object] = []
"""Where the service's connection leads; it is kept as long as that does not change."""


def use(used: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service use these settings for the rest of a test."""
    leads_to = [used.dynamodb_endpoint, dict(used.tables)]
    with monkeypatch.context() as patch:
        if _connected == leads_to:
            patch.setattr(connection, "forget", lambda: None)
        forget()
    _connected[:] = leads_to
    monkeypatch.setattr(settings, "current", cache(lambda: used))
    monkeypatch.setattr(connection.SharedConnection, "pause", staticmethod(lambda _: None))


@pytest.fixture
def wires(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> "Wires":
    """Let connections open, and let what is sent to them arrive."""
    from tests.wires import Wires

    assert table_names
    return Wires(monkeypatch)


@pytest.fixture
def bus(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> "Bus":
    """Let events be put on a bus."""
    from tests.bus import Bus

    assert table_names
    return Bus(monkeypatch)
