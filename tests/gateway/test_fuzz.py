"""Whatever a phone sends and whatever fails meanwhile: no session ends by a defect of ours.

With FUZZ_SECONDS set this goes on for so long (`make fuzz`), else for a few examples.
"""

import asyncio
import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import strategies as st

from chalicelib import observability, settings
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.devices import Device
from chalicelib.core.errors import DialtoneError, MalformedFrameError, StoreUnavailableError
from chalicelib.roles import assignments, security_tokens, sysclients, updates
from chalicelib.storage import connection, devices
from gateway import frames
from gateway import phones as phones_module
from gateway.frames import (
    Event,
    Message,
    Provision,
    RecvResult,
    SendResult,
    Shutdown,
    TunnelFrame,
)
from gateway.phones import Phones
from gateway.session import DEFECT
from gateway.tunnel import TunnelError
from local import demo
from tests import faults, moto_tables, world
from tests.conftest import NOW, use
from tests.gateway import test_frames
from tests.gateway.played_phone import ok
from tests.gateway.played_rogue import Known, Manner, Rogue
from tests.gateway.played_sysclient import Sysclient, connected, phones_of, quiet
from tests.gateway.virtual_time import Delay, run
from tests.world import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
PARSER_SHARE = 0.2
"""How much of that time the parser gets; the session, which needs more, has the rest."""

AT_ONCE = 25
"""Examples of one seed, when it goes on for long."""


def fuzz(
    check: Callable[[Any], None],
    drawn: st.SearchStrategy[Any],
    *,
    few: int,
    share: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Check what is drawn: a few, or with one seed after the other until the time is over."""
    ran = 0

    def counted(one: Any) -> None:  # noqa: ANN401 - whatever is drawn
        nonlocal ran
        ran += 1
        check(one)

    def check_some(count: int, seed: int | None) -> None:
        checked = hypothesis.given(drawn)(counted)
        checked = hypothesis.settings(
            max_examples=count,
            database=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
        )(checked)
        (checked if seed is None else hypothesis.seed(seed)(checked))()

    if not FUZZ_SECONDS:
        check_some(few, None)
        return
    began, seed = time.monotonic(), random.randrange(2**32)
    first = seed
    while time.monotonic() < began + FUZZ_SECONDS * share:
        check_some(AT_ONCE, seed)
        seed += 1
    with capsys.disabled():
        took = time.monotonic() - began
        print(  # noqa: T201 - what make fuzz is asked for
            f"\n{check.__name__}: {ran} examples in {took:.0f} s, seeds {first} to {seed - 1}"
        )


# What the parser gets


def _lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(NAMES, inner).map(":".join)
    return st.lists(pair, max_size=6).map(lambda pairs: f"{{{','.join(pairs)}}}")


def _identifies(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Write what is an identify message but for some members of it."""
    usual = '"id":"009033000001","product":"IP222","version":"13r2","platform":{"type":"PHONE"}'
    pair = st.tuples(NAMES, values).map(":".join)
    return st.lists(pair, max_size=4).map(lambda more: f"{{{','.join([usual, *more])}}}")


MEMBERS = (
    *("id", "product", "version", "platform", "type", "fxs", "name", "fwBuild", "bcBuild", "major"),
    *("provisioningCode", "digest", "mini", "other", "ethIfs", "if", "ipv4", "password", "seed"),
    *("challenge", "pwd", "code", "error", "last", "a"),
)
NAMES = st.sampled_from([*map(json.dumps, MEMBERS), r'"\u0069d"', r'"\ud800"', '"\\u0000"', "a"])
ODD = st.sampled_from(
    [
        *("NaN", "-Infinity", "1e999", "-0", "-0.0", "1e15", "1E+22", "1e-400", "0x1", "01", "1."),
        *("9" * 4_300, "9" * 4_301, "-" + "9" * 400, "0." + "9" * 400, "5e-324"),
        *(r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', r'"\u0000"', '"\0"', '"\ufeff"'),
        *('"\u2028"', '"\u202e"', r'"\/"', r'"\x"', '"' + "x" * 1_001 + '"', '"00-90-33-00-00-01"'),
        *("true", "false", "null", '""', "{}", "[]", '"PHONE"', "[{}]", "", " ", "'a'", "\ufeff{}"),
    ]
)
VALUES = st.recursive(
    ODD | test_frames.VALUES.map(json.dumps) | test_frames.TEXTS.map(json.dumps),
    lambda inner: _lists(inner) | _objects(inner),
    max_leaves=12,
)
DEEP = st.builds(
    lambda text, depth, start, end: start * depth + text + end * depth,
    VALUES,
    st.integers(0, 6_000),
    st.sampled_from(["[", '{"a":', '{"platform":', '[{"id":']),
    st.sampled_from(["]", "}", "}]", ""]),
)
MANY = st.builds(
    lambda text, count: '{"a":[' + ",".join([text] * count) + "]}",
    ODD | st.sampled_from(["1e15", "1E+15", "-0", r'"\/"', "{}", "[]"]),
    st.integers(0, 9_000),
)
JSON = st.one_of(
    _identifies(VALUES), _objects(VALUES), VALUES, DEEP, MANY, st.builds('{{"a":{}}}'.format, DEEP)
)
HEADERS = st.sampled_from([test_frames.admin(message, b"") for message in Message])
TUNNEL_HEADERS = st.sampled_from([test_frames.tunnel(event) for event in Event])
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["cut", "lose", "change", "add", "double"]),
        st.integers(0, 400),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


def damaged(whole: bytes, damages: "Sequence[tuple[str, int, bytes]]") -> bytes:
    """Cut, lose, change, add or double bytes at places."""
    for kind, place, some in damages:
        at = place % (len(whole) + 1)
        end = at + len(some)
        whole = {
            "cut": whole[:at],
            "lose": whole[:at] + whole[end:],
            "change": whole[:at] + some + whole[end:],
            "add": whole[:at] + some + whole[at:],
            "double": whole + whole[at:],
        }[kind]
    return whole


FRAMES = test_frames.ANY_FRAME.map(bytes)
ANYTHING = st.one_of(
    st.builds(lambda text: test_frames.admin(Message.CONFIGURATION, text), MANY),
    st.builds(lambda header, text: header + text.encode("utf-8", "surrogatepass"), HEADERS, JSON),
    st.builds(damaged, FRAMES, DAMAGES),
    st.builds(lambda header, data: header + data, HEADERS | TUNNEL_HEADERS, st.binary()),
    FRAMES,
    st.binary(),
)


def parse_anything(received: bytes) -> None:
    """Parse what is a frame or none; a frame is the same when it is written and parsed again."""
    try:
        frame = frames.parse(received)
    except MalformedFrameError:
        return
    again = frames.parse(bytes(frame))
    assert again == frame
    assert bytes(again) == bytes(frame)


def test_the_parser_knows_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Any bytes, damaged frames, JSON as no phone would write it."""
    fuzz(parse_anything, ANYTHING, few=150, share=PARSER_SHARE, capsys=capsys)


# What the session gets

PHONES = ("009033000001", "009033000001", "009033000002")
"""Of each connection, the phone: two of them are of the same."""

LOOK_SECONDS = 30.0
"""Most of what looking finds is nothing, and takes its time all the same."""

WELL_BEHAVED = "0090330000aa"
ADMIN_PASSWORD = "geheim-17-geheim"
SECURITY_TOKEN = "a token of 26 characters.."
WRONG_CODE = "987650123412"
NO_CODES = {"wrong": WRONG_CODE, "none": "", "no code": "12#", "prompt": "prompt"}
CLAIMS = {
    "": None,
    "good": Claim(DOMAIN, SECURITY_TOKEN, "Office"),
    "wrong": Claim(DOMAIN, "another of 26 characters..", "Office"),
}


@dataclass
class Trial:
    """A gateway, its phones, and all that must not be seen in its log."""

    phones: Phones
    trouble: faults.Trouble
    rogues: list[Rogue]
    ahead: timedelta = timedelta()
    latency: Delay = (0.0, 0.0)
    codes: list[str] = field(default_factory=list)
    requests: "list[asyncio.Task[None]]" = field(default_factory=list)
    began: float = 0.0

    @property
    def now(self) -> datetime:
        """What time it is for the service."""
        elapsed = asyncio.get_running_loop().time() - self.began
        return NOW + self.ahead + timedelta(seconds=elapsed)

    def act(self, do: Callable[[], object]) -> None:
        """Do what an administrator or a user does, who has no trouble, but may be refused."""
        self.trouble.count, count = 0, self.trouble.count
        with suppress(DialtoneError):
            do()
        self.trouble.count = count

    def code(self, kind: str) -> str:
        """Tell a code of a kind; an issued one is the last one if there is a limit."""
        if kind in NO_CODES:
            return NO_CODES[kind]
        if kind != "used":
            self.act(lambda: self.codes.append(self._issued(kind)))
        return self.codes[-1]

    def _issued(self, kind: str) -> str:
        match kind:
            case "of another":
                return world.issue("user2", self.now).digits
            case "expired":
                return world.issue("user1", self.now - timedelta(days=1)).digits
            case "rollout":
                return world.issue_rollout(self.now).digits
        return world.issue("user1", self.now).digits


Action = Callable[[Trial], object]
"""What happens; what it returns is waited for if it is a number, so many seconds."""

CODES = st.sampled_from(
    ["fresh", "fresh", "used", "used", "expired", "of another", "rollout", *NO_CODES]
)
CONNECTIONS = st.integers(0, len(PHONES) - 1)
SPELLINGS = st.sampled_from(["{}", "{}", "{}", "00-90-33-00-00-01", "009033000003"])


@dataclass(frozen=True)
class Connect:
    """A phone opens a websocket."""

    number: int
    domain: str
    claim: str

    def __call__(self, trial: Trial) -> None:
        rogue = trial.rogues[self.number]
        if not rogue.is_connected:
            rogue.connect(trial.phones, self.domain, CLAIMS[self.claim])


@dataclass(frozen=True)
class Behave:
    """A phone behaves in another way from now on."""

    number: int
    manner: Manner

    def __call__(self, trial: Trial) -> None:
        trial.rogues[self.number].manner = self.manner


@dataclass(frozen=True)
class Identify:
    """A phone says who it is."""

    number: int
    code: str
    spelling: str
    members: dict[str, Any] = field(default_factory=dict)
    damages: "tuple[tuple[str, int, bytes], ...]" = ()

    def __call__(self, trial: Trial) -> None:
        rogue = trial.rogues[self.number]
        hw_id = self.spelling.format(rogue.hw_id)
        code = trial.code(self.code)
        said = rogue.identify(id=hw_id, provisioning_code=code, **self.members)
        rogue.tell(damaged(bytes(said), self.damages))


@dataclass(frozen=True)
class Speak:
    """A gateway says that a code was typed at an interface."""

    number: int
    interface: str
    code: str

    def __call__(self, trial: Trial) -> None:
        code = trial.code(self.code) or WRONG_CODE
        trial.rogues[self.number].tell(Provision(self.interface, code))


@dataclass(frozen=True)
class Say:
    """A phone says anything."""

    number: int
    said: "bytes | str"

    def __call__(self, trial: Trial) -> None:
        trial.rogues[self.number].tell(self.said)


@dataclass(frozen=True)
class HangUp:
    """A phone closes its websocket, or is just gone."""

    number: int
    is_cut: bool

    def __call__(self, trial: Trial) -> None:
        rogue = trial.rogues[self.number]
        (rogue.cut if self.is_cut else rogue.hang_up)()


@dataclass(frozen=True)
class Wait:
    """Time goes by, or everything happens that needs none."""

    seconds: float

    def __call__(self, _: Trial) -> float:
        return self.seconds


@dataclass(frozen=True)
class Jump:
    """It is later, at once, as if the process had slept."""

    seconds: int

    def __call__(self, trial: Trial) -> None:
        trial.ahead += timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Fail:
    """The store fails at calls to come, or takes its time."""

    trouble: tuple[int, int, bool]
    latency: Delay

    def __call__(self, trial: Trial) -> None:
        spare, count, is_after_commit = self.trouble
        trial.trouble.spare, trial.trouble.count = spare, count
        trial.trouble.is_after_commit = is_after_commit
        trial.latency = self.latency


@dataclass(frozen=True)
class Administer:
    """An administrator does something about a phone, or makes a job."""

    number: int
    what: str

    def __call__(self, trial: Trial) -> None:
        admin, hw_id = world.admin(trial.now), PHONES[self.number]
        make = updates.make_configuration_job
        trial.act(
            {
                "release": lambda: assignments.release(admin, DOMAIN, hw_id),
                "remove": lambda: assignments.remove(admin, DOMAIN, hw_id),
                "move": lambda: assignments.change(admin, DOMAIN, hw_id, None, "Reception"),
                "job": lambda: make(admin, DOMAIN, "*", "ntp", {"server": "t.example.com"}),
                "password": lambda: make(
                    admin, DOMAIN, "*", "admin-password", {"password": ADMIN_PASSWORD}
                ),
            }[self.what]
        )


@dataclass(frozen=True)
class Ask:
    """Somebody asks for a phone's own pages, some at once."""

    number: int
    count: int
    body: bytes

    def __call__(self, trial: Trial) -> None:
        found = trial.phones.find(PHONES[self.number])
        if found is None:
            return

        async def ask(body: bytes) -> None:
            with suppress(TunnelError):
                await found.tunnel.request("POST", "/cfg.txt", body=body)

        trial.requests += [asyncio.create_task(ask(self.body)) for _ in range(self.count)]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = st.sampled_from(
    [
        *(
            ok(),
            ok(b"body"),
            ok(status=404),
            ok()[:9],
            ok(b"xyz")[:-1],
            b"",
            b"HTTP/1.1 200 OK\r\n",
        ),
        *(CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffffffff\r\n", b"-1\r\n"),
        *(b"x" * 8_000, b"x" * 120_000, b"4000\r\n" + b"x" * 0x4000 + b"\r\n", b"\0" * 20),
        *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"),
        *(b"HTTP/1.1 099 X\r\n\r\n", b"HTTP/9.9 200\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1_000,
        b"HTTP/1.1 200 OK\r\n\xff: \xff\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ]
)
PIECES = st.lists(
    st.one_of(ANSWERS, st.none(), st.builds(damaged, ANSWERS, DAMAGES), st.binary(max_size=40)),
    min_size=1,
    max_size=4,
).map(tuple)
TUNNEL_KINDS: "st.SearchStrategy[tuple[type[TunnelFrame], ...]]" = st.lists(
    st.sampled_from([SendResult, SendResult, SendResult, Shutdown, RecvResult]), max_size=3
).map(tuple)
MANNERS = st.builds(
    Manner,
    proof=st.sampled_from(["right", "right", "right", "wrong", "old", "replayed", "none"]),
    at_send=st.just((SendResult,)) | TUNNEL_KINDS,
    pieces=st.just((ok(),)) | PIECES,
    at_shutdown=st.just((Shutdown,)) | TUNNEL_KINDS,
    send_seconds=st.sampled_from([0.0, 0.0, 0.0, 3.0, 20.0]),
    settle_seconds=st.sampled_from([0.0, 0.0, 0.0, 3.0, 40.0]),
    close_seconds=st.sampled_from([0.0, 0.0, 0.0, 3.0, 10.0]),
)
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "product": test_frames.TEXTS,
        "version": test_frames.TEXTS,
        "platform": test_frames.PLATFORMS,
        "name": test_frames.TEXTS,
        "fw_build": test_frames.BUILDS | st.just(demo.FIRMWARE_BUILD),
        "bc_build": test_frames.BUILDS | st.just(demo.BOOT_BUILD),
        "digest": test_frames.TEXTS,
        "mini": st.booleans(),
        "other": st.booleans(),
        "eth_ifs": test_frames.INTERFACES,
    },
)
TUNNEL_FRAMES = st.builds(
    lambda session_id, event, data: (
        b"\x02" + session_id.to_bytes(4, "big") + event.to_bytes(4, "big") + data
    ),
    st.integers(0, 12) | test_frames.SESSIONS,
    st.integers(0, 5),
    st.one_of(ANSWERS, st.binary(max_size=8)),
)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Connect, CONNECTIONS, st.just(DOMAIN), st.just("")),
    st.builds(
        Connect,
        CONNECTIONS,
        st.sampled_from([DOMAIN, DOMAIN, "other.example", "no.example", "ö/\0"]),
        st.sampled_from(list(CLAIMS)),
    ),
    st.builds(Identify, CONNECTIONS, CODES, st.just("{}")),
    st.builds(Identify, CONNECTIONS, CODES, SPELLINGS, FACTS),
    st.builds(
        Identify, CONNECTIONS, CODES, SPELLINGS, FACTS, st.one_of(st.just([]), DAMAGES).map(tuple)
    ),
    st.builds(
        Speak,
        CONNECTIONS,
        st.sampled_from(["TEL1", "TEL1", "TEL2", "TEL10", "not/one", "-", "\0"]),
        CODES,
    ),
    st.builds(Say, CONNECTIONS, st.one_of(ANYTHING, TUNNEL_FRAMES, test_frames.TEXTS)),
    st.builds(Say, CONNECTIONS, TUNNEL_FRAMES),
    st.builds(HangUp, CONNECTIONS, st.booleans()),
    st.builds(Behave, CONNECTIONS, MANNERS),
    st.builds(Behave, CONNECTIONS, st.just(Manner())),
    st.builds(Wait, st.sampled_from([0.1, 0.5, 3.0, 3.0, 6.0, 31.0, 31.0, 320.0, 700.0])),
    st.builds(Jump, st.sampled_from([1, 601, 3_601, 86_401])),
    st.builds(
        Fail,
        st.tuples(st.integers(0, 12), st.integers(0, 4), st.booleans()),
        st.sampled_from(
            [(0.0, 0.0), (0.0, 0.0), (0.2, 0.0), (0.0, 2.0), (0.0, 9.0), (9.0, 0.0), (40.0, 0.0)]
        ),
    ),
    st.builds(
        Administer,
        CONNECTIONS,
        st.sampled_from(["release", "remove", "move", "job", "password"]),
    ),
    st.builds(Ask, CONNECTIONS, st.integers(1, 6), st.sampled_from([b"", b"x" * 20_000])),
)
STARTS: "st.SearchStrategy[list[Action]]" = st.sampled_from(
    [
        [],
        [Connect(0, DOMAIN, ""), Identify(0, "fresh", "{}"), Wait(3.0)],
        [Connect(0, DOMAIN, "good"), Identify(0, "none", "{}"), Wait(3.0)],
        [
            *(Connect(0, DOMAIN, ""), Identify(0, "fresh", "{}"), Wait(3.0)),
            *(Connect(1, DOMAIN, ""), Identify(1, "none", "{}")),
        ],
    ]
)
"""Most of what is drawn gets nobody in, so some begin with a phone that is."""

STORIES = st.builds(
    lambda start, actions: [*start, *actions],
    STARTS,
    st.lists(ACTIONS, max_size=25) | st.lists(ACTIONS, min_size=15, max_size=60),
)


class Fuzzed:
    """Plays stories, and holds what must be so after each of them."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table_names: dict[str, str],
        trouble: faults.Trouble,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._client = client
        self._names = table_names
        self._trouble = trouble
        self._credentials: list[sysclients.Credentials] = []
        self.reached = Counter[str]()
        world.seed()
        security_tokens.put(world.admin(), DOMAIN, "Office", SECURITY_TOKEN, None)
        self._seeded = moto_tables.contents(table_names)
        real = sysclients.credentials

        def credentials(device: Device) -> sysclients.Credentials:
            if trouble.strikes():
                raise StoreUnavailableError("the keys")
            self._credentials.append(real(device))
            return self._credentials[-1]

        monkeypatch.setattr(sysclients, "credentials", credentials)
        monkeypatch.setattr(phones_module, "LOOK_SECONDS", LOOK_SECONDS)

    def play_a_story(self, story: "Sequence[Action]") -> None:
        """Play it on a new gateway, on which a well-behaved phone is online all the time."""
        moto_tables.fill(self._names, self._seeded)
        self._credentials.clear()
        known = {hw_id: Known() for hw_id in PHONES}
        trial = Trial(phones_of(), self._trouble, [Rogue(hw_id, known[hw_id]) for hw_id in PHONES])
        trial.phones.now = lambda: trial.now
        observability.forget()
        with redirect_stdout(io.StringIO()) as written:
            run(self._play(trial, story), lambda: trial.latency)
        observability.forget()
        self._hold(trial, written.getvalue())

    async def _play(self, trial: Trial, story: "Sequence[Action]") -> None:
        trial.began = asyncio.get_running_loop().time()
        phones = trial.phones
        good = Sysclient(
            hw_id=WELL_BEHAVED,
            provisioning_code=world.issue("user3", trial.now).digits,
            fw_build=demo.FIRMWARE_BUILD,
            bc_build=demo.BOOT_BUILD,
        )
        trial.codes.append(str(good.said["provisioning_code"]))
        watching = asyncio.create_task(phones.watch())
        async with connected(good, phones):
            good.tell(good.identify())
            await quiet()
            assert phones.find(WELL_BEHAVED) is not None
            for action in story:
                seconds = action(trial)
                await asyncio.sleep(seconds if isinstance(seconds, float) else 0)
            await self._calm_down(trial)
            self._hold_of_the_good_one(good, phones)
            good.asked.clear()
            Administer(0, "job")(trial)
            await asyncio.sleep(3 * LOOK_SECONDS)
            assert good.asked, "the well-behaved phone did not get its job"
            self._hold_of_the_good_one(good, phones)
        assert good.told.code == 0
        watching.cancel()

    async def _calm_down(self, trial: Trial) -> None:
        """Let all rogues hang up, and everything that is going on come to its end."""
        Fail((0, 0, False), (0.0, 0.0))(trial)
        for rogue in trial.rogues:
            rogue.hang_up()
        await asyncio.sleep(100)
        assert not any(rogue.is_connected for rogue in trial.rogues)
        assert all(request.done() for request in trial.requests)
        await asyncio.gather(*trial.requests, *filter(None, (r.serving for r in trial.rogues)))
        assert trial.phones.count == 1
        await asyncio.sleep(2 * LOOK_SECONDS)

    @staticmethod
    def _hold_of_the_good_one(good: Sysclient, phones: Phones) -> None:
        assert good.told.code == 0
        assert phones.find(WELL_BEHAVED) is not None

    def _hold(self, trial: Trial, written: str) -> None:
        """Hold what must be so once everybody has hung up."""
        phones = trial.phones
        kept = vars(phones)
        counted = ("_sessions", "_strangers", "_strangers_of", "_online", "_due", "_closing")
        assert not any(kept[name] for name in counted)
        lines = [json.loads(line) for line in written.splitlines()]
        said = {line["message"] for line in lines}
        assert not said & {"session failed", "look failed"}
        ends = [end for rogue in trial.rogues for end in rogue.ended]
        self.reached.update(f"{end.code} {end.reason}".strip("0 ") or "hung up" for end in ends)
        self.reached.update(said - {"from phone", "to phone"})
        assert DEFECT not in {end.code for end in ends}
        self._hold_of_the_store(lines)
        for secret in self._secrets(trial):
            assert secret not in written

    def _hold_of_the_store(self, lines: list[dict[str, Any]]) -> None:
        items: Iterator[Any] = iter(self._client.scan(TableName=self._names["audit"])["Items"])
        redeemed = Counter(
            item["subject"]["S"] for item in items if item["action"]["S"] == "code redeemed"
        )
        assert set(redeemed.values()) <= {1}
        not_noted = {line["hw_id"] for line in lines if line["message"] == "not noted as away"}
        for hw_id in {*PHONES, WELL_BEHAVED} - not_noted:
            device = devices.find(hw_id)
            assert device is None or not device.connection

    def _secrets(self, trial: Trial) -> set[str]:
        """List what may not be seen anywhere."""
        secrets = {ADMIN_PASSWORD, SECURITY_TOKEN, WRONG_CODE, *trial.codes}
        secrets |= {f"{code[:4]} {code[4:8]} {code[8:]}" for code in trial.codes}
        for own in self._credentials:
            secrets |= {own.password, own.token}
        for rogue in trial.rogues:
            secrets |= {*rogue.known.passwords, *rogue.known.digests}
        return secrets


@pytest.fixture
def fuzzed(
    client: "DynamoDBClient", table_names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> "Iterator[Fuzzed]":
    """Write everything down, also what is for finding defects alone."""
    use(replace(settings.current(), log_level="DEBUG"), monkeypatch)
    used = connection.shared().client
    with moto_tables.answering(used), faults.troubled(monkeypatch) as trouble:
        yield Fuzzed(client, table_names, trouble, monkeypatch)


def test_no_session_ends_by_a_defect(fuzzed: Fuzzed, capsys: pytest.CaptureFixture[str]) -> None:
    """And nobody else notices, nothing is left, no code counts twice, no secret is written."""
    fuzz(fuzzed.play_a_story, STORIES, few=5, share=1 - PARSER_SHARE, capsys=capsys)
    if FUZZ_SECONDS:
        with capsys.disabled():
            print("ends and log lines:", dict(fuzzed.reached.most_common()))  # noqa: T201 - likewise
