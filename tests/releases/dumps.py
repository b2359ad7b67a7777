"""Dumps of the tables as a release left them, and what people and phones then knew.

A dump is written once, by the code of its release, and never changed: `python -m tests.releases`.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FOLDER = Path(__file__).parent
_NOTE = "Keys, codes and tokens are those of the tests; nothing else knows them."
_BATCH = 25


@dataclass(frozen=True)
class Dump:
    """What a release left.

    Args:
        taken_at: the clock when it was taken; it stood still.
        keys: what the secrets held, as in a keys file.
        known: what is in no table, by name: see story.tell.
        tables: concept → items, as DynamoDB writes them.
    """

    release: str
    taken_at: datetime
    keys: Mapping[str, Any]
    known: Mapping[str, Any]
    tables: Mapping[str, list[dict[str, Any]]]

    def load(self, client: "DynamoDBClient", names: Mapping[str, str]) -> None:
        """Put every item into tables that are empty."""
        for concept, items in self.tables.items():
            for start in range(0, len(items), _BATCH):
                puts: Any = [{"PutRequest": {"Item": item}} for item in items[start:][:_BATCH]]
                client.batch_write_item(RequestItems={names[concept]: puts})


def version() -> str:
    """Tell which release this is."""
    project = tomllib.loads((FOLDER.parent.parent / "pyproject.toml").read_text())
    return str(project["project"]["version"])


def path_of(release: str) -> Path:
    """Tell where the dump of a release is."""
    return FOLDER / f"{release}.json"


def releases() -> list[str]:
    """List the releases that have a dump."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(release: str) -> Dump:
    """Read the dump of a release."""
    told = json.loads(path_of(release).read_text())
    taken_at = datetime.fromisoformat(told["taken_at"])
    return Dump(release, taken_at, told["keys"], told["known"], told["tables"])


def write(dump: Dump) -> Path:
    """Write a dump, an item a line, so that two can be compared; returns where it is."""
    tables = ",\n".join(
        f'  "{concept}": [\n' + ",\n".join(f"   {_text(item)}" for item in items) + "\n  ]"
        for concept, items in sorted(dump.tables.items())
    )
    members = {
        "note": _text(_NOTE),
        "taken_at": _text(dump.taken_at.isoformat()),
        "keys": _text(dump.keys),
        "known": _text(dump.known),
        "tables": f"{{\n{tables}\n }}",
    }
    path = path_of(dump.release)
    lines = ",\n".join(f' "{name}": {text}' for name, text in members.items())
    path.write_text(f"{{\n{lines}\n}}\n")
    return path


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
