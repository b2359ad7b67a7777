"""What the tests of rollouts, of their entries and of their handouts look at, and how."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from chalicelib.core.codes import Lifetime
from chalicelib.core.errors import (
    CodeNotRedeemableError,
)
from chalicelib.core.rollouts import (
    Rollout,
    reason_of,
)
from chalicelib.core.rollouts import State as EntryState
from chalicelib.roles import devices, domains, handouts, rollouts
from chalicelib.roles.asking import Asking
from chalicelib.roles.rollouts import Selection
from chalicelib.storage import audit, registrations, vault
from tests import world
from tests.conftest import NOW

OFFICE = world.users_admin()
WEEK = Lifetime.ROLLOUT.seconds
PENDING, REGISTERED = EntryState.PENDING, EntryState.REGISTERED
EXPIRED, REVOKED = EntryState.EXPIRED, EntryState.REVOKED
TABLET = "0090330000b1"
ELSEWHERE = "198.51.100.9"
NOWHERE = "0" * 26
CALLS: dict[str, Callable[[Asking, str], object]] = {
    "options": lambda who, _: rollouts.options(who),
    "list_all": lambda who, _: rollouts.list_all(who, 10, None),
    "create": lambda who, _: rollouts.create(
        who, name="Autumn", category="Office", app="", note="", sips=[]
    ),
    "find": rollouts.find,
    "add": lambda who, at: rollouts.add(who, at, ["user2"]),
    "show": lambda who, at: rollouts.show(who, at, None, 10, None),
    "extend": lambda who, at: rollouts.extend(who, at, Selection()),
    "reissue": lambda who, at: rollouts.reissue(who, at, Selection()),
    "revoke": lambda who, at: rollouts.revoke(who, at, Selection()),
    "export": lambda who, at: handouts.export(who, at, None),
    "view": lambda who, at: handouts.view(who, at, 10, None),
}
NAMELESS = ["options", "list_all", "create"]


def states(rollout: Rollout, seconds: int = 0) -> dict[str, EntryState]:
    """Tell the state of each entry."""
    now = NOW + timedelta(seconds=seconds)
    found = registrations.list_all(rollout.rollout_id, 1_000, None).items
    return {entry.sip: entry.state_at(now) for entry in found}


def counts(rollout: Rollout, seconds: int = 0) -> dict[EntryState, int]:
    """Count the entries of each state that has any, as an administrator sees it."""
    asking = world.users_admin(NOW + timedelta(seconds=seconds))
    shown = rollouts.show(asking, rollout.rollout_id, None, 1, None)
    assert shown.counts is not None
    return {state: count for state, count in shown.counts.items() if count}


def shown(rollout: Rollout, state: EntryState | None = None, seconds: int = 0) -> list[str]:
    """List whose entries an administrator sees, page by page of two."""
    asking = world.users_admin(NOW + timedelta(seconds=seconds))
    sips: list[str] = []
    after: str | None = None
    while True:
        page = rollouts.show(asking, rollout.rollout_id, state, 2, after).entries
        sips += [entry.registration.sip for entry in page.items]
        after = page.next_after
        if after is None:
            return sips


def reason(rollout: Rollout, sip: str, seconds: int = 0) -> str:
    """Tell what an administrator should look after."""
    (entry,) = rollouts.with_phones(rollout.domain, [world.entry(rollout, sip)])
    return reason_of(entry.registration, entry.device, NOW + timedelta(seconds=seconds))


def is_redeemed(digits: str, hw_id: str = TABLET, seconds: int = 0) -> bool:
    """Let a phone try a code."""
    try:
        world.redeem(digits, hw_id, ELSEWHERE, NOW + timedelta(seconds=seconds))
    except CodeNotRedeemableError:
        return False
    return True


def trail() -> list[audit.Entry]:
    """List what happened, oldest first, without what phones did."""
    found: list[audit.Entry] = []
    for month in ("2036-12", "2036-11"):
        found += audit.list_month(world.DOMAIN, month, 1_000, None).items
    return [entry for entry in reversed(found) if entry.actor == "office"]


def close(name: str = "Office") -> None:
    """Let a category take no phones any more."""
    domains.put_category(world.admin(), world.DOMAIN, name, provisioning=False, device_types=[])


def rotate(monkeypatch: pytest.MonkeyPatch, versions: int) -> None:
    """Rotate the code key until it has so many versions."""
    keys = {str(n): f"code key {n}" for n in range(2, versions + 1)}
    rotated = {"current": str(versions), "1": "code key of the tests", **keys}
    real = vault._keys  # noqa: SLF001 - the rotation, as the secret would bring it
    monkeypatch.setattr(vault, "_keys", lambda name: rotated if name == "code" else real(name))


def registered_elsewhere() -> None:
    """Let the phone belong to another domain, which uses it."""
    other = world.issue_rollout(owner="vera", domain="other.example", category="Sales")
    token = world.redeem(other.digits).token
    devices.update_script(world.visit(None, token=token), NOW)
