"""The packaged template, for all tests that read it."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.infra import templates


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package once for all these tests, whichever process runs them; none may write there."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    done = shared / "packaged"
    with (shared / "packaging").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            templates.package(shared / "package")
            done.touch()
    return shared / "package"


@pytest.fixture(scope="session")
def template(packaged: Path) -> dict[str, Any]:
    """Return the packaged template, with what is said of all functions in each."""
    read: dict[str, Any] = json.loads((packaged / "sam.json").read_text())
    assert set(read["Globals"]) == {"Function"}
    (common,) = read["Globals"]["Function"].items()
    assert common[0] == "Environment"
    for made in templates.of_type(read["Resources"], "AWS::Serverless::Function").values():
        variables = made["Properties"]["Environment"]["Variables"]
        made["Properties"]["Environment"]["Variables"] = {**common[1]["Variables"], **variables}
    return read


@pytest.fixture(scope="session")
def resources(template: dict[str, Any]) -> templates.Resources:
    """Return the resources of the packaged template."""
    return dict(template["Resources"])
