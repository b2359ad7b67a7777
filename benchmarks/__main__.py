"""Measures everything in one run and writes the table of docs/benchmarks.md: `make bench`.

    python -m benchmarks            all of it
    python -m benchmarks cold push  these parts alone, printed and not written

It asserts nothing: a machine that is slow today must not fail a build.
"""

import os
import sys
from collections.abc import Sequence

from benchmarks import engine, table
from benchmarks.parts import PARTS

PAGE = engine.ROOT / "docs" / "benchmarks.md"


def main(wanted: Sequence[str]) -> int:
    """Start AWS's DynamoDB Local, measure, print, and write if that was all."""
    unknown = set(wanted) - set(PARTS)
    if unknown:
        print(f"no part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return 2
    lines = []
    print(table.HEAD)
    with engine.service() as service:
        for name in wanted or PARTS:
            part = PARTS[name]
            rows = part.measure(service)
            for line in table.Part(part.TITLE, part.AGAINST, rows).lines():
                print(line, flush=True)
                lines.append(line)
    if not wanted:
        size = os.environ.get("CODES")
        table.write(PAGE, f"make bench CODES={size}" if size else "make bench", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
