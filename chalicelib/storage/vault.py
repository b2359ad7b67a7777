"""Keys, and everything made with them: codes, fingerprints, seals and device tokens.

Two secrets: the code key makes fingerprints, the vault key seals and derives tokens. Each holds
its keys by version, `{"current": "2", "1": "…", "2": "…"}`: what is new uses the current one, what
is old names or tries its own. It must never hand out a key, nor put a secret into an error.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from chalicelib import observability, settings
from chalicelib.core.app_login import CHALLENGE_DIGITS
from chalicelib.core.codes import DIGIT_COUNT
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.core.sysclient_login import (
    CHALLENGE_BITS,
    CHARACTERS,
    SEED_LENGTH,
)
from chalicelib.storage import connection

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

SECRET_CACHE_SECONDS = 300
REREAD_SECONDS = 30
"""How often a secret may be read anew for the sake of versions that are not known."""
_NONCE_BYTES = 12


def new_code() -> str:
    """Draw a provisioning code: 12 digits without any structure."""
    return f"{secrets.randbelow(10**DIGIT_COUNT):0{DIGIT_COUNT}d}"


def fingerprints(code: str) -> list[str]:
    """Hash a code under every version of the code key, the current one first.

    Args:
        code: 12 digits.

    Returns:
        64 hex digits each; which code it was can be told only with the key.

    Raises:
        StoreUnavailableError: the keys cannot be read.
    """
    keys = _keys("code")
    current = keys["current"]
    versions = [
        current,
        *sorted(version for version in keys if version not in {"current", current}),
    ]
    return [_mac(keys[version], "fingerprint", code) for version in versions]


def device_token(hw_id: str, registration_id: str, version: int | None = None) -> tuple[str, int]:
    """Derive a device's token, so that the same registration always has the same.

    Args:
        version: of the vault key; None for the current one.

    Returns:
        The token (256 bits, URL-safe) and the version that made it.

    Raises:
        StoreUnavailableError: the keys cannot be read.
    """
    keys = _keys("vault")
    used = str(version) if version is not None else keys["current"]
    key = _vault_key(keys, used)
    mac = bytes.fromhex(_mac(key, "device token", hw_id, registration_id))
    return base64.urlsafe_b64encode(mac).decode().rstrip("="), int(used)


def sysclient_password(hw_id: str, registration_id: str, version: int) -> str:
    """Derive what a phone proves itself with over its websocket, as its token is derived.

    Args:
        version: of the vault key.

    Returns:
        32 characters, 192 bits (docs/decisions/0022).

    Raises:
        StoreUnavailableError: the keys cannot be read.
    """
    key = _vault_key(_keys("vault"), str(version))
    mac = _mac(key, "sysclient password", hw_id, registration_id)
    # there are 64 characters, so each of the first bytes draws one without preferring any
    return "".join(CHARACTERS[byte % len(CHARACTERS)] for byte in bytes.fromhex(mac))


def new_sysclient_challenge() -> str:
    """Draw what a phone must compute its digest with: a decimal number, as the vendor's own."""
    return str(secrets.randbits(CHALLENGE_BITS))


def new_seed() -> str:
    """Draw what an administrator's password is encrypted with, for one message alone."""
    return "".join(secrets.choice(CHARACTERS) for _ in range(SEED_LENGTH))


def token_hash(token: str) -> str:
    """Hash a token for storing; a token has 256 bits, so no key and no salt are needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_token(token: str, stored_hash: str) -> bool:
    """Compare a token with its stored hash, in constant time."""
    return bool(stored_hash) and hmac.compare_digest(token_hash(token), stored_hash)


def new_token() -> str:
    """Draw a secret of 256 bits, URL-safe: a domain's security token, an installation's key."""
    return secrets.token_urlsafe(32)


def new_challenge() -> str:
    """Draw what a login must be computed with: 16 digits, as the vendor's own."""
    return f"{secrets.randbelow(10**CHALLENGE_DIGITS):0{CHALLENGE_DIGITS}d}"


def central_key() -> str:
    """Tell our key at the foreign central service.

    Raises:
        StoreUnavailableError: there is none, or it cannot be read.
    """
    keys = _keys("central")
    return keys[keys["current"]]


def is_same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def mark(secret: str) -> str:
    """Name a secret by a keyed hash, for counting how often the same one comes."""
    keys = _keys("vault")
    return _mac(keys[keys["current"]], "mark", secret)[:32]


def keyed_hash(*parts: str) -> str:
    """Hash texts for storing that could be guessed, so that the hash must say nothing of them.

    It is made with the oldest version of the vault key that is there, so that a new version changes
    no hash (docs/decisions/0017).

    Returns:
        64 hex digits; other parts never have the same, wherever one ends and the next begins.

    Raises:
        StoreUnavailableError: the keys cannot be read.
    """
    keys = _keys("vault")
    oldest = min((version for version in keys if version != "current"), key=int)
    return _mac(keys[oldest], "keyed hash", json.dumps(parts))


def seal(plain: str, purpose: str) -> str:
    """Encrypt a text under the current vault key: see `seal_bytes`."""
    return seal_bytes(plain.encode(), purpose)


def seal_bytes(plain: bytes, purpose: str) -> str:
    """Encrypt a value under the current vault key (AES-256-GCM).

    Args:
        purpose: what the value is and whose; opening it as something else fails.

    Returns:
        `version.base64`.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    keys = _keys("vault")
    version = keys["current"]
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_sealing_key(keys[version])).encrypt(nonce, plain, purpose.encode())
    return f"{version}.{base64.b64encode(nonce + sealed).decode()}"


def unseal(sealed: str, purpose: str) -> str:
    """Decrypt what `seal` made for the same purpose: see `unseal_bytes`."""
    return unseal_bytes(sealed, purpose).decode()


def unseal_bytes(sealed: str, purpose: str) -> bytes:
    """Decrypt what `seal_bytes` made for the same purpose.

    Raises:
        StoreUnavailableError: the keys cannot be read, or have not its version.
        cryptography.exceptions.InvalidTag: it was made for another purpose, or tampered with.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    version, _, encoded = sealed.partition(".")
    raw = base64.b64decode(encoded)
    key = _sealing_key(_vault_key(_keys("vault"), version))
    return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode())


def _mac(key: str, *parts: str) -> str:
    message = "\x1f".join(parts).encode()
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def _sealing_key(key: str) -> bytes:
    return bytes.fromhex(_mac(key, "seal"))


def _vault_key(keys: dict[str, str], version: str) -> str:
    """Find a version of the vault key; one that is unknown may be newer than what was read."""
    arn = settings.current().vault_key_secret
    if version not in keys and arn and _may_reread(arn):
        keys = _keys_by_arn(arn, is_anew=True)
    if version not in keys:
        observability.logger().warning(
            "unknown version of the vault key", extra={"version": version}
        )
        raise StoreUnavailableError("unknown version of the vault key")
    return keys[version]


def _may_reread(arn: str) -> bool:
    now, reread_at = time.monotonic(), _reread_at()
    if now - reread_at.get(arn, -REREAD_SECONDS) < REREAD_SECONDS:
        return False
    reread_at[arn] = now
    return True


@cache
def _reread_at() -> dict[str, float]:
    return {}


def _keys(name: str) -> dict[str, str]:
    used = settings.current()
    arns = {
        "code": used.code_key_secret,
        "vault": used.vault_key_secret,
        "central": used.central_key_secret,
    }
    if arns[name]:
        return _keys_by_arn(arns[name])
    keys = _keys_in_file(used.keys_file)
    if name not in keys:
        raise StoreUnavailableError(f"no {name} key")
    return keys[name]


def _keys_by_arn(arn: str, *, is_anew: bool = False) -> dict[str, str]:
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

    try:
        text = str(_provider().get(arn, max_age=SECRET_CACHE_SECONDS, force_fetch=is_anew))
    except GetParameterError as error:
        raise StoreUnavailableError("secret") from error
    return dict(json.loads(text))


@cache
def _provider() -> "SecretsProvider":
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

    return SecretsProvider(boto3_client=connection.client_of("secretsmanager"))


@cache
def _keys_in_file(path: str) -> dict[str, dict[str, str]]:
    return dict(json.loads(Path(path).read_text()))


def forget() -> None:
    """Drop what is cached, for tests and servers."""
    _provider.cache_clear()
    _keys_in_file.cache_clear()
    _reread_at.cache_clear()


def write_new_keys(path: Path) -> None:
    """Make both keys for one machine, readable by their owner alone; an existing file stays."""
    if path.exists():
        return
    keys = {name: {"current": "1", "1": secrets.token_hex(32)} for name in ("code", "vault")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(keys))
