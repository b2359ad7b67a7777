"""What `make run` starts, but with the packaged functions, each in a process of Lambda's kind.

    python -m tests.infra.packaged FOLDER

FOLDER is what `make package` wrote. The gateways, the demo data and the issuer are those of one
machine; keys come from Secrets Manager (moto's), the environment from the template.
"""

import json
import os
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from botocore.session import Session
from chalice.local import LocalChalice

import app as deployed
from chalicelib import settings
from local import run, serve
from tests.infra import runtime

FUNCTIONS = (
    "websocket_connect",
    "websocket_message",
    "websocket_disconnect",
    "follow_notifications",
    "hand_over",
    "every_minute",
    "hand_over_again",
)
GIVEN = ("ISSUER", "AUDIENCE", "INSTANCE_DOMAIN", "PUBLIC_URL", "DYNAMODB_ENDPOINT", "SANDBOX")
"""What whoever deploys says of a stage; the engine stands in for AWS's."""


class Packaged:
    """The functions of a package, started when they are first called, as Lambda does."""

    def __init__(self, folder: Path, place: Path, stack: ExitStack) -> None:
        """Take the package, where to unzip it, and what ends the processes."""
        template = json.loads((folder / "sam.json").read_text())
        self._common = template["Globals"]["Function"]["Environment"]["Variables"]
        self._made = {
            made["Properties"]["Handler"]: made["Properties"]
            for made in template["Resources"].values()
            if made["Type"] == "AWS::Serverless::Function"
        }
        self._parameters: dict[str, str | None] = {
            **{name: str(one["Default"]) for name, one in template["Parameters"].items()},
            "AWS::NoValue": None,
            "AWS::StackName": "dialtone-packaged",
        }
        self._place = place
        self._stack = stack
        self._started: dict[str, runtime.PackagedFunction] = {}
        self._secrets: dict[str, str] = {}
        self._starting = threading.Lock()
        runtime.unzip(folder, place)

    def call(self, handler: str, event: object, context: object) -> Any:  # noqa: ANN401 - the function's own
        """Invoke a function by its handler."""
        with self._starting:
            if handler not in self._started:
                told = self._environment(self._made[handler])
                started = self._stack.enter_context(runtime.running(self._place, handler, told))
                self._started[handler] = started
        return self._started[handler](event, context)

    def _environment(self, made: Mapping[str, Any]) -> dict[str, str]:
        variables = {**self._common, **made["Environment"]["Variables"]}
        resolved = {
            name: self._resolved(name, value)
            for name, value in variables.items()
            if name not in GIVEN
        }
        return {
            **{name: os.environ[name] for name in GIVEN},
            **{name: value for name, value in resolved.items() if value is not None},
            "AWS_ACCESS_KEY_ID": "packaged",
            "AWS_SECRET_ACCESS_KEY": "packaged",
            "AWS_ENDPOINT_URL": os.environ["DYNAMODB_ENDPOINT"],
            "AWS_ENDPOINT_URL_EVENTBRIDGE": os.environ["AWS_ENDPOINT_URL_EVENTBRIDGE"],
        }

    def _resolved(self, name: str, value: Any) -> str | None:  # noqa: ANN401 - any part of a template
        """Write what CloudFormation would write, where it is that of this machine, None: nothing.

        The issuer is a foreign one, and there is no edge: no condition of the template holds.
        """
        if isinstance(value, dict) and "Fn::If" in value:
            value = value["Fn::If"][2]
        if isinstance(value, str):
            return value
        if value.get("Ref") in self._parameters:
            return self._parameters[value["Ref"]]
        if name.endswith("_TABLE"):
            return f"{serve.PREFIX}{name.removesuffix('_TABLE').lower()}"
        if name.endswith("_KEY_SECRET"):
            return self._secret(name.removesuffix("_KEY_SECRET").lower())
        return os.environ[{"DEFAULT_PUBLIC_URL": "PUBLIC_URL"}.get(name, name)]

    def _secret(self, name: str) -> str:
        """Put a key of this machine into Secrets Manager, once → its ARN."""
        if name not in self._secrets:
            keys = json.loads(Path(settings.current().keys_file).read_text())
            client = Session().create_client(
                "secretsmanager", endpoint_url=os.environ["DYNAMODB_ENDPOINT"]
            )
            made = client.create_secret(Name=name, SecretString=json.dumps(keys[name]))
            self._secrets[name] = made["ARN"]
        return self._secrets[name]


@contextmanager
def packaged(folder: Path) -> Iterator[Packaged]:
    """Unzip a package; its processes end with this."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        yield Packaged(folder, Path(place), stack)


def main() -> None:
    """Serve until Ctrl+C, with the functions of a package instead of this checkout's."""
    with packaged(Path(sys.argv[1])) as functions:

        class PackagedApp(LocalChalice, type(deployed.app)):  # type: ignore[misc] # the class is the app's own
            """The app, which knows its routes and asks its packaged self for every answer."""

            def __call__(self, event: object, context: object) -> Any:  # noqa: ANN401 - Chalice's answer
                return functions.call("app.app", event, context)

        deployed.app.__class__ = PackagedApp
        stand_in = types.ModuleType("app")
        stand_in.app = deployed.app  # type: ignore[attr-defined] # a module of ours
        for name in FUNCTIONS:
            setattr(stand_in, name, partial(functions.call, f"app.{name}"))
        sys.modules["app"] = stand_in
        run.main()


if __name__ == "__main__":
    main()
