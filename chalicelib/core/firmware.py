"""Firmware: a domain's JSON of builds, and what of it a phone still has to load.

The JSON is product → `prot` and `boot` → `build` (as the phone reports it) and `url`. It must not
know which jobs there are (core/jobs.py).
"""

from collections.abc import Mapping
from typing import Any

from chalicelib.core import addresses
from chalicelib.core.devices import Facts, is_build
from chalicelib.core.errors import Fault

COMMANDS = ("prot", "boot")
MAX_PRODUCTS = 500
MAX_PRODUCT_LENGTH = 100

Firmware = Mapping[str, Any]


def faults_of(firmware: Firmware) -> tuple[Fault, ...]:
    """Say everything that is wrong with a firmware JSON, by field (`IP232.prot.build`)."""
    if not 0 < len(firmware) <= MAX_PRODUCTS:
        return (Fault("", f"1 to {MAX_PRODUCTS} products"),)
    faults = [
        fault for product, loads in firmware.items() for fault in _product_faults(product, loads)
    ]
    if len({product.casefold() for product in firmware}) < len(firmware):
        faults.append(Fault("", "products that differ in case alone are the same"))
    return tuple(faults)


def _product_faults(product: str, loads: object) -> tuple[Fault, ...]:
    is_trimmed = bool(product) and product == product.strip()
    if not is_trimmed or not product.isprintable() or len(product) > MAX_PRODUCT_LENGTH:
        return (Fault("", f"a product is 1 to {MAX_PRODUCT_LENGTH} printable characters, trimmed"),)
    if not isinstance(loads, Mapping) or not loads or set(loads) - set(COMMANDS):
        return (Fault(product, f"an object with {' or '.join(COMMANDS)}, and nothing else"),)
    return tuple(
        fault
        for command, load in loads.items()
        for fault in _load_faults(f"{product}.{command}", load)
    )


def _load_faults(field: str, load: object) -> tuple[Fault, ...]:
    if not isinstance(load, Mapping) or set(load) - {"build", "url"}:
        return (Fault(field, "an object with build and url, and nothing else"),)
    build = load.get("build")
    is_good = isinstance(build, str) and is_build(build)
    return (
        *(() if is_good else (Fault(f"{field}.build", "the build as the phone reports it"),)),
        *addresses.url_faults(f"{field}.url", load.get("url"), addresses.WEB),
    )


def to_load(firmware: Firmware, facts: Facts) -> list[tuple[str, Mapping[str, str]]]:
    """List what a phone does not run yet: command (`prot`, `boot`) and its build and URL.

    Args:
        facts: what the phone runs; a product is matched without case.
    """
    product = facts.product.casefold()
    loads: Mapping[str, Any] = next(
        (named for name, named in firmware.items() if name.casefold() == product), {}
    )
    running = {"prot": facts.prot, "boot": facts.boot}
    return [
        (command, loads[command])
        for command in COMMANDS
        if command in loads and loads[command]["build"] != running[command]
    ]
