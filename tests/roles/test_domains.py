"""Domains and categories as administrators keep them."""

from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.core.errors import (
    ConflictError,
    InUseError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
)
from chalicelib.roles import devices, domains, security_tokens, updates
from chalicelib.storage import domains as domain_table
from chalicelib.storage import vault
from chalicelib.storage.connection import Transaction
from tests import world
from tests.conftest import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from chalicelib.storage.domains import Category

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
NEW = "new.example"
TOKEN = "a token long enough to keep"


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def create(**wanted: Any) -> domain_table.Domain:  # noqa: ANN401 - settings
    """Make a domain."""
    return domains.create(world.platform(), NEW, wanted)


def put(name: str, domain: str = world.DOMAIN, **wanted: Any) -> "Category":  # noqa: ANN401 - settings
    """Make or change a category for phones."""
    known: dict[str, Any] = {"provisioning": True, "device_types": ["PHONE"], **wanted}
    return domains.put_category(world.platform(), domain, name, **known)


def names(asking: Any, limit: int = 10) -> list[str]:  # noqa: ANN401 - who asks
    """List the names of domains to their end."""
    found, after = [], None
    for _ in range(20):
        page = domains.list_all(asking, limit, after)
        found += [domain.domain for domain in page.items]
        after = page.next_after
        if after is None:
            break
    return found


def test_a_domain_is_made_once_and_then_served() -> None:
    """It has a number of its own, stands in the list, and keeps what it was made with."""
    made = create(phone_apps=["phone", "softphone"], granted_domains=["other.example"])
    assert domains.show(world.platform(), NEW) == made
    assert (made.may_add_phones, list(made.phone_apps)) == (True, ["phone", "softphone"])
    others = {
        domains.show(world.platform(), name).number for name in (world.DOMAIN, "other.example")
    }
    assert made.number > max(others) > 0
    assert names(world.platform(), 1) == ["example.com", NEW, "other.example", "platform.example"]
    with pytest.raises(ConflictError):
        create(phone_apps=["other"])
    assert domains.show(world.platform(), NEW) == made
    with pytest.raises(NotFoundError):
        domains.show(world.platform(), "nowhere.example")


def test_administrators_see_the_domains_that_they_administer() -> None:
    """Their own alone, if it is served; everybody else sees none."""
    assert names(world.admin()) == ["example.com"]
    assert domains.list_all(world.admin(), 10, "example.com").items == []
    assert names(world.admin(domain="nowhere.example")) == []
    with pytest.raises(NotAllowedError):
        names(world.asking())


def test_settings_change_one_by_one() -> None:
    """What is not named stays; an empty text takes one away; the number stays."""
    made = create(devices_url="wss://d.example/x", phone_apps=["phone"])
    admin = world.admin(domain=NEW)
    changed = domains.change(admin, NEW, {"may_add_phones": False, "phone_apps": []})
    assert (changed.may_add_phones, list(changed.phone_apps)) == (False, [])
    assert (changed.devices_url, changed.number) == ("wss://d.example/x", made.number)
    assert domains.change(admin, NEW, {"devices_url": ""}).devices_url == ""
    assert domains.change(admin, NEW, {}) == domains.show(admin, NEW)
    with pytest.raises(NotFoundError):
        domains.change(world.platform(), "nowhere.example", {"may_add_phones": True})
    with pytest.raises(NotFoundError):
        domains.change(world.platform(), "nowhere.example", {})
    assert domain_table.find("nowhere.example") is None


def test_a_devices_url_must_be_one() -> None:
    """At making and at changing; nothing is written."""
    for url in ("ftp://d.example", "nonsense", "https://d.example/#x"):
        with pytest.raises(InvalidRequestError) as raised:
            create(devices_url=url)
        assert [fault.field for fault in raised.value.faults] == ["devices_url"]
        with pytest.raises(InvalidRequestError):
            domains.change(world.admin(), world.DOMAIN, {"devices_url": url})
    assert domain_table.find(NEW) is None
    assert domains.show(world.admin(), world.DOMAIN).devices_url == ""


def test_a_websocket_password_is_sealed_and_opens_for_its_domain_alone(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """In no item and no representation; changed and taken away like any setting."""
    from cryptography.exceptions import InvalidTag

    made = create(websocket_password="first-pass-word")
    changed = domains.change(
        world.admin(domain=NEW), NEW, {"websocket_password": "second-pass-word"}
    )
    seen = world.dump(client, table_names) + repr(made) + repr(changed)
    assert "first-pass-word" not in seen
    assert "second-pass-word" not in seen
    for known, password in ((made, "first-pass-word"), (changed, "second-pass-word")):
        sealed = known.sealed_websocket_password
        assert vault.unseal(sealed, f"websocket password {NEW}") == password
        with pytest.raises(InvalidTag):
            vault.unseal(sealed, "websocket password other.example")
    gone = domains.change(world.admin(domain=NEW), NEW, {"websocket_password": ""})
    assert gone.sealed_websocket_password == ""
    assert create_again().sealed_websocket_password == ""


def create_again() -> domain_table.Domain:
    """Make another domain, with an empty password."""
    return domains.create(world.platform(), "third.example", {"websocket_password": ""})


def test_which_domains_it_may_see_is_not_for_a_domain_to_say() -> None:
    """Neither alone nor beside what it may change; the platform's administrators say it."""
    wanted = {"granted_domains": ["other.example"], "may_add_phones": False}
    with pytest.raises(NotAllowedError):
        domains.change(world.admin(), world.DOMAIN, wanted)
    assert domains.show(world.admin(), world.DOMAIN).may_add_phones
    changed = domains.change(world.platform(), world.DOMAIN, wanted)
    assert list(changed.granted_domains) == ["other.example"]


def test_a_domain_goes_when_nothing_uses_it_any_more() -> None:
    """Until then the refusal names what does; then token, firmware and all are gone."""
    create()
    put("Sales", NEW)
    security_tokens.put(world.platform(), NEW, "Sales", TOKEN, None)
    firmware = {"IP232": {"prot": {"build": "1", "url": "https://f.example/1"}}}
    updates.put_firmware(world.platform(), NEW, firmware)
    job = updates.make_software_job(world.platform(), NEW, "*")
    world.admit(world.claiming(TOKEN, domain=NEW, category="Sales"))
    with pytest.raises(InUseError) as used:
        domains.delete(world.platform(), NEW)
    assert used.value.used_by == {"devices": 1, "categories": 1, "jobs": 1}
    from chalicelib.roles import assignments

    assignments.remove(world.platform(), NEW, world.HW_ID)
    domains.delete_category(world.platform(), NEW, "Sales")
    with pytest.raises(InUseError) as used:
        domains.delete(world.platform(), NEW)
    assert used.value.used_by == {"jobs": 1}
    updates.delete_job(world.platform(), NEW, job.job_id)
    domains.delete(world.platform(), NEW)
    assert NEW not in names(world.platform())
    assert (domain_table.find_token(NEW), domain_table.find_firmware(NEW)) == (None, None)
    with pytest.raises(NotFoundError):
        domains.delete(world.platform(), NEW)
    assert create().domain == NEW


def test_a_domain_that_somebody_else_deletes_first_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second one learns it from the write."""
    made = create()
    domains.delete(world.platform(), NEW)
    monkeypatch.setattr(domain_table, "find", lambda _: made)
    with pytest.raises(NotFoundError):
        domains.delete(world.platform(), NEW)


def test_categories_are_made_changed_and_listed_by_name() -> None:
    """Each has a number of its own, which a change keeps."""
    made = put("Lobby")
    assert domains.categories(world.admin(), world.DOMAIN)[1] == made
    listed = [category.name for category in domains.categories(world.admin(), world.DOMAIN)]
    assert listed == ["Gateways", "Lobby", "Office", "Reception"]
    changed = put("Lobby", provisioning=False, device_types=["ANALOG_PHONE"])
    assert (changed.number, changed.provisioning) == (made.number, False)
    assert list(changed.device_types) == ["ANALOG_PHONE"]
    assert domain_table.find_category(world.DOMAIN, "Lobby") == changed
    numbers = [category.number for category in domains.categories(world.admin(), world.DOMAIN)]
    numbers += [domains.show(world.platform(), name).number for name in names(world.platform())]
    numbers += [
        category.number for category in domains.categories(world.platform(), "other.example")
    ]
    assert len(set(numbers)) == len(numbers)
    with pytest.raises(InvalidRequestError):
        put("*")
    with pytest.raises(NotFoundError):
        put("Lobby", "nowhere.example")


@pytest.mark.parametrize("name", [" ", "Off\u200bice", "Office\u2028"])
def test_a_new_category_has_a_name_to_read(name: str) -> None:
    """One that is there is changed and deleted, whatever it is called."""
    with pytest.raises(InvalidRequestError) as caught:
        put(name)
    assert [fault.field for fault in caught.value.faults] == ["category"]
    transaction = Transaction()
    domain_table.put_category(transaction, domain_table.Category(world.DOMAIN, name, 99), None)
    transaction.commit()
    assert put(name).provisioning
    domains.delete_category(world.platform(), world.DOMAIN, name)
    assert domain_table.find_category(world.DOMAIN, name) is None


def test_new_phone_apps_have_names_to_read() -> None:
    """Those that are there already may stay."""
    with pytest.raises(InvalidRequestError) as caught:
        create(phone_apps=["phone", " "], devices_url="x")
    assert [fault.field for fault in caught.value.faults] == ["devices_url", "phone_apps.1"]
    create(phone_apps=["phone"])
    transaction = Transaction()
    domain_table.change(transaction, NEW, {"phone_apps": ["a\u202eb"]})
    transaction.commit()
    kept = domains.change(world.platform(), NEW, {"phone_apps": ["phone", "a\u202eb"]})
    assert kept.phone_apps == ["phone", "a\u202eb"]
    with pytest.raises(InvalidRequestError):
        domains.change(world.platform(), NEW, {"phone_apps": ["a\u202eb", "a\ufeffb"]})


def test_a_category_goes_when_nothing_uses_it_any_more() -> None:
    """Devices and jobs of its own keep it, those of every category do not."""
    put("Lobby")
    world.redeem(world.issue(category="Lobby").digits)
    asking = world.admin(NOW)
    expert = {"lines": ["config add A /b"]}
    updates.make_configuration_job(asking, world.DOMAIN, "*", "expert", expert)
    job = updates.make_configuration_job(asking, world.DOMAIN, "Lobby", "expert", expert)
    with pytest.raises(InUseError) as used:
        domains.delete_category(asking, world.DOMAIN, "Lobby")
    assert used.value.used_by == {"devices": 1, "jobs": 1}
    assert str(used.value) == "in use by devices (1), jobs (1)"
    updates.delete_job(asking, world.DOMAIN, job.job_id)
    from chalicelib.roles import assignments

    assignments.change(asking, world.DOMAIN, world.HW_ID, None, "Office")
    domains.delete_category(asking, world.DOMAIN, "Lobby")
    assert domain_table.find_category(world.DOMAIN, "Lobby") is None
    with pytest.raises(NotFoundError):
        domains.delete_category(asking, world.DOMAIN, "Lobby")
    assert put("Lobby").number > 0


@pytest.mark.parametrize("seen", ["absent", "there"])
def test_a_category_that_changes_at_this_moment_is_a_conflict(
    monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    """Made by two at once it is made once; deleted by one it is not made again by a change."""
    made = put("Lobby")
    if seen == "absent":
        monkeypatch.setattr(domain_table, "find_category", lambda *_: None)
    else:
        domains.delete_category(world.admin(), world.DOMAIN, "Lobby")
        monkeypatch.setattr(domain_table, "find_category", lambda *_: made)
        with pytest.raises(ConflictError):
            domains.delete_category(world.admin(), world.DOMAIN, "Lobby")
    with pytest.raises(ConflictError):
        put("Lobby", provisioning=False)
    kept = [known for known in domain_table.categories(world.DOMAIN) if known.name == "Lobby"]
    assert kept == ([made] if seen == "absent" else [])


def test_what_is_done_to_a_domain_stands_in_its_own_trail() -> None:
    """Whoever did it; names alone, never a value."""
    create(websocket_password="first-pass-word")
    domains.change(world.platform(), NEW, {"websocket_password": "x" * 20, "may_add_phones": False})
    put("Sales", NEW)
    put("Sales", NEW)
    for token in (TOKEN, "the next token, long"):
        security_tokens.put(world.platform(), NEW, "Sales", token, None)
    security_tokens.show(world.platform(), NEW, "Sales")
    security_tokens.delete(world.platform(), NEW)
    domains.delete_category(world.platform(), NEW, "Sales")
    domains.delete(world.platform(), NEW)
    page = domains.audit_trail(world.platform(), NEW, "2036-11", 20, None)
    assert sorted((one.action, one.subject, one.detail) for one in page.items) == [
        ("category changed", "Sales", ""),
        ("category deleted", "Sales", ""),
        ("category made", "Sales", ""),
        ("domain changed", NEW, "may_add_phones, websocket_password"),
        ("domain deleted", NEW, ""),
        ("domain made", NEW, "websocket_password"),
        ("token removed", NEW, ""),
        ("token rotated", NEW, ""),
        ("token set", NEW, ""),
        ("token shown", NEW, ""),
    ]
    assert {(one.actor, one.source) for one in page.items} == {
        ("platform (platform.example)", world.HOME)
    }
    own = domains.audit_trail(world.platform(), "platform.example", "2036-11", 20, None)
    assert own.items == []


def test_a_changed_category_decides_over_the_next_phone() -> None:
    """Switched off for provisioning, neither a code nor the token brings one in any more."""
    security_tokens.put(world.admin(), world.DOMAIN, "Office", TOKEN, None)
    put("Office", provisioning=False)
    with pytest.raises(NotFoundError):
        world.issue()
    script = devices.update_script(world.claiming(TOKEN), NOW)
    assert "prompt" in script


def test_a_domain_that_goes_while_it_is_changed_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The change makes no half of a domain."""
    ghost = domain_table.Domain("ghost.example")
    with monkeypatch.context() as patch:
        patch.setattr(domain_table, "find", lambda _: ghost)
        with pytest.raises(NotFoundError):
            domains.change(world.platform(), "ghost.example", {"may_add_phones": False})
    assert all(found.domain != "ghost.example" for found in domain_table.list_all(100, None).items)
