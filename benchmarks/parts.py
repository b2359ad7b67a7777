"""What there is to measure, in the order of the table.

Every part has a TITLE, what ours stands AGAINST, the design's FIGURES by name, and `measure`, which
gives a row as soon as it is known. A part must not write anywhere.
"""

from types import ModuleType

from benchmarks import calls, cold, growth, handlers, push, rollouts, sizes, sysclients

PARTS: dict[str, ModuleType] = {
    "cold": cold,
    "handlers": handlers,
    "calls": calls,
    "sizes": sizes,
    "rollouts": rollouts,
    "push": push,
    "sysclients": sysclients,
    "growth": growth,
}
