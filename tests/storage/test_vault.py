import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools.utilities.parameters.base import BaseProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

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


def test_challenges_are_sixteen_digits_without_structure() -> None:
    """Leading zeros included, and no two alike."""
    drawn = {vault.new_challenge() for _ in range(1_000)}
    assert len(drawn) == 1_000
    assert all(len(one) == 16 and one.isascii() and one.isdecimal() for one in drawn)
    assert {one[0] for one in drawn} == set("0123456789")


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


class Secret(BaseProvider):
    """A secret behind Powertools' own cache, which notes how often it is read."""

    def __init__(self, *versions: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Powertools' own
        self.versions, self.read_count, self.is_away = list(versions), 0, False

    def _get(self, name: str, **_: Any) -> str:  # noqa: ANN401 - Powertools' signature
        self.read_count += 1
        if self.is_away:
            raise ConnectionError
        keys = {version: f"version {version} of {name}" for version in self.versions}
        return json.dumps({"current": self.versions[-1], **keys})

    def _get_multiple(self, path: str, **_: Any) -> dict[str, str]:  # noqa: ANN401 - Powertools' signature
        raise NotImplementedError


def serve_vault_key(secret: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the vault key come from there, as to a new process."""
    vault.forget()
    use(replace(settings.current(), vault_key_secret="arn:vault"), monkeypatch)
    monkeypatch.setattr(vault, "_provider", cache(lambda: secret))


def test_a_version_that_others_know_already_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is read anew for it, though what was read of it still counts."""
    secret = Secret("1", "2")
    serve_vault_key(secret, monkeypatch)
    sealed = vault.seal("plain", "purpose")
    token = vault.device_token("a" * 12, "R1")
    password = vault.sysclient_password("a" * 12, "R1", 2)
    for act, made in (
        (lambda: vault.unseal(sealed, "purpose"), "plain"),
        (lambda: vault.device_token("a" * 12, "R1", 2), token),
        (lambda: vault.sysclient_password("a" * 12, "R1", 2), password),
    ):
        secret = Secret("1")
        serve_vault_key(secret, monkeypatch)
        old = vault.seal("old", "purpose")
        secret.versions.append("2")
        assert (act(), act(), vault.unseal(old, "purpose")) == (made, made, "old")
        assert secret.read_count == 2


def test_versions_that_nobody_has_do_not_wear_the_secret_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are a store that is not available, and it is read once for all of them in a while."""
    secret = Secret("1")
    serve_vault_key(secret, monkeypatch)
    sealed = vault.seal("plain", "purpose")
    for version in range(2, 12):
        with pytest.raises(StoreUnavailableError, match="unknown version"):
            vault.unseal(f"{version}.junk", "purpose")
    assert secret.read_count == 2
    monkeypatch.setattr(vault, "REREAD_SECONDS", 0)
    secret.is_away = True
    with pytest.raises(StoreUnavailableError):
        vault.unseal("2.junk", "purpose")
    assert secret.read_count == 3
    assert vault.unseal(sealed, "purpose") == "plain"


def test_a_version_that_the_file_lacks_is_a_store_that_is_not_available() -> None:
    """A machine's own keys are read when it starts."""
    with pytest.raises(StoreUnavailableError, match="unknown version"):
        vault.unseal("2.junk", "purpose")


def test_drawn_tokens_have_256_bits_and_are_never_alike() -> None:
    """URL-safe, so that they stand in a script and a header as they are."""
    drawn = {vault.new_token() for _ in range(200)}
    assert len(drawn) == 200
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in drawn)


def test_secrets_are_compared_whole() -> None:
    """Any text, umlauts included."""
    assert vault.is_same("größer", "größer")
    assert not vault.is_same("größer", "grösser")
    assert not vault.is_same("abc", "abcd")
    assert not vault.is_same("", "a")


def test_a_mark_names_a_secret_without_telling_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the same, another for another, and none without the key."""
    mark = vault.mark("a secret")
    assert re.fullmatch(r"[0-9a-f]{32}", mark)
    assert (vault.mark("a secret"), vault.mark("a secreT") == mark) == (mark, False)
    monkeypatch.setattr(vault, "_keys", lambda _: {"current": "1", "1": "another"})
    assert vault.mark("a secret") != mark


@settings_of_hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text()), st.lists(st.text()))
def test_other_parts_have_another_keyed_hash(one: list[str], other: list[str]) -> None:
    """Wherever one part ends and the next begins."""
    assert (vault.keyed_hash(*one) == vault.keyed_hash(*other)) is (one == other)
    assert re.fullmatch(r"[0-9a-f]{64}", vault.keyed_hash(*one))


def test_a_keyed_hash_outlives_a_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest version makes it, by number; none without the key."""
    made = vault.keyed_hash("a", "b")
    keys = {"current": "10", "10": "newest", "9": "newer", "1": "vault key of the tests"}
    monkeypatch.setattr(vault, "_keys", lambda _: keys)
    assert vault.keyed_hash("a", "b") == made
    del keys["1"]
    by_nine = vault.keyed_hash("a", "b")
    del keys["10"]
    assert vault.keyed_hash("a", "b") == by_nine
    assert by_nine != made


@settings_of_hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary())
def test_bytes_are_sealed_as_they_are(plain: bytes) -> None:
    """Whatever they are, and no text is needed."""
    assert vault.unseal_bytes(vault.seal_bytes(plain, "purpose"), "purpose") == plain


def test_a_sealed_value_opens_under_the_key_that_sealed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rotation, too; each seal is another, and none opens when it was changed."""
    from cryptography.exceptions import InvalidTag

    first, second = vault.seal("plain", "purpose"), vault.seal("plain", "purpose")
    assert first != second
    keys = {"current": "2", "1": "vault key of the tests", "2": "another"}
    monkeypatch.setattr(vault, "_keys", lambda _: keys)
    assert vault.unseal(first, "purpose") == "plain"
    assert vault.seal("plain", "purpose").startswith("2.")
    with pytest.raises(InvalidTag):
        vault.unseal(first.replace("1.", "2.", 1), "purpose")


def test_our_key_at_a_foreign_central_service_comes_by_arn_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The current one; where there is none, the error names it."""

    class Provider:
        def get(self, arn: str, **_: Any) -> str:  # noqa: ANN401 - Powertools' signature
            return json.dumps({"current": "2", "1": "old", "2": f"key of {arn}"})

    with pytest.raises(StoreUnavailableError):
        vault.central_key()
    use(replace(settings.current(), central_key_secret="arn:central"), monkeypatch)
    monkeypatch.setattr(vault, "_provider", cache(Provider))
    assert vault.central_key() == "key of arn:central"


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


def test_a_sysclient_password_is_of_one_registration_and_one_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same each time, another one for any other, and nothing that a token tells."""
    password = vault.sysclient_password("009033000001", "01A", 1)
    assert re.fullmatch(r"[A-Za-z0-9_!]{32}", password)
    assert vault.sysclient_password("009033000001", "01A", 1) == password
    others = {
        vault.sysclient_password("009033000002", "01A", 1),
        vault.sysclient_password("009033000001", "01B", 1),
        vault.device_token("009033000001", "01A")[0],
    }
    assert password not in others
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"vault": {"current": "1", "1": "another key"}}))
    use(replace(settings.current(), keys_file=str(path)), monkeypatch)
    assert vault.sysclient_password("009033000001", "01A", 1) != password


def test_challenges_and_seeds_of_sysclients_are_as_the_vendors_own() -> None:
    """31 bits in decimal digits; 16 characters; no two alike among many."""
    challenges = {vault.new_sysclient_challenge() for _ in range(200)}
    assert len(challenges) == 200
    assert all(0 <= int(one) < 2**31 for one in challenges)
    seeds = {vault.new_seed() for _ in range(200)}
    assert len(seeds) == 200
    assert all(re.fullmatch(r"[A-Za-z0-9_!]{16}", one) for one in seeds)
