"""The one table of docs/benchmarks.md: what its rows are, and how they are written.

It must not measure anything, nor judge why a figure is as it is.
"""

import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- measured -->", "<!-- until here -->"
"""What stands between these lines of the page is written anew by each whole run."""

HEAD = "| | ours | against | ratio | at most | within | besides |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Figure:
    """What the design asks for; None where it asks for nothing.

    Args:
        most: of ours, in the unit of its part.
        times: of the ratio of ours to what it is compared with.
    """

    most: float | None = None
    times: float | None = None


Figures = Mapping[str, Figure]
"""What a part measures → what the design asks of it."""


@dataclass(frozen=True)
class Row:
    """Something that was measured.

    Args:
        against: what it is compared with, in the same unit; None for nothing.
        besides: what else there is to know, in a few words.
        holds: False if what it should be besides is not so.
    """

    name: str
    ours: float
    against: float | None = None
    figure: Figure = Figure()
    besides: str = ""
    holds: bool = True

    @property
    def ratio(self) -> float | None:
        """Ours to what it is compared with."""
        return self.ours / self.against if self.against else None

    @property
    def is_within(self) -> bool | None:
        """Whether it is as the design asks, None if that asks for nothing."""
        if self.figure == Figure() and self.holds:
            return None
        is_few = self.figure.most is None or self.ours <= self.figure.most
        is_near = self.figure.times is None or (self.ratio or 0.0) <= self.figure.times
        return is_few and is_near and self.holds

    def written(self) -> str:
        """Write it as a line of the table."""
        most, times = self.figure.most, self.figure.times
        figures = [_number(most)] if most is not None else []
        figures += [f"{times:g} x"] if times is not None else []
        within = {None: "", True: "yes", False: "**no**"}[self.is_within]
        cells = (
            self.name,
            _number(self.ours),
            "" if self.against is None else _number(self.against),
            "" if self.ratio is None else f"{self.ratio:.2f} x",
            ", ".join(figures),
            within,
            self.besides,
        )
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Part:
    """A part of the table.

    Args:
        title: what it measures, and in which unit.
        against: what ours is compared with.
        rows: as they are measured.
    """

    title: str
    against: str
    rows: Iterable[Row]

    def lines(self) -> Iterator[str]:
        """Write it line by line, each as soon as it is known."""
        yield f"| **{self.title}** | ours | {self.against} | | | | |"
        yield from (row.written() for row in self.rows)


def machine() -> str:
    """Say on what this runs."""
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    return f"{cores} cores ({platform.machine()}), Python {python}, AWS's DynamoDB Local in memory"


def write(page: Path, command: str, lines: Iterable[str]) -> None:
    """Put what was measured into the page, in the place of what was there."""
    text = "\n".join([f"`{command}`, in one run: {machine()}.", "", HEAD, *lines])
    between = re.compile(f"(?<={BEGIN}\n).*(?={END})", re.DOTALL)
    old = page.read_text(encoding="utf-8")
    page.write_text(between.sub(lambda _: f"\n{text}\n\n", old), encoding="utf-8")


def _number(value: float) -> str:
    """Write a number with three digits that count."""
    if value == int(value) or value >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004 - likewise
