"""What is undocumented fails here: routes, settings, metrics, tables, errors, decisions, words."""

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import pytest

from app import app
from chalicelib import settings
from chalicelib.api import problems
from chalicelib.core import rate_limits
from gateway import frames
from local import serve, tables
from local.update_client import UpdateClient

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
OPENAPI = json.loads((ROOT / "chalicelib" / "openapi.json").read_text())
SOURCES = {
    path: path.read_text()
    for folder in ("chalicelib", "gateway")
    for path in (ROOT / folder).rglob("*.py")
}


def text(name: str) -> str:
    """Read a document."""
    return (DOCS / name).read_text()


def documented_actions() -> set[str]:
    """Find what the audit trail can say, as docs/data-model.md lists it."""
    section = text("data-model.md").split("## The audit trail")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([A-Za-z ]+)` \|", section, re.MULTILINE))


def test_every_route_is_described_and_every_description_is_a_route() -> None:
    """Method by method, in docs/openapi.json, which is the file that ships."""
    served = {(path, method.lower()) for path, routes in app.routes.items() for method in routes}
    described = {(path, method) for path, methods in OPENAPI["paths"].items() for method in methods}
    assert described == served
    assert (DOCS / "openapi.json").resolve() == ROOT / "chalicelib" / "openapi.json"


def test_every_post_of_people_takes_an_idempotency_key() -> None:
    """And no other operation but one that draws; tests/http/test_idempotency.py calls each."""
    draws = ("/domains/{domain}/token", "put")
    key = {"$ref": "#/components/parameters/IdempotencyKey"}
    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            is_of_people = method == "post" and operation["security"] == [{"person": []}]
            is_once = is_of_people or (path, method) == draws
            assert (key in operation.get("parameters", [])) is is_once, path
            if is_once:
                assert {"400", "401", "409", "503"} <= set(operation["responses"]), path
                assert "in-progress" in operation["responses"]["409"]["description"], path


def test_every_route_that_stores_has_its_access_path() -> None:
    """In docs/data-model.md."""
    model = text("data-model.md")
    without_store = {
        "/web/{version}/{name}",
        "/health",
        "/config.json",
        "/openapi.json",
        "/",
        "/configuration-types",
    }
    without_store |= {"/scripts/show-code-form", "/scripts/v12-cleanup"}
    stored = set(app.routes) - without_store
    assert sorted(path for path in stored if f"{path}`" not in model) == []


def test_every_table_is_described() -> None:
    """With every attribute that a model has."""
    from chalicelib.storage.connection import Item

    model = text("data-model.md")
    for concept in tables.definitions():
        assert f"| {concept} |" in model
    for item in Item.__subclasses__():
        for attribute in item.get_attributes():
            assert attribute in model, f"{item.concept}.{attribute}"


def test_every_setting_is_described() -> None:
    """By the name of its variable."""
    operations = text("operations.md")
    asked: set[str] = set()

    class Environment(dict[str, str]):
        def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
            asked.add(name)
            return default

    settings.read(Environment())
    assert len(asked) > 20
    assert [name for name in sorted(asked) if f"`{name}`" not in operations] == []
    for limit in rate_limits.LimitName:
        assert f"`{limit.upper()}_BURST`" in operations


def test_every_metric_is_described() -> None:
    """As it is counted in the code."""
    counted = {
        name
        for source in SOURCES.values()
        for name in re.findall(r"observability\.(?:count|measure)\(\s*\"(\w+)\"", source)
    }
    metrics = text("operations.md").split("## Metrics")[1].split("\n## ")[0]
    assert counted == set(re.findall(r"^\| `(\w+)` \|", metrics, re.MULTILINE))


def test_every_status_of_the_error_table_is_described() -> None:
    """Somewhere in the description of the interface."""
    described = {
        int(status)
        for methods in OPENAPI["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    assert {row.status for row in problems.TABLE.values()} <= described


def test_every_source_of_a_line_has_its_row() -> None:
    """A line of a script names a row of docs/update-client.md."""
    page = text("update-client.md")
    sources = SOURCES[ROOT / "chalicelib" / "core" / "scripts.py"]
    named = set(re.findall(r"Line\([^)]*?, \"([a-z ,]+)\"", sources))
    named |= set(re.findall(r"\", \"([a-z ,]+)\"(?:, is_inferred=True)?\)", sources))
    types = SOURCES[ROOT / "chalicelib" / "core" / "configuration.py"]
    named |= set(re.findall(r"(?:Line|options)\(\"?\w+\"?, \"([a-z ,]+)\"", types))
    assert len(named) >= 10
    assert {"time", "registration", "password", "raw lines"} <= named
    assert [name for name in named if f"| {name} |" not in page] == []


def test_every_document_that_is_linked_is_there() -> None:
    """From the README and from the code."""
    linked = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert [link for link in linked if not (ROOT / link).exists()] == []
    named = {
        name
        for source in SOURCES.values()
        for name in re.findall(r"docs/(?:decisions/\d{4}|[a-z-]+\.(?:md|json))", source)
    }
    for name in named:
        assert list(ROOT.glob(f"{name}*")), name


def test_every_setting_of_a_machine_of_its_own_is_described() -> None:
    """In docs/offline.md, what `make serve` demands and what it takes."""
    described = set(re.findall(r"`([A-Z_]+)`", text("offline.md")))
    assert {*serve.DEMANDED, "HOST", "PORT", "PUBLIC_URL", "KEYS_FILE"} <= described


def test_phones_are_told_the_same_by_every_way() -> None:
    """By dnsmasq, by Kea (whose options fit their definitions), and by hand."""
    page = text("offline.md")
    by_dnsmasq = dict(
        re.findall(r"^dhcp-option=vendor:[\d.]+,(\d+),\"?([^\"\n]+)", page, re.MULTILINE)
    )
    assert set(by_dnsmasq) == {"215", "216"}

    (kea,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    server = json.loads(kea)["Dhcp4"]
    (phones,) = server["client-classes"]
    (container,) = phones["option-def"]
    codes = {
        definition["name"]: str(definition["code"])
        for definition in server["option-def"]
        if definition["space"] == container["encapsulate"]
    }
    first, *options = phones["option-data"]
    assert first["name"] == container["name"] == "vendor-encapsulated-options"
    assert {codes[option["name"]]: option["data"] for option in options} == by_dnsmasq
    (vendor,) = set(re.findall(r"^dhcp-option=vendor:([\d.]+)", page, re.MULTILINE))
    assert phones["test"] == f"option[60].text == '{vendor}'"

    (by_hand,) = re.findall(r"```\n(config change UP1.*?)```", page, re.DOTALL)
    phone = UpdateClient("00-90-33-15-1a-4d", "IP232", "10.0.0.9", "http://vendor.example/init")
    phone.execute(by_hand, 0)
    assert phone.faults == []
    assert phone.active_url == by_dnsmasq["215"]
    assert phone.active["UP1"]["/poll"] == by_dnsmasq["216"]


@pytest.mark.parametrize(
    "path", sorted(DOCS.glob("decisions/*.md")), ids=lambda path: path.stem[:4]
)
def test_every_decision_says_what_it_is(path: Path) -> None:
    """Its number and a title."""
    assert path.read_text().startswith(f"# {int(path.stem[:4])}. ")


def test_the_project_stands_alone() -> None:
    """No file reads or names a place outside of the project."""
    outside = re.compile(r"\.\./" + r"shared|/wo" + r"rk/|regis" + r"try\.npm|pypi\." + r"org")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git of the PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        assert not outside.search((ROOT / name).read_text(errors="ignore")), name


def test_everything_that_a_page_hears_is_described() -> None:
    """By the name of its message."""
    pushed = SOURCES[ROOT / "chalicelib" / "sockets" / "push.py"]
    told = set(re.findall(r"yield written\(\s*\"(\w+)\"", pushed))
    assert len(told) == 3
    described = set(re.findall(r"^\| `(\w+)` \|", text("websockets.md"), re.MULTILINE))
    assert told == described - {"mt"}


def test_every_frame_of_the_sysclient_is_described() -> None:
    """Messages and events by number and name, members as they are spelt, limits as they are."""
    page = text("sysclient.md")
    rows = set(re.findall(r"^\| `(\d+)` \| ([a-z ]+) \|", page, re.MULTILINE))
    messages = {(f"{each:04x}", each.name.lower().replace("_", " ")) for each in frames.Message}
    events = {(f"{each:d}", each.name.lower().replace("_", " ")) for each in frames.Event}
    assert rows == messages | events
    kinds = (frames.Platform, frames.EthIf, *frames.AdminFrame.__subclasses__())
    members = {
        str(each.metadata["name"])
        for kind in kinds
        for each in dataclasses.fields(kind)
        if each.metadata
    }
    assert len(members) > 20
    assert [name for name in sorted(members) if f"`{name}`" not in page] == []
    assert f"{frames.MAX_FRAME_BYTES:,} bytes (`MAX_FRAME_BYTES`)" in page
