from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.core.codes import State
from chalicelib.core.errors import (
    ConflictError,
    LimitReachedError,
    NotAllowedError,
    NotFoundError,
    StoreUnavailableError,
)
from chalicelib.roles import users
from chalicelib.storage import audit, codes, connection, domains, vault
from chalicelib.storage import devices as device_table
from chalicelib.storage import users as user_table
from tests import world
from tests.conftest import NOW

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    world.seed()


def test_a_person_becomes_a_user_at_first_sign_in() -> None:
    """Once, and what an import said of them later is not undone."""
    newcomer = world.asking("zoe", roles=("users-admin",))
    told = users.profile(newcomer)
    assert (told.sip, told.name, told.may_add_phones) == ("zoe", "Zoe", True)
    assert told.roles == ("users-admin",)
    user_table.put_all([user_table.User("example.com", "zoe", name="Zoe Z.", may_add_phones=False)])
    assert not users.profile(newcomer).may_add_phones
    again = user_table.User("example.com", "zoe", name="Again")
    user_table.put_new(again, newcomer.entry("user added", "zoe"))
    assert user_table.UserItem.get("example.com", "zoe").name == "Zoe Z."
    trail = audit.list_month("example.com", "2036-11", 10, None).items
    assert [(one.action, one.actor, one.subject) for one in trail] == [("user added", "zoe", "zoe")]


def test_a_domain_that_is_not_served_is_refused() -> None:
    """A token of the right issuer for a foreign domain gets nothing."""
    with pytest.raises(NotAllowedError):
        users.profile(world.asking(domain="foreign.example"))
    with pytest.raises(NotAllowedError):
        users.issue_code(world.asking(domain="foreign.example"), "Office")


def test_only_provisioning_categories_for_phones_are_offered_and_accepted() -> None:
    """Neither a group of gateways nor another domain's category takes a phone."""
    names = [category.name for category in users.categories(world.person())]
    assert names == ["Office", "Reception"]
    for category in ("Gateways", "Sales", "nonsense"):
        with pytest.raises(NotFoundError):
            world.issue(category=category)


def test_the_domain_and_the_user_decide_who_may_add_phones() -> None:
    """The user's setting wins over the domain's."""
    off = connection.Transaction()
    domains.change(off, "example.com", {"may_add_phones": False})
    off.commit()
    with pytest.raises(NotAllowedError):
        world.issue()
    user_table.put_all([user_table.User("example.com", "user1", may_add_phones=True)])
    assert world.issue().code.owner == "user1"


def test_ten_codes_an_hour() -> None:
    """The eleventh waits until one comes back."""
    for _ in range(10):
        world.issue()
    with pytest.raises(LimitReachedError) as limited:
        world.issue()
    assert limited.value.retry_after_seconds == 360
    assert world.issue("user2")
    assert world.issue(now=NOW + timedelta(seconds=360))


def test_an_issued_code_is_sealed_and_opens_for_its_purpose_alone() -> None:
    """Its digits are nowhere in clear, and its seal fits no other code."""
    from cryptography.exceptions import InvalidTag

    issued = world.issue()
    sealed = world.stored(issued.code).sealed_code
    assert sealed is not None
    assert vault.unseal(sealed, f"code {issued.code.code_id}") == issued.digits
    with pytest.raises(InvalidTag):
        vault.unseal(sealed, "code of somebody else")


def test_an_open_code_is_never_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same digits drawn twice give the second person others."""
    first = world.issue()
    draws = iter([first.digits, first.digits, "123412341234"])
    monkeypatch.setattr(vault, "new_code", lambda: next(draws))
    second = world.issue("user2")
    assert second.digits == "123412341234"
    assert world.stored(first.code).owner == "user1"
    monkeypatch.setattr(vault, "new_code", lambda: first.digits)
    with pytest.raises(StoreUnavailableError):
        world.issue("user3")


def test_a_lingering_expired_item_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """TTL deletes late: the digits are free again when `purge_at` has passed."""
    first = world.issue()
    monkeypatch.setattr(vault, "new_code", lambda: first.digits)
    later = NOW + timedelta(seconds=601)
    second = world.issue("user2", later)
    assert world.stored(second.code).owner == "user2"
    own, _ = users.list_codes(world.person(), 10, None)
    assert own == []
    with pytest.raises(NotFoundError):
        users.find_code(world.person(), first.code.code_id)


def test_codes_under_an_older_key_are_found_and_not_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rotation of the code key loses no open code, and makes no two codes of the same digits."""
    old = world.issue()
    rotated = {"current": "2", "1": "code key of the tests", "2": "a new code key"}
    real = vault._keys  # noqa: SLF001 - the rotation, as the secret would bring it
    monkeypatch.setattr(vault, "_keys", lambda name: rotated if name == "code" else real(name))
    draws = iter([old.digits, "555566667777"])
    monkeypatch.setattr(vault, "new_code", lambda: next(draws))
    assert world.issue("user2").digits == "555566667777"
    assert world.redeem(old.digits).device.user == "user1"
    assert world.redeem("555566667777", "0090330000ab", "203.0.113.4").device.user == "user2"


def test_what_is_no_handle_names_no_code() -> None:
    """Whatever its length; nothing is looked up for it."""
    with world.calls() as made:
        for handle in ("", "short", "x" * 1_000):
            with pytest.raises(NotFoundError):
                users.find_code(world.person(), handle)
    assert made == []


def test_a_code_is_revoked_once_and_for_all() -> None:
    """Twice is no fault; a redeemed one cannot be; somebody else's is not there."""
    issued = world.issue()
    with pytest.raises(NotFoundError):
        users.revoke_code(world.asking("user2"), issued.code.code_id)
    users.revoke_code(world.asking(), issued.code.code_id)
    users.revoke_code(world.asking(), issued.code.code_id)
    assert world.stored(issued.code).state is State.REVOKED
    used = world.issue()
    world.redeem(used.digits)
    with pytest.raises(ConflictError):
        users.revoke_code(world.asking(), used.code.code_id)


def test_a_code_redeemed_while_it_is_revoked_stays_redeemed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The phone was faster: the person is told."""
    issued = world.issue()
    seen = world.stored(issued.code)
    world.redeem(issued.digits)
    reads = iter([[seen], [world.stored(issued.code)]])
    monkeypatch.setattr(codes, "find_all", lambda _: next(reads))
    with pytest.raises(ConflictError):
        users.revoke_code(world.asking(), issued.code.code_id)


def test_a_person_sees_their_codes_newest_first_with_their_phones() -> None:
    """Page by page, with state and device."""
    first = world.issue()
    second = world.issue(now=NOW + timedelta(seconds=1))
    world.redeem(first.digits)
    page, after = users.list_codes(world.person(), 1, None)
    assert [own.code.code_id for own in page] == [second.code.code_id]
    page, after = users.list_codes(world.person(), 1, after)
    assert [(own.code.state, own.device is not None) for own in page] == [(State.REDEEMED, True)]
    assert after is None or users.list_codes(world.person(), 1, after) == ([], None)
    own = users.find_code(world.person(), first.code.code_id)
    assert own.device is not None
    assert own.device.hw_id == world.HW_ID
    assert users.find_code(world.person(), second.code.code_id).device is None


def test_a_person_gives_a_phone_up_and_only_their_own() -> None:
    """It leaves the list; somebody else's phone is not there for them."""
    world.redeem(world.issue().digits)
    for hw_id in (world.HW_ID, "0090330000ff"):
        with pytest.raises(NotFoundError):
            users.release_phone(world.asking("user2"), hw_id)
    users.release_phone(world.asking(), world.HW_ID)
    assert users.list_phones(world.person(), 10, None) == ([], None)
    with pytest.raises(NotFoundError):
        users.release_phone(world.asking(), world.HW_ID)


def test_a_phone_that_changes_hands_while_it_is_released_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of its new registration is undone."""
    world.redeem(world.issue().digits)
    seen = device_table.find(world.HW_ID)
    world.redeem(world.issue().digits, now=NOW + timedelta(seconds=1))
    monkeypatch.setattr(device_table, "find", lambda _: seen)
    with pytest.raises(ConflictError):
        users.release_phone(world.asking(), world.HW_ID)


def test_a_transaction_that_fails_for_another_reason_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only refused conditions are an answer; the rest is an error."""
    from pynamodb.exceptions import TransactWriteError

    from tests import faults

    odd = faults.client_error("ValidationException", "TransactWriteItems")
    with (
        faults.failing(monkeypatch, "TransactWriteItems", odd),
        pytest.raises(TransactWriteError),
    ):
        world.issue()


def test_a_phone_that_came_to_somebody_else_is_not_shown_with_the_code_any_more() -> None:
    """Where it is by then, and whose, is not for whoever had it before."""
    issued = world.issue()
    world.redeem(issued.digits)
    before = users.find_code(world.person(), issued.code.code_id)
    assert before.device is not None
    users.release_phone(world.asking(), world.HW_ID)
    world.redeem(world.issue("user2").digits)
    after = users.find_code(world.person(), issued.code.code_id)
    (listed,), _ = users.list_codes(world.person(), 10, None)
    assert after == listed == replace(before, device=None)
