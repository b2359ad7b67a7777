"""The sysclient of the simulated phone, over real websockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import CloseCode

from chalicelib.core import auto_provisioning, scripts
from gateway.frames import (
    AdminFrame,
    AdminPassword,
    Challenge,
    Configuration,
    Identify,
    Platform,
    Provision,
    ProvisionResult,
    RecvResult,
    Send,
    Shutdown,
    SysclientPassword,
)
from gateway.tunnel import TunnelClosedError
from local.sysclient import Sysclient
from local.sysclient_connection import Pace, SysclientConnection
from local.update_client import CODE, UpdateClient
from tests.local.played_devices import (
    CHALLENGE,
    TOKEN,
    Devices,
    Online,
    play,
    serving,
    until,
)
from tests.local.played_devices import CODE as TYPED

MAC = "00-90-33-3d-12-34"
HW_ID = "0090333d1234"
FLASH = "mod cmd UP0 prot http://f/p.bin ireset 134250"
AT_ONCE = Pace(first_pause=0.01, longest_pause=0.05, idle=0, restart=0)


def phone_at(url: str, *, is_other: bool = False) -> Sysclient:
    """Return a phone that was pointed to a URL."""
    client = UpdateClient(MAC, "IP232", "127.0.0.1", "http://127.0.0.1/init")
    client.execute(f"{scripts.sysclient(url).text}\nconfig write\nconfig activate", 0)
    said: list[str] = []
    return Sysclient(client, is_other=is_other, say=said.append)


@asynccontextmanager
async def connected(
    sysclient: Sysclient, source: str | None = None
) -> AsyncIterator[SysclientConnection]:
    """Keep a phone connected."""
    connection = SysclientConnection(sysclient, source, AT_ONCE)
    running = asyncio.create_task(connection.run())
    try:
        yield connection
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert sysclient.conversation is None


@asynccontextmanager
async def registered(*, is_other: bool = False) -> AsyncIterator[tuple[Devices, Sysclient, Online]]:
    """Register a phone by its code."""
    async with serving() as devices:
        sysclient = phone_at(devices.url, is_other=is_other)
        sysclient.client.type_code(TYPED)
        async with connected(sysclient):
            await until(lambda: sysclient.is_registered and devices.last.is_in)
            yield devices, sysclient, devices.last


async def is_back(devices: Devices, count: int = 2) -> Online:
    """Wait for a connection that a phone has proved itself on."""
    await until(lambda: len(devices.connections) >= count and devices.last.is_in)
    return devices.last


def test_a_phone_registers_by_the_code_that_was_typed() -> None:
    """It says who it is, keeps its password, and forgets the code."""

    async def register() -> None:
        async with registered() as (devices, sysclient, online):
            assert sysclient.password == devices.passwords[HW_ID]
            assert CODE not in sysclient.client.variables
            (said,) = online.identifies
            assert said.provisioning_code == TYPED
            assert (said.id, said.product) == (HW_ID, "IP232")
            assert said.version == "13r1 [13.0100/130100/1300]"
            assert (said.fw_build, said.bc_build) == ("130100", "130100")
            assert said.platform == Platform("PHONE")
            assert said.eth_ifs[0].ipv4 == "127.0.0.1"
            assert not said.other

    play(register())


def test_a_phone_registers_by_the_url_of_automatic_provisioning() -> None:
    """Decoded once: Devices reads the values as the administrator gave them."""

    async def register() -> None:
        async with serving() as devices:
            claim = auto_provisioning.Claim("example.com", TOKEN, "acme IP Phone")
            sysclient = phone_at(auto_provisioning.url(devices.url, claim))
            async with connected(sysclient, "127.0.0.9"):
                await until(lambda: sysclient.is_registered)
                assert devices.last.query["category"] == "acme IP Phone"
                assert devices.last.source == "127.0.0.9"
                assert devices.last.identifies[0].provisioning_code == ""

    play(register())


def test_a_phone_without_a_code_stays_connected_and_unassigned() -> None:
    """Until Devices gives it a password, in the middle of the connection."""

    async def wait() -> None:
        async with serving() as devices:
            sysclient = phone_at(devices.url)
            sysclient.client.variables[CODE] = "prompt"
            async with connected(sysclient) as connection:
                await until(lambda: devices.connections and devices.last.identifies)
                assert devices.last.identifies[0].provisioning_code == ""
                assert sysclient.is_unassigned
                assert await connection.settle(0, 0.01) is False
                await devices.last.say(SysclientPassword("p" * 32))
                assert await connection.settle(0, 10) is True
                assert sysclient.password == "p" * 32
                assert len(devices.connections) == 1

    play(wait())


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_phone_returns_by_its_digest(is_cut: bool) -> None:
    """After a good-bye and after a cut, as often as it takes."""

    async def lose() -> None:
        async with registered() as (devices, sysclient, _):
            for count in range(2, 5):
                if is_cut:
                    devices.last.socket.transport.abort()
                else:
                    await devices.last.socket.close()
                online = await is_back(devices, count)
                assert [bool(said.digest) for said in online.identifies] == [False, True]
                assert not any(said.provisioning_code for said in online.identifies)
                await until(lambda: sysclient.is_registered)

    play(lose())


def test_a_phone_that_is_started_anew_is_the_same_phone() -> None:
    """What proves it is kept with it, and not with its connection."""

    async def restart() -> None:
        async with serving() as devices:
            sysclient = phone_at(devices.url)
            sysclient.client.type_code(TYPED)
            for count in (1, 2):
                async with connected(sysclient):
                    await is_back(devices, count)
                    await until(lambda: sysclient.is_registered)
            assert devices.connections[0].socket.close_code == CloseCode.GOING_AWAY
            assert devices.last.identifies[-1].digest

    play(restart())


@pytest.mark.parametrize("password", ["b" * 32, ""])
def test_a_phone_with_the_wrong_password_is_never_in(password: str) -> None:
    """Nor is one that has none: it answers, is turned away, and comes again."""

    async def fail() -> None:
        async with serving() as devices:
            devices.passwords[HW_ID] = "a" * 32
            sysclient = phone_at(devices.url)
            sysclient.password = password
            async with connected(sysclient):
                await until(lambda: len(devices.connections) >= 4)
            assert devices.connections[0].identifies[1].digest
            assert not any(online.is_in for online in devices.connections)

    play(fail())


def test_the_administrators_password_is_decrypted_and_kept() -> None:
    """Also when it changes; what another password encrypted changes nothing."""

    async def set_it() -> None:
        async with serving() as devices:
            devices.admin_password = "grüße"
            sysclient = phone_at(devices.url)
            sysclient.client.type_code(TYPED)
            async with connected(sysclient):
                await until(lambda: sysclient.admin_password == "grüße")
                await devices.last.say(AdminPassword("s" * 16, "ff" * 40))
                devices.admin_password = "another"
                await devices.set_admin_password(devices.last, sysclient.password)
                await until(lambda: sysclient.admin_password == "another")
                assert len(devices.connections) == 1

    play(set_it())


def test_commands_through_the_tunnel_keep_configuration() -> None:
    """As an update script's would; written, it is there after a restart."""

    async def configure() -> None:
        async with registered() as (devices, sysclient, online):
            assert await online.command("config add NTP0 /addr time.example.com") == "NTP0 changed"
            assert await online.command("config write") == "kept over a restart"
            assert await online.command("config activate") == "in force"
            assert await online.command("vars create X p 1") == "kept (p)"
            assert await online.command("config add NTP0 /tz lost") == "NTP0 changed"
            assert sysclient.client.active["NTP0"] == {"/addr": "time.example.com"}
            assert sysclient.jobs_done == 1
            assert "config change NTP0 /addr time.example.com\r\n" in await online.page("/cfg.txt")
            assert "config write   [kept over a restart]\r\n" in await online.page("/log.txt")
            assert await online.command("ireset") == "restarts"
            await is_back(devices)
            assert sysclient.client.pending["NTP0"] == {"/addr": "time.example.com"}
            assert sysclient.client.variables["X"] == "1"
            assert sysclient.jobs_done == 1

    play(configure())


def test_requests_at_once_and_in_pieces_all_get_their_answer() -> None:
    """More than a phone gets at once, and longer than a frame carries."""

    async def ask() -> None:
        async with registered() as (_, sysclient, online):
            lines = [f"vars create V{number} p {'z' * 9_000}{number}" for number in range(12)]
            effects = await asyncio.gather(*map(online.command, lines))
            assert set(effects) == {"kept (p)"}
            assert sysclient.client.variables["V11"].endswith("z11")
            await online.command(f"config add X /y {'z' * 30_000}")
            await online.command("config write")
            assert (await online.page("/cfg.txt")).count("z") == 30_000
            pieces = [frame for frame in online.heard if isinstance(frame, RecvResult)]
            assert max(len(frame.data) for frame in pieces) == 8_000

    play(ask())


def test_a_phone_restarts_with_what_was_loaded_once_it_is_idle() -> None:
    """Cut, without a good-bye; back by its digest, with other builds."""

    async def load() -> None:
        async with registered() as (devices, sysclient, online):
            await online.say(bytes(Send(1_000, b"GET / HT")))  # a session that stays open
            assert await online.command("mod cmd UP0 boot http://f/b.bin iresetn 131286")
            assert (await online.command(FLASH)).startswith("flashed 130100 -> 134250")
            assert sysclient.conversation
            assert sysclient.conversation.is_busy
            assert sysclient.conversation.wants_to_end
            assert len(devices.connections) == 1
            await online.say(bytes(Shutdown(1_000)))
            back = await is_back(devices)
            assert online.is_cut
            assert [(said.fw_build, said.bc_build) for said in back.identifies] == [
                ("134250", "131286"),
                ("134250", "131286"),
            ]
            assert sysclient.jobs_done == 1
            assert await back.command(FLASH) == "134250 is running already"
            assert await back.command("iresetn") == "no restart is needed"
            assert len(devices.connections) == 2

    play(load())


def test_a_reset_at_once_waits_for_nothing() -> None:
    """Not even for its own answer."""

    async def reset() -> None:
        async with registered() as (devices, _, online):
            with pytest.raises(TunnelClosedError):
                await online.command("reset")
            assert await (await is_back(devices)).command("config write")

    play(reset())


def test_another_url_leads_elsewhere() -> None:
    """Once it is in force and its session is over, with a good-bye; none ends it."""

    async def move() -> None:
        async with registered() as (devices, sysclient, online), serving() as others:
            others.passwords = devices.passwords
            await online.command(scripts.sysclient(others.url).text)
            assert await online.command("config activate") == "in force"
            there = await is_back(others, 1)
            assert online.is_over
            assert not online.is_cut
            assert len(devices.connections) == 1
            await there.command("config rem SYSCLIENT /sysadmin")
            await there.command("config change SYSCLIENT http%3A%2F%2Fx /sysadmin")
            await there.command("config activate")
            await until(lambda: there.is_over)
            assert sysclient.client.sysclient_url == ""

    play(move())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("a text", CloseCode.UNSUPPORTED_DATA),
        (b"", CloseCode.PROTOCOL_ERROR),
        (b"\x03hello", CloseCode.PROTOCOL_ERROR),
        (b"\x01\x00\x07{}", CloseCode.PROTOCOL_ERROR),
        (b"\x01\x00\x01{}", CloseCode.PROTOCOL_ERROR),
        (bytes(Provision("TEL1", "1")), CloseCode.PROTOCOL_ERROR),
        (bytes(Identify(HW_ID, "IP232", "1", Platform("PHONE"))), CloseCode.PROTOCOL_ERROR),
        (bytes(RecvResult(1, b"")), CloseCode.PROTOCOL_ERROR),
        (b"\x02" + bytes(140_000), CloseCode.MESSAGE_TOO_BIG),
    ],
)
def test_what_is_no_frame_of_devices_ends_the_connection(
    sent: str | bytes, code: CloseCode
) -> None:
    """And the phone comes back."""

    async def break_it() -> None:
        async with registered() as (devices, _, online):
            await online.socket.send(sent)
            await is_back(devices)
            assert online.socket.close_code == code

    play(break_it())


def test_what_is_not_for_a_phone_changes_nothing() -> None:
    """A result that it did not ask for, and items of a configuration."""

    async def tell() -> None:
        async with registered() as (devices, sysclient, online):
            await online.say(ProvisionResult("no"))
            await online.say(Configuration({"id": "1"}, last=True))
            assert await online.command("config write")
            assert sysclient.items == []
            assert len(devices.connections) == 1

    play(tell())


def test_a_device_of_another_vendor_keeps_its_items() -> None:
    """In the order in which they come; all of them anew on each connection."""

    async def tell() -> None:
        async with registered(is_other=True) as (devices, sysclient, online):
            assert online.identifies[0].other
            for number in range(3):
                await online.say(Configuration({"id": str(number)}, last=number == 1))
            await until(lambda: [item["id"] for item in sysclient.items] == ["0", "1", "2"])
            await online.socket.close()
            await (await is_back(devices)).say(Configuration({"id": "3"}, last=True))
            await until(lambda: [item["id"] for item in sysclient.items] == ["3"])

    play(tell())


def test_a_challenge_is_answered_whenever_it_comes() -> None:
    """With the password of that moment; the code does not come twice."""

    async def challenge() -> None:
        async with registered() as (_, sysclient, online):
            await online.say(Challenge(CHALLENGE))
            await until(lambda: len(online.identifies) == 2)
            assert online.identifies[1].digest
            assert online.identifies[1].provisioning_code == ""
            assert sysclient.is_registered

    play(challenge())


def test_a_phone_that_reaches_nobody_tries_again() -> None:
    """A closed port, and a server that is none."""

    async def fail() -> None:
        async with serving() as devices:
            refusing = devices.url.replace("/example.com/devices/sysclients", "/init")
            lines: list[str] = []
            for url in ("ws://127.0.0.1:9/", f"{refusing}?token=sesame"):
                sysclient = phone_at(url)
                sysclient.say = lines.append
                async with connected(sysclient) as connection:
                    await until(lambda: sum("no connection" in line for line in lines) >= 3)
                    assert connection.opened_count == 0
                    assert await connection.settle(0, 0) is False
                lines.append("")
            assert "sesame" not in "".join(lines)

    play(fail())


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_pauses_grow_to_a_limit(failed_count: int, random: Random) -> None:
    """Anything up to twice as much each time, and up to a minute at last."""
    pause = Pace().pause(failed_count, random)
    assert 0 <= pause <= min(2.0 * 2 ** min(failed_count, 10), 60)


def test_what_is_kept_is_not_shown() -> None:
    """Neither by a phone nor by what it has said."""
    sysclient = phone_at("ws://x/")
    sysclient.password, sysclient.admin_password = "sesame", "sesame"
    sysclient.items.append({"password": "sesame"})
    assert "sesame" not in repr(sysclient)
    frames: list[AdminFrame] = [SysclientPassword("sesame"), AdminPassword("sesame", "00")]
    assert "sesame" not in repr(frames)
