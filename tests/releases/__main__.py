"""Takes the dump of this release, once, before the next one begins: `python -m tests.releases`.

It writes `tests/releases/VERSION.json`, and nothing over one that is there.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from botocore.session import Session

from chalicelib import settings
from local import dynamodb, tables
from tests.conftest import KEYS, NOW, use
from tests.releases import dumps, story

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_DAY = 86_400


def main() -> int:
    """Take the dump."""
    release = dumps.version()
    if dumps.path_of(release).exists():
        print(f"There is one of {release}; a release has one dump.", file=sys.stderr)  # noqa: T201 - said to a person
        return 1
    dynamodb.use_local_credentials()
    with (
        dynamodb.moto_engine() as endpoint,
        TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        client: DynamoDBClient = Session().create_client("dynamodb", endpoint_url=endpoint)
        names = tables.create(client, "dialtone-")
        keys = Path(folder) / "keys.json"
        keys.write_text(json.dumps(KEYS))
        plain = settings.Settings()
        use(
            replace(plain, dynamodb_endpoint=endpoint, keys_file=str(keys), emit_metrics=False),
            patch,
        )
        with story.standing_still(patch, lambda: NOW) as (wires, issuer):
            known = story.tell(wires, issuer, client)
        items = {concept: _items(client, name) for concept, name in names.items()}
    written = dumps.write(dumps.Dump(release, NOW, KEYS, known, items))
    print(f"{sum(map(len, items.values()))} items in {written}")  # noqa: T201 - said to a person
    return 0


def _items(client: "DynamoDBClient", name: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("scan").paginate(TableName=name)
    found = [dict(item) for page in pages for item in page["Items"]]
    for item in found:
        if "in_progress_expiration" in item:
            # Powertools goes by the machine's clock, and everything else here by one that stands
            item["purge_at"] = {"N": str(int(NOW.timestamp()) + _DAY)}
    return sorted(found, key=lambda item: json.dumps(item, sort_keys=True))


if __name__ == "__main__":
    sys.exit(main())
