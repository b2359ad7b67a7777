"""Lambda's Runtime API on a loopback port, and packaged functions that AWS's own client starts.

What runs is what was packaged, unzipped, with its layer and nothing else of this machine.
"""

import importlib.metadata
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECONDS = 29
_CLIENT = ("awslambdaric", "snapshot-restore-py", "simplejson")


class FunctionError(Exception):
    """What a function raised, as Lambda reports it."""


@dataclass
class _Invocation:
    event: object
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    is_done: threading.Event = field(default_factory=threading.Event)
    result: object = None
    error: object = None


class _Api(ThreadingHTTPServer):
    """Hands events to whoever asks for the next one, and takes what became of each."""

    daemon_threads = True
    arn = "arn:aws:lambda:eu-central-1:000000000000:function:packaged"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.waiting: queue.Queue[_Invocation] = queue.Queue()
        self.running: dict[str, _Invocation] = {}
        self.failed_to_start: list[object] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a process that has ended while it asked for the next event."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] # socketserver's own


class _Handler(BaseHTTPRequestHandler):
    server: _Api
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing of each call."""

    def do_GET(self) -> None:
        """`/2018-06-01/runtime/invocation/next`."""
        invocation = self.server.waiting.get()
        self.server.running[invocation.request_id] = invocation
        body = json.dumps(invocation.event).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", invocation.request_id)
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", self.server.arn)
        deadline = int((time.time() + SECONDS) * 1000)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(deadline))
        self._end(body)

    def do_POST(self) -> None:
        """`…/invocation/{id}/response`, `…/invocation/{id}/error` and `…/init/error`."""
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        *_, request_id, what = self.path.split("/")
        invocation = self.server.running.pop(request_id, None)
        if invocation is None:
            self.server.failed_to_start.append(told)
        else:
            name = "result" if what == "response" else "error"
            setattr(invocation, name, told)
            invocation.is_done.set()
        self.send_response(202)
        self._end(b"{}")

    def _end(self, body: bytes) -> None:
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class PackagedFunction:
    """A function of the template, in as many processes as Lambda would have instances."""

    def __init__(self, api: _Api, process: "subprocess.Popen[bytes]") -> None:
        """Take where it asks for events, and the process that does."""
        self._api = api
        self._process = process

    def __call__(self, event: object, _context: object) -> Any:  # noqa: ANN401 - the function's own
        """Invoke it, and wait for what it returns.

        Raises:
            FunctionError: it raised, did not start, or took longer than it may.
        """
        invocation = _Invocation(event)
        self._api.waiting.put(invocation)
        for _ in range(SECONDS * 10):
            if invocation.is_done.wait(0.1):
                break
            if self._api.failed_to_start or self._process.poll() is not None:
                raise FunctionError(self._api.failed_to_start)
        else:
            raise FunctionError("it took too long")
        if invocation.error is not None:
            raise FunctionError(invocation.error)
        return invocation.result


def unzip(package: Path, into: Path) -> None:
    """Lay a package and its layer out as Lambda does, and the client beside them."""
    for name, place in (("deployment.zip", "task"), ("layer-deployment.zip", "opt")):
        with zipfile.ZipFile(package / name) as packed:
            packed.extractall(into / place)
    for name in _CLIENT:
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts:
                target = into / "client" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)


def path(place: Path) -> tuple[Path, ...]:
    """Tell where Python finds what was unzipped, in its order."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layer = place / "opt" / "python" / "lib" / version / "site-packages"
    return place / "task", layer, place / "client"


@contextmanager
def running(
    place: Path, handler: str, environment: Mapping[str, str], output: int | None = None
) -> Iterator[PackagedFunction]:
    """Start a function from where it was unzipped, by its handler (`app.follow_notifications`).

    Args:
        output: where its log goes, None for where ours goes.
    """
    api = _Api()
    thread = threading.Thread(target=api.serve_forever, daemon=True)
    thread.start()
    process = subprocess.Popen(  # noqa: S603 - our own command
        # without site, so that nothing that is installed here can help
        [os.path.realpath(sys.executable), "-S", "-m", "awslambdaric", handler],
        cwd=place / "task",
        stdout=output,
        env={
            **environment,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(str(one) for one in path(place)),
            "LAMBDA_TASK_ROOT": str(place / "task"),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": handler.partition(".")[2],
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
    )
    try:
        yield PackagedFunction(api, process)
    finally:
        process.terminate()
        process.wait()
        api.shutdown()
        api.server_close()
        thread.join()
