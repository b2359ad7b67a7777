"""Whatever people, phones and processes do in whatever order: what is stored tells one true story.

A machine issues, redeems, repeats, revokes, extends, reissues, releases and waits, and lets the
process die at a write, before it is committed or after. After each step that wrote where it
reads, it reads everything, and holds it against what was seen and answered before.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chalicelib.core.codes import Code, Lifetime, State, refusal_to_repeat
from chalicelib.core.devices import Device, refusal_to_assign
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    ConflictError,
    DeviceElsewhereError,
    LimitReachedError,
    NotFoundError,
)
from chalicelib.core.rate_limits import source_of
from chalicelib.core.rollouts import Registration, Rollout
from chalicelib.core.rollouts import State as EntryState
from chalicelib.roles import devices, registrations, rollouts, users
from chalicelib.roles.rollouts import Selection
from chalicelib.storage import codes as code_table
from chalicelib.storage import connection
from chalicelib.storage import devices as device_table
from chalicelib.storage import registrations as entry_table
from tests import faults, world
from tests.conftest import NOW
from tests.journeys.wire import READS

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

PARTS = 4
EXAMPLES = {True: 250, False: 3}
"""Of each part, on AWS's own engine and on moto, which forgives more."""

STEPS = 15
PEOPLE = 3
PHONES = 3
WAITS = [1, 59, 599, 600, 3_599, 3_600, 86_399, 86_400, 604_799, 604_800]
REFUSALS = (CodeNotRedeemableError, DeviceElsewhereError)
FATES = {
    EntryState.PENDING: State.PENDING,
    EntryState.REGISTERED: State.REDEEMED,
    EntryState.REVOKED: State.REVOKED,
}
READ = ("codes", "devices", "holdings", "registrations")
"""The tables that what must hold is about."""

_numbers = itertools.count()

deaths = st.sampled_from(["", "", "", "before", "after"])
people = st.integers(0, PEOPLE - 1)
phones = st.integers(0, PHONES - 1)


class Died(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class Known:
    """What was seen of a code.

    Args:
        seen: the code at each step, as it was stored.
        answers: the device and its token, of each registration that a phone was told.
    """

    digits: str
    seen: list[Code] = field(default_factory=list)
    answers: set[tuple[str, str]] = field(default_factory=set)


class Histories(RuleBasedStateMachine):
    """A few people with their phones and a rollout, of names that no other example has."""

    issued: Bundle[str] = Bundle("issued")

    def __init__(self) -> None:
        super().__init__()
        number = next(_numbers)
        self.now = NOW
        self.sips = world.hire(*[f"h{number}-{one}" for one in range(PEOPLE)])
        self.hw_ids = [f"009033{number:05x}{one:x}" for one in range(PHONES)]
        self.homes = [f"10.{number >> 8}.{number & 255}.{one + 1}" for one in range(PHONES)]
        self.elsewhere = (f"2001:db8:{number:x}:{one:x}::1" for one in itertools.count())
        self.tokens: dict[str, str] = {}
        self.known: dict[str, Known] = {}
        self.rollout: Rollout | None = None
        # as they were read after the last write
        self.devices: dict[str, Device] = {}
        self.entries: dict[str, Registration] = {}
        self.has_written = self.has_moved = True
        self._moving = [connection.table_name("devices").encode(), b"phone#"]
        self._read = [connection.table_name(concept).encode() for concept in READ]
        self._events = connection.shared().client.meta.events
        self._events.register("before-call.dynamodb", self._note)

    def teardown(self) -> None:
        self._events.unregister("before-call.dynamodb", self._note)

    def _note(self, model: Any, params: Any, **_: Any) -> None:  # noqa: ANN401 - botocore's hook
        """See which calls could change what is read, and where a phone is; some are of threads."""
        if model.name not in READS and any(name in params["body"] for name in self._read):
            self.has_written = True
            self.has_moved |= any(name in params["body"] for name in self._moving)

    # what is done

    @rule(target=issued, who=people, death=deaths)
    def issue(self, who: int, death: str) -> Any:  # noqa: ANN401 - Hypothesis's own
        made = self._do(death, lambda: world.issue(self.sips[who], self.now))
        return multiple() if made is None else self._learn(made.code.fingerprint, made.digits)

    @precondition(lambda self: self.rollout is None)
    @rule(target=issued, death=deaths)
    def roll_out(self, death: str) -> Any:  # noqa: ANN401 - Hypothesis's own
        asking = world.users_admin(self.now)
        made = {"name": "All", "category": "Office", "app": "", "note": ""}
        self.rollout, _ = rollouts.create(asking, sips=[], **made)
        rollout_id = self.rollout.rollout_id
        self._do(death, lambda: rollouts.add(asking, rollout_id, self.sips))
        return self._learn_rollout()

    @rule(code=issued, phone=phones, death=deaths)
    def redeem(self, code: str, phone: int, death: str) -> None:
        self._redeem(code, phone, self.homes[phone], death)

    @rule(code=issued, phone=phones)
    def redeem_elsewhere(self, code: str, phone: int) -> None:
        self._redeem(code, phone, next(self.elsewhere), "")

    @rule(phone=phones)
    def poll(self, phone: int) -> None:
        hw_id = self.hw_ids[phone]
        visit = world.visit(None, hw_id, self.homes[phone], self.tokens.get(hw_id))
        assert devices.update_script(visit, self.now)

    @rule(code=issued, death=deaths)
    def revoke(self, code: str, death: str) -> None:
        seen = self.known[code].seen[-1]
        asking = world.asking(seen.owner, self.now)
        if seen.lifetime is Lifetime.USER:
            self._do(death, lambda: users.revoke_code(asking, seen.code_id))

    @precondition(lambda self: self.rollout is not None)
    @rule(
        target=issued,
        what=st.sampled_from([rollouts.extend, rollouts.reissue, rollouts.revoke]),
        chosen=st.sets(people, max_size=PEOPLE),
        death=deaths,
    )
    def change(self, what: Callable[..., object], chosen: set[int], death: str) -> Any:  # noqa: ANN401 - Hypothesis's own
        assert self.rollout is not None
        rollout_id = self.rollout.rollout_id
        asking = world.users_admin(self.now)
        sips = [self.sips[one] for one in chosen if self.sips[one] in self.entries]
        self._do(death, lambda: what(asking, rollout_id, Selection(sips)))
        return self._learn_rollout()

    @rule(phone=phones, death=deaths)
    def release(self, phone: int, death: str) -> None:
        device = self.devices.get(self.hw_ids[phone])
        if device is not None and device.user:
            asking = world.asking(device.user, self.now)
            self._do(death, lambda: users.release_phone(asking, device.hw_id))

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def _do(self, death: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever was done
        """Do something, and let the process die at its first write, if it is to; None if it did."""
        try:
            if not death:
                return work()
            died: Any = Died()
            after = death == "after"
            with (
                pytest.MonkeyPatch.context() as patch,
                faults.failing(patch, "TransactWriteItems", died, after_commit=after),
            ):
                return work()
        except (Died, ConflictError, LimitReachedError, NotFoundError):
            return None

    def _redeem(self, fingerprint: str, phone: int, source: str, death: str) -> None:
        known, hw_id = self.known[fingerprint], self.hw_ids[phone]
        code, device = known.seen[-1], self.devices.get(hw_id)
        is_due = self._is_due(code, device)
        may_repeat = (
            code.state is State.REDEEMED
            and refusal_to_repeat(code, device, hw_id, source_of(source), self.now) is None
        )
        try:
            told = self._do(death, lambda: world.redeem(known.digits, hw_id, source, self.now))
        except REFUSALS:
            assert not is_due
            assert not may_repeat
            return
        if isinstance(told, registrations.Registration):
            assert is_due or may_repeat
            assert told.device.hw_id == hw_id
            known.answers.add((hw_id, told.token))
            self.tokens[hw_id] = told.token

    def _is_due(self, code: Code, device: Device | None) -> bool:
        if code.state is not State.PENDING or self.now >= code.expires_at:
            return False
        is_for_anyone = code.lifetime is Lifetime.ROLLOUT
        return (
            refusal_to_assign(
                device, code.domain, code.owner, is_for_anyone=is_for_anyone, now=self.now
            )
            is None
        )

    def _learn(self, fingerprint: str, digits: str) -> str:
        self.known.setdefault(fingerprint, Known(digits))
        return fingerprint

    def _learn_rollout(self) -> Any:  # noqa: ANN401 - Hypothesis's own
        assert self.rollout is not None
        told = world.told(self.rollout, self.now)
        entries = entry_table.find_all(self.rollout.rollout_id, told)
        new = [one for one in entries if one.fingerprint not in self.known]
        # in an order of our own, for Hypothesis repeats what it did
        new.sort(key=lambda one: one.sip)
        return multiple(*[self._learn(one.fingerprint, told[one.sip]) for one in new])

    # what must hold

    @invariant()
    def one_true_story(self) -> None:
        """Where nothing was written, all is as it was when it was last read."""
        if not self.has_written:
            return
        if self.rollout is not None:
            entries = entry_table.find_all(self.rollout.rollout_id, self.sips)
            self.entries = {entry.sip: entry for entry in entries}
        of_entries = {entry.fingerprint for entry in self.entries.values()}
        found = code_table.find_all([*of_entries.union(self.known)])
        codes = {code.fingerprint: code for code in found}
        self._each_code_goes_one_way(codes)
        self._each_entry_says_what_its_code_says(codes)
        if self.has_moved:
            self._each_phone_is_on_its_owners_list_alone()
        self.has_written = self.has_moved = False

    def _each_code_goes_one_way(self, codes: dict[str, Code]) -> None:
        """From pending to one end, in time, and to one phone with one token."""
        assert codes.keys() >= self.known.keys()
        for fingerprint, known in self.known.items():
            code = codes[fingerprint]
            before = known.seen[-1] if known.seen else code
            known.seen.append(code)
            if before.state is not State.PENDING:
                assert (code.state, code.hw_id, code.redeemed_at) == (
                    before.state,
                    before.hw_id,
                    before.redeemed_at,
                )
            if code.state is State.REDEEMED:
                assert code.redeemed_at is not None
                assert code.redeemed_at < code.expires_at
                assert {hw_id for hw_id, _ in known.answers} <= {code.hw_id}
            else:
                assert not known.answers
            assert len(known.answers) <= 1

    def _each_entry_says_what_its_code_says(self, codes: dict[str, Code]) -> None:
        """And every other code of its user in the rollout is dead."""
        for entry in self.entries.values():
            code = codes[entry.fingerprint]
            assert code.state is FATES[entry.state]
            assert (entry.hw_id, entry.expires_at) == (code.hw_id, code.expires_at)
        current = {entry.fingerprint for entry in self.entries.values()}
        for fingerprint, known in self.known.items():
            if known.seen[-1].rollout_id and fingerprint not in current:
                assert known.seen[-1].state_at(self.now) is not State.PENDING

    def _each_phone_is_on_its_owners_list_alone(self) -> None:
        """As its own item says."""
        self.devices = {device.hw_id: device for device in device_table.find_all(self.hw_ids)}
        for sip in self.sips:
            listed, _ = users.list_phones(world.person(sip), 10, None)
            assert _names(listed) == _names(
                device
                for device in self.devices.values()
                if device.user == sip and device.state is not DeviceState.RELEASED
            )


def _names(listed: Iterable[Device]) -> list[str]:
    return sorted(device.hw_id for device in listed)


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_stored_tells_one_true_story(request: pytest.FixtureRequest, part: int) -> None:
    """In each part, of many stories of up to fifteen steps."""
    assert part in range(PARTS)
    world.seed()
    has_engine = request.config.getoption("--engine") is not None
    run_state_machine_as_test(
        Histories,
        settings=hypothesis_settings(
            max_examples=EXAMPLES[has_engine],
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
