"""Who may do what: everything that takes somebody who asks, tried by everybody."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.core.errors import NotAllowedError, PbxUnavailableError
from chalicelib.core.user_objects import Trouble
from chalicelib.roles import (
    assignments,
    domains,
    guesses,
    installations,
    pbxes,
    provisioning,
    security_tokens,
    updates,
)
from chalicelib.roles.asking import Asking
from chalicelib.storage import domains as domain_table
from tests import world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]
Act = Callable[[Asking, str], Any]

TOKEN = "the token of this domain"
FIRMWARE = {"IP232": {"prot": {"build": "1", "url": "https://f.example/1"}}}
EXPERT = {"lines": ["config add A /b"]}
PHONES = {
    name: f"0090330000a{number}" for number, name in enumerate(("one", "two", "three", "new"))
}


PBX = {"address": "wss://pbx.example/PBX0/APPCLIENT/dialtone", "app_object": "dialtone"}


def phone(name: str) -> str:
    """Tell the hw_id of a phone of these tests."""
    return PHONES[name]


def remove_phones(who: Asking, at: str) -> None:
    """Forget two phones."""
    for name in ("three", "new"):
        assignments.remove(who, at, phone(name))


def delete_jobs(who: Asking, at: str) -> None:
    """Delete the jobs of the category of these tests."""
    for listing in (updates.list_software, updates.list_configuration):
        for job in listing(who, at, 10, None).items:
            if job.category == "Rights":
                updates.delete_job(who, at, job.job_id)


def connect(*_: object) -> Any:  # noqa: ANN401 - never a PBX
    """Find no PBX."""
    raise PbxUnavailableError(Trouble.NO_CONNECTION)


# In an order in which each can succeed for whoever may.
IN_A_DOMAIN: dict[str, Act] = {
    "domains.show": domains.show,
    "domains.change": lambda who, at: domains.change(who, at, {"may_add_phones": True}),
    "domains.put_category": lambda who, at: domains.put_category(
        who, at, "Rights", provisioning=True, device_types=["PHONE"]
    ),
    "domains.categories": domains.categories,
    "security_tokens.put": lambda who, at: security_tokens.put(who, at, "Rights", TOKEN, None),
    "security_tokens.show": lambda who, at: security_tokens.show(who, at, "Rights"),
    "updates.put_firmware": lambda who, at: updates.put_firmware(who, at, FIRMWARE),
    "updates.show_firmware": updates.show_firmware,
    "updates.make_software_job": lambda who, at: updates.make_software_job(who, at, "Rights"),
    "updates.make_configuration_job": lambda who, at: updates.make_configuration_job(
        who, at, "Rights", "expert", EXPERT
    ),
    "updates.list_software": lambda who, at: updates.list_software(who, at, 10, None),
    "updates.list_configuration": lambda who, at: updates.list_configuration(who, at, 10, None),
    "assignments.list_all": lambda who, at: assignments.list_all(
        who, at, 10, None, category="", state=None
    ),
    "assignments.show": lambda who, at: assignments.show(who, at, phone("one")),
    "updates.explain": lambda who, at: updates.explain(who, at, phone("one"), None),
    "assignments.change": lambda who, at: assignments.change(who, at, phone("one"), "x", None),
    "assignments.put_in_place": lambda who, at: assignments.put_in_place(
        who, at, phone("one"), phone("new")
    ),
    "assignments.release": lambda who, at: assignments.release(who, at, phone("two")),
    "assignments.remove": remove_phones,
    "updates.delete_job": delete_jobs,
    "pbxes.put": lambda who, at: pbxes.put(who, at, {**PBX, "password": "of the app object"}),
    "pbxes.show": pbxes.show,
    "pbxes.check": lambda who, at: pbxes.check(who, at, connect),
    "pbxes.redrive": pbxes.redrive,
    "pbxes.replicate": pbxes.replicate,
    "pbxes.delete": pbxes.delete,
    "security_tokens.delete": security_tokens.delete,
    "domains.delete_category": lambda who, at: domains.delete_category(who, at, "Rights"),
    "domains.audit_trail": lambda who, at: domains.audit_trail(who, at, "2036-11", 10, None),
}
MODULES = [
    assignments,
    domains,
    guesses,
    installations,
    pbxes,
    provisioning,
    security_tokens,
    updates,
]
OF_THE_PLATFORM: dict[str, Act] = {
    "domains.create": lambda who, _: domains.create(who, "made.example", {}),
    "domains.delete": lambda who, _: domains.delete(who, "made.example"),
    "domains.change": lambda who, at: domains.change(who, at, {"granted_domains": []}),
    "guesses.show_risk": lambda who, _: guesses.show_risk(who),
    "installations.create": lambda who, _: installations.create(who, "Foreign Ltd"),
    "installations.list_all": lambda who, _: installations.list_all(who, 10, None),
    "installations.delete": lambda who, _: installations.delete(
        who, installations.list_all(world.platform(), 1, None).items[0].installation_id
    ),
    "provisioning.list_sightings": lambda who, _: provisioning.list_sightings(
        who, "2036-11-24", 10, None
    ),
}
OF_ANY_ADMINISTRATOR: dict[str, Act] = {
    "domains.list_all": lambda who, _: domains.list_all(who, 10, None),
}
UNLIKE = {"Users-admin", "Devices-admin", "devices-admin ", "platform"}


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def register(domain: str) -> None:
    """Let three phones come by the domain's token."""
    for name in ("one", "two", "three"):
        world.admit(world.claiming(TOKEN, phone(name), domain=domain, category="Rights"))


def do_all(who: Asking, domain: str) -> None:
    """Do everything in a domain, one after the other."""
    for name, act in IN_A_DOMAIN.items():
        if name == "assignments.list_all":
            register(domain)
        act(who, domain)


def test_every_function_that_somebody_asks_for_is_tried_here() -> None:
    """A new one must say who may ask for it."""
    known = {*IN_A_DOMAIN, *OF_THE_PLATFORM, *OF_ANY_ADMINISTRATOR}
    found = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and "asking" in inspect.signature(function).parameters
    }
    assert found == known


def test_whoever_administers_nothing_may_do_nothing() -> None:
    """Whatever the roles are called that they have; nothing is read for them."""
    askers = [world.asking(), world.asking(roles=tuple(UNLIKE))]
    with world.calls() as made:
        for who in askers:
            for act in (*IN_A_DOMAIN.values(), *OF_ANY_ADMINISTRATOR.values()):
                with pytest.raises(NotAllowedError):
                    act(who, world.DOMAIN)
    assert made == []


def test_a_users_administrator_sees_the_domain_and_lets_users_add_phones() -> None:
    """That one setting of their own domain, not together with another; and nothing else of it."""
    who = world.asking("admin", roles=("users-admin",))
    theirs = {"domains.show", "domains.change", "pbxes.replicate"}
    for name, act in {**IN_A_DOMAIN, **OF_ANY_ADMINISTRATOR}.items():
        if name not in theirs:
            with pytest.raises(NotAllowedError):
                act(who, world.DOMAIN)
    for refused in ({"phone_apps": ["x"]}, {"may_add_phones": False, "devices_url": ""}):
        with pytest.raises(NotAllowedError):
            domains.change(who, world.DOMAIN, refused)
    with pytest.raises(NotAllowedError):
        domains.change(who, "other.example", {"may_add_phones": False})
    assert domains.show(who, world.DOMAIN).may_add_phones
    assert not domains.change(who, world.DOMAIN, {"may_add_phones": False}).may_add_phones


def test_the_administrator_of_another_domain_may_do_nothing() -> None:
    """Whether or not the domain is there, and whether or not the device is."""
    who = world.admin(domain="other.example")
    with world.calls() as made:
        for act in IN_A_DOMAIN.values():
            for domain in (world.DOMAIN, "nowhere.example", "", "Other.example"):
                with pytest.raises(NotAllowedError):
                    act(who, domain)
    assert made == []


def test_what_is_the_platforms_is_for_its_administrators_alone() -> None:
    """Not even a domain's administrator in their own."""
    made = installations.create(world.platform(), "Foreign Ltd")
    for who in (world.asking(), world.admin(), world.asking(roles=tuple(UNLIKE))):
        for act in OF_THE_PLATFORM.values():
            with pytest.raises(NotAllowedError):
                act(who, world.DOMAIN)
    assert domain_table.find("made.example") is None
    listed = installations.list_all(world.platform(), 10, None)
    assert listed.items == [made.installation]


def test_a_domains_administrator_may_do_everything_in_it() -> None:
    """And what was done is done by them."""
    do_all(world.admin(), world.DOMAIN)
    trail = domains.audit_trail(world.admin(), world.DOMAIN, "2036-11", 50, None).items
    assert {one.actor for one in trail} == {"admin", phone("one"), phone("two"), phone("three")}


def test_a_platform_administrator_may_do_everything_everywhere() -> None:
    """Also in a domain that has no administrator of its own."""
    for domain in (world.DOMAIN, "other.example"):
        do_all(world.platform(), domain)
    for act in OF_THE_PLATFORM.values():
        act(world.platform(), "other.example")
    assert len(domains.list_all(world.platform(NOW), 10, None).items) == 3
