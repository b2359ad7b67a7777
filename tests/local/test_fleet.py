"""Many simulated phones in one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from stat import S_IMODE

import pytest

from local import fleet, phone
from local.fleet import Counts, Fleet
from local.sysclient_connection import Pace, SysclientConnection
from tests.local.played_devices import TOKEN, play, serving, until
from tests.local.test_sysclient_phone import url_at

SIZE = 50
FIRST = "00-90-33-00-00-f0"


@asynccontextmanager
async def started(url: str) -> AsyncIterator[tuple[Fleet, list[SysclientConnection]]]:
    """Start phones that wait for nothing."""
    pace = Pace(first_pause=0.01, longest_pause=0.05, idle=0, restart=0)
    made = fleet.sysclients(FIRST, SIZE, "IP232", "127.0.0.1", url)
    connections = [SysclientConnection(sysclient, None, pace) for sysclient in made]
    phones = Fleet(connections)
    await phones.start(1e6)
    try:
        yield phones, connections
    finally:
        await phones.end()


def test_all_register_do_their_jobs_and_return_after_a_cut() -> None:
    """Each by its own digest, and the counts say so."""

    async def cut() -> None:
        async with serving() as devices, started(url_at(devices)) as (phones, connections):
            await until(lambda: phones.is_settled)
            assert len(set(devices.passwords.values())) == SIZE
            phones.count()
            assert phones.told == Counts(SIZE, SIZE, SIZE, 0, 0)
            assert not phones.count()
            first = list(devices.connections)
            await asyncio.gather(*(online.command("config activate") for online in first[:20]))
            for online in first[:30]:
                online.socket.transport.abort()
            await until(lambda: sum(each.is_in for each in devices.connections[SIZE:]) == 30)
            await until(lambda: phones.is_settled)
            assert phones.count()
            assert phones.told == Counts(SIZE, SIZE, SIZE, 20, 30)
            for online in devices.connections[SIZE:]:
                assert [bool(said.digest) for said in online.identifies] == [False, True]
            assert {each.opened_count for each in connections} == {1, 2}

    play(cut())


def test_macs_count_up() -> None:
    """Over the ends of their bytes, too."""
    made = fleet.sysclients(FIRST, 17, "IP232", "127.0.0.1", "ws://x/")
    macs = [sysclient.client.mac for sysclient in made]
    assert macs[:2] == [FIRST, "00-90-33-00-00-f1"]
    assert macs[-1] == "00-90-33-00-01-00"


def test_passwords_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    """Beside those of phones that are not in this run; a phone without one is left out."""
    path = tmp_path / "passwords.json"
    one, other, none = fleet.sysclients(FIRST, 3, "IP232", "127.0.0.1", "ws://x/")
    fleet.remember(path, [one])
    one.password, other.password = "1", "2"
    one.client.running["prot"] = "134250"
    path.with_name("passwords.json.new").write_text("left behind by a crash")
    fleet.keep(path, [one, none])
    fleet.keep(path, [other])
    assert S_IMODE(path.stat().st_mode) == 0o600
    again = fleet.sysclients(FIRST, 3, "IP232", "127.0.0.1", "ws://x/")
    fleet.remember(path, again)
    assert [sysclient.password for sysclient in again] == ["1", "2", ""]
    assert again[0].identify().fw_build == "134250"


def test_the_command_counts_and_a_later_run_returns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time nobody brings a token."""

    async def twice() -> None:
        async with serving() as devices:
            for url in (url_at(devices), devices.url):
                arguments = ["--fleet", "10", "--rate", "1000", "--quiet", "0", "--url", url]
                arguments += ["--passwords", str(tmp_path / "passwords.json")]
                assert await asyncio.to_thread(phone.main, arguments) == 0
            assert len(devices.passwords) == 10
            assert all(online.identifies[-1].digest for online in devices.connections[10:])

    play(twice())
    printed = capsys.readouterr().out
    whole = "10 started, 10 connected, 10 registered, 0 jobs done, 0 reconnects"
    assert printed.count(f"fleet of 10: {whole}\n") == 2
    assert TOKEN.split()[0] not in printed


def test_the_command_tells_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """No websocket, nobody there, and in no domain."""
    assert phone.main(["--fleet", "2"]) == 2
    assert "--url must be a websocket's" in capsys.readouterr().out
    some = ["--fleet", "2", "--rate", "1000", "--patience"]
    assert phone.main([*some, "1", "--url", "ws://127.0.0.1:9/"]) == 2

    async def refused() -> None:
        async with serving() as devices:
            assert await asyncio.to_thread(phone.main, [*some, "4", "--url", devices.url]) == 1

    play(refused())
    assert "2 connected, 0 registered" in capsys.readouterr().out
