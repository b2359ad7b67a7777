"""Measures what is deployed: the package of the functions and their layer, beside Lambda's limits.

It must not start anything of it.
"""

import zipfile
from collections.abc import Iterator

from benchmarks import engine
from benchmarks.table import Figure, Figures, Row

TITLE = "Size of what is deployed (MB)"
AGAINST = "Lambda's limit"
MB = 1_000_000
ZIPPED, UNZIPPED = 52.4, 262.1
"""50 and 250 MiB: of one upload, and of a function with all its layers."""

FITS = Figure(times=1.0)
FIGURES: Figures = {"functions, zipped": FITS, "layer, zipped": FITS, "both, unzipped": FITS}


def measure(_: engine.Service) -> Iterator[Row]:
    """Package, and look."""
    archives = [engine.packaged() / name for name in ("deployment.zip", "layer-deployment.zip")]
    for name, archive in zip(FIGURES, archives, strict=False):
        yield Row(name, archive.stat().st_size / MB, ZIPPED, FITS)
    files = [one for archive in archives for one in zipfile.ZipFile(archive).infolist()]
    unzipped = sum(file.file_size for file in files) / MB
    yield Row("both, unzipped", unzipped, UNZIPPED, FITS, f"{len(files):,} files")
