from collections.abc import Callable
from datetime import timedelta

import pytest

from chalicelib.core.errors import (
    StoreUnavailableError,
)
from chalicelib.roles import handouts, rollouts
from chalicelib.roles.rollouts import Selection
from chalicelib.storage import users as user_table
from tests import faults, world
from tests.conftest import NOW
from tests.roles.rolling_out import OFFICE

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


def test_codes_are_exported_with_what_the_user_is_now() -> None:
    """By sip; only pending ones are told; somebody who is no user any more is still there."""
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)
    world.redeem(told["user2"])
    user_table.UserItem(world.DOMAIN, "user3").delete()
    exported, found = handouts.export(OFFICE, rollout.rollout_id, None)
    assert exported == rollout
    assert [
        (one.registration.sip, one.user.name, one.user.number, one.digits) for one in found
    ] == [
        ("user1", "User 1", "101", told["user1"]),
        ("user2", "User 2", "102", ""),
        ("user3", "User 3", "", told["user3"]),
    ]
    assert told["user1"] not in repr(found)


def test_a_code_whose_phone_comes_while_it_is_told_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is worth nothing any more."""
    rollout = world.make_rollout(["user1", "user2"])
    told = world.told(rollout)
    with faults.meanwhile(monkeypatch, "PutItem", lambda: world.redeem(told["user1"])):
        _, found = handouts.export(OFFICE, rollout.rollout_id, None)
    assert [one.digits for one in found] == ["", told["user2"]]


def test_what_has_changed_since_is_exported_alone() -> None:
    """New codes and new phones; what is as it was then is left out."""
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)
    minute = NOW + timedelta(minutes=1)
    rollouts.reissue(world.users_admin(minute), rollout.rollout_id, Selection(["user1"]))
    world.redeem(told["user2"], now=minute)
    _, found = handouts.export(OFFICE, rollout.rollout_id, minute)
    assert [one.registration.sip for one in found] == ["user1", "user2"]
    _, found = handouts.export(OFFICE, rollout.rollout_id, minute + timedelta(seconds=1))
    assert found == []
    _, found = handouts.export(OFFICE, rollout.rollout_id, NOW)
    assert len(found) == 3


def test_a_whole_rollout_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages it has, each once."""
    monkeypatch.setattr(handouts, "MAX_ENTRIES", 7)
    sips = world.staff(16)
    rollout = world.make_rollout(sips)
    _, found = handouts.export(OFFICE, rollout.rollout_id, None)
    assert [one.registration.sip for one in found] == sips
    assert len({one.digits for one in found}) == 16


def test_slips_are_viewed_page_by_page() -> None:
    """Of those that are pending, as many as were asked for, wherever they stand."""
    rollout = world.make_rollout(["user1", "user2", "user3", "user4"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    viewed, first = handouts.view(OFFICE, rollout.rollout_id, 2, None)
    assert viewed == rollout
    assert [one.digits for one in first.items] == [told["user2"], told["user3"]]
    _, second = handouts.view(OFFICE, rollout.rollout_id, 2, first.next_after)
    assert [one.digits for one in second.items] == [told["user4"]]
    assert second.next_after is None


def test_slips_of_a_long_rollout_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are looked through without a slip do not end it."""
    monkeypatch.setattr(handouts, "MAX_USERS", 2)
    rollout = world.make_rollout(["user1", "user2", "user3"])
    told = world.told(rollout)
    world.redeem(told["user1"])
    world.redeem(told["user2"], "009033000002")
    _, first = handouts.view(OFFICE, rollout.rollout_id, 2, None)
    assert first.items == []
    _, second = handouts.view(OFFICE, rollout.rollout_id, 2, first.next_after)
    assert [one.digits for one in second.items] == [told["user3"]]


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize(
    "tell",
    [
        lambda at: handouts.export(OFFICE, at, None),
        lambda at: handouts.view(OFFICE, at, 10, None),
    ],
)
def test_nothing_is_told_that_cannot_be_written_down(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[[str], object], *, is_lost: bool
) -> None:
    """No code is read before the audit trail has it."""
    rollout = world.make_rollout(["user1"])
    with (
        faults.failing(monkeypatch, "PutItem", faults.timeout(), after_commit=is_lost),
        world.calls() as made,
        pytest.raises(StoreUnavailableError),
    ):
        tell(rollout.rollout_id)
    assert made.count("BatchGetItem") == 1  # the rollout
