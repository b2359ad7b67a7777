import asyncio
import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chalicelib import settings
from chalicelib.core.errors import NotFoundError, StoreUnavailableError
from chalicelib.roles import assignments, domains, instances
from chalicelib.roles.instances import Instance
from chalicelib.storage import connection, connections, devices
from chalicelib.storage import domains as domain_table
from chalicelib.storage.connections import Connection, Role
from gateway import passthrough, server, tunnel
from gateway.passthrough import HOP, Asked, Page
from gateway.phones import Phones
from local import demo
from tests import world
from tests.conftest import NOW, use
from tests.gateway.played_phone import Asked as PhoneAsked
from tests.gateway.played_phone import ok
from tests.gateway.played_sysclient import Sysclient, connected, phones_of, quiet
from tests.gateway.virtual_time import run
from tests.world import DOMAIN, HOME, HW_ID

PAGE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: s=1\r\nServer: phone\r\n"
    b"Content-Length: 5\r\n\r\n<h1/>"
)


@pytest.fixture(autouse=True)
def seeded(table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the demo data; say which domain administers all, and where we are."""
    assert table_names
    used = replace(
        settings.current(), instance_domain=demo.INSTANCE_DOMAIN, public_url=world.BASE_URL
    )
    use(used, monkeypatch)
    world.seed()


def logged_in(domain: str = DOMAIN, role: Role = Role.USERS_INSTANCE) -> Instance:
    """Let a Users instance log in."""
    opened = Connection(f"of {domain}=", NOW, HOME)
    connections.open_(opened)
    after = replace(opened, role=role, domain=domain, app="users", logged_in_at=NOW)
    write = connection.Transaction()
    connections.log_in(write, opened, after)
    write.commit()
    return Instance(after, "", NOW)


def web(asked: PhoneAsked) -> list[bytes | None]:
    """Answer commands with success, pages with a page."""
    return [ok() if asked.path.startswith("/!") else PAGE]


async def page(
    phones: Phones,
    target: str,
    headers: Mapping[str, str] | None = None,
    now: datetime = NOW,
) -> Page:
    """Ask for a page."""
    asked = passthrough.read(target, headers or {})
    assert asked is not None
    return await passthrough.answer(asked, phones, now)


def target_of(key: str, path: str = "cfg.txt", domain: str = DOMAIN, hw_id: str = HW_ID) -> str:
    """Write what is asked for."""
    return f"/{domain}/devices/passthrough/{hw_id}/{key}/{path}"


def test_an_instance_reads_the_pages_of_a_connected_phone() -> None:
    """At the address that the device object says; a browser gets them in a sandbox."""
    phones, asking = phones_of(), logged_in()
    phone = Sysclient(web, provisioning_code=world.issue().digits)

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            known = devices.find(HW_ID)
            assert known is not None
            url = instances.passthrough_url(asking, known)
            assert url.startswith("https://dialtone.example/example.com/devices/passthrough/")
            target = url.removeprefix("https://dialtone.example")
            got = await page(phones, f"{target}a/b.xml?c=d%20e", {"accept": "*/*", "cookie": "c"})
        assert got.status == 200
        assert got.body == b"<h1/>"
        assert got.headers == {
            "content-type": "text/html",
            "Cache-Control": "no-store",
            "Content-Security-Policy": "sandbox allow-scripts allow-forms",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        asked = phone.asked[-1]
        assert asked.path == "/a/b.xml?c=d%20e"
        assert asked.headers["accept"] == "*/*"
        assert "cookie" not in asked.headers
        known = devices.find(HW_ID)
        assert known is not None
        assert instances.passthrough_url(asking, known) == ""

    run(play())


def test_only_a_session_that_may_see_the_device_reads_its_pages() -> None:
    """One answer for a wrong key, one that has ended, and another domain."""
    phones = phones_of()
    phone = Sysclient(web, provisioning_code=world.issue().digits)
    own, other = logged_in(), logged_in("other.example")
    platform = logged_in(demo.INSTANCE_DOMAIN)
    key = instances.session_key(own)
    wrong = [
        target_of("0" * len(key)),
        target_of("x"),
        target_of("0" * 32 + "ff"),
        target_of(instances.session_key(other)),
        target_of(key, domain="other.example"),
        target_of(key, hw_id="009033000099"),
    ]

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            told = {json.dumps([p.status, p.title]) for p in [await page(phones, w) for w in wrong]}
            assert told == {'[404, "There is nothing here"]'}
            assert (await page(phones, target_of(key))).status == 200
            everything = target_of(instances.session_key(platform))
            assert (await page(phones, everything)).status == 200
            domains.change(world.platform(), "other.example", {"granted_domains": [DOMAIN]})
            granted = target_of(instances.session_key(other))
            assert (await page(phones, granted)).status == 200
            connections.close(own.connection)
            assert (await page(phones, target_of(key))).status == 404

    run(play())


@pytest.mark.parametrize("role", [Role.PERSON, Role.NOBODY])
def test_a_key_is_worth_nothing_to_anybody_else(role: Role) -> None:
    """Only Users instances have one."""
    asking = logged_in(role=role)
    with pytest.raises(NotFoundError):
        instances.find_reached(instances.session_key(asking), DOMAIN, HW_ID, NOW)


def test_the_key_of_a_device_opens_that_one_alone() -> None:
    """And is the only one under which a page may run scripts, which can read it."""
    asking = logged_in()
    device = replace(world.redeem(world.issue().digits).device, connection="10.0.3.7:8080#1")
    key = instances.passthrough_url(asking, device).split("/")[-2]
    whole = instances.session_key(asking)
    assert instances.find_reached(key, DOMAIN, HW_ID, NOW).is_of_device
    assert not instances.find_reached(whole, DOMAIN, HW_ID, NOW).is_of_device
    other = "009033000002"
    world.redeem(world.issue().digits, other)
    assert instances.find_reached(whole, DOMAIN, other, NOW).device.hw_id == other
    with pytest.raises(NotFoundError):
        instances.find_reached(key, DOMAIN, other, NOW)


def test_a_key_ends_with_its_session_although_nobody_said_so() -> None:
    """Its row may stay until it is deleted, which takes days at times."""
    world.redeem(world.issue().digits)
    key = instances.session_key(logged_in())
    last = NOW + timedelta(seconds=connections.KEEP_SECONDS)
    assert instances.find_reached(key, DOMAIN, HW_ID, last - timedelta(seconds=1))
    with pytest.raises(NotFoundError):
        instances.find_reached(key, DOMAIN, HW_ID, last)


def test_a_phone_that_has_another_domain_by_now_is_not_asked_over_its_old_connection() -> None:
    """The former domain's connection may be there for some minutes still."""
    phones = phones_of()
    phone = Sysclient(web, provisioning_code=world.issue().digits)

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            assignments.release(world.admin(), DOMAIN, HW_ID)
            world.redeem(world.issue_rollout(domain="other.example", category="Sales").digits)
            key = instances.session_key(logged_in("other.example"))
            got = await page(phones, target_of(key, domain="other.example"))
            assert (got.status, got.title) == (503, "The phone is not connected")

    run(play())


def test_a_domain_that_has_gone_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although its Users instance is still connected."""
    world.redeem(world.issue().digits)
    key = instances.session_key(logged_in())
    assert instances.find_reached(key, DOMAIN, HW_ID, NOW).device.hw_id == HW_ID
    monkeypatch.setattr(domain_table, "find", lambda _: None)
    with pytest.raises(NotFoundError):
        instances.find_reached(key, DOMAIN, HW_ID, NOW)


def test_a_device_is_reached_by_nobody_as_long_as_nobody_knows_where_we_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a public URL there is none to tell."""
    use(replace(settings.current(), public_url=""), monkeypatch)
    device = replace(world.redeem(world.issue().digits).device, connection="10.0.3.7:8080#1")
    assert instances.passthrough_url(logged_in(), device) == ""


@pytest.mark.parametrize(
    ("answers", "status"),
    [([b"no HTTP at all\r\n\r\n"], 502), ([], 504), ([None], 502)],
)
def test_what_a_phone_does_not_answer_well_is_said_as_such(
    answers: list[bytes | None], status: int
) -> None:
    """By a gateway's status."""
    phones, asking = phones_of(), logged_in()
    phone = Sysclient(
        lambda asked: [ok()] if asked.path.startswith("/!") else answers,
        provisioning_code=world.issue().digits,
    )

    async def play() -> None:
        async with connected(phone, phones):
            phone.tell(phone.identify())
            await quiet()
            got = await page(phones, target_of(instances.session_key(asking)))
            assert (got.status, got.body) == (status, None)
            bad = await page(phones, target_of(instances.session_key(asking), "a b"))
            assert bad.status == 400

    run(play())


def test_a_phone_that_is_away_or_a_store_in_trouble_is_no_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Come back later."""
    world.redeem(world.issue().digits)
    key = instances.session_key(logged_in())

    async def play() -> None:
        got = await page(phones_of(), target_of(key))
        assert (got.status, got.title) == (503, "The phone is not connected")

        def fail(*_: object) -> None:
            raise StoreUnavailableError("throttled")

        monkeypatch.setattr(instances, "find_reached", fail)
        got = await page(phones_of(), target_of(key))
        assert (got.status, got.title) == (503, "Try again later")

    run(play())


@pytest.mark.parametrize(
    "target",
    [
        "/",
        f"/{DOMAIN}/devices/passthrough/{HW_ID}/key",
        f"/{DOMAIN}/devices/passthrough/nobody/key/x",
        f"//devices/passthrough/{HW_ID}/key/x",
        f"/{DOMAIN}/devices/sysclients",
    ],
)
def test_other_addresses_are_no_pages(target: str) -> None:
    """They are somebody else's business."""
    assert passthrough.read(target, {}) is None


def test_nothing_of_the_key_or_the_page_is_written_down() -> None:
    """Whoever writes a request down writes whose phone it was."""
    asked = passthrough.read(target_of("the key", "secret?x=y"), {"authorization": "z"})
    assert asked is not None
    assert repr(asked) == f"Asked(domain='{DOMAIN}', hw_id='{HW_ID}')"
    assert isinstance(asked, Asked)


def test_a_phone_of_another_process_is_asked_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: who gets a request that was sent on asks nobody else."""
    phone = Sysclient(web, provisioning_code=world.issue().digits)
    asking = logged_in()
    target = target_of(instances.session_key(asking), "a?b=c")
    monkeypatch.setattr(Phones.__init__, "__defaults__", (lambda: NOW,))

    def got(port: int, **headers: str) -> tuple[int, str, bytes]:
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        asked.request("GET", target, headers=headers)
        answer = asked.getresponse()
        body = answer.read()
        asked.close()
        return answer.status, answer.getheader("Content-Security-Policy") or "", body

    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with server.serving("127.0.0.1", 0) as one, server.serving("127.0.0.1", 0) as two:
            ports = [next(iter(each[0].sockets)).getsockname()[1] for each in (one, two)]
            phones = one[1]
            assert phones.address == f"127.0.0.1:{ports[0]}"
            async with connected(phone, phones):
                phone.tell(phone.identify())
                for _ in range(200):
                    if phones.find(HW_ID):
                        break
                    await asyncio.sleep(0.05)
                for port in ports:
                    told = await loop.run_in_executor(None, got, port)
                    assert told == (200, "sandbox allow-forms", b"<h1/>")
                assert phone.asked[-1].path == "/a?b=c"
                hopped = await loop.run_in_executor(None, lambda: got(ports[1], **{HOP: "1"}))
                assert hopped[0] == 503
            known = devices.find(HW_ID)
            assert known is not None
            gone = replace(known, connection="127.0.0.1:1#x")
            devices.report(gone, known)
            assert (await loop.run_in_executor(None, got, ports[1]))[0] == 503

    asyncio.run(play())


def test_phones_that_do_not_answer_hold_up_no_other_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of a domain's pages are asked for; its others wait for those before them."""
    world.redeem(world.issue().digits)
    known = devices.find(HW_ID)
    assert known is not None
    elsewhere = instances.Reached(replace(known, connection="10.0.0.9:1#x"), is_of_device=False)
    monkeypatch.setattr(instances, "find_reached", lambda *_: elsewhere)
    is_over = threading.Event()

    def ask(_: str, page: Asked) -> Page:
        if page.domain == DOMAIN:
            is_over.wait()
        return Page(200)

    monkeypatch.setattr(passthrough, "_ask", ask)

    async def play() -> None:
        phones = phones_of()
        slow = [asyncio.create_task(page(phones, target_of("key"))) for _ in range(80)]
        try:
            async with asyncio.timeout(10):
                for _ in range(20):  # until all of them have come as far as they can
                    await asyncio.sleep(0.01)
                got = await page(phones, target_of("key", domain="other.example"))
            assert got.status == 200
        finally:
            is_over.set()
        assert {each.status for each in await asyncio.gather(*slow)} == {200}

    asyncio.run(play())


def test_a_page_comes_before_a_forwarded_request_gives_up() -> None:
    """Whoever asked last says first what was wrong."""
    assert tunnel.ANSWER_SECONDS < passthrough.FORWARD_SECONDS
    assert timedelta(seconds=passthrough.FORWARD_SECONDS) < timedelta(minutes=1)
