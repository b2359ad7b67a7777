import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import sysclient_login

ALL = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
DIGESTS, PASSWORDS = ALL["sysclient_digest"], ALL["admin_password_rc4"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
OWN = st.text(sysclient_login.CHARACTERS, min_size=32, max_size=32)
SEEDS = st.text(sysclient_login.CHARACTERS, min_size=16, max_size=16)

RFC_6229 = [
    ("0102030405", 0, "b2396305f03dc027ccc3524a0a1118a8"),
    ("0102030405", 240, "28cb1132c96ce286421dcaadb8b69eae"),
    ("0102030405", 4096, "ff25b58995996707e51fbdf08b34d875"),
    ("0102030405060708090a0b0c0d0e0f10", 0, "9ac7cc9a609d1ef7b2932899cde41b97"),
]
"""Key, offset, and the key stream there."""


@pytest.mark.parametrize("vector", DIGESTS)
def test_the_digest_is_that_of_a_real_phone(vector: dict[str, str]) -> None:
    """And another as soon as any part of it is another."""
    names = ("id", "product", "version", "challenge", "password")
    parts = [vector[name] for name in names]
    assert sysclient_login.digest(*parts) == vector["digest"]
    for at in range(len(parts)):
        other = [*parts[:at], parts[at] + "x", *parts[at + 1 :]]
        assert sysclient_login.digest(*other) != vector["digest"]


@pytest.mark.parametrize("vector", PASSWORDS)
def test_an_administrators_password_is_encrypted_as_the_vendor_does(
    vector: dict[str, str],
) -> None:
    """The hex digits of RC4 under seed and sysclient password."""
    seed, password = vector["seed"], vector["sysclient_password"]
    assert sysclient_login.encrypt(vector["plain"], seed, password) == vector["encrypted"]
    assert sysclient_login.decrypt(vector["encrypted"], seed, password) == vector["plain"]


def test_the_vectors_are_there_and_of_the_lengths_that_clients_want() -> None:
    """A comparison with nothing would hold, too."""
    assert (len(DIGESTS), len(PASSWORDS)) == (1, 2)
    own = [DIGESTS[0]["password"], *(vector["sysclient_password"] for vector in PASSWORDS)]
    seeds = [vector["seed"] for vector in PASSWORDS]
    assert {len(password) for password in own} == {sysclient_login.PASSWORD_LENGTH}
    assert {len(seed) for seed in seeds} == {sysclient_login.SEED_LENGTH}
    assert set("".join([*own, *seeds])) <= set(sysclient_login.CHARACTERS)
    assert int(DIGESTS[0]["challenge"]) < 2**sysclient_login.CHALLENGE_BITS


@pytest.mark.parametrize(("key", "offset", "expected"), RFC_6229)
def test_the_cipher_is_rc4(key: str, offset: int, expected: str) -> None:
    """By the key streams that RFC 6229 prints."""
    stream = sysclient_login._rc4(bytes.fromhex(key), bytes(offset + 16))  # noqa: SLF001 - its vectors are of the bare cipher
    assert stream[offset:].hex() == expected


@given(TEXT, SEEDS, OWN)
def test_a_phone_reads_any_password_that_was_encrypted_for_it(
    plain: str, seed: str, password: str
) -> None:
    """Whatever characters are in it; its length shows, nothing else is promised."""
    encrypted = sysclient_login.encrypt(plain, seed, password)
    assert sysclient_login.decrypt(encrypted, seed, password) == plain
    assert len(encrypted) == 2 * len(plain.encode())


@pytest.mark.parametrize("encrypted", ["no hex", "22f", "ff"])
def test_what_is_no_password_is_refused(encrypted: str) -> None:
    """Neither hex digits of another kind, nor what decrypts to no text."""
    vector = PASSWORDS[0]
    with pytest.raises(ValueError, match=r"hex|decode"):
        sysclient_login.decrypt(encrypted, vector["seed"], vector["sysclient_password"])
