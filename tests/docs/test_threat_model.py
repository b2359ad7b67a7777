"""The threat model names real tests, and leaves none of its attackers out."""

import ast
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MODEL = (ROOT / "docs" / "threat-model.md").read_text()
ATTACKERS = (
    "A person on the internet",
    "A guest in the office network",
    "A curious user",
    "A domain's administrator",
    "Someone with a table dump",
    "Someone with logs",
)
COLUMNS = ["tries", "what stops them", "the test that shows it"]


@cache
def written() -> Mapping[str, set[str]]:
    """Find every test: its name → the files that have one of that name."""
    found = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name].add(path.relative_to(ROOT).as_posix())
    return found


def sections(text: str) -> dict[str, list[list[str]]]:
    """Read the tables: an attacker → the cells of each row, the headings first."""
    found = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        found[title] = [row for row in cells if row[0].strip("-")]
    return found


def unknown(cell: str, known: Mapping[str, set[str]]) -> list[str]:
    """List what a cell names that is no test, or none that is known by its name alone."""
    wrong = []
    for named in re.findall(r"`([^`]+)`", cell):
        file, _, name = named.rpartition("::")
        files = known.get(name, set())
        if not (file in files if file else len(files) == 1):
            wrong.append(named)
    return wrong


def test_every_test_that_the_threat_model_names_is_there() -> None:
    """By its name, if it is the only one; else by its file, too."""
    named = re.findall(r"`((?:tests/[\w/]+\.py::)?test_\w+)`", MODEL)
    assert len(named) > 80
    assert [name for name in named if unknown(f"`{name}`", written())] == []
    assert "`test_" not in re.sub(r"`(?:tests/[\w/]+\.py::)?test_\w+`", "", MODEL)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_attacker_has_rows(attacker: str) -> None:
    """Under a heading of their own."""
    headings, *rows = sections(MODEL)[attacker]
    assert headings == COLUMNS
    assert len(rows) > 0


def test_every_row_says_what_stops_them_and_names_a_test() -> None:
    """Nothing but tests is in the last column, and nothing is left empty."""
    tables = sections(MODEL)
    assert tables.pop("Known and accepted") == []
    for attacker, (headings, *rows) in tables.items():
        assert headings == COLUMNS, attacker
        for row in rows:
            assert len(row) == len(COLUMNS), row
            assert all(row), row
            assert re.sub(r"`[^`]+`", "", row[2]).strip(", ") == "", row
            assert unknown(row[2], written()) == [], row
