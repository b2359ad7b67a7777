"""The page of what was measured says how, and leaves nothing out; its figures are not judged."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import table
from benchmarks.parts import PARTS
from benchmarks.table import Figure, Part, Row

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"


def test_the_page_names_the_command_and_its_parts() -> None:
    """The command is a target, and each part can be asked for."""
    page = PAGE.read_text()
    assert "    make bench " in page
    assert re.search(r"^bench:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"`{' '.join(PARTS)}`" in page


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_page_tells_of_everything_that_is_measured(part: ModuleType) -> None:
    """Each part by its title, each figure by its name."""
    page = PAGE.read_text()
    assert f"| **{part.TITLE}** |" in page
    assert [name for name in part.FIGURES if f"\n| {name}" not in page] == []


def test_a_row_says_by_how_much_and_whether_it_is_within() -> None:
    """The ratio, and both figures of the design."""
    slow = Row("slow", 150.0, 100.0, Figure(times=1.25))
    assert slow.written() == "| slow | 150 | 100 | 1.50 x | 1.25 x | **no** |  |"
    few = Row("few", 3, figure=Figure(4), besides="1 unit")
    assert few.written() == "| few | 3 |  |  | 4 | yes | 1 unit |"
    assert Row("told", 0.123).written() == "| told | 0.12 |  |  |  |  |  |"
    assert Row("other", 1, 1, holds=False).is_within is False
    title, _ = Part("Title", "bare", [few]).lines()
    assert title == "| **Title** | ours | bare | | | | |"


def test_a_run_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """What stands around it stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\n{table.END}\nbehind\n")
    table.write(page, "make bench", ["| first |"])
    table.write(page, "make bench", [r"| second \1 |"])
    written = page.read_text()
    assert "first" not in written
    assert written.startswith(f"before\n{table.BEGIN}\n\n`make bench`, in one run: ")
    assert written.endswith(f"\n| second \\1 |\n\n{table.END}\nbehind\n")
