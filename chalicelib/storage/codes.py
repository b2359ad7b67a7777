"""The codes table: provisioning codes by fingerprint.

It must not decide who may redeem what; it writes under the conditions that make it happen once.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pynamodb.attributes import TTLAttribute, UnicodeAttribute, UTCDateTimeAttribute

from chalicelib.core.codes import KEEP_REDEEMED_SECONDS, Code, Handle, Lifetime, State
from chalicelib.core.errors import Refusal
from chalicelib.storage.connection import (
    EnumAttribute,
    Item,
    Transaction,
    batch_get,
    call,
    table_name,
)


class CodeItem(Item):
    """One code; docs/data-model.md, codes."""

    concept = "codes"
    fingerprint = UnicodeAttribute(hash_key=True)
    code_id = UnicodeAttribute()
    state = EnumAttribute(State)
    domain = UnicodeAttribute(null=True)
    category = UnicodeAttribute(null=True)
    app = UnicodeAttribute(null=True)
    lifetime = EnumAttribute(Lifetime)
    owner = UnicodeAttribute(null=True)
    rollout_id = UnicodeAttribute(null=True)
    devices_url = UnicodeAttribute()
    issued_at = UTCDateTimeAttribute()
    expires_at = UTCDateTimeAttribute()
    purge_at = TTLAttribute()
    sealed_code = UnicodeAttribute(null=True)
    redeemed_at = UTCDateTimeAttribute(null=True)
    redeemed_from = UnicodeAttribute(null=True)
    hw_id = UnicodeAttribute(null=True)
    reason = UnicodeAttribute(null=True)
    asker = UnicodeAttribute(null=True)
    asking_connection = UnicodeAttribute(null=True)
    asking_src = UnicodeAttribute(null=True)


def issue(
    write: Transaction,
    code: Code,
    older_fingerprints: Iterable[str],
    now: datetime,
    name: str = "code",
) -> None:
    """Add a new code to a transaction, so that no open code is ever overwritten.

    Args:
        older_fingerprints: of the same digits under older versions of the key.
        now: an item past its `purge_at` counts as absent, for TTL deletes late.
        name: what a refusal calls it.
    """
    is_absent = CodeItem.fingerprint.does_not_exist() | (CodeItem.purge_at < now)
    write.put(name, CodeItem.of(code), is_absent)
    for fingerprint in older_fingerprints:
        write.check(name, CodeItem, (fingerprint,), is_absent)


def redeem(write: Transaction, code: Code, hw_id: str, source: str, now: datetime) -> None:
    """Add the redemption to a transaction: once, and before `expires_at` by our clock.

    Who is to hear of it must be as it was read, or somebody who asked meanwhile would never hear.
    """
    asking = CodeItem.asking_connection
    is_asker_same = (
        asking == code.asking_connection if code.asking_connection else asking.does_not_exist()
    )
    write.update(
        "code",
        CodeItem(code.fingerprint),
        [
            CodeItem.state.set(State.REDEEMED),
            CodeItem.hw_id.set(hw_id),
            CodeItem.redeemed_at.set(now),
            CodeItem.redeemed_from.set(source),
            CodeItem.purge_at.set(now + timedelta(seconds=KEEP_REDEEMED_SECONDS)),
            CodeItem.sealed_code.remove(),
            CodeItem.reason.remove(),
        ],
        (CodeItem.state == State.PENDING)
        & (CodeItem.code_id == code.code_id)
        & (CodeItem.expires_at > now)
        & is_asker_same,
    )


def ask_about(write: Transaction, code: Code) -> None:
    """Add to a transaction who is to hear of the phone that redeems a code, while it is open."""
    write.update(
        "code",
        CodeItem(code.fingerprint),
        [
            CodeItem.asker.set(code.asker),
            CodeItem.asking_connection.set(code.asking_connection),
            CodeItem.asking_src.set(code.asking_src)
            if code.asking_src
            else CodeItem.asking_src.remove(),
        ],
        (CodeItem.state == State.PENDING) & (CodeItem.code_id == code.code_id),
    )


def revoke(write: Transaction, code: Handle, name: str = "code") -> None:
    """Add the end of a pending code to a transaction."""
    write.update(
        name,
        CodeItem(code.fingerprint),
        [CodeItem.state.set(State.REVOKED), CodeItem.sealed_code.remove()],
        (CodeItem.state == State.PENDING) & (CodeItem.code_id == code.code_id),
    )


def extend(
    write: Transaction, code: Handle, expires_at: datetime, now: datetime, name: str = "code"
) -> None:
    """Add to a transaction that a code which is still open lives longer."""
    write.update(
        name,
        CodeItem(code.fingerprint),
        [CodeItem.expires_at.set(expires_at), CodeItem.purge_at.set(expires_at)],
        (CodeItem.state == State.PENDING)
        & (CodeItem.code_id == code.code_id)
        & (CodeItem.expires_at > now),
    )


def note_refusal(write: Transaction, code: Code, refusal: Refusal) -> None:
    """Add to a transaction what the owner of a code should know of a refused attempt."""
    write.update(
        "code",
        CodeItem(code.fingerprint),
        [CodeItem.reason.set(refusal)],
        CodeItem.code_id == code.code_id,
    )


def find_sealed(fingerprints: Iterable[str]) -> dict[str, str]:
    """Read the sealed digits of codes consistently, by code_id; who has none is left out."""
    keys = [(fingerprint,) for fingerprint in fingerprints]
    found = batch_get((CodeItem, keys), only=("code_id", "sealed_code"))[CodeItem]
    return {item.code_id: item.sealed_code for item in found if item.sealed_code}


def find_all(fingerprints: Iterable[str]) -> list[Code]:
    """Read codes consistently, in no order; those that are gone are left out."""
    keys = [(fingerprint,) for fingerprint in fingerprints]
    return [item.to(Code) for item in batch_get((CodeItem, keys))[CodeItem]]


def count_roughly() -> int:
    """Count all codes that are stored, as DynamoDB itself counted them some hours ago.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    described = call("DescribeTable", TableName=table_name(CodeItem.concept))
    return int(described["Table"]["ItemCount"])
