"""Sysclient logins: what proves a phone's password, and how an administrator's reaches the phone.

RC4 is here because phones decrypt with it; it protects nothing, a websocket over TLS does. It must
not know frames, who may log in, nor where a password is kept.
"""

from chalicelib.core.app_login import hashed

PASSWORD_LENGTH = 32
SEED_LENGTH = 16
"""Some clients refuse any other length, of passwords and seeds alike."""

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!_"
"""What the vendor's own passwords and seeds are made of."""

CHALLENGE_BITS = 31
"""The vendor's own challenges are random numbers of this size, in decimal digits."""

_STATES = 256


def digest(hw_id: str, product: str, version: str, challenge: str, password: str) -> str:
    """Compute the digest with which a phone that has been here proves its sysclient password.

    Args:
        hw_id, product, version: as its identify message spells them.
        challenge: as it was sent.

    Returns:
        64 lower-case hex digits.

    Source: the vendor's sysclient description, checked with an example (tests/vectors.json).
    """
    return hashed(hw_id, product, version, challenge, password)


def encrypt(admin_password: str, seed: str, password: str) -> str:
    """Encrypt a domain's administrator password for one phone.

    Args:
        seed: drawn anew for each message; a second password under the same one shows both.
        password: the phone's own sysclient password.

    Returns:
        Lower-case hex digits, two for each byte.

    Source: the vendor's sysclient description, checked with examples (tests/vectors.json).
    """
    return _rc4(f"{seed}:{password}".encode(), admin_password.encode()).hex()


def decrypt(encrypted: str, seed: str, password: str) -> str:
    """Do what a phone does with an encrypted administrator password.

    Args:
        encrypted: hex digits.

    Raises:
        ValueError: these are no hex digits, or what comes out is no text: another password.
    """
    return _rc4(f"{seed}:{password}".encode(), bytes.fromhex(encrypted)).decode()


def _rc4(key: bytes, data: bytes) -> bytes:
    """Encrypt, or decrypt, which is the same. Source: RFC 6229, whose vectors the tests hold."""
    states = list(range(_STATES))
    j = 0
    for i in range(_STATES):
        j = (j + states[i] + key[i % len(key)]) % _STATES
        states[i], states[j] = states[j], states[i]
    crypted = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % _STATES
        j = (j + states[i]) % _STATES
        states[i], states[j] = states[j], states[i]
        crypted.append(byte ^ states[(states[i] + states[j]) % _STATES])
    return bytes(crypted)
