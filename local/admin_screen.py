"""What the administrators' command line shows: results on standard output, the rest beside it.

On a terminal there are tables and progress; elsewhere lines, for scripts. It must not ask the
service anything, and what others have named is shown without its control characters.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STATES = ("pending", "registered", "expired", "revoked")
SHOWN_CHANGES = 8
_BAR_WIDTH = 50
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

Document = Mapping[str, Any]


def clean(text: object) -> str:
    """Replace what a terminal would obey instead of showing it."""
    return _CONTROLS.sub("\ufffd", str(text))


def moment(told: str) -> str:
    """Write a time of the service in this machine's zone."""
    return f"{datetime.fromisoformat(told).astimezone():%Y-%m-%d %H:%M:%S}"


def counted(counts: Document) -> str:
    """Write how many entries are in which state."""
    total = sum(counts.values())
    beside = ", ".join(f"{counts[state]} {state}" for state in STATES if state != "registered")
    return f"{counts['registered']} of {total} registered, {beside}"


def change(entry: Document) -> tuple[str, str, str, str]:
    """Write an entry: when it changed, whose it is, its state, and the phone and reason."""
    device = entry.get("device") or {}
    phone = f"{device.get('product', '')} {device.get('hw_id', '')}".strip()
    about = "; ".join(filter(None, (phone, entry.get("reason", ""))))
    name = f"{entry['sip']} ({entry['name']})" if entry["name"] else entry["sip"]
    return moment(entry["changed_at"]), name, str(entry["state"]), about


class Screen:
    """Standard output and standard error of one command."""

    def __init__(self) -> None:
        """Find out who reads."""
        self._results = Console(markup=False, highlight=False, emoji=False)
        self._beside = Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._live: Console | None = None

    @property
    def is_read_live(self) -> bool:
        """Tell whether results are on a terminal."""
        return sys.stdout.isatty()

    def tell(self, line: str) -> None:
        """Print a line of the result; tabs part its cells."""
        print("\t".join(map(clean, line.split("\t"))), flush=True)

    def say(self, text: str) -> None:
        """Print beside the result, above whatever moves."""
        lines = "\n".join(clean(line) for line in text.split("\n"))
        if self._live is None:
            print(lines, file=sys.stderr, flush=True)
        else:
            self._live.print(lines, soft_wrap=True)

    def ask(self, question: str) -> bool:
        """Ask for a yes; whatever else is a no."""
        print(f"{clean(question)} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().casefold() in {"y", "yes"}

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show rows: as a table on a terminal, else a line each, parted by tabs."""
        if not self.is_read_live:
            for row in (columns, *rows):
                self.tell("\t".join(map(clean, row)))
            return
        shown = Table(box=None, pad_edge=False)
        for position, column in enumerate(columns):
            shown.add_column(column, no_wrap=position == 0, overflow="fold")
        for row in rows:
            shown.add_row(*(Text(clean(cell)) for cell in row))
        self._results.print(shown)

    @contextmanager
    def progress(self, about: str, total: int) -> Iterator["Advance"]:
        """Show how far something is, as a bar on a terminal, else a line each step."""
        if not sys.stderr.isatty():
            yield Advance(self, about, total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self._beside) as bar, self._above(self._beside):
            yield Advance(self, about, total, bar)

    @contextmanager
    def live(self) -> Iterator[Live]:
        """Keep a part of the terminal for what changes."""
        shown = Live(console=self._results, auto_refresh=False)
        with shown, self._above(self._results):
            yield shown

    @contextmanager
    def _above(self, console: Console) -> Iterator[None]:
        self._live = console
        try:
            yield
        finally:
            self._live = None


class Advance:
    """How far something is."""

    def __init__(self, screen: Screen, about: str, total: int, bar: Progress | None = None) -> None:
        """Take what there is to do."""
        self._screen = screen
        self._about = about
        self._total = total
        self._bar = bar
        self._task: TaskID | None = bar.add_task(about, total=total) if bar else None

    def to(self, done: int) -> None:
        """Show that so many are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
        else:
            self._screen.say(f"{self._about}: {done} of {self._total}")


def view(progress: Document, at: datetime) -> Group:
    """Draw how far a rollout is, with its newest changes."""
    counts = progress["counts"]
    total = sum(counts.values())
    newest = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for entry in progress["items"][:SHOWN_CHANGES]:
        newest.add_row(*(Text(clean(cell)) for cell in change(entry)))
    # a bar does not end its line by itself
    bar = Table.grid()
    bar.add_row(ProgressBar(max(total, 1), counts["registered"], width=_BAR_WIDTH))
    return Group(
        Text(clean(f"{progress['name']} ({progress['category']}), {at:%H:%M:%S}"), "bold"),
        bar,
        Text(counted(counts)),
        Text("\nnewest changes (Ctrl+C ends watching, and nothing else)"),
        newest,
    )
