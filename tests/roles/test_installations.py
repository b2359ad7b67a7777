"""Foreign installations: their keys, their codes, and what we keep of both."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import settings
from chalicelib.core.codes import Lifetime, read_entry
from chalicelib.core.devices import Facts
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    InvalidRequestError,
    LimitReachedError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
)
from chalicelib.core.rate_limits import Limit, LimitName
from chalicelib.roles import installations, issuing, provisioning
from chalicelib.storage import audit, sightings, vault
from chalicelib.storage import installations as installation_table
from chalicelib.storage.ids import new_id
from local import demo
from tests import world
from tests.conftest import NOW, use

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
DEVICES_URL = "wss://apps.foreign.example/foreign.example/devices/sysclients"


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    world.seed()


def new_key() -> str:
    """Let a foreign installation in; tells its key."""
    return installations.create(world.platform(), "Foreign AG").key


def inquire(digits: str, hw_id: str = world.HW_ID) -> str:
    """Let a phone ask the central service with a code."""
    entry = read_entry(digits)
    return provisioning.answer(
        provisioning.Inquiry(hw_id, Facts(product="IP232"), entry, world.HOME), NOW
    )


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(Lifetime.USER, 600), (Lifetime.ROLLOUT, 604_800)]
)
def test_a_code_sends_its_phone_to_the_foreign_devices(lifetime: Lifetime, seconds: int) -> None:
    """Until it expires, by the lifetime that was asked for."""
    issued = installations.issue_code(new_key(), DEVICES_URL, lifetime, world.HOME, NOW)
    assert issued.code.expires_at == NOW + timedelta(seconds=seconds)
    assert "config change SYSCLIENT wss%3A%2F%2Fapps.foreign.example" in inquire(issued.digits)


def test_of_a_code_we_keep_its_way_and_nothing_else(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """No domain, no owner, no digits; and the key is stored hashed."""
    key = new_key()
    issued = installations.issue_code(key, DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    (item,) = client.scan(TableName=table_names["codes"])["Items"]
    kept = {"fingerprint", "code_id", "state", "lifetime", "devices_url"}
    assert set(item) == kept | {"issued_at", "expires_at", "purge_at"}
    (stored,) = client.scan(TableName=table_names["installations"])["Items"]
    for secret in (key, key.split(".")[1], issued.digits):
        assert secret not in str(item) + str(stored)


def test_who_made_an_installation_reads_of_its_codes() -> None:
    """In the trail of their domain; one that was made before that was kept has none."""
    made = installations.create(world.platform(), "Foreign AG").installation
    older = replace(made, installation_id=new_id(NOW), domain="")
    older_key = f"{older.installation_id}.{vault.new_token()}"
    older = replace(older, key_hash=vault.token_hash(older_key))
    installation_table.put(older, audit.Entry("d.example", NOW, "a", "b", "c", world.HOME))
    month = f"{NOW:%Y-%m}"
    before = audit.list_month(demo.INSTANCE_DOMAIN, month, 10, None).items
    installations.issue_code(older_key, DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    assert audit.list_month(demo.INSTANCE_DOMAIN, month, 10, None).items == before
    key = new_key()
    issued = installations.issue_code(key, DEVICES_URL, Lifetime.USER, "203.0.113.5", NOW)
    trail = audit.list_month(demo.INSTANCE_DOMAIN, month, 10, None).items
    (told,) = [one for one in trail if one.action == "code issued"]
    assert told.actor == f"Foreign AG ({key.partition('.')[0]})"
    assert (told.subject, told.source) == (issued.code.code_id, "203.0.113.5")


def test_our_own_devices_refuses_a_foreign_code(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """As it refuses an unknown one; nobody's audit trail has it, and it still routes."""
    issued = installations.issue_code(new_key(), DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    before = client.scan(TableName=table_names["audit"], Select="COUNT")["Count"]
    with pytest.raises(CodeNotRedeemableError):
        world.redeem(issued.digits)
    assert client.scan(TableName=table_names["audit"], Select="COUNT")["Count"] == before
    assert "SYSCLIENT" in inquire(issued.digits)


def test_a_key_is_dead_once_its_installation_is_deleted() -> None:
    """At once; what it had issued goes on."""
    key = new_key()
    issued = installations.issue_code(key, DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    installation_id = key.partition(".")[0]
    installations.delete(world.platform(), installation_id)
    with pytest.raises(NotSignedInError):
        installations.issue_code(key, DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    assert "SYSCLIENT" in inquire(issued.digits)
    for gone in (installation_id, "short"):
        with pytest.raises(NotFoundError):
            installations.delete(world.platform(), gone)


@pytest.mark.parametrize("change", ["", "x", ".", "01", "another secret"])
def test_a_key_that_is_none_opens_nothing(change: str) -> None:
    """Not even with the right id before it."""
    key = new_key()
    wrong = f"{key.partition('.')[0]}.{change}" if change else ""
    with pytest.raises(NotSignedInError):
        installations.issue_code(wrong, DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    with pytest.raises(NotSignedInError):
        installations.issue_code(change, DEVICES_URL, Lifetime.USER, world.HOME, NOW)


@pytest.mark.parametrize("url", ["", "apps.foreign.example", "ftp://a/b", "http://[", "wss://a b"])
def test_a_devices_url_must_be_one(url: str) -> None:
    """Said by field, and not charged."""
    with pytest.raises(InvalidRequestError) as refused:
        installations.issue_code(new_key(), url, Lifetime.USER, world.HOME, NOW)
    assert [fault.field for fault in refused.value.faults] == ["devices_url"]


def test_each_installation_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks for too many does not stop another."""
    narrow = Limit(LimitName.FOREIGN_CODES, burst=2, interval_ms=60_000)
    limits = {**settings.current().limits, LimitName.FOREIGN_CODES: narrow}
    use(replace(settings.current(), limits=limits), monkeypatch)
    greedy, other = new_key(), new_key()
    for _ in range(2):
        installations.issue_code(greedy, DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    with pytest.raises(LimitReachedError):
        installations.issue_code(greedy, DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    installations.issue_code(other, DEVICES_URL, Lifetime.USER, world.HOME, NOW)


def test_installations_are_for_platform_admins_alone() -> None:
    """To make, to list and to delete; each is in the trail of who did it."""
    for asking in (world.asking(), world.admin()):
        with pytest.raises(NotAllowedError):
            installations.create(asking, "Mine")
        with pytest.raises(NotAllowedError):
            installations.list_all(asking, 10, None)
        with pytest.raises(NotAllowedError):
            installations.delete(asking, "x" * 26)
    made = installations.create(world.platform(), "Foreign AG").installation
    installations.delete(world.platform(), made.installation_id)
    trail = audit.list_month("platform.example", f"{NOW:%Y-%m}", 10, None).items
    assert {(entry.action, entry.subject) for entry in trail} == {
        ("installation made", made.installation_id),
        ("installation deleted", made.installation_id),
    }


def test_what_phones_told_is_for_platform_admins_alone() -> None:
    """Everything that the concept lists, the time of first connect included."""
    issued = installations.issue_code(new_key(), DEVICES_URL, Lifetime.USER, world.HOME, NOW)
    sightings.forget()
    inquire(issued.digits)
    page = provisioning.list_sightings(world.platform(), f"{NOW:%Y-%m-%d}", 10, None)
    (seen,) = page.items
    assert (seen.hw_id, seen.product, seen.first_seen_at) == (world.HW_ID, "IP232", NOW)
    assert seen.code_fingerprint == issued.code.fingerprint
    with pytest.raises(NotAllowedError):
        provisioning.list_sightings(world.admin(), f"{NOW:%Y-%m-%d}", 10, None)


def test_what_else_should_happen_with_a_code_can_be_refused() -> None:
    """A condition of something else is not taken for a collision of digits."""
    from chalicelib.storage.connection import Refused
    from chalicelib.storage.users import UserItem

    def also(write: Any, _: Any) -> None:  # noqa: ANN401 - a transaction and a code
        write.put("user", UserItem("d", "s"), UserItem.sip.exists())

    with pytest.raises(Refused):
        issuing.issue(issuing.Order(Lifetime.USER, DEVICES_URL), NOW, also)
