"""The fault plan: whichever call fails however it can, both journeys end well, and all is true."""

import random
from collections.abc import Mapping

import pytest

from chalicelib.roles import assignments
from tests import world
from tests.journeys.clients import Service
from tests.journeys.journeys import JOURNEYS, Story, assert_promises
from tests.journeys.wire import ALL, FAULTS, POST, Fault, Place

pytestmark = pytest.mark.engine

COUNTING = {"DescribeTable"}
"""How many items a table has, for the risk of guessing, once a minute."""

LONG_AFTER_SECONDS = 40 * 86_400
MAX_STRAYS = 5
"""So many calls need not be made again once something failed before: what is known is not read."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the faults: all of them on AWS's own engine, and fewer on moto, which is slower."""
    if "fault" in metafunc.fixturenames:
        is_all = metafunc.config.getoption("--engine")
        chosen = [fault for fault in FAULTS if is_all or fault.is_tried_everywhere]
        metafunc.parametrize("fault", chosen, ids=lambda fault: fault.name)


@pytest.mark.parametrize("name", JOURNEYS)
def test_whatever_fails_a_phone_gets_its_dial_tone(
    service: Service, fault: Fault, name: str, *, is_thorough: bool
) -> None:
    """In each step once, everybody asks again, and every promise is kept."""
    chance = random.Random(fault.name)
    places = _places(service, fault, name)
    assert places
    struck = {""}
    while places and struck:
        chosen = {step: chance.choice(calls) for step, calls in places.items()}
        struck = _struck(service, fault, name, chosen)
        for step in struck:
            places[step].remove(chosen[step])
        places = {step: calls for step, calls in places.items() if calls}
        if not (is_thorough and fault.is_tried_everywhere):
            assert struck
            return
    assert sum(map(len, places.values())) <= MAX_STRAYS


@pytest.mark.parametrize("name", JOURNEYS)
def test_what_expired_and_still_lies_there_changes_nothing(service: Service, name: str) -> None:
    """The same people and phones as forty days ago, of which nothing was deleted.

    They are of today, and it is forty days later: AWS's own engine deletes every 20 seconds what
    has expired by the clock of the machine.
    """
    story = Story()
    JOURNEYS[name](service, story)
    for one in story.redeemed:
        assignments.release(world.admin(service.now()), world.DOMAIN, one.hw_id)
    service.seconds = LONG_AFTER_SECONDS
    again = JOURNEYS[name](service, Story(story.number))
    assert service.troubles == []
    old = {one.digits for one in story.redeemed} | {*story.refused}
    assert not old & {one.digits for one in again.redeemed}
    again.refused += old
    assert_promises(service, again)


_made: dict[str, dict[str, list[str]]] = {}
"""Of each journey, the calls of each step; they are the same in every test."""


def _places(service: Service, fault: Fault, name: str) -> dict[str, list[Place]]:
    """Tell which calls of a journey a fault can happen to, step by step."""
    if name not in _made:
        JOURNEYS[name](service)  # what a process keeps in memory is read in the first one
        with service.watched() as wire:
            story = JOURNEYS[name](service)
        assert service.troubles == []
        assert_promises(service, story)
        # no operation scans, and no call is one that nothing here lets fail
        assert {one for calls in wire.made.values() for one in calls} <= ALL | POST | COUNTING
        _made[name] = wire.made
    found = {
        step: [
            (operation, at)
            for operation in sorted(fault.operations)
            for at in range(1, 1 + calls.count(operation))
        ]
        for step, calls in _made[name].items()
    }
    return {step: calls for step, calls in found.items() if calls}


def _struck(service: Service, fault: Fault, name: str, chosen: Mapping[str, Place]) -> set[str]:
    """Tell a journey in which things fail; tells in which steps they did."""
    with service.watched(fault, chosen) as wire:
        story = JOURNEYS[name](service)
    if fault.is_hidden:
        assert service.troubles == []
    assert_promises(service, story)
    return wire.struck
