"""Adds bytecode to what `chalice package` wrote: `python -m infra.bytecode FOLDER`.

In Lambda a package is read-only: without this, every cold start compiles each module that it
imports once more, about half of all the time that it takes (docs/decisions/0006). Python reads
bytecode of its own version and ignores any other. It must not change a file that is there, and
makes the same of the same.
"""

import importlib.util
import marshal
import sys
import warnings
import zipfile
from pathlib import Path

ARCHIVES = ("deployment.zip", "layer-deployment.zip")
_UNCHECKED_HASH = 0b01
"""Bytecode that belongs to its source for good: PEP 552."""

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o644 << 16


def add_to(archive: Path) -> None:
    """Add the bytecode of every module to a zip file."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as packed:
        there = set(packed.namelist())
        for name in sorted(there):
            place = importlib.util.cache_from_source(name) if name.endswith(".py") else name
            if place not in there and (code := _compiled(name, packed.read(name))):
                made = zipfile.ZipInfo(place, _LONG_AGO)
                made.external_attr = _READABLE
                packed.writestr(made, code, zipfile.ZIP_DEFLATED)


def _compiled(name: str, source: bytes) -> bytes:
    """Compile a module, empty for what is no Python of this version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = compile(source, name, "exec", dont_inherit=True)
        except SyntaxError:
            return b""
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    return head + importlib.util.source_hash(source) + marshal.dumps(code)


if __name__ == "__main__":
    for archive_name in ARCHIVES:
        add_to(Path(sys.argv[1]) / archive_name)
