"""`make phone` as a sysclient: what it says, and how it ends."""

import asyncio
import signal
import sys

import pytest

from chalicelib.core import auto_provisioning
from gateway.frames import SysclientPassword
from local import phone
from tests.local.played_devices import CODE, TOKEN, Devices, play, serving, until

FLASH = "mod cmd UP0 prot http://f/p.bin ireset 134250"
QUICK = ("--pause", "0", "--quiet", "0.1")


async def run(*arguments: str) -> int:
    """Run the command as the test's own loop goes on."""
    return await asyncio.to_thread(phone.main, [*arguments])


def url_at(devices: Devices, token: str = TOKEN) -> str:
    claim = auto_provisioning.Claim("example.com", token, "Office")
    return auto_provisioning.url(devices.url, claim)


def test_a_phone_from_its_box_goes_on_as_a_sysclient(capsys: pytest.CaptureFixture[str]) -> None:
    """The form, the code, the script that points it to the websocket, and registered."""

    async def register() -> None:
        async with serving() as devices:
            devices.admin_password = "hunter2hunter2"
            arguments = ("--url", devices.init_url, "--code", "1234 5678 9012", "--sysclient")
            assert await run(*arguments, "--mac", "00-90-33-3D-12-34", *QUICK) == 0
            assert "0090333d1234" in devices.passwords
            assert devices.last.identifies[0].provisioning_code == "1234 5678 9012"

    play(register())
    printed = capsys.readouterr().out
    steps = [
        "the display asks for the code",
        "→ connect ws://",
        "→ identify 0090333d1234 IP232, firmware 130100, boot code 130100, with the code ***",
        "← sysclient password ***",
        "UPDATE/PROVISIONING-CODE is forgotten",
        "← administrator's password ***",
        "  SYSCLIENT ws://",
        "registered: yes, up to date",
    ]
    assert [step for step in steps if step not in printed] == []
    assert sorted(steps, key=printed.index) == steps
    for secret in ("1234 5678", CODE, "1234%205678", "0090333d1234!", "hunter2"):
        assert secret not in printed


def test_what_devices_has_it_run_is_told_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, through a restart; passwords and tokens nowhere."""

    async def configure() -> None:
        async with serving() as devices:
            running = asyncio.create_task(
                run("--provisioning-url", url_at(devices, "hunter2hunter2"), "--quiet", "0.1")
            )
            await until(lambda: devices.connections)
            await devices.last.command("config add CMD0 /user admin,opensesame")
            await devices.last.command("config add PHONE /pwd opensesame")
            await devices.last.command("config write")
            await devices.last.command(FLASH)
            await until(lambda: len(devices.connections) == 2 and devices.last.identifies)
            await devices.last.say(SysclientPassword("opensesame"))
            assert await running == 0

    play(configure())
    printed = capsys.readouterr().out
    steps = [
        "config add CMD0 /user admin,***   [CMD0 changed]",
        "config add PHONE /pwd ***   [PHONE changed]",
        "config write   [kept over a restart]",
        f"{FLASH}   [flashed 130100 -> 134250",
        "    restarts\n",
        "firmware 134250, boot code 130100\n",
        "firmware   134250, boot code 130100\n",
        "  PHONE /pwd ***",
    ]
    assert [step for step in steps if step not in printed] == []
    assert "opensesame" not in printed
    assert "hunter2" not in printed


def test_it_tells_how_it_ended_when_it_is_not_registered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By words and by its exit code."""

    async def fail() -> None:
        async with serving() as devices:
            arguments = ("--provisioning-url", url_at(devices, "wrong"), "--patience", "3")
            assert await run(*arguments, "--other") == 1
            assert devices.last.identifies[0].other
            from_its_box = ("--url", devices.init_url, "--sysclient")
            assert await run(*from_its_box, "--code", "0000 0000 0000", *QUICK) == 1
            assert await run(*from_its_box) == 0
        assert await run("--provisioning-url", devices.url, "--patience", "0") == 2
        assert await run("--provisioning-url", "http://x/") == 2

    play(fail())
    printed = capsys.readouterr().out
    verdicts = [
        "registered: no, connected and in no domain",
        "registered: no, the code was refused",
        "registered: no, waiting for a code",
        "registered: no, the service did not answer",
        "--provisioning-url must be a websocket's",
    ]
    assert sorted(verdicts, key=printed.index) == verdicts


@pytest.mark.slow
def test_it_stays_connected_if_it_shall() -> None:
    """Until Ctrl+C, with a good-bye."""

    async def stay() -> None:
        async with serving() as devices:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "local.phone", "--provisioning-url", url_at(devices)),
                *("--quiet", "0.1", "--stay"),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout
            printed = await process.stdout.readuntil(b"Ctrl+C ends it\n")
            assert b"registered: yes" in printed
            assert await devices.last.command("config write") == "kept over a restart"
            process.send_signal(signal.SIGINT)
            assert b"registered: yes" in (await process.communicate())[0]
            assert process.returncode == 0
            await until(lambda: devices.last.is_over)
            assert not devices.last.is_cut

    play(stay())
