"""What wakes the handover: the stream's rows, and the clock."""

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import app
from chalicelib import pbx as adapter
from chalicelib.core.devices import PbxState
from chalicelib.core.user_objects import Trouble
from chalicelib.roles import handovers, notifications, pbx_turns, pbxes, users
from chalicelib.sockets import outward
from chalicelib.storage import devices, leases, lists
from chalicelib.storage.notifications import Fact, Kind, NotificationItem
from tests import faults, world
from tests.played_pbx import PlayedPbx
from tests.processes import Clock
from tests.wires import stream_event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DOMAIN = world.DOMAIN
SETTINGS = {"address": "wss://pbx.example.com", "app_object": "a", "password": "p"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the service have a clock that stands still, and no time to lose."""
    made = Clock()
    monkeypatch.setattr(outward, "now", made)
    monkeypatch.setattr(time, "sleep", made.advance)
    return made


@pytest.fixture
def pbx(table_names: dict[str, str], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> PlayedPbx:
    """Write the demo data, and give its domain a PBX."""
    assert table_names
    world.seed()
    made = PlayedPbx("user1", "user2")
    monkeypatch.setattr(adapter, "connect", made.connect)
    pbxes.put(world.admin(), DOMAIN, SETTINGS)
    return made


def rows(*kinds: Kind) -> list[dict[str, Any]]:
    """Read rows of some kinds, as the stream brings them."""
    return [
        row
        for kind in kinds
        for row in lists.query(NotificationItem, DOMAIN, lists.Span(f"{kind}#", 1_000)).items
    ]


def follow(*images: dict[str, Any]) -> Any:  # noqa: ANN401 - what Lambda reads
    """Let rows arrive."""
    return app.hand_over(stream_event(*images), None)


def state(hw_id: str = world.HW_ID) -> tuple[PbxState | None, str]:
    """Tell what a phone shows."""
    device = devices.find(hw_id)
    assert device is not None
    return device.pbx, device.pbx_reason


def test_a_phone_that_comes_wakes_its_pbx(pbx: PlayedPbx) -> None:
    """And one that leaves; a row that comes twice changes nothing."""
    world.redeem(world.issue().digits)
    came = rows(Kind.HANDOVER)
    for _ in range(2):
        assert follow(*came) == {"batchItemFailures": []}
        assert (pbx.hw_ids("user1"), state()) == ([world.HW_ID], (PbxState.DONE, ""))
    users.release_phone(world.asking(), world.HW_ID)
    follow(*rows(Kind.HANDOVER))
    assert pbx.hw_ids("user1") == []


def test_a_pbx_that_is_away_fails_no_record(pbx: PlayedPbx, clock: Clock) -> None:
    """The phone shows why it waits, and the clock comes back to it."""
    pbx.trouble = Trouble.NO_CONNECTION
    world.redeem(world.issue().digits)
    assert follow(*rows(Kind.HANDOVER)) == {"batchItemFailures": []}
    assert state() == (PbxState.PENDING, Trouble.NO_CONNECTION)
    pbx.trouble = None
    outward.remind()
    assert state() == (PbxState.PENDING, Trouble.NO_CONNECTION)
    clock.advance(60)
    outward.remind()
    assert (pbx.hw_ids("user1"), state()) == ([world.HW_ID], (PbxState.DONE, ""))


def test_what_one_turn_leaves_wakes_the_next(pbx: PlayedPbx, clock: Clock) -> None:
    """By a row of its own."""
    world.redeem(world.issue().digits)
    world.redeem(world.issue("user2").digits, "009033000002")
    pbx.before_write = lambda: clock.advance(pbx_turns.BUDGET_SECONDS)
    follow(*rows(Kind.HANDOVER))
    assert len(pbx.written) == 1
    pbx.before_write = lambda: None
    follow(*rows(Kind.PBX_WAKE))
    assert sorted(pbx.written) == ["user1", "user2"]


def test_all_of_a_domain_is_gone_through_on_demand(
    pbx: PlayedPbx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails meanwhile makes the stream come back to it; nobody is told of anything."""
    world.redeem(world.issue().digits)
    follow(*rows(Kind.HANDOVER))
    pbx.devices["user1"] = []
    redrives = rows(Kind.REDRIVE)
    error = faults.client_error("ThrottlingException", "DeleteItem")
    with faults.failing(monkeypatch, "DeleteItem", error):
        failed = follow(*redrives)["batchItemFailures"]
    assert (len(failed), pbx.hw_ids("user1")) == (1, [])
    follow(*redrives)
    assert pbx.hw_ids("user1") == [world.HW_ID]


def test_a_domain_that_cannot_be_gone_through_holds_up_no_other(
    pbx: PlayedPbx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is our defect, which is written down; what is behind it in the stream goes on."""
    monkeypatch.delattr(handovers, "redrive")
    redrives = rows(Kind.REDRIVE)
    world.redeem(world.issue().digits)
    assert follow(*redrives, *rows(Kind.HANDOVER)) == {"batchItemFailures": []}
    assert pbx.hw_ids("user1") == [world.HW_ID]


def test_who_is_told_again_is_no_news(
    pbx: PlayedPbx, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For people, to whom nothing has happened."""
    told: list[Fact] = []
    monkeypatch.setattr(notifications, "tell_people", lambda fact, *_: told.append(fact))
    world.redeem(world.issue().digits)
    app.follow_notifications(stream_event(*rows(Kind.HANDOVER)), None)
    assert [fact.hw_id for fact in told] == [world.HW_ID]
    follow(*rows(Kind.HANDOVER))
    handovers.redrive(DOMAIN, None, clock)
    assert len(rows(Kind.HANDOVER)) == 1
    app.follow_notifications(stream_event(*rows(Kind.HANDOVER)), None)
    assert len(told) == 1


def test_a_worker_that_died_is_waited_for(pbx: PlayedPbx, clock: Clock) -> None:
    """A few seconds, not until the next minute."""
    world.redeem(world.issue().digits)
    until = clock() + timedelta(seconds=pbx_turns.LEASE_SECONDS)
    assert leases.acquire(DOMAIN, leases.PBX, "dead", clock(), until)
    before = clock()
    follow(*rows(Kind.HANDOVER))
    assert pbx.hw_ids("user1") == [world.HW_ID]
    assert clock() - before < timedelta(seconds=10)


def test_rows_of_others_wake_no_pbx(
    pbx: PlayedPbx, client: "DynamoDBClient", table_names: dict[str, str]
) -> None:
    """Facts, signals for Users instances, leases, and what newer code may write."""
    known = client.scan(TableName=table_names["notifications"])["Items"]
    others = [row for row in known if row["kind"]["S"] not in {"handover", "redrive"}]
    keys_alone = {name: known[0][name] for name in ("domain", "notification_id")}
    newer = {**keys_alone, "kind": {"S": "of tomorrow"}}
    assert follow(*others, keys_alone, newer) == {"batchItemFailures": []}
    assert pbx.accesses == []


def test_nothing_of_a_password_is_written_down(
    pbx: PlayedPbx, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever goes wrong."""
    secret = "a-very-secret-password"
    pbxes.put(world.admin(), DOMAIN, {**SETTINGS, "password": secret})
    pbx.trouble = Trouble.PASSWORD
    world.redeem(world.issue().digits)
    follow(*rows(Kind.HANDOVER, Kind.REDRIVE))
    pbx.trouble = None
    pbx.refuses["user1"] = "refused: no"
    outward.remind()
    told = capsys.readouterr().out
    assert "no way to the PBX" in told
    assert secret not in told
    assert json.loads(told.splitlines()[0])
