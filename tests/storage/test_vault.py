import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from chalicelib import settings
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.storage import vault
from tests.conftest import use

pytestmark = pytest.mark.usefixtures("table_names")


def test_codes_are_twelve_digits_without_structure() -> None:
    """Leading zeros included, and no two alike among many."""
    drawn = {vault.new_code() for _ in range(2_000)}
    assert len(drawn) == 2_000
    assert all(re.fullmatch(r"\d{12}", code) for code in drawn)
    assert {code[0] for code in drawn} == set("0123456789")


def test_a_fingerprint_needs_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same under the same key, another under another, the current one first."""
    (first,) = vault.fingerprints("123456789012")
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    keys = {"current": "2", "1": "code key of the tests", "2": "another", "3": "a third"}
    monkeypatch.setattr(vault, "_keys", lambda _: keys)
    found = vault.fingerprints("123456789012")
    assert len(set(found)) == 3
    assert found[1] == first


def test_a_token_is_derived_and_checked_in_constant_time() -> None:
    """Always the same for a registration, never for another; its hash alone is kept."""
    token, version = vault.device_token("a" * 12, "R1")
    assert vault.device_token("a" * 12, "R1", version) == (token, version)
    assert (
        len({token, vault.device_token("a" * 12, "R2")[0], vault.device_token("b" * 12, "R1")[0]})
        == 3
    )
    assert vault.is_token(token, vault.token_hash(token))
    assert not vault.is_token(token, "")
    assert not vault.is_token("", vault.token_hash(token))


def test_secrets_come_by_arn_from_secrets_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its own; one that cannot be read is a store that is not available."""
    asked: list[str] = []

    class Provider:
        def get(self, arn: str, **_: Any) -> str:  # noqa: ANN401 - Powertools' signature
            asked.append(arn)
            if "broken" in arn:
                raise GetParameterError("cannot be read")
            return json.dumps({"current": "1", "1": arn})

    arns = replace(settings.current(), code_key_secret="arn:code", vault_key_secret="arn:vault")
    use(arns, monkeypatch)
    monkeypatch.setattr(vault, "_provider", cache(Provider))
    vault.fingerprints("123456789012")
    vault.device_token("a" * 12, "R1")
    assert asked == ["arn:code", "arn:vault"]
    use(replace(arns, code_key_secret="arn:broken"), monkeypatch)
    with pytest.raises(StoreUnavailableError):
        vault.fingerprints("123456789012")


def test_the_provider_is_powertools_own() -> None:
    """It caches, so that a secret is not fetched for each phone."""
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

    assert isinstance(vault._provider(), SecretsProvider)  # noqa: SLF001 - what it is made of
    vault.forget()


def test_keys_of_one_machine_are_made_once_and_private(tmp_path: Path) -> None:
    """Readable by their owner alone, and never replaced."""
    path = tmp_path / "state" / "keys.json"
    vault.write_new_keys(path)
    made = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(made)) == {"code", "vault"}
    vault.write_new_keys(path)
    assert path.read_text() == made
