"""An event loop on whose clock nobody waits: it jumps to the next moment that something is due.

A test of timeouts takes no time, and what would wait for ever fails at once.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class NobodyWillWakeError(AssertionError):
    """Everything waits, and nothing is due."""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.is_over = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.is_over:
            # asyncio ends the executor in a thread of its own, which takes its time
            return super().select(timeout)
        ready = super().select(0)
        if not ready and timeout is None:
            raise NobodyWillWakeError
        self.now += 0 if ready else timeout or 0
        return ready


Delay = tuple[float, float]
"""Seconds until something has its effect, and from then until whoever waits hears of it."""


class _Virtual(ThreadPoolExecutor):
    """Does what is for a thread in this one: while another one works, nothing would be due.

    Args:
        delay: tells how long the next work takes.
    """

    def __init__(self, delay: Callable[[], Delay]) -> None:
        super().__init__()
        self._delay = delay

    def submit(
        self, work: Callable[..., _Result], /, *arguments: object, **more: object
    ) -> Future[_Result]:
        done: Future[_Result] = Future()
        done.set_running_or_notify_cancel()  # what a thread has begun nobody takes back
        before, after = self._delay()

        def do() -> None:
            tell: Callable[[], None]
            try:
                tell = partial(done.set_result, work(*arguments, **more))
            except Exception as error:  # noqa: BLE001 - it is the one who waits that must know
                tell = partial(done.set_exception, error)
            _later(after, tell)

        _later(before, do)
        return done


def _later(seconds: float, do: Callable[[], None]) -> None:
    if seconds:
        asyncio.get_running_loop().call_later(seconds, do)
    else:
        do()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def end(self) -> None:
        """Play no longer."""
        self._virtual.is_over = True


def run(
    played: Coroutine[Any, Any, _Result], delay: Callable[[], Delay] = lambda: (0.0, 0.0)
) -> _Result:
    """Run a test on a loop of its own, in which nothing may go wrong unseen.

    Args:
        delay: tells how long the next work takes that is for a thread.
    """
    unseen: list[dict[str, Any]] = []
    loop = _Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().set_default_executor(_Virtual(delay))
        runner.get_loop().set_exception_handler(lambda _, context: unseen.append(context))
        try:
            result = runner.run(played)
        finally:
            loop.end()
    assert not unseen
    return result
