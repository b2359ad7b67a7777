"""Templates as data: packaged for real, and searched."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
Resources = dict[str, dict[str, Any]]


def package(folder: Path, stage: str = "prod") -> Path:
    """Package as `make package` does."""
    chalice = [str(Path(sys.executable).parent / "chalice"), "package", "--stage", stage]
    for command in (
        [*chalice, "--merge-template", "infra/resources.json", str(folder)],
        [sys.executable, "-m", "infra.bytecode", str(folder)],
    ):
        subprocess.run(  # noqa: S603 - our own commands
            command,
            cwd=ROOT,
            env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
            check=True,
            capture_output=True,
        )
    return folder


def of_type(resources: Resources, kind: str) -> Resources:
    """Choose resources by type."""
    return {name: made for name, made in resources.items() if made["Type"] == kind}


def references(value: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a template
    """Find every resource that a part of a template refers to."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "Ref" and isinstance(inner, str):
                yield inner
            elif key == "Fn::GetAtt":
                yield inner[0] if isinstance(inner, list) else inner.split(".")[0]
            elif key == "Fn::Sub":
                text = inner if isinstance(inner, str) else inner[0]
                yield from (part.split("}")[0].split(".")[0] for part in text.split("${")[1:])
            elif key == "DependsOn":
                yield from [inner] if isinstance(inner, str) else inner
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def statements(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any part of a template
    """Find every statement of every policy."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        for inner in value.values():
            yield from statements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from statements(inner)


def circle(resources: Resources) -> list[str]:
    """Find the resources that depend on themselves, empty if none does."""
    graph = {name: set(references(made)) & set(resources) for name, made in resources.items()}
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    return sorted(set(graph) - done)


def lint(path: Path) -> tuple[int, str]:
    """Let cfn-lint read a template; its exit code and what it says."""
    done = subprocess.run(  # noqa: S603 - our own command
        [str(Path(sys.executable).parent / "cfn-lint"), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout
