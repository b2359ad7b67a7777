"""Domains, categories and tokens as administrators keep them."""

from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.core.errors import (
    ConflictError,
    InUseError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
)
from chalicelib.roles import devices, domains, updates
from chalicelib.storage import domains as domain_table
from chalicelib.storage import vault
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


def set_token(plain: str | None, domain: str = world.DOMAIN, seconds: int | None = None) -> Any:  # noqa: ANN401 - a sheet
    """Set a domain's security token."""
    category = "Office" if domain == world.DOMAIN else "Sales"
    return domains.set_token(world.platform(), domain, category, plain, seconds)


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
    set_token(TOKEN, NEW)
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


def test_a_token_is_shown_with_all_that_rolls_it_out() -> None:
    """The sysclient's URL and the update client's, each with its line and its whole script."""
    sheet = set_token(TOKEN)
    query = "?domain=example.com&token=a%20token%20long%20enough%20to%20keep&category=Office"
    assert sheet.url == f"wss://dialtone.example/example.com/devices/sysclients{query}"
    assert sheet.update_client_url == f"{world.UPDATE_URL}{query}"
    assert sheet.config_line in sheet.sysclient_script
    assert sheet.update_client_line in sheet.update_client_script
    assert sheet.config_line.startswith("config change SYSCLIENT wss%3A%2F%2Fdialtone.example")
    assert "token%3Da%2520token" in sheet.update_client_line
    assert (sheet.is_weak, sheet.old_until) == (False, None)
    assert "browser" in sheet.warning
    assert domains.show_token(world.admin(), world.DOMAIN, "Office") == sheet
    other = domains.show_token(world.admin(), world.DOMAIN, "Reception")
    assert other.url.endswith("&category=Reception")
    assert TOKEN not in repr(sheet)
    assert "token%20" not in repr(sheet)


@pytest.mark.parametrize(
    ("devices_url", "sysclient", "update_client"),
    [
        ("https://d.example/up", "wss://dialtone.example/", "https://d.example/up?domain"),
        ("wss://d.example/sys", "wss://d.example/sys?domain", world.UPDATE_URL),
    ],
)
def test_a_token_leads_where_the_domain_says(
    devices_url: str, sysclient: str, update_client: str
) -> None:
    """An address of the domain's own replaces the one of its kind."""
    domains.change(world.admin(), world.DOMAIN, {"devices_url": devices_url})
    sheet = set_token(TOKEN)
    assert sheet.url.startswith(sysclient)
    assert sheet.update_client_url.startswith(update_client)


def test_a_server_in_clear_is_reached_in_clear() -> None:
    """On one machine the sysclient's URL is ws, with the port."""
    from dataclasses import replace

    asking = replace(world.admin(), base_url="http://127.0.0.1:8000/api")
    sheet = domains.set_token(asking, world.DOMAIN, "Office", TOKEN, None)
    assert sheet.url.startswith("ws://127.0.0.1:8000/example.com/devices/sysclients?")


def test_a_token_is_drawn_when_none_is_given_and_checked_when_one_is() -> None:
    """256 bits, never the same; too short, too long and unprintable ones are refused."""
    first, second = set_token(None), set_token(None)
    assert first.url != second.url
    assert not first.is_weak
    for plain in ("short", "", "x" * 201, "a token\nof two lines"):
        with pytest.raises(InvalidRequestError):
            set_token(plain)
    assert domains.show_token(world.admin(), world.DOMAIN, "Office").url == second.url
    assert set_token("1234567890").is_weak
    for category in ("Gateways", "Nonsense"):
        with pytest.raises(NotFoundError):
            domains.set_token(world.admin(), world.DOMAIN, category, TOKEN, None)
        with pytest.raises(NotFoundError):
            domains.show_token(world.admin(), world.DOMAIN, category)
    with pytest.raises(NotFoundError):
        domains.show_token(world.platform(), "other.example", "Sales")


def test_a_rotation_says_until_when_the_old_token_counts() -> None:
    """As long as was said, else as the setting says; afterwards it says nothing."""
    from datetime import timedelta

    set_token(TOKEN)
    assert set_token("the next token, long").old_until == NOW + timedelta(days=1)
    assert set_token("the third token, long", seconds=60).old_until == NOW + timedelta(minutes=1)
    before = world.admin(NOW + timedelta(seconds=59))
    assert domains.show_token(before, world.DOMAIN, "Office").old_until is not None
    after = world.admin(NOW + timedelta(seconds=60))
    assert domains.show_token(after, world.DOMAIN, "Office").old_until is None
    assert set_token("the fourth token, long", seconds=0).old_until is None


def test_two_who_set_a_token_at_once_do_not_overwrite_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first at all, and the next."""
    real = domain_table.find_token
    for number in range(2):
        seen = real(world.DOMAIN)
        winner = set_token(f"the winner's token {number}")
        with monkeypatch.context() as patch:
            patch.setattr(domain_table, "find_token", lambda _, seen=seen: seen)
            with pytest.raises(ConflictError):
                set_token("the loser's token, long")
        assert domains.show_token(world.admin(), world.DOMAIN, "Office").url == winner.url


def test_a_token_is_sealed_for_its_domain(
    client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """Neither the new one nor the one before is in any item, and neither opens elsewhere."""
    from cryptography.exceptions import InvalidTag

    set_token(TOKEN)
    set_token("the next token, long")
    kept = domain_table.find_token(world.DOMAIN)
    assert kept is not None
    seen = world.dump(client, table_names) + repr(kept)
    for sealed, plain in (
        (kept.sealed_old_token, TOKEN),
        (kept.sealed_token, "the next token, long"),
    ):
        assert plain not in seen
        assert vault.unseal(sealed, "security token example.com") == plain
        with pytest.raises(InvalidTag):
            vault.unseal(sealed, "security token other.example")
    domains.delete_token(world.admin(), world.DOMAIN)
    domains.delete_token(world.admin(), world.DOMAIN)
    with pytest.raises(NotFoundError):
        domains.show_token(world.admin(), world.DOMAIN, "Office")


def test_what_is_done_to_a_domain_stands_in_its_own_trail() -> None:
    """Whoever did it; names alone, never a value."""
    create(websocket_password="first-pass-word")
    domains.change(world.platform(), NEW, {"websocket_password": "x" * 20, "may_add_phones": False})
    put("Sales", NEW)
    put("Sales", NEW)
    set_token(TOKEN, NEW)
    set_token("the next token, long", NEW)
    domains.show_token(world.platform(), NEW, "Sales")
    domains.delete_token(world.platform(), NEW)
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
    set_token(TOKEN)
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
