"""A caller of the whole HTTP interface, with demo data behind it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chalicelib import identity, settings
from local.identity import AUDIENCE
from tests import world
from tests.conftest import use
from tests.http.service import ISSUER_URL, Caller, new_issuer

STARTED_AT = datetime.now(UTC)
"""When the demo data were written, as far as these tests know."""


@pytest.fixture
def caller(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """Return a caller; the issuer's documents are served without a network."""
    issuer = new_issuer()
    use(replace(settings.current(), issuer=ISSUER_URL, audience=AUDIENCE), monkeypatch)
    documents = {f"{ISSUER_URL}{path}": body for path, body in issuer.documents().items()}
    monkeypatch.setattr(identity, "_get_json", documents.__getitem__)
    world.seed(STARTED_AT)
    made = Caller(issuer)
    yield made
    made.close()
