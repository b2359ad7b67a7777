import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from chalicelib import settings
from chalicelib.core import sysclient_login
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.devices import Device, State
from chalicelib.core.errors import NotFoundError, StoreUnavailableError
from chalicelib.core.jobs import configuration_lines, plan_for
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles import analogue_phones, assignments, security_tokens, sysclients, updates
from chalicelib.roles import devices as devices_role
from chalicelib.storage import devices
from gateway import session
from gateway.frames import (
    AdminFrame,
    AdminPassword,
    Challenge,
    Configuration,
    EthIf,
    Platform,
    Provision,
    ProvisionResult,
    SendResult,
    SysclientPassword,
)
from gateway.phones import Phones
from gateway.session import DEFECT, LATER, POLICY, PROTOCOL_ERROR, UNSUPPORTED
from gateway.tunnel import ANSWER_SECONDS
from local import demo
from tests import world
from tests.conftest import NOW, use
from tests.gateway.played_phone import Asked, ok
from tests.gateway.played_sysclient import Sysclient, connected, phones_of, quiet
from tests.gateway.virtual_time import run
from tests.world import DOMAIN, HW_ID

TOKEN = "a token of 26 characters.."
CLAIM = Claim(DOMAIN, TOKEN, "Office")


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str]) -> None:
    """Write the demo data."""
    assert table_names
    world.seed()


@pytest.fixture
def phones() -> Phones:
    """Make a gateway without a port."""
    return phones_of()


def device(hw_id: str = HW_ID) -> Device:
    """Read a device as it is now."""
    found = devices.find(hw_id)
    assert found is not None
    return found


def typed(hw_id: str = HW_ID, **said: object) -> Sysclient:
    """Make a phone on which a new code of user1 was typed."""
    phone = Sysclient(hw_id=hw_id, provisioning_code=world.issue().digits)
    phone.said |= said
    return phone


def commands(phone: Sysclient) -> list[str]:
    """List what a phone was told through the tunnel."""
    return [unquote(asked.path.removeprefix("/!")) for asked in phone.asked]


async def registered(phone: Sysclient, phones: Phones) -> None:
    """Register a phone by its code, and let it do its jobs."""
    async with connected(phone, phones):
        phone.tell(phone.identify())
        await quiet()
    phone.said.pop("provisioning_code", None)
    phone.asked.clear()


def test_a_phone_is_registered_by_its_code(phones: Phones) -> None:
    """It gets a password, which nobody else has, and is online."""
    phone = typed()

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            assert device().connection.startswith("127.0.0.1:8080#")
            assert device().disconnected_at is None
        assert device().connection == ""
        assert device().disconnected_at == NOW

    run(play())
    (told,) = phone.heard_of(SysclientPassword)
    assert len(told.password) == sysclient_login.PASSWORD_LENGTH
    assert set(told.password) <= set(sysclient_login.CHARACTERS)
    kept = device()
    assert (kept.domain, kept.category, kept.user) == (DOMAIN, "Office", "user1")
    assert kept.token_used_at == NOW
    assert phone.told.code == 0


def test_what_a_phone_is_told_is_what_explain_says(phones: Phones) -> None:
    """It gets the lines of its jobs one by one, and each job has its outcome."""
    phone = typed()
    run(registered_and_kept(phone, phones))
    assert commands(phone)[0].startswith("mod cmd UP0 prot https://firmware.example.com")
    explained = updates.explain(world.admin(), DOMAIN, HW_ID, None)
    matching = [each.verdict.job for each in explained if each.standing is not None]
    plan = plan_for(DOMAIN, "Office", matching)
    wanted = [line.text for line in configuration_lines(plan.configuration, HW_ID)]
    told = [line for line in commands(phone)[2:] if line not in {"config write", "config activate"}]
    assert told == wanted
    assert set(device().confirmed) == {"update-client", "expert"}
    assert device().state is State.UPDATING


async def registered_and_kept(phone: Sysclient, phones: Phones) -> None:
    """Register a phone, and keep what it was asked."""
    async with connected(phone, phones):
        phone.tell(phone.identify())
        await quiet()


def test_a_phone_that_runs_the_right_builds_is_current(phones: Phones) -> None:
    """Firmware that is there already is done, and nothing is loaded."""
    phone = typed(fw_build=demo.FIRMWARE_BUILD, bc_build=demo.BOOT_BUILD)
    run(registered_and_kept(phone, phones))
    assert not [line for line in commands(phone) if line.startswith("mod cmd UP0")]
    assert device().state is State.CURRENT


def test_loading_is_asked_for_once_on_a_connection(phones: Phones) -> None:
    """A phone that has taken the command to load is not told again until it is back."""
    phone = typed()

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            phone.asked.clear()
            found = phones.find(HW_ID)
            assert found is not None
            found.wake()
            await quiet()
            assert not phone.asked
        phone.said = {"fw_build": demo.FIRMWARE_BUILD, "bc_build": demo.BOOT_BUILD}
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()

    run(play())
    assert device().state is State.CURRENT


def test_a_phone_is_registered_by_the_token_in_its_address(phones: Phones) -> None:
    """Nobody types anything."""
    security_tokens.put(world.admin(), DOMAIN, "Office", TOKEN, None)
    phone = Sysclient()

    async def play() -> None:
        async with connected(phone, phones, claim=CLAIM):
            phone.tell(phone.identify())
            await quiet()

    run(play())
    assert phone.heard_of(SysclientPassword)
    assert (device().domain, device().category) == (DOMAIN, "Office")


def test_a_token_of_another_domain_than_the_address_is_refused(phones: Phones) -> None:
    """What is good in one domain admits nobody at the address of another."""
    security_tokens.put(world.admin(), DOMAIN, "Office", TOKEN, None)
    phone = Sysclient()

    async def play() -> None:
        async with connected(phone, phones, domain="other.example", claim=CLAIM):
            phone.tell(phone.identify())
            await quiet()
            assert phone.told.code == 0

    run(play())
    assert not phone.told.frames
    assert devices.find(HW_ID) is None


def test_a_code_of_another_domain_than_the_address_is_refused(phones: Phones) -> None:
    """It stays open, and its owner hears why."""
    issued = world.issue()
    phone = Sysclient(provisioning_code=issued.digits)

    async def play() -> None:
        async with connected(phone, phones, domain="other.example"):
            phone.tell(phone.identify())
            await quiet()
            assert phone.told.code == 0
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()

    run(play())
    assert device().domain == DOMAIN


def test_a_phone_returns_with_its_digest(phones: Phones) -> None:
    """It is asked for proof, and needs no code any more."""
    phone = typed()

    async def play() -> None:
        await registered(phone, phones)
        async with connected(phone, phones_of()):
            phone.tell(phone.identify())
            await quiet()
            assert device().connection

    run(play())
    (challenge,) = phone.heard_of(Challenge)
    assert challenge.challenge.isdecimal()
    assert not phone.heard_of(SysclientPassword)


def test_a_wrong_digest_closes(phones: Phones) -> None:
    """Nobody takes a phone's place with its id alone."""
    phone, stranger = typed(), Sysclient()
    stranger.password = "x" * sysclient_login.PASSWORD_LENGTH

    async def play() -> None:
        await registered(phone, phones)
        async with connected(stranger, phones) as serving:
            stranger.tell(stranger.identify())
            await serving

    run(play())
    assert (stranger.told.code, stranger.told.reason) == (POLICY, "a wrong digest")
    assert not stranger.asked


def test_a_digest_of_an_old_challenge_is_worth_nothing(phones: Phones) -> None:
    """Each challenge counts once."""
    phone = typed()

    async def play() -> None:
        await registered(phone, phones)
        heard: list[bytes] = []
        spoken = phone.tell

        def overheard(*said: bytes | str | AdminFrame) -> None:
            heard.extend(bytes(each) for each in said if not isinstance(each, str))
            spoken(*said)

        phone.tell = overheard  # type: ignore[method-assign]
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
        replayed = heard[-1]
        assert b"digest" in replayed
        stranger = Sysclient()
        stranger.answer = lambda _: stranger.tell(replayed)  # type: ignore[method-assign, assignment]
        async with connected(stranger, phones) as serving:
            stranger.tell(replayed)
            await serving
        assert stranger.told.reason == "a wrong digest"

    run(play())


def test_a_phone_without_anything_stays_unassigned(phones: Phones) -> None:
    """It may bring its code later, on the same connection."""
    phone = Sysclient()

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await asyncio.sleep(session.IDENTIFY_SECONDS * 10)
            assert phones.count == 1
            assert phones.find(HW_ID) is None
            phone.tell(phone.identify(provisioning_code=world.issue().digits))
            await quiet()
            assert phones.find(HW_ID) is not None

    run(play())
    assert phone.heard_of(SysclientPassword)


def test_a_phone_that_did_not_hear_its_password_repeats_its_code(phones: Phones) -> None:
    """The connection was lost in that moment: the first answer is given again."""
    phone = typed()
    phone.is_deaf = True

    async def play() -> None:
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving
        assert device().token_used_at is None
        phone.is_deaf = False
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()

    run(play())
    assert phone.heard_of(SysclientPassword)
    assert not phone.heard_of(Challenge)


def test_a_phone_that_lost_its_password_is_asked_and_then_its_code_counts(phones: Phones) -> None:
    """A code of the same user takes the phone anew; one of another user does not."""
    phone = typed()

    async def play() -> None:
        await registered(phone, phones)
        before = device().registration_id
        phone.password = ""
        phone.said["provisioning_code"] = world.issue("user2").digits
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving
        assert phone.told.reason == "a wrong digest, and nothing else that counts"
        phone.said["provisioning_code"] = world.issue("user1").digits
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
        assert device().registration_id != before

    run(play())
    assert phone.heard_of(Challenge)
    assert phone.heard_of(SysclientPassword)


def test_a_released_phone_is_sent_away_and_then_nobody(phones: Phones) -> None:
    """Its domain gave it up: with its old password it is a phone like any new one."""
    phone = typed()

    async def play() -> None:
        await registered(phone, phones)
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await quiet()
            assignments.release(world.admin(), DOMAIN, HW_ID)
            found = phones.find(HW_ID)
            assert found is not None
            found.wake()
            await serving
        assert (phone.told.code, phone.told.reason) == (POLICY, "released")
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            assert phone.told.code == 0
        assert not phone.told.frames

    run(play())


def test_who_has_nothing_to_show_may_not_stay_for_ever(phones: Phones) -> None:
    """A phone comes back."""
    phone = Sysclient()

    async def play() -> None:
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving

    run(play())
    assert phone.told.reason == "did not say in time who it is"


def test_a_connection_that_a_late_write_took_away_is_known_again(phones: Phones) -> None:
    """At its next visit."""
    phone = typed()

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            here = device().connection
            assert devices.disconnect(HW_ID, here, NOW)
            found = phones.find(HW_ID)
            assert found is not None
            found.wake()
            await quiet()
            assert device().connection == here
            assert device().disconnected_at is None

    run(play())


def test_an_online_phone_may_say_anew_who_it_is(phones: Phones) -> None:
    """What has changed of it is kept."""
    phone = typed()

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            phone.tell(phone.identify(version="14r1", eth_ifs=(EthIf("ETH0", ipv4="10.0.0.9"),)))
            await quiet()

    run(play())
    assert (device().version, device().local_ip) == ("14r1", "10.0.0.9")


def test_an_administrators_password_goes_in_its_own_message(phones: Phones) -> None:
    """It is never a line, and the phone alone can read it."""
    updates.make_configuration_job(
        world.admin(), DOMAIN, "Office", "admin-password", {"password": "a new one"}
    )
    phone = typed()
    run(registered_and_kept(phone, phones))
    (told,) = phone.heard_of(AdminPassword)
    assert sysclient_login.decrypt(told.pwd, told.seed, phone.password) == "a new one"
    assert not [line for line in commands(phone) if "CMD0" in line]
    assert "admin-password" in device().confirmed


def test_a_device_of_another_vendor_gets_items(phones: Phones) -> None:
    """It has no pages of its own to be configured by."""
    phone = typed(other=True)
    run(registered_and_kept(phone, phones))
    told = phone.heard_of(Configuration)
    assert [frame.item["type"] for frame in told] == ["update-client", "expert"]
    assert [frame.last for frame in told] == [False, True]
    assert not phone.asked
    assert set(device().confirmed) == {"update-client", "expert"}


def test_a_job_that_fails_is_kept_with_its_reason(phones: Phones) -> None:
    """The others go on."""
    phone = Sysclient(
        lambda asked: [ok(status=404) if "poll-fast" in asked.path else ok()],
        provisioning_code=world.issue().digits,
    )
    run(registered_and_kept(phone, phones))
    ((_, failure),) = device().failures.items()
    assert failure.reason == "line 2 of 4: the phone answers 404"
    assert set(device().confirmed) == {"update-client"}


def test_a_job_that_is_deleted_meanwhile_has_no_end(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have theirs."""
    real = devices_role.report_job
    gone: list[str] = []

    def report(hw_id: str, token: str, told: devices_role.Report, now: datetime) -> None:
        if not gone:
            gone.append(told.job_id)
            raise NotFoundError("job")
        real(hw_id, token, told, now)

    monkeypatch.setattr(devices_role, "report_job", report)
    phone = typed()
    run(registered_and_kept(phone, phones))
    assert set(device().confirmed) == {"expert"}
    assert phone.told.code == 0


def test_a_phone_that_is_cut_off_at_its_jobs_goes_on_when_it_is_back(phones: Phones) -> None:
    """Nothing is said of the job at hand; it is done the next time."""
    phone = typed(fw_build=demo.FIRMWARE_BUILD, bc_build=demo.BOOT_BUILD)

    def cut(asked: Asked) -> list[bytes | None]:
        if "poll-fast" in asked.path:
            phone.is_deaf = True
            phone.hang_up()
        return [ok()]

    phone.web = cut

    async def play() -> None:
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving
        assert set(device().confirmed) == {"software", "update-client"}
        phone.is_deaf = False
        phone.web = lambda _: [ok()]
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()

    run(play())
    assert device().state is State.CURRENT


def test_a_connection_that_died_in_silence_undoes_nothing(phones: Phones) -> None:
    """The phone is back at another process, and is done there before the dead one gives up."""
    phone = typed(fw_build=demo.FIRMWARE_BUILD, bc_build=demo.BOOT_BUILD)
    phone.web = lambda asked: [] if "poll-fast" in asked.path else [ok()]
    back = Sysclient(fw_build=demo.FIRMWARE_BUILD, bc_build=demo.BOOT_BUILD)

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            back.password = phone.password
            phone.has_vanished = True
            async with connected(back, phones_of()):
                back.tell(back.identify())
                await quiet()
                assert device().state is State.CURRENT
                await asyncio.sleep(ANSWER_SECONDS)
                await quiet()

    run(play())
    assert device().failures == {}
    assert device().state is State.CURRENT


def test_an_analogue_phone_is_registered_by_its_gateway(phones: Phones) -> None:
    """The gateway hears that, and for every code that is none the same."""
    gateway = typed(platform=Platform("GW", fxs=True))
    code = world.issue("user2").digits

    async def play() -> None:
        async with connected(gateway, phones):
            gateway.tell(gateway.identify())
            await quiet()
            for said in (
                Provision("TEL1", code),
                Provision("TEL2", code),
                Provision("TEL2", "#"),
                Provision("TEL2", "prompt"),
                Provision("not/one", code),
            ):
                gateway.tell(said)
                await quiet()

    run(play())
    no = "the code cannot be redeemed"
    told = [frame.error for frame in gateway.heard_of(ProvisionResult)]
    assert told[:4] == ["", no, no, no]
    assert "one short word" in told[4]
    assert device(f"{HW_ID}-TEL1").user == "user2"
    assert devices.find(f"{HW_ID}-TEL2") is None


def test_a_gateway_hears_when_to_try_again(phones: Phones, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays connected."""

    def fail(*_: object) -> None:
        raise StoreUnavailableError("throttled")

    monkeypatch.setattr(analogue_phones, "register", fail)
    gateway = typed(platform=Platform("GW", fxs=True))

    async def play() -> None:
        async with connected(gateway, phones):
            gateway.tell(gateway.identify())
            await quiet()
            gateway.tell(Provision("TEL1", "111122223333"))
            await quiet()
            assert gateway.told.code == 0

    run(play())
    (told,) = gateway.heard_of(ProvisionResult)
    assert told.error == "try again in 5 seconds"


def test_a_released_gateway_speaks_for_nobody(phones: Phones) -> None:
    """It is sent away, as at any other moment."""
    gateway = typed(platform=Platform("GW", fxs=True))
    code = world.issue("user2").digits

    async def play() -> None:
        async with connected(gateway, phones) as serving:
            gateway.tell(gateway.identify())
            await quiet()
            assignments.release(world.admin(), DOMAIN, HW_ID)
            gateway.tell(Provision("TEL1", code))
            await serving

    run(play())
    assert (gateway.told.code, gateway.told.reason) == (POLICY, "released")
    assert devices.find(f"{HW_ID}-TEL1") is None


BAD: dict[str, tuple[list[Any], int, str]] = {
    "a text": (["{}"], UNSUPPORTED, "a text frame"),
    "nothing": ([b""], PROTOCOL_ERROR, "a malformed frame"),
    "an unknown message": ([b"\x01\x00\x63{}"], PROTOCOL_ERROR, "a malformed frame"),
    "JSON with a member twice": (
        [b'\x01\x00\x00{"id":"1","id":"2"}'],
        PROTOCOL_ERROR,
        "a malformed frame",
    ),
    "what only Devices says": ([Challenge("1")], PROTOCOL_ERROR, "only Devices says that"),
    "a session that nobody opened": (
        [SendResult(1)],
        PROTOCOL_ERROR,
        "a tunnel frame that nobody can have asked for",
    ),
    "an analogue phone of a stranger": (
        [Sysclient().identify(), Provision("TEL1", "111122223333")],
        POLICY,
        "speaks for a phone and is nobody",
    ),
    "another id": (
        [Sysclient().identify(), Sysclient(hw_id="009033000099").identify()],
        POLICY,
        "identifies with another id",
    ),
    "again and again": (
        [Sysclient().identify()] * (session.MAX_IDENTIFIES + 1),
        POLICY,
        "identifies again and again",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_whoever_breaks_the_protocol_is_hung_up(name: str, phones: Phones) -> None:
    """With a reason, and nobody else notices."""
    said, code, reason = BAD[name]
    other, phone = typed(hw_id="009033000002"), Sysclient()

    async def play() -> None:
        async with connected(other, phones):
            other.tell(other.identify())
            await quiet()
            async with connected(phone, phones) as serving:
                phone.tell(*said)
                await serving
            assert phones.count == 1
            assert phones.find("009033000002") is not None

    run(play())
    assert (phone.told.code, phone.told.reason) == (code, reason)
    assert other.told.code == 0


@pytest.mark.parametrize("is_known", [False, True])
def test_whoever_does_not_say_in_time_who_it_is_is_hung_up(
    phones: Phones, *, is_known: bool
) -> None:
    """And so is who does not answer a challenge."""
    phone = typed()

    async def play() -> None:
        await registered(phone, phones)
        phone.answer = lambda _: None  # type: ignore[method-assign, assignment]
        async with connected(phone, phones) as serving:
            if is_known:
                phone.tell(phone.identify())
            await serving

    run(play())
    assert phone.told.code == POLICY
    assert phone.told.reason == "did not say in time who it is"


def test_who_guesses_codes_has_to_wait(phones: Phones, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limit counts as for update clients."""
    used = settings.current()
    few = replace(used.limits[LimitName.GUESSES], burst=2)
    use(replace(used, limits={**used.limits, LimitName.GUESSES: few}), monkeypatch)

    async def play() -> None:
        for number in range(3):
            phone = Sysclient(hw_id=f"00903300001{number}", provisioning_code="111122223333")
            async with connected(phone, phones) as serving:
                phone.tell(phone.identify())
                await quiet()
                assert serving.done() is (number == 2)
        assert (phone.told.code, phone.told.reason) == (LATER, "try again later")

    run(play())


def test_trouble_of_the_store_sends_a_phone_away_for_now(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back, and nothing is lost."""

    def fail(*_: object) -> None:
        raise StoreUnavailableError("throttled")

    monkeypatch.setattr(sysclients, "find_known", fail)
    phone = typed()

    async def play() -> None:
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving

    run(play())
    assert phone.told.code == LATER


def test_trouble_of_the_store_at_the_end_is_written_down(
    phones: Phones, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The phone counts as away a little later."""

    def fail(*_: object) -> None:
        raise StoreUnavailableError("throttled")

    monkeypatch.setattr(sysclients, "disconnect", fail)
    run(registered(typed(), phones))
    assert "not noted as away" in capsys.readouterr().out


def test_a_defect_of_ours_ends_one_connection(
    phones: Phones, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is written down with its stack."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sysclients, "find_known", fail)
    phone = typed()

    async def play() -> None:
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving

    run(play())
    assert phone.told.code == DEFECT
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = [line for line in lines if line["message"] == "session failed"]
    assert "ZeroDivisionError" in line["exception"]


def test_a_session_can_be_followed_in_its_log_without_a_secret(
    phones: Phones, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every admin message in its order, under one id; no code, password, token or digest."""
    updates.make_configuration_job(
        world.admin(), DOMAIN, "Office", "admin-password", {"password": "geheim-17"}
    )
    security_tokens.put(world.admin(), DOMAIN, "Office", TOKEN, None)
    phone = typed()
    code = str(phone.said["provisioning_code"])

    async def play() -> None:
        async with connected(phone, phones, claim=CLAIM):
            phone.tell(phone.identify())
            await quiet()
        phone.said.clear()
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()

    run(play())
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in printed.splitlines()]
    kinds = [(line["message"], line["kind"]) for line in lines if "kind" in line]
    assert kinds == [
        ("from phone", "0000"),
        ("to phone", "0001"),
        ("to phone", "0003"),
        ("from phone", "0000"),
        ("to phone", "0002"),
        ("from phone", "0000"),
    ]
    brought = [line["brings"] for line in lines if line["message"] == "from phone"]
    assert brought == [["provisioningCode"], [], ["digest"]]
    assert len({line["correlation_id"] for line in lines if line.get("hw_id") == HW_ID}) == 2
    token = sysclients.credentials(device()).token
    for secret in (code, phone.password, token, TOKEN, "geheim-17"):
        assert secret not in printed


def test_the_tunnel_can_be_followed_too(
    phones: Phones, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At DEBUG, both ways, without what is in its frames."""
    use(replace(settings.current(), log_level="DEBUG"), monkeypatch)
    phone = typed()
    run(registered_and_kept(phone, phones))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["message"], line["said"]) for line in lines if line["level"] == "DEBUG"]
    assert told[0] == ("to phone", "Send(session_id=1)")
    assert told[1] == ("from phone", "SendResult(session_id=1)")
    assert {said.partition("(")[0] for _, said in told} == {
        "Send",
        "SendResult",
        "Recv",
        "RecvResult",
        "Shutdown",
    }


def test_a_device_of_another_kind_is_kept_as_such(phones: Phones) -> None:
    """A gateway is no phone."""
    phone = typed(platform=Platform("GW", fxs=True))
    run(registered_and_kept(phone, phones))
    assert device().device_type == "GW"


def test_a_phone_that_never_came_back_for_a_day_is_free(phones: Phones) -> None:
    """It got no password that anybody is known to have."""
    phone = typed()
    phone.is_deaf = True

    async def play() -> None:
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving
        later = NOW + timedelta(days=1, seconds=1)
        other = Sysclient(provisioning_code=world.issue("user2", later).digits)
        async with connected(other, phones_of(lambda: later)):
            other.tell(other.identify())
            await quiet()

    run(play())
    assert device().user == "user2"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        ((0.0, 0.0), LATER),
        ((0.0, session.IDENTIFY_SECONDS), POLICY),
        ((session.IDENTIFY_SECONDS * 2, 0.0), POLICY),
    ],
    ids=["its answer is lost", "its answer is late", "it is noted late"],
)
def test_a_phone_whose_arrival_was_noted_and_not_told_is_not_left_online(
    phones: Phones, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], code: int
) -> None:
    """Whatever became of noting it: once the phone has gone it counts as away."""
    phone = typed()
    real = devices_role.arrive

    def arrive(*arguments: Any, **more: Any) -> None:  # noqa: ANN401 - those of the role
        real(*arguments, **more)
        assert device().connection
        raise StoreUnavailableError("its answer was lost")

    before = iter([(0.0, 0.0)] * 3)
    is_registered = False

    async def play() -> None:
        nonlocal is_registered
        await registered(phone, phones)
        monkeypatch.setattr(devices_role, "arrive", arrive)
        is_registered = True
        async with connected(phone, phones) as serving:
            phone.tell(phone.identify())
            await serving
        await asyncio.sleep(session.IDENTIFY_SECONDS * 3)

    run(play(), lambda: next(before, seconds) if is_registered else (0.0, 0.0))
    assert phone.told.code == code
    assert device().connection == ""
    assert phones.count == 0
