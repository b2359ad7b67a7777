"""An event loop on whose clock nobody waits: it jumps to the next moment that something is due.

A test of timeouts takes no time, and what would wait for ever fails at once.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class NobodyWillWakeError(AssertionError):
    """Everything waits, and nothing is due."""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise NobodyWillWakeError
        self.now += 0 if ready else timeout or 0
        return ready


class _AtOnce(ThreadPoolExecutor):
    """Does what is for a thread at once: while one works, nothing would be due."""

    def submit(
        self, work: Callable[..., _Result], /, *arguments: object, **more: object
    ) -> Future[_Result]:
        done: Future[_Result] = Future()
        try:
            done.set_result(work(*arguments, **more))
        except Exception as error:  # noqa: BLE001 - it is the one who waits that must know
            done.set_exception(error)
        return done


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(played: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a test on a loop of its own, in which nothing may go wrong unseen."""
    unseen: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.get_loop().set_default_executor(_AtOnce())
        runner.get_loop().set_exception_handler(lambda _, context: unseen.append(context))
        result = runner.run(played)
    assert not unseen
    return result
