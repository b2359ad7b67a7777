"""What a Users instance asks of Devices: which domains it sees, codes, phones."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from chalicelib import settings
from chalicelib.core.codes import Code, Entry, Lifetime, read_entry
from chalicelib.core.devices import Device
from chalicelib.core.errors import NotFoundError, StoreUnavailableError
from chalicelib.roles import analogue_phones, assignments, domains, instances, users
from chalicelib.roles.instances import CodeOrder, Instance
from chalicelib.storage import codes, notifications
from chalicelib.storage import domains as domain_table
from chalicelib.storage.connection import Transaction
from chalicelib.storage.connections import Connection, Role
from local import demo
from tests import world
from tests.conftest import NOW, use

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

DOMAIN = world.DOMAIN
OTHER = "other.example"
INSTANCE = demo.INSTANCE_DOMAIN


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the demo data; say which domain administers all, and where we are."""
    assert table_names
    used = replace(settings.current(), instance_domain=INSTANCE, public_url=world.BASE_URL)
    use(used, monkeypatch)
    world.seed()


def instance(domain: str = DOMAIN, seconds: int = 0, src: str = "") -> Instance:
    """Make a Users instance that has logged in for a domain."""
    known = Connection(
        f"of {domain}", NOW, world.HOME, Role.USERS_INSTANCE, domain=domain, app="users"
    )
    return Instance(known, src, NOW + timedelta(seconds=seconds))


def number(domain: str) -> int:
    """Tell a domain's number."""
    return instances.number_of(domain)


def category_number(domain: str, name: str) -> int:
    """Tell a category's number."""
    found = domain_table.find_category(domain, name)
    assert found is not None
    return found.number


def grant(domain: str, *granted: str) -> None:
    """Let a domain's Users instances see others."""
    domains.change(world.platform(), domain, {"granted_domains": list(granted)})


def names(asking: Instance) -> list[str]:
    """Name the domains that an instance sees."""
    return sorted(found.domain for found, _ in instances.domains_of(asking))


def typed(digits: str) -> Entry:
    """Make what a person types of a code."""
    entry = read_entry(digits)
    assert entry is not None
    return entry


def order(
    domain: str | None = None, category: str = "Office", *, is_rollout: bool = False
) -> CodeOrder:
    """Make an order for a code."""
    return CodeOrder(number(domain) if domain else None, category, "user1", is_rollout)


def ids(pages: Iterator[tuple[domain_table.Domain, list[Device]]]) -> list[tuple[str, str]]:
    """Name what is on pages: domain and phone."""
    return sorted((domain.domain, device.hw_id) for domain, page in pages for device in page)


def stored(code: Code) -> Code:
    """Read a code as it is now."""
    return world.stored(code)


def test_a_session_key_is_a_connections_own() -> None:
    """As long as it lasts the same, hex digits, and another for another."""
    key = instances.session_key(instance())
    assert key == instances.session_key(instance(seconds=60))
    assert len(key) >= 32
    assert int(key, 16)
    assert key != instances.session_key(instance(OTHER))


def test_the_instances_domain_administers_all() -> None:
    """And no other does."""
    assert instance(INSTANCE).is_admin
    assert not instance().is_admin
    assert names(instance(INSTANCE)) == sorted([DOMAIN, OTHER, INSTANCE])


def test_an_instance_sees_its_own_domain_and_granted_ones() -> None:
    """With their categories; a grant works one way, and is gone when it is taken back."""
    assert names(instance()) == [DOMAIN]
    grant(DOMAIN, OTHER)
    assert names(instance()) == [DOMAIN, OTHER]
    assert names(instance(OTHER)) == [OTHER]
    found = {
        domain.domain: [each.name for each in categories]
        for domain, categories in instances.domains_of(instance())
    }
    assert found == {DOMAIN: ["Gateways", "Office", "Reception"], OTHER: ["Sales"]}
    grant(DOMAIN)
    assert names(instance()) == [DOMAIN]


def test_all_domains_are_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    monkeypatch.setattr(instances, "_PAGE", 1)
    assert names(instance(INSTANCE)) == sorted([DOMAIN, OTHER, INSTANCE])


def test_finding_a_domain_by_its_number() -> None:
    """One's own without a number; those that one sees; nothing else is told apart."""
    assert instances.domain_of(instance(), None).domain == DOMAIN
    assert instances.domain_of(instance(), number(DOMAIN)).domain == DOMAIN
    assert instances.domain_of(instance(INSTANCE), number(OTHER)).domain == OTHER
    for unseen in (number(OTHER), number(INSTANCE), 0, 987_654_321):
        with pytest.raises(NotFoundError):
            instances.domain_of(instance(), unseen)
    grant(DOMAIN, OTHER)
    assert instances.domain_of(instance(), number(OTHER)).domain == OTHER


def test_an_instance_whose_domain_has_gone_finds_none() -> None:
    """It has nothing to see; a domain that has gone has number 0."""
    with pytest.raises(NotFoundError):
        instances.domain_of(instance("gone.example"), None)
    assert number("gone.example") == 0


def test_categories_that_codes_can_be_asked_for() -> None:
    """All, those of phones, and none of a type that has no configuration."""
    transaction = Transaction()
    for name, types in (("Analog", ["ANALOG_PHONE"]), ("Bare", [])):
        demo.add_category(transaction, DOMAIN, name, provisioning=True, device_types=types)
    transaction.commit()

    def asked(device_type: str | None) -> list[str]:
        domain, found = instances.provisioning_categories(instance(), None, device_type)
        assert domain.domain == DOMAIN
        return sorted(each.name for each in found)

    assert asked(None) == ["Analog", "Bare", "Office", "Reception"]
    assert asked("PHONE") == ["Analog", "Office", "Reception"]
    assert asked("GW") == asked("DECT") == []
    with pytest.raises(NotFoundError):
        instances.provisioning_categories(instance(), number(OTHER), None)


def test_a_code_is_issued_for_whoever_asks() -> None:
    """With its category, app, user and lifetime, and with who hears of its phone."""
    asking = instance(src="mine")
    code = stored(instances.issue_code(asking, order()).code)
    assert (code.domain, code.category, code.app, code.owner) == (
        DOMAIN,
        "Office",
        "phone",
        "user1",
    )
    assert (code.asker, code.asking_connection, code.asking_src) == (
        DOMAIN,
        f"of {DOMAIN}",
        "mine",
    )
    assert code.lifetime is Lifetime.USER
    assert code.devices_url == world.UPDATE_URL
    assert notifications.domains_of(DOMAIN) == [DOMAIN]
    rollout = instances.issue_code(asking, order(is_rollout=True)).code
    assert rollout.expires_at == NOW + timedelta(days=7)
    shown, _ = users.list_codes(world.person(), 10, None)
    assert code.code_id in {own.code.code_id for own in shown}


def test_a_code_of_another_domain_is_found_again_by_its_asker() -> None:
    """The asker's domain is noted; without apps there is none, and Devices may be elsewhere."""
    url = "https://devices.other.example/update"
    domains.change(world.platform(), OTHER, {"devices_url": url})
    code = instances.issue_code(instance(INSTANCE), order(OTHER, "Sales")).code
    assert (code.domain, code.app, code.asker, code.devices_url) == (OTHER, "", INSTANCE, url)
    assert notifications.domains_of(INSTANCE) == [INSTANCE, OTHER]


@pytest.mark.parametrize(
    ("domain", "category"),
    [(None, "Gateways"), (None, "Unknown"), (None, "*"), (OTHER, "Sales"), (INSTANCE, "Office")],
)
def test_no_code_without_a_provisioning_category_that_one_sees(
    domain: str | None, category: str
) -> None:
    """Neither of a category without provisioning, nor of a domain that is another's."""
    with pytest.raises(NotFoundError):
        instances.issue_code(instance(), order(domain, category))


def test_no_code_without_our_own_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone could not be sent anywhere; a domain that has a URL of its own needs none."""
    use(replace(settings.current(), public_url=""), monkeypatch)
    with pytest.raises(StoreUnavailableError):
        instances.issue_code(instance(), order())
    domains.change(world.admin(), DOMAIN, {"devices_url": "https://devices.example/update"})
    assert instances.issue_code(instance(), order()).digits


def test_the_device_of_a_redeemed_code() -> None:
    """Is told to whoever may see its domain."""
    digits = world.issue().digits
    world.redeem(digits)
    ask = partial(instances.provisioned_device, entry=typed(digits))
    for asking, wanted in (
        (instance(), None),
        (instance(), number(DOMAIN)),
        (instance(INSTANCE), None),
        (instance(INSTANCE), number(DOMAIN)),
    ):
        device = ask(asking, wanted)
        assert device is not None
        assert device.hw_id == world.HW_ID
    for foreign, other in (
        (instance(OTHER), None),
        (instance(INSTANCE), number(OTHER)),
        (instance(OTHER), number(DOMAIN)),
    ):
        with pytest.raises(NotFoundError):
            ask(foreign, other)
    grant(OTHER, DOMAIN)
    assert ask(instance(OTHER), None) is not None


def test_a_device_that_is_its_codes_no_more_is_not_told() -> None:
    """Released, removed, or registered anew by another code."""
    first = world.issue()
    world.redeem(first.digits)
    users.release_phone(world.asking(), world.HW_ID)
    second = world.issue()
    world.redeem(second.digits)
    with pytest.raises(NotFoundError):
        instances.provisioned_device(instance(), None, typed(first.digits))
    assignments.remove(world.admin(), DOMAIN, world.HW_ID)
    with pytest.raises(NotFoundError):
        instances.provisioned_device(instance(), None, typed(second.digits))


def test_asking_about_an_open_code_is_asking_to_hear_of_it() -> None:
    """Whoever asked last hears, with the `src` of that message."""
    issued = world.issue()
    entry = typed(issued.digits)
    assert instances.provisioned_device(instance(src="first"), None, entry) is None
    code = stored(issued.code)
    assert (code.asker, code.asking_connection, code.asking_src) == (
        DOMAIN,
        f"of {DOMAIN}",
        "first",
    )
    assert instances.provisioned_device(instance(INSTANCE), None, entry) is None
    code = stored(issued.code)
    assert (code.asker, code.asking_src) == (INSTANCE, "")
    assert notifications.domains_of(INSTANCE) == [INSTANCE, DOMAIN]


def test_a_code_that_can_no_longer_be_redeemed_is_not_found() -> None:
    """Expired, revoked, unknown, malformed, or of another domain or a foreign installation."""
    expired, revoked = world.issue(), world.issue()
    users.revoke_code(world.asking(), revoked.code.code_id)
    foreign = users.issue_code(world.asking("vera", domain=OTHER), "Sales")
    nobodys = world.issue()
    codes.CodeItem.of(replace(nobodys.code, domain="", owner="")).save()
    for digits, seconds in (
        (expired.digits, 600),
        (revoked.digits, 0),
        ("000000000000", 0),
        ("12345", 0),
        (foreign.digits, 0),
        (nobodys.digits, 0),
    ):
        with pytest.raises(NotFoundError):
            instances.provisioned_device(instance(seconds=seconds), None, typed(digits))
    with pytest.raises(NotFoundError):
        instances.provisioned_device(instance(INSTANCE), None, typed(nobodys.digits))
    assert instances.provisioned_device(instance(seconds=599), None, typed(expired.digits)) is None


def test_a_code_that_is_redeemed_while_it_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is read again, and its device told."""
    digits = world.issue().digits
    real = codes.ask_about

    def late(write: Transaction, code: Code) -> None:
        world.redeem(digits)
        real(write, code)

    monkeypatch.setattr(codes, "ask_about", late)
    device = instances.provisioned_device(instance(), None, typed(digits))
    assert device is not None
    assert device.hw_id == world.HW_ID


def test_a_code_that_changes_too_often_is_asked_about_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not for ever."""
    issued = world.issue()
    real = codes.ask_about

    def never(write: Transaction, code: Code) -> None:
        real(write, replace(code, code_id="another"))

    monkeypatch.setattr(codes, "ask_about", never)
    with pytest.raises(StoreUnavailableError):
        instances.provisioned_device(instance(), None, typed(issued.digits))


def test_listing_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all domains that one sees, of some, of some categories, page by page."""
    monkeypatch.setattr(instances, "_PAGE", 1)
    placed = (
        ("00903300aa01", "Office"),
        ("00903300aa02", "Office"),
        ("00903300aa03", "Reception"),
    )
    for hw_id, category in placed:
        world.redeem(world.issue(category=category).digits, hw_id)
    foreign = users.issue_code(world.asking("vera", domain=OTHER), "Sales")
    world.redeem(foreign.digits, "00903300bb01")
    mine = [(DOMAIN, hw_id) for hw_id, _ in placed]
    theirs = [(OTHER, "00903300bb01")]
    office, sales = category_number(DOMAIN, "Office"), category_number(OTHER, "Sales")

    def listed(
        asking: Instance, numbers: list[int] | None = None, categories: list[int] | None = None
    ) -> list[tuple[str, str]]:
        return ids(instances.list_devices(asking, numbers, categories))

    assert listed(instance()) == mine
    assert listed(instance(INSTANCE)) == mine + theirs
    assert listed(instance(INSTANCE), [number(OTHER)]) == theirs
    assert listed(instance(), None, [office]) == mine[:2]
    assert listed(instance(INSTANCE), None, [office, sales]) == mine[:2] + theirs
    assert listed(instance(), None, [sales]) == []
    assert listed(instance(), []) == []
    with pytest.raises(NotFoundError):
        listed(instance(), [number(DOMAIN), number(OTHER)])


def test_the_phones_of_a_gateway_in_a_domain_that_one_sees() -> None:
    """Listed and forgotten by its own instances, granted ones and the instance's domain."""
    device = world.redeem(world.issue("user9").digits).device
    interfaces = ["TEL1", "TEL2", "TEL3"]
    for n, interface in enumerate(interfaces, 1):
        code = typed(world.issue(f"user{n}").digits)
        analogue_phones.register(device, interface, code, world.HOME, NOW)
    for unseen in (instance(OTHER), instance("gone.example")):
        with pytest.raises(NotFoundError):
            instances.interfaces_with_phones(unseen, world.HW_ID)
        with pytest.raises(NotFoundError):
            instances.remove_phone_at(unseen, world.HW_ID, "TEL1")
    grant(OTHER, DOMAIN)
    for asking in (instance(), instance(OTHER), instance(INSTANCE)):
        assert instances.interfaces_with_phones(asking, world.HW_ID) == interfaces
        instances.remove_phone_at(asking, world.HW_ID, interfaces.pop(0))
    assert instances.interfaces_with_phones(instance(), world.HW_ID) == []
    users.release_phone(world.asking("user9"), world.HW_ID)
    for asking in (instance(), instance(INSTANCE)):
        with pytest.raises(NotFoundError):
            instances.interfaces_with_phones(asking, world.HW_ID)
