import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest

from chalicelib import observability
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.roles import assignments, devices, updates
from chalicelib.storage import devices as device_table
from chalicelib.storage import jobs
from gateway import phones as phones_module
from gateway.frames import Shutdown
from gateway.phones import LOOK_SECONDS, VISIT_SECONDS, Phones
from gateway.session import LATER, POLICY, RESTART
from local import demo
from tests import world
from tests.conftest import NOW
from tests.gateway.played_phone import Asked, ok
from tests.gateway.played_sysclient import Sysclient, connected, phones_of, quiet
from tests.gateway.virtual_time import run
from tests.world import DOMAIN

_numbers = count(1)


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


@pytest.fixture
def phones() -> Phones:
    """Make a gateway without a port."""
    return phones_of()


def current() -> Sysclient:
    """Make a phone of a number of its own, which runs the right firmware, with a code typed."""
    phone = Sysclient(hw_id=f"0090330000{next(_numbers):02x}")
    phone.said = {
        "provisioning_code": world.issue().digits,
        "fw_build": demo.FIRMWARE_BUILD,
        "bc_build": demo.BOOT_BUILD,
    }
    return phone


async def online(stack: AsyncExitStack, phone: Sysclient, phones: Phones) -> None:
    """Connect a phone and let it do its jobs."""
    await stack.enter_async_context(connected(phone, phones))
    phone.tell(phone.identify())
    await quiet()
    assert phones.find(phone.hw_id) is not None
    phone.asked.clear()


def make_job() -> None:
    """Make a job for all phones of the domain."""
    admin = world.admin(NOW + timedelta(minutes=1))
    updates.make_configuration_job(admin, DOMAIN, "*", "ntp", {"server": "t.example.com"})


def test_a_new_job_reaches_every_phone_that_is_online(phones: Phones) -> None:
    """The first look is a look at everybody; after that, one job is one wake-up."""
    several = [current() for _ in range(3)]

    async def play() -> None:
        async with AsyncExitStack() as stack:
            for phone in several:
                await online(stack, phone, phones)
            await phones.look()
            await quiet()
            assert not any(phone.asked for phone in several)
            make_job()
            await phones.look()
            await quiet()
            assert [len(phone.asked) for phone in several] == [3, 3, 3]
            await phones.look()
            await quiet()
            assert [len(phone.asked) for phone in several] == [3, 3, 3]

    run(play())


def test_a_job_made_between_arriving_and_the_first_look_is_not_missed(phones: Phones) -> None:
    """Nothing is known before the first look, so everybody is woken by it."""
    phone = current()

    async def play() -> None:
        async with AsyncExitStack() as stack:
            await online(stack, phone, phones)
            make_job()
            await phones.look()
            await quiet()
            assert phone.asked

    run(play())


def test_a_phone_that_leaves_during_a_look_is_not_woken_by_it(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be visited, and be noted again as connected."""
    phone = current()

    async def play() -> None:
        async with AsyncExitStack() as stack:
            await online(stack, phone, phones)
            seen = asyncio.Event()
            real = asyncio.to_thread

            async def slowly(work: Callable[..., Any], *given: object, **more: object) -> object:
                found = await real(work, *given, **more)
                if work is jobs.newest:
                    await seen.wait()
                return found

            monkeypatch.setattr(asyncio, "to_thread", slowly)
            looking = asyncio.create_task(phones.look())
            phone.hang_up()
            await quiet()
            assert phones.count == 0
            seen.set()
            await looking
            await quiet()
            known = device_table.find(phone.hw_id)
            assert known is not None
            assert not known.connection

    run(play())


def test_a_phone_is_visited_now_and_then_without_a_reason(phones: Phones) -> None:
    """So one that was released is sent away although nobody woke it."""
    phone = current()

    async def play() -> None:
        watching = asyncio.create_task(phones.watch())
        async with AsyncExitStack() as stack:
            await online(stack, phone, phones)
            await asyncio.sleep(LOOK_SECONDS * 2)
            assignments.release(world.admin(), DOMAIN, phone.hw_id)
            await asyncio.sleep(VISIT_SECONDS / 2)
            assert phone.told.code == 0
            await asyncio.sleep(VISIT_SECONDS)
            assert (phone.told.code, phone.told.reason) == (POLICY, "released")
        watching.cancel()

    run(play())


def test_a_phone_that_could_not_be_served_is_woken_again(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays connected through trouble of the store, and misses nothing."""
    phone = current()

    async def play() -> None:
        async with AsyncExitStack() as stack:
            await online(stack, phone, phones)
            await phones.look()
            make_job()
            with monkeypatch.context() as patch:

                def fail(*_: object, **__: object) -> None:
                    raise StoreUnavailableError("throttled")

                patch.setattr(devices, "arrive", fail)
                await phones.look()
                await quiet()
            assert not phone.asked
            assert phone.told.code == 0
            await phones.look()
            await quiet()
            assert phone.asked

    run(play())


def test_trouble_or_a_defect_at_a_look_does_not_end_the_watch(
    phones: Phones, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next look finds what this one missed."""
    phone = current()
    failures: list[Exception] = [ZeroDivisionError(), StoreUnavailableError("throttled")]
    real = jobs.newest

    def newest(domain: str) -> tuple[str, ...]:
        if failures:
            raise failures.pop()
        return real(domain)

    monkeypatch.setattr(jobs, "newest", newest)

    async def play() -> None:
        watching = asyncio.create_task(phones.watch())
        async with AsyncExitStack() as stack:
            await online(stack, phone, phones)
            make_job()
            await asyncio.sleep(LOOK_SECONDS * 3.5)
            await quiet()
            assert phone.asked
        watching.cancel()

    run(play())
    printed = capsys.readouterr().out
    assert "jobs not looked at" in printed
    assert "look failed" in printed


def test_the_newer_connection_of_a_phone_counts(phones: Phones) -> None:
    """The one before is dead, and is closed; the device is where the newer one is."""
    phone = current()
    again = Sysclient(hw_id=phone.hw_id)

    async def play() -> None:
        async with AsyncExitStack() as stack:
            await online(stack, phone, phones)
            again.password, again.said = phone.password, phone.said
            await online(stack, again, phones)
            assert (phone.told.code, phone.told.reason) == (POLICY, "connected anew")
            assert phones.count == 1
            known = device_table.find(phone.hw_id)
            assert known is not None
            assert known.connection
        assert phones.count == 0

    run(play())


def test_draining_lets_nobody_in_and_spreads_who_leaves(phones: Phones) -> None:
    """Whoever comes in that moment is told the same."""
    several = [current() for _ in range(4)]

    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            for phone in several:
                await online(stack, phone, phones)
            assert phones.has_room("192.0.2.1")
            draining = asyncio.create_task(phones.drain(60))
            await asyncio.sleep(31)
            assert not phones.has_room("192.0.2.1")
            assert sorted(phone.told.code for phone in several) == [0, RESTART, RESTART, RESTART]
            late = await stack.enter_async_context(connected(Sysclient(), phones))
            await late
            await draining
            assert loop.time() == pytest.approx(60)
            assert {phone.told.code for phone in several} == {RESTART}
        assert phones.count == 0
        await phones.drain(60)

    run(play())


def test_there_is_room_for_so_many(phones: Phones, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one source that have proven nothing, of all such, and of all together."""
    monkeypatch.setattr(phones_module, "MAX_STRANGERS", 2)
    monkeypatch.setattr(phones_module, "MAX_CONNECTIONS", 12)
    proven = current()

    async def play() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(connected(proven, phones, source="192.0.2.1"))
            await stack.enter_async_context(connected(Sysclient(), phones, source="192.0.2.1"))
            await quiet()
            assert not phones.has_room("192.0.2.1")
            assert phones.has_room("192.0.2.2")
            proven.tell(proven.identify())
            await quiet()
            assert phones.has_room("192.0.2.1")
            await stack.enter_async_context(connected(Sysclient(), phones, source="192.0.2.2"))
            await quiet()
            assert phones.has_room("192.0.2.3")
            await stack.enter_async_context(connected(Sysclient(), phones, source="192.0.2.3"))
            await quiet()
            assert not phones.has_room("192.0.2.4")
        assert phones.has_room("192.0.2.4")
        monkeypatch.setattr(phones_module, "MAX_CONNECTIONS", 0)
        assert not phones.has_room("192.0.2.4")
        monkeypatch.setattr(phones_module, "MAX_CONNECTIONS", 12)
        assert phones.has_room("192.0.2.1")

    run(play())


def test_who_is_unassigned_for_longest_makes_room(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phones that have nothing to show keep nobody out, wherever they come from."""
    monkeypatch.setattr(phones_module, "MAX_STRANGERS", 2)
    monkeypatch.setattr(phones_module, "MAX_CONNECTIONS", 12)
    idle = [Sysclient(hw_id=f"00903300f00{number}") for number in range(3)]

    async def play() -> None:
        async with AsyncExitStack() as stack:
            for number, phone in enumerate(idle):
                source = f"192.0.2.{number // 2}"
                await stack.enter_async_context(connected(phone, phones, source=source))
                phone.tell(phone.identify())
                await quiet()
            assert not phones.has_room("192.0.2.0")
            for gone in range(1, 4):
                assert phones.has_room("192.0.2.2")
                await online(stack, current(), phones)
                await stack.enter_async_context(connected(Sysclient(), phones, source=f"{gone}"))
                await quiet()
                assert [phone.told.code for phone in idle] == [LATER] * gone + [0] * (3 - gone)
            assert {phone.told.reason for phone in idle} == {"try again later"}
            assert not phones.has_room("192.0.2.2")

    run(play())


def test_others_have_their_turn_between_two_frames_of_a_phone(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them have come."""
    phone = current()
    done: list[str] = []

    async def have_turns() -> None:
        while True:
            done.append("others")
            await asyncio.sleep(0)

    async def play() -> None:
        async with AsyncExitStack() as stack:
            await online(stack, phone, phones)
            found = phones.find(phone.hw_id)
            assert found is not None
            monkeypatch.setattr(found.tunnel, "take", lambda _: done.append("phone"))
            others = asyncio.create_task(have_turns())
            phone.tell(*[bytes(Shutdown(1))] * 3)
            await quiet()
            others.cancel()
            assert done.count("phone") == 3
            assert ("phone", "phone") not in pairwise(done)

    run(play())


def test_it_goes_by_the_clock_of_the_machine() -> None:
    """Unless a test says otherwise."""
    before = datetime.now(UTC)
    assert before <= Phones().now() <= datetime.now(UTC)


def test_a_job_that_is_made_while_a_phone_does_its_jobs_comes_after_them(phones: Phones) -> None:
    """One visit at a time, and no wake-up is lost."""
    phone = current()

    def web(asked: Asked) -> list[bytes | None]:
        if "poll-fast" in asked.path:
            make_job()
            found = phones.find(phone.hw_id)
            assert found is not None
            found.wake()
        return [ok()]

    phone.web = web

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            assert [asked.path for asked in phone.asked if "NTP0" in asked.path]

    run(play())


def test_how_many_there_are_is_written_down(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a minute."""
    measured: list[tuple[str, float]] = []
    monkeypatch.setattr(observability, "measure", lambda *told: measured.append(told))

    async def play() -> None:
        reporting = asyncio.create_task(phones.report())
        phone = current()
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await asyncio.sleep(61)
        reporting.cancel()

    run(play())
    assert measured == [("PhonesConnected", 0), ("PhonesConnected", 1)]
