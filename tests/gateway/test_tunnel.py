import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, repeat
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.core.errors import DialtoneError, InvalidRequestError
from gateway import frames, tunnel
from gateway.frames import Recv, RecvResult, Send, SendResult, Shutdown
from gateway.tunnel import (
    Answer,
    BadAnswerError,
    NoAnswerError,
    Tunnel,
    TunnelClosedError,
    UnexpectedFrameError,
)
from tests.gateway.played_phone import END, Asked, Phone, Pieces, ok
from tests.gateway.virtual_time import run

SECRET = "7iICN04agQq38j"
RANDOMS = st.randoms(use_true_random=False)
PATH = f"/!config%20add%20CMD0%20/user%20{SECRET}"


def split(whole: bytes, random: Random) -> list[bytes | None]:
    """Cut an answer anywhere, empty pieces included."""
    cuts = sorted(random.randint(0, len(whole)) for _ in range(random.randint(0, 6)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def chunked(body: bytes, random: Random) -> bytes:
    """Write an answer in chunks."""
    chunks = [piece for piece in split(body, random) if piece]
    written = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + written + b"0\r\n\r\n"


def answered(body: bytes, random: Random) -> list[bytes | None]:
    """Answer in one of the three ways in which an answer can tell where it ends."""
    way = random.randrange(3)
    if way == 0:
        return split(ok(body) + random.choice([b"", b"more than was said"]), random)
    if way == 1:
        return split(chunked(body, random), random)
    return [*split(b"HTTP/1.0 200 OK\r\n\r\n" + body, random), END]


def asking(pieces: Pieces, *, close_after: float | None = None, **wanted: float) -> Answer:
    """Let a phone answer one request like this."""

    async def ask() -> Answer:
        with Phone(lambda _: pieces).talking() as phone:
            if close_after is not None:
                asyncio.get_running_loop().call_later(close_after, phone.tunnel.close)
            return await phone.tunnel.request("GET", PATH, timeout_seconds=wanted.get("within", 30))

    return run(ask())


def test_a_request_is_sent_received_and_shut_down() -> None:
    """As on the wire of the vendor's own Devices, and the answer is the web server's."""

    async def ask() -> None:
        with Phone(
            lambda _: [b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 2\r\n\r\n", b"ok"]
        ).talking() as phone:
            answer = await phone.tunnel.request("GET", "/!config%20write")
        assert answer == Answer(200, (("content-length", "2"),), b"ok")
        (asked,) = phone.asked
        assert asked == Asked(
            "GET", "/!config%20write", {"host": "phone", "connection": "close"}, b""
        )
        sent, *others = phone.heard
        assert isinstance(sent, Send)
        assert sent.data.startswith(b"GET /!config%20write HTTP/1.1\r\n")
        assert others == [Recv(1), Recv(1), Recv(1), Shutdown(1)]

    run(ask())


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=12), RANDOMS)
def test_every_request_gets_its_own_answer(bodies: list[bytes], random: Random) -> None:
    """However answers are cut, end and mix, how many there are, and whatever is said too often."""

    def web(asked: Asked) -> Pieces:
        number = int(asked.path.removeprefix("/"))
        assert asked.body == bodies[number]
        return answered(bodies[number][::-1], random)

    async def ask() -> None:
        phone = Phone(web, random)
        with phone.talking():
            answers = await asyncio.gather(
                *(
                    phone.tunnel.request("POST", f"/{number}", body=body)
                    for number, body in enumerate(bodies)
                )
            )
        assert [answer.body for answer in answers] == [body[::-1] for body in bodies]
        assert phone.most_open == min(len(bodies), tunnel.MAX_SESSIONS)
        assert not phone.open_count
        opened = {frame.session_id for frame in phone.heard if isinstance(frame, Shutdown)}
        assert opened == set(range(1, len(bodies) + 1))

    run(ask())


@given(st.integers(0, 3 * tunnel.PIECE_BYTES), st.integers(0, 3 * tunnel.PIECE_BYTES), RANDOMS)
@example(0, 2 * frames.MAX_FRAME_BYTES, Random(0))
def test_what_is_larger_than_a_frame_goes_in_pieces(sent: int, got: int, random: Random) -> None:
    """Each once the phone has taken the one before it, which the played phone watches."""

    async def ask() -> None:
        with Phone(lambda _: answered(b"a" * got, random)).talking() as phone:
            answer = await phone.tunnel.request(
                "PUT", "/cfg.txt", [("Content-Type", "text/plain")], b"s" * sent
            )
        assert answer.body == b"a" * got
        (asked,) = phone.asked
        assert asked.body == b"s" * sent
        assert asked.headers == {
            "host": "phone",
            "connection": "close",
            "content-length": str(sent),
            "content-type": "text/plain",
        }
        pieces = [frame.data for frame in phone.heard if isinstance(frame, Send)]
        assert {len(piece) for piece in pieces[:-1]} <= {tunnel.PIECE_BYTES}

    run(ask())


def test_a_phone_that_answers_early_gets_no_more_of_the_request() -> None:
    """It refuses what is too large before it has seen the end of it."""

    async def ask() -> None:
        phone = Phone(lambda _: [])

        async def refuse(written: bytes) -> None:
            frame = frames.parse(written)
            if isinstance(frame, Send):
                phone.tunnel.take(RecvResult(frame.session_id, ok(status=413)))
            phone.heard.append(frame)  # type: ignore[arg-type] # a tunnel writes no other

        phone.tunnel = Tunnel(refuse)
        answer = await phone.tunnel.request("POST", "/", body=b"s" * 10 * tunnel.PIECE_BYTES)
        assert answer.status == 413
        assert [type(frame) for frame in phone.heard] == [Send, Shutdown]

    run(ask())


def test_a_phone_that_says_it_twice_is_not_asked_twice() -> None:
    """One recv is out at a time, whatever else the phone has to say."""

    async def ask() -> None:
        with Phone(lambda _: [ok()[:9], ok()[9:]]).talking() as phone:

            async def send(written: bytes) -> None:
                await phone.send(written)
                phone.say(SendResult(1))

            phone.tunnel = Tunnel(send)
            await phone.tunnel.request("GET", "/")
        assert [type(frame) for frame in phone.heard] == [Send, Recv, Recv, Shutdown]

    run(ask())


def test_what_is_said_behind_an_answer_changes_nothing() -> None:
    """The phone goes on before Devices has had the time to shut the session down."""

    async def ask() -> None:
        phone = Phone(lambda _: [])

        async def say_all(written: bytes) -> None:
            if isinstance(frames.parse(written), Send):
                for data in (ok(b"first"), ok(b"second", 500)):
                    phone.tunnel.take(RecvResult(1, data))
                phone.tunnel.take(Shutdown(1))

        phone.tunnel = Tunnel(say_all)
        answer = await phone.tunnel.request("GET", "/")
        assert (answer.status, answer.body) == (200, b"first")

    run(ask())


def test_an_answer_may_have_no_body_and_others_before_it() -> None:
    """HEAD says how long it would be; 100 and its like say that there is more to come."""

    async def ask() -> None:
        head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        with Phone(lambda _: [head]).talking() as phone:
            assert (await phone.tunnel.request("HEAD", "/cfg.txt")).body == b""

    run(ask())


@pytest.mark.parametrize("pieces", [[], [b""], [ok(b"answer")[:-1]]])
def test_a_phone_that_does_not_answer_is_not_waited_for(pieces: list[bytes]) -> None:
    """It says nothing, or stops in the middle; what comes later disturbs nobody."""

    async def ask() -> None:
        answers = iter([pieces, [ok(b"next")]])
        with Phone(lambda _: next(answers)).talking() as phone:
            with pytest.raises(NoAnswerError):
                await phone.tunnel.request("GET", PATH, timeout_seconds=9)
            assert asyncio.get_running_loop().time() == pytest.approx(9)
            assert phone.heard[-1] == Shutdown(1)
            phone.tunnel.take(RecvResult(1, b"late"))
            assert (await phone.tunnel.request("GET", "/")).body == b"next"

    run(ask())


def test_a_phone_that_does_not_take_the_request_is_not_waited_for() -> None:
    """It never says that it has the first piece."""

    async def ask() -> None:
        async def swallow(_: bytes) -> None:
            pass

        with pytest.raises(NoAnswerError):
            await Tunnel(swallow).request("GET", PATH)
        assert asyncio.get_running_loop().time() == pytest.approx(tunnel.ANSWER_SECONDS)

    run(ask())


def test_a_phone_that_comes_to_no_end_is_not_waited_for() -> None:
    """A byte each second would keep a session for days."""

    async def ask() -> None:
        phone = Phone(lambda _: [])
        pieces = chain([b"HTTP/1.1 200 OK\r\n\r\n"], repeat(b"a"))

        async def trickle(written: bytes) -> None:
            frame = frames.parse(written)
            loop = asyncio.get_running_loop()
            if isinstance(frame, Send):
                phone.tunnel.take(SendResult(1))
            if isinstance(frame, Recv):
                loop.call_later(1, phone.tunnel.take, RecvResult(1, next(pieces)))

        phone.tunnel = Tunnel(trickle)
        with pytest.raises(NoAnswerError):
            await phone.tunnel.request("GET", PATH)
        assert asyncio.get_running_loop().time() == pytest.approx(tunnel.ANSWER_SECONDS)

    run(ask())


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_an_answer_that_is_too_large_is_cut_short(head: bytes) -> None:
    """Whatever it says of its size; the phone is told, and the next one gets its turn."""
    piece = (b"1f40\r\n" + b"a" * 8_000 + b"\r\n") if b"chunked" in head else b"a" * 8_000

    async def ask() -> None:
        answers: Iterator[Pieces] = iter([[head, *[piece] * 1_000], [ok()]])
        with Phone(lambda _: next(answers)).talking() as phone:
            with pytest.raises(BadAnswerError, match="more than 1048576 bytes"):
                await phone.tunnel.request("GET", PATH)
            assert phone.heard[-1] == Shutdown(1)
            assert sum(isinstance(frame, Recv) for frame in phone.heard) < 140
            assert (await phone.tunnel.request("GET", "/")).status == 200

    run(ask())


def test_an_answer_may_be_as_large_as_the_limit() -> None:
    """With its headers."""
    head = b"HTTP/1.0 200 OK\r\n\r\n"
    body = b"a" * (tunnel.MAX_ANSWER_BYTES - len(head))
    assert asking([head + body, END]).body == body
    with pytest.raises(BadAnswerError):
        asking([head + body + b"a", END])


def test_a_frame_holds_so_many_parts_of_an_answer() -> None:
    """As many as phones can send at once are read, and not many more in one go."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1\r\na\r\n"
    usual = chunk * (tunnel.PIECE_BYTES // len(chunk))
    assert len(asking([head, *[usual] * 100, b"0\r\n\r\n"]).body) == 133_300
    with pytest.raises(BadAnswerError, match="more than 2000 parts"):
        asking([head, chunk * 2_000, b"0\r\n\r\n"])


@given(st.integers(0, len(ok(b"answer")) - 1), RANDOMS)
def test_an_answer_that_is_cut_off_is_none(length: int, random: Random) -> None:
    """The phone shuts the session down before it has said everything."""
    with pytest.raises(BadAnswerError):
        asking([*split(ok(b"answer")[:length], random), END])


@pytest.mark.parametrize(
    "said",
    [
        f"ERROR {SECRET}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nContent-Length: {SECRET}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n".encode(),
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
)
def test_what_is_no_answer_says_why_and_not_what(said: bytes) -> None:
    """Neither the request nor what the phone said is in what may be logged."""
    with pytest.raises(BadAnswerError) as raised:
        asking([said])
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert SECRET not in repr(raised.value)


def test_what_goes_on_as_something_else_is_no_answer() -> None:
    """A CONNECT that succeeds, for instance: behind it is no HTTP."""

    async def ask() -> None:
        phone = Phone(lambda _: [b"HTTP/1.1 200 OK\r\n\r\n"])
        with phone.talking(), pytest.raises(BadAnswerError):
            await phone.tunnel.request("CONNECT", "phone:80")

    run(ask())


@given(st.lists(st.binary(max_size=60) | st.none(), max_size=8), RANDOMS)
@example([b"HTTP/1.1 200 OK\r\n", b"\0: \r\n\r\n"], Random(0))
@example([b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"], Random(0))
def test_any_bytes_end_one_request_alone(pieces: Pieces, random: Random) -> None:
    """In an answer or in an error of its own; the one beside it gets its answer."""

    def web(asked: Asked) -> Pieces:
        return answered(b"good", random) if asked.path == "/good" else pieces

    async def ask() -> None:
        with Phone(web, random).talking() as phone:
            bad, good = await asyncio.gather(
                phone.tunnel.request("GET", "/bad"),
                phone.tunnel.request("GET", "/good"),
                return_exceptions=True,
            )
        assert isinstance(good, Answer)
        assert good.body == b"good"
        assert isinstance(bad, Answer | BadAnswerError | NoAnswerError)
        assert not phone.open_count

    run(ask())


SAID = st.builds(
    lambda kind, session_id, data: (
        kind(session_id, data) if kind is RecvResult else kind(session_id)
    ),
    st.sampled_from([RecvResult, SendResult, Shutdown, Recv]),
    st.integers(0, 5),
    st.binary(max_size=30) | st.sampled_from([ok(b"a"), b"HTTP/1.1 200 OK\r\n"]),
)


@given(st.lists(SAID, max_size=20))
def test_any_frames_do_no_more_than_end_requests(said: list[frames.TunnelFrame]) -> None:
    """Whenever they come, asked for or not: refused by name, or taken."""

    async def ask() -> None:
        heard: list[bytes] = []

        async def hear(written: bytes) -> None:
            heard.append(written)
            await asyncio.sleep(0)

        opened = Tunnel(hear)
        requests = [asyncio.ensure_future(opened.request("GET", "/")) for _ in range(3)]
        for frame in said:
            await asyncio.sleep(0)
            try:
                opened.take(frame)
            except UnexpectedFrameError:
                assert frame.session_id not in {1, 2, 3} or isinstance(frame, Recv)
        for ended in await asyncio.gather(*requests, return_exceptions=True):
            assert isinstance(ended, Answer | BadAnswerError | NoAnswerError)
        assert {bytes(Shutdown(number)) for number in (1, 2, 3)} <= set(heard)

    run(ask())


def test_a_frame_that_nobody_can_have_asked_for_is_refused() -> None:
    """Of a session that was never opened, or what Devices alone says."""

    async def ask() -> None:
        with Phone(lambda _: [ok()]).talking() as phone:
            with pytest.raises(UnexpectedFrameError):
                phone.tunnel.take(Shutdown(1))
            await phone.tunnel.request("GET", "/")
            phone.tunnel.take(Shutdown(1))
            for frame in (Shutdown(2), Shutdown(0), Send(1, b"x"), Recv(1)):
                with pytest.raises(UnexpectedFrameError):
                    phone.tunnel.take(frame)

    run(ask())


def test_no_number_is_given_twice_while_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the last one, when numbers begin anew."""
    monkeypatch.setattr(tunnel, "MAX_SESSION_ID", 3)

    async def ask() -> None:
        with Phone(lambda asked: [ok()] if asked.path == "/" else []).talking() as phone:
            waiting = asyncio.ensure_future(phone.tunnel.request("GET", "/never"))
            await asyncio.sleep(0)
            for _ in range(5):
                await phone.tunnel.request("GET", "/")
            sent = [frame.session_id for frame in phone.heard if isinstance(frame, Send)]
            assert sent == [1, 2, 3, 2, 3, 2]
            waiting.cancel()

    run(ask())


def test_closing_ends_everything_that_waits() -> None:
    """Those that are out and those that wait for their turn, with one error; nothing is sent."""

    async def ask() -> None:
        with Phone(lambda _: []).talking() as phone:
            requests = [asyncio.ensure_future(phone.tunnel.request("GET", PATH)) for _ in range(9)]
            await asyncio.sleep(1)
            assert phone.open_count == tunnel.MAX_SESSIONS
            phone.tunnel.close()
            phone.tunnel.close()
            ended = await asyncio.gather(*requests, return_exceptions=True)
            assert {type(error) for error in ended} == {TunnelClosedError}
            assert asyncio.get_running_loop().time() == pytest.approx(1)
            assert not [frame for frame in phone.heard if isinstance(frame, Shutdown)]
            with pytest.raises(TunnelClosedError):
                await phone.tunnel.request("GET", PATH)

    run(ask())


@pytest.mark.parametrize("seconds", [29.999999, 30.0])
def test_closing_at_the_moment_of_a_timeout_is_one_of_both(seconds: float) -> None:
    """Whichever comes first, the request ends, and once."""
    with pytest.raises((NoAnswerError, TunnelClosedError)):
        asking([], close_after=seconds)


def test_closing_behind_a_timeout_does_not_end_a_request_twice() -> None:
    """It is over, and has not had the time to go."""

    async def ask() -> None:
        with Phone(lambda _: []).talking() as phone:
            request = asyncio.ensure_future(phone.tunnel.request("GET", PATH, timeout_seconds=5))
            await asyncio.sleep(1)
            asyncio.get_running_loop().call_later(4, phone.tunnel.close)
            with pytest.raises(TunnelClosedError):
                await request

    run(ask())


def blocked_after(count: int) -> Callable[[bytes], Awaitable[None]]:
    """Write some frames, and no more: the other end takes nothing."""
    written = iter(range(count))

    async def send(_: bytes) -> None:
        if next(written, None) is None:
            await asyncio.get_running_loop().create_future()

    return send


@pytest.mark.parametrize("count", [0, 1])
def test_a_connection_that_takes_nothing_keeps_no_request(count: int) -> None:
    """Neither while it is sent nor while the phone is told that it is over."""

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        opened = Tunnel(blocked_after(count))
        with pytest.raises(NoAnswerError):
            await opened.request("GET", PATH, timeout_seconds=9)
        assert loop.time() == pytest.approx(9 + tunnel.SHUTDOWN_SECONDS)
        loop.call_later(1, opened.close)
        with pytest.raises(TunnelClosedError):
            await opened.request("GET", PATH)
        assert loop.time() == pytest.approx(10 + tunnel.SHUTDOWN_SECONDS)

    run(ask())


def test_a_lost_connection_ends_all_requests() -> None:
    """The first that hears of it tells the others, whatever their transport calls it."""

    async def ask() -> None:
        written: list[bytes] = []

        async def send(frame: bytes) -> None:
            written.append(frame)
            if len(written) > 2:
                raise EOFError

        opened = Tunnel(send)
        requests = [opened.request("GET", PATH) for _ in range(6)]
        ended = await asyncio.gather(*requests, return_exceptions=True)
        assert {type(error) for error in ended} == {TunnelClosedError}
        assert len(written) == 3
        assert [type(error.__cause__) for error in ended if error.__cause__] == [EOFError]  # type: ignore[union-attr] # they are errors, as the line before says

    run(ask())


def test_an_answer_counts_that_was_whole_before_the_connection_was_lost() -> None:
    """The shutdown behind it is a courtesy."""

    async def ask() -> None:
        phone = Phone(lambda _: [ok(b"done")])

        async def send(written: bytes) -> None:
            if isinstance(frames.parse(written), Shutdown):
                raise ConnectionResetError
            await phone.send(written)

        phone.tunnel = Tunnel(send)
        with phone.talking():
            assert (await phone.tunnel.request("GET", "/")).body == b"done"
            with pytest.raises(TunnelClosedError):
                await phone.tunnel.request("GET", "/")

    run(ask())


def test_a_request_that_nobody_waits_for_any_more_is_shut_down() -> None:
    """And its turn goes to the next."""

    async def ask() -> None:
        with Phone(lambda asked: [ok()] if asked.path == "/" else []).talking() as phone:
            requests = [
                asyncio.ensure_future(phone.tunnel.request("GET", "/never"))
                for _ in range(tunnel.MAX_SESSIONS)
            ]
            await asyncio.sleep(1)
            requests[0].cancel()
            assert (await phone.tunnel.request("GET", "/")).status == 200
            assert Shutdown(1) in phone.heard
            assert phone.open_count == tunnel.MAX_SESSIONS - 1
            phone.tunnel.close()
            await asyncio.gather(*requests, return_exceptions=True)

    run(ask())


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", f"/{SECRET} HTTP/1.1\r\nX: y", ()),
        ("GET", f"/größe{SECRET}", ()),
        ("G\r\nT", f"/{SECRET}", ()),
        ("GET", f"/{SECRET}", [("X", f"{SECRET}\r\nY: z")]),
        ("GET", f"/{SECRET}", [("größe", SECRET)]),
        ("GET", f"/{SECRET}", [("Host", SECRET)]),
    ],
)
def test_what_cannot_be_written_as_http_is_not_sent(
    method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    """So that no path can go on as another request; and no part of it is repeated."""

    async def ask() -> None:
        with Phone(lambda _: []).talking() as phone:
            with pytest.raises(InvalidRequestError) as raised:
                await phone.tunnel.request(method, path, headers)
            assert SECRET not in "".join(traceback.format_exception(raised.value))
            assert not phone.heard

    run(ask())


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every way in which a request can end is drawn where people look for it."""
    for kind in tunnel.TunnelError.__subclasses__():
        assert f"─ {kind.__name__} " in (tunnel.__doc__ or "")
        assert kind.__doc__
    assert issubclass(tunnel.TunnelError, DialtoneError)


def test_neither_an_answer_nor_its_session_shows_what_it_says() -> None:
    """For whatever is shown may be logged."""
    assert SECRET not in repr(Answer(200, (("x", SECRET),), SECRET.encode()))
