import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import jobs
from chalicelib.core.configuration import CONFIGURATION_TYPES
from chalicelib.core.devices import Device, Facts, State
from chalicelib.roles.devices import Outcome
from gateway import execution, frames, tunnel
from gateway.tunnel import Tunnel, TunnelClosedError
from tests.gateway.played_phone import Asked, Phone, Pieces, ok
from tests.gateway.virtual_time import run

NOW = datetime(2036, 11, 24, 12, tzinfo=UTC)
HW_ID = "009033460af2"
SECRET = "7iICN04agQq38j"
FIRMWARE = {
    "IP222": {
        "prot": {"build": "134250", "url": f"https://f.example/p?key={SECRET}"},
        "boot": {"build": "131286", "url": "https://f.example/b"},
    },
}
OLD = Facts(product="IP222", prot="130100", boot="130100")
NEW = Facts(product="IP222", prot="134250", boot="131286")
PARAMETERS: dict[str, dict[str, Any]] = {
    "software": FIRMWARE,
    "update-client": {"poll_minutes": 5},
    "ntp": {"server": "time.example.com"},
    "variables": {"variables": {"GREETING": "grüße & co/?#%"}},
    "phone": {"pbx": "pbx.example.com", "password": SECRET},
    "admin-password": {"password": SECRET},
    "expert": {"lines": ["config add UP1 /disc", "# a comment"], "secret_lines": [f"x {SECRET}"]},
}


def planned(*job_types: str) -> jobs.Plan:
    """Plan jobs of these types; a job is called as its type."""
    made = [
        jobs.Job(name, "example.com", "Office", name, PARAMETERS[name], NOW) for name in job_types
    ]
    return jobs.plan_for("example.com", "Office", made)


ALL = planned(*PARAMETERS)
WRITE, ACTIVATE = "config write", "config activate"

Told = tuple[str, Outcome, str]


class Execution:
    """A plan that was carried out.

    Args:
        answer: what the phone says to a line; nothing for no answer.
    """

    def __init__(self, plan: jobs.Plan, facts: Facts, answer: Callable[[str], Pieces]) -> None:
        self.lines: list[str] = []
        self.told: list[Told] = []
        self.awaited = frozenset[str]()
        self._plan = plan
        self._facts = facts
        self._answer = answer
        self._phone: Phone | None = None

    def _web(self, asked: Asked) -> Pieces:
        assert (asked.method, asked.path[:2], asked.body) == ("GET", "/!", b"")
        assert not set(asked.path[2:]) & set("/?#&+ ")
        self.lines.append(unquote(asked.path[2:]))
        return self._answer(self.lines[-1])

    async def _report(self, job_id: str, outcome: Outcome, reason: str) -> None:
        self.told.append((job_id, outcome, reason))

    def lose(self) -> Pieces:
        """Lose the connection instead of an answer."""
        assert self._phone
        self._phone.tunnel.close()
        return []

    def run(self) -> "Execution":
        """Carry it out."""

        async def carry_out() -> None:
            self._phone = Phone(self._web)
            with self._phone.talking():
                self.awaited = await execution.carry_out(
                    self._plan, self._facts, HW_ID, self._phone.tunnel, self._report
                )

        run(carry_out())
        return self


def done(*job_types: str) -> list[Told]:
    """Say of jobs that they are done."""
    return [(name, Outcome.DONE, "") for name in job_types]


def test_a_phone_gets_what_an_update_script_would_bring_it() -> None:
    """In the same order and words, each configuration job written and activated by itself."""
    carried = Execution(ALL, OLD, lambda _: [ok()]).run()
    expected = [line.text for line in jobs.firmware_lines(ALL, OLD)]
    assert len(expected) == 2
    for job in ALL.configuration:
        expected += [line.text for line in jobs.configuration_lines([job], HW_ID)]
        expected += [WRITE, ACTIVATE]
    expected.remove("# a comment")
    assert carried.lines == expected
    assert carried.told == done(*jobs.CONFIGURATION_ORDER)
    assert carried.awaited == {"software"}


def test_nothing_open_is_nothing_to_do() -> None:
    """The phone is not asked, and nothing is reported."""
    carried = Execution(planned(), OLD, lambda _: [ok()]).run()
    assert (carried.lines, carried.told, carried.awaited) == ([], [], frozenset())


@pytest.mark.parametrize("facts", [NEW, Facts(product="IP112", prot="130100")])
def test_software_is_done_if_there_is_nothing_to_load(facts: Facts) -> None:
    """The builds run already, or the job does not name this product."""
    carried = Execution(planned("software"), facts, lambda _: [ok()]).run()
    assert (carried.lines, carried.told, carried.awaited) == ([], done("software"), frozenset())


def test_a_phone_that_does_not_say_what_it_is_loads_nothing() -> None:
    """And nobody says that it has: that is not known."""
    carried = Execution(planned("software", "ntp"), Facts(), lambda _: [ok()]).run()
    assert carried.told == done("ntp")
    assert not carried.awaited


def test_what_a_phone_says_when_it_is_back_decides_on_its_software() -> None:
    """The very rule by which an update client's builds confirm it."""
    plan = planned("software")
    device = Device(HW_ID, State.UPDATING, "example.com", "Office", registration_id="R1")
    assert Execution(plan, OLD, lambda _: [ok()]).run().awaited == {"software"}
    assert jobs.confirmed_by(device, plan, OLD) == {}
    assert jobs.confirmed_by(device, plan, NEW) == {"software": "software"}


def test_software_that_the_phone_refuses_has_failed() -> None:
    """It loads no boot code then, and is configured all the same."""
    carried = Execution(
        planned("software", "ntp"), OLD, lambda line: [ok(status=404 if "UP0" in line else 200)]
    ).run()
    reason = "line 1 of 2: the phone answers 404"
    assert carried.told == [("software", Outcome.FAILED, reason), *done("ntp")]
    assert [line.split()[3] for line in carried.lines if "UP0" in line] == ["prot"]
    assert not carried.awaited


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([ok(status=500)], "the phone answers 500"),
        ([ok(status=302)], "the phone answers 302"),
        ([f"HTTP/1.1 401 {SECRET}\r\nContent-Length: 0\r\n\r\n".encode()], "the phone answers 401"),
        ([], "no whole answer in time"),
        ([SECRET.encode() + b"\r\n\r\n"], "an answer that is no HTTP, or was cut off"),
        ([None], "an answer that is no HTTP, or was cut off"),
    ],
)
@pytest.mark.parametrize("bad", ["phone", "admin-password", "expert"])
def test_a_job_that_fails_says_where_and_why_and_the_next_one_goes_on(
    bad: str, pieces: list[bytes | None], reason: str
) -> None:
    """What was in its lines is not repeated, and it is neither written nor activated."""
    lines = jobs.configuration_lines([job for job in ALL.configuration if job.job_id == bad], HW_ID)
    at = next(number for number, line in enumerate(lines, start=1) if SECRET in line.text)
    carried = Execution(ALL, NEW, lambda line: pieces if SECRET in line else [ok()]).run()
    told = {job_id: (outcome, why) for job_id, outcome, why in carried.told}
    assert [job_id for job_id, _, _ in carried.told] == list(jobs.JOB_TYPES)
    assert told[bad] == (Outcome.FAILED, f"line {at} of {len(lines) + 2}: {reason}")
    assert told["ntp"] == (Outcome.DONE, "")
    assert SECRET not in str(carried.told)
    assert carried.lines.count(WRITE) == carried.lines.count(ACTIVATE) == 3


@pytest.mark.parametrize(("line", "number"), [(WRITE, 2), (ACTIVATE, 3)])
def test_what_is_not_written_and_activated_is_not_done(line: str, number: int) -> None:
    """For it would not survive a restart, or is not in force."""
    carried = Execution(
        planned("ntp"), OLD, lambda said: [ok(status=500 if said == line else 200)]
    ).run()
    reason = f"line {number} of 3: the phone answers 500"
    assert carried.told == [("ntp", Outcome.FAILED, reason)]


def test_a_phone_may_load_before_it_answers() -> None:
    """It has longer for that than for a line of configuration."""

    async def carry_out() -> None:
        loop = asyncio.get_running_loop()
        told: list[Told] = []

        async def swallow(_: bytes) -> None:
            pass

        async def report(job_id: str, outcome: Outcome, reason: str) -> None:
            told.append((job_id, outcome, reason))

        plan = planned("software", "ntp")
        await execution.carry_out(plan, OLD, HW_ID, Tunnel(swallow), report)
        assert [(job_id, outcome) for job_id, outcome, _ in told] == [
            ("software", Outcome.FAILED),
            ("ntp", Outcome.FAILED),
        ]
        assert loop.time() == pytest.approx(execution.LOAD_SECONDS + tunnel.ANSWER_SECONDS)

    run(carry_out())


@pytest.mark.parametrize("at", range(21))
def test_a_lost_connection_reports_nothing_that_was_not_finished(at: int) -> None:
    """Wherever it is lost: what was reported before is true, and the rest stays open."""
    whole = Execution(ALL, OLD, lambda _: [ok()]).run()
    assert len(whole.lines) == 21

    def answer(line: str) -> Pieces:
        assert line
        return carried.lose() if len(carried.lines) == at + 1 else [ok()]

    carried = Execution(ALL, OLD, answer)
    with pytest.raises(TunnelClosedError):
        carried.run()
    assert carried.lines == whole.lines[: at + 1]
    finished_count = carried.lines[:-1].count(ACTIVATE)
    assert carried.told == done(*jobs.CONFIGURATION_ORDER[:finished_count])


def test_an_outcome_that_cannot_be_kept_ends_everything() -> None:
    """Whoever keeps outcomes says why; the phone gets no more lines from here."""

    async def carry_out() -> None:
        async def report(*_: object) -> None:
            raise LookupError

        with Phone(lambda _: [ok()]).talking() as phone:
            with pytest.raises(LookupError):
                await execution.carry_out(ALL, NEW, HW_ID, phone.tunnel, report)
            assert not phone.asked

    run(carry_out())


LINES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40).filter(
    lambda line: not line.startswith("#")
)


@given(st.lists(LINES, min_size=1, max_size=5))
def test_any_line_arrives_as_it_was_written(lines: list[str]) -> None:
    """As one command, whatever characters are in it."""
    expert = planned("expert").configuration[0]
    parameters = {"lines": lines}
    assert CONFIGURATION_TYPES["expert"].faults(parameters) == ()
    plan = jobs.Plan(None, (replace(expert, parameters=parameters),))
    carried = Execution(plan, NEW, lambda _: [ok()]).run()
    assert carried.lines == [*lines, WRITE, ACTIVATE]


def test_another_vendors_device_gets_its_configuration_as_items() -> None:
    """In the plan's order, the last one marked; software is none of it."""
    written = execution.configuration_frames(ALL)
    assert [frame.members() for frame in written[:2]] == [
        {"id": "update-client", "type": "update-client", "parameters": {"poll_minutes": 5}},
        {"id": "ntp", "type": "ntp", "parameters": {"server": "time.example.com"}},
    ]
    assert [frame.last for frame in written] == [False] * 5 + [True]
    assert [frames.parse(bytes(frame)) for frame in written] == list(written)
    assert SECRET not in repr(written)


def test_one_item_is_the_last_and_no_item_is_none() -> None:
    """Nobody waits for more; and where there is nothing, nothing is said."""
    (only,) = execution.configuration_frames(planned("software", "ntp"))
    assert only.last
    assert execution.configuration_frames(planned("software")) == ()
