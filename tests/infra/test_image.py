"""The gateway's image: its Dockerfile is read, and laid out as a build would; nothing builds it."""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.infra.templates import ROOT
from tests.infra.test_gateway import CONTAINER, MODULES, named, needed

LINES = re.sub(r"\\\n\s*", "", (ROOT / "gateway" / "Dockerfile").read_text()).splitlines()
REQUIREMENTS = ROOT / "gateway" / "requirements.txt"


def instructions(word: str) -> list[str]:
    """Find the instructions of a kind, what follows the word."""
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{word} ")]


def instruction(word: str) -> str:
    """Find the only instruction of a kind."""
    (found,) = instructions(word)
    return found


def is_seen(name: str) -> bool:
    """Tell whether the build sees a path: by the last pattern that fits it or a folder above."""
    above = [name, *map(str, Path(name).parents)][:-1]
    seen = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            anywhere = "**/" in line
            if any(fnmatchcase(Path(one).name if anywhere else one, pattern) for one in above):
                seen = line.startswith("!")
    return seen


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what the Dockerfile copies, into an empty folder."""
    place = tmp_path_factory.mktemp("image")

    def unseen(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(ROOT)
        return {name for name in names if not is_seen(str(inside / name))}

    for line in instructions("COPY"):
        source, destination = shlex.split(line)
        assert is_seen(source), source
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place / destination, ignore=unseen, dirs_exist_ok=True)
        else:
            (place / destination).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place / destination)
    return place


def test_the_build_sees_what_it_copies_and_no_more() -> None:
    """No key, no test, no history; what is ignored is named in one place."""
    for name in ("gateway/frames.py", "gateway/requirements.txt", "chalicelib/settings.py"):
        assert is_seen(name), name
    for name in (
        *(".git", ".git/config", ".state/keys.json", ".venv/bin/python", "app.py", "tests"),
        *("gateway/__pycache__/frames.cpython-313.pyc", "chalicelib/roles/__pycache__"),
        *("chalicelib/web/app.js", "chalicelib/api/views.py", "infra/resources.json"),
    ):
        assert not is_seen(name), name


def test_everything_that_the_gateway_imports_is_in_it(image: Path) -> None:
    """Wherever a module imports it, and what it imports on use."""
    for name in needed():
        path = Path(*name.split("."))
        module, package = image / path.with_suffix(".py"), image / path / "__init__.py"
        assert module.exists() or package.exists(), name


IMPORT = """
import pkgutil, sys
import gateway
for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
    if module.name != "gateway.__main__":
        __import__(module.name)
for name in sys.argv[1:]:
    __import__(name)
print(gateway.__path__[0])
"""


def test_the_gateway_starts_from_it_alone(image: Path) -> None:
    """Every module of it, and what these import on use, without the rest of the tree."""
    beside = {name for name in needed() if name.startswith("chalicelib.")}
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-B", "-c", IMPORT, *sorted(beside)],
        cwd=image,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == image / "gateway"


def test_every_package_that_it_imports_is_installed() -> None:
    """Each that a module names; what those need in turn, the compiled file has."""
    installed = {plain(name) for name in pinned(REQUIREMENTS)}
    distributions = importlib.metadata.packages_distributions()
    packages = {name.split(".")[0] for one in needed() for name in named(MODULES[one])}
    foreign = packages - set(sys.stdlib_module_names) - {"chalicelib", "gateway"}
    assert {"botocore", "h11", "pynamodb"} <= foreign
    for name in foreign:
        assert {plain(one) for one in distributions[name]} & installed, name


def plain(name: str) -> str:
    """Write a distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    """Read the versions of a compiled file: name → version."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", path.read_text(), re.MULTILINE))


def test_it_installs_what_the_tests_run_on() -> None:
    """The same versions, each with its hashes: what the functions have, and one for pages."""
    ours = pinned(REQUIREMENTS)
    assert ours.items() <= pinned(ROOT / "requirements-local.txt").items()
    assert set(ours) - set(pinned(ROOT / "requirements.txt")) == {"h11"}
    install = next(line for line in instructions("RUN") if line.startswith("pip install"))
    assert {"--require-hashes", "--no-cache-dir", "gateway/requirements.txt"} <= set(
        install.split()
    )
    assert REQUIREMENTS.read_text().count("--hash=sha256:") >= len(ours)


def test_every_requirement_says_what_for() -> None:
    """And `make lock` compiles it with the others."""
    lines = (ROOT / "gateway" / "requirements.in").read_text().splitlines()
    for line in lines[1:]:
        assert line.startswith("-r ") or "# " in line, line
    lock = (ROOT / "Makefile").read_text().split("\nlock:")[1].split("done")[0]
    assert " gateway/requirements;" in lock


def test_it_runs_as_nobody_in_particular() -> None:
    """By number, so that whoever runs it can tell that it is not root; and from a named Python."""
    user, group = map(int, instruction("USER").split(":"))
    assert min(user, group) > 0
    assert re.fullmatch(r"python:3\.1[1-3]-slim", instruction("FROM"))


def test_the_signal_to_end_reaches_python() -> None:
    """No shell stands between, and ECS is given no other command."""
    assert json.loads(instruction("ENTRYPOINT")) == ["python", "-m", "gateway"]
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert instructions("CMD") == []
    assert not {"Command", "EntryPoint"} & set(CONTAINER)
    assert instruction("EXPOSE") == str(CONTAINER["PortMappings"][0]["ContainerPort"])


def test_its_modules_come_compiled() -> None:
    """Its folder cannot be written to when it runs."""
    (compiled,) = [line for line in instructions("RUN") if "compileall" in line]
    assert {"chalicelib", "gateway", "unchecked-hash"} <= set(compiled.split())
    assert "PYTHONDONTWRITEBYTECODE=1" in instruction("ENV").split()
    copies = [number for number, line in enumerate(LINES) if line.startswith("COPY ")]
    assert max(copies) < LINES.index(f"RUN {compiled}")


class _Health(BaseHTTPRequestHandler):
    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Answer for a gateway's health on a port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (503, False), (404, False)])
def test_its_health_is_asked_for(
    served: int, status: int, is_well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the very command, which fails while the gateway drains; and where nobody listens."""
    command = json.loads(instruction("HEALTHCHECK").split("CMD ")[1])
    assert command[0] == "python"
    monkeypatch.setattr(_Health, "status", status)

    def asked(port: int) -> int:
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, *command[1:]],
            env={"GATEWAY_PORT": str(port)},
            capture_output=True,
            check=False,
        ).returncode

    assert (asked(served) == 0) is is_well
    assert asked(1) != 0


def test_what_is_named_is_there() -> None:
    """The modules of the gateway import each other by names that the search above finds."""
    assert "chalicelib.core.devices" in set(named(ROOT / "gateway" / "frames.py"))
    assert {"gateway.frames", "chalicelib.roles.registrations"} <= needed()
