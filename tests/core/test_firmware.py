from dataclasses import replace
from typing import Any

import pytest

from chalicelib.core import firmware
from chalicelib.core.devices import Facts

PROT = {"build": "134250", "url": "https://f.example/ip232/prot.bin"}
BOOT = {"build": "131286", "url": "http://f.example/ip232/boot.bin?v=1"}
GOOD: dict[str, Any] = {"IP232": {"prot": PROT, "boot": BOOT}, "IP112": {"prot": PROT}}
OLD = Facts(product="IP232", prot="130100", boot="130100")


def fields(wanted: dict[str, Any]) -> list[str]:
    """Name the fields at fault."""
    return [fault.field for fault in firmware.faults_of(wanted)]


@pytest.mark.parametrize(
    "wanted",
    [
        GOOD,
        {"IP232": {"boot": BOOT}},
        {f"IP{number}": {"prot": PROT} for number in range(500)},
        {"x" * 100: {"prot": PROT}},
        {"IP 232 ä": {"prot": PROT}},
        {"IP232": {"prot": {**PROT, "build": "13r1-sr_2.x"}}},
        {"IP232": {"prot": {**PROT, "build": "1" * 32}}},
    ],
)
def test_what_phones_can_load_has_no_fault(wanted: dict[str, Any]) -> None:
    """One load is enough, and 500 products are not too many."""
    assert firmware.faults_of(wanted) == ()


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({}, ""),
        ({f"IP{number}": {"prot": PROT} for number in range(501)}, ""),
        ({"IP232\nreset": {"prot": PROT}}, ""),
        ({"": {"prot": PROT}}, ""),
        ({" ": {"prot": PROT}}, ""),
        ({" IP232": {"prot": PROT}}, ""),
        ({"IP232": {"prot": PROT}, "ip232": {"prot": PROT}}, ""),
        ({"x" * 101: {"prot": PROT}}, ""),
        ({"IP232": {}}, "IP232"),
        ({"IP232": None}, "IP232"),
        ({"IP232": [PROT]}, "IP232"),
        ({"IP232": "prot"}, "IP232"),
        ({"IP232": {"prot": PROT, "app": PROT}}, "IP232"),
        ({"IP232": {"Prot": PROT}}, "IP232"),
        ({"IP232": {"prot": None}}, "IP232.prot"),
        ({"IP232": {"prot": "134250"}}, "IP232.prot"),
        ({"IP232": {"prot": {**PROT, "size": 5}}}, "IP232.prot"),
        ({"IP232": {"prot": {"url": PROT["url"]}}}, "IP232.prot.build"),
        ({"IP232": {"prot": {**PROT, "build": ""}}}, "IP232.prot.build"),
        ({"IP232": {"prot": {**PROT, "build": 134250}}}, "IP232.prot.build"),
        ({"IP232": {"prot": {**PROT, "build": "13 4250"}}}, "IP232.prot.build"),
        ({"IP232": {"prot": {**PROT, "build": "134250\n"}}}, "IP232.prot.build"),
        ({"IP232": {"prot": {**PROT, "build": "1" * 33}}}, "IP232.prot.build"),
        ({"IP232": {"boot": {"build": "131286"}}}, "IP232.boot.url"),
        ({"IP232": {"boot": {**BOOT, "url": None}}}, "IP232.boot.url"),
        ({"IP232": {"boot": {**BOOT, "url": "boot.bin"}}}, "IP232.boot.url"),
        ({"IP232": {"boot": {**BOOT, "url": "ftp://f.example/b"}}}, "IP232.boot.url"),
        ({"IP232": {"boot": {**BOOT, "url": "wss://f.example/b"}}}, "IP232.boot.url"),
        ({"IP232": {"boot": {**BOOT, "url": "https://f.example/a b"}}}, "IP232.boot.url"),
        ({"IP232": {"boot": {**BOOT, "url": "https://f.example/\nreset"}}}, "IP232.boot.url"),
    ],
)
def test_a_fault_is_named_by_its_place(wanted: dict[str, Any], field: str) -> None:
    """And nothing beside it is blamed."""
    assert fields(wanted) == [field]
    assert fields({**GOOD, "IP111": GOOD["IP112"], **wanted} if wanted else {}) == [field]


def test_all_faults_are_told_at_once() -> None:
    """Of every product, in their order."""
    wanted = {
        "IP232": {"prot": {}, "boot": BOOT},
        "IP112": {"prot": {"build": "1 2", "url": PROT["url"]}, "boot": {**BOOT, "x": 1}},
        "": {},
        "IP111": {"app": 1},
    }
    assert fields(wanted) == [
        "IP232.prot.build",
        "IP232.prot.url",
        "IP112.prot.build",
        "IP112.boot",
        "",
        "IP111",
    ]


def test_faults_say_what_would_be_right() -> None:
    """Without repeating what came."""
    wanted = {"IP232": {"prot": {"build": "se same", "url": "sesame"}, "boot": 1}, "sesame\n": 1}
    messages = [fault.message for fault in firmware.faults_of({**wanted, "IP112": {"sesame": 1}})]
    assert messages == [
        "the build as the phone reports it",
        "a whole URL (http, https) of at most 1000 characters",
        "an object with build and url, and nothing else",
        "a product is 1 to 100 printable characters, trimmed",
        "an object with prot or boot, and nothing else",
    ]
    assert firmware.faults_of({})[0].message == "1 to 500 products"


def test_a_phone_loads_what_it_does_not_run_yet() -> None:
    """Firmware before boot code, each by its own build; a product is matched without case."""
    assert firmware.to_load(GOOD, OLD) == [("prot", PROT), ("boot", BOOT)]
    swapped = {"IP232": {"boot": BOOT, "prot": PROT}}
    assert firmware.to_load(swapped, OLD) == [("prot", PROT), ("boot", BOOT)]
    assert firmware.to_load(GOOD, replace(OLD, product="ip232", prot="134250")) == [("boot", BOOT)]
    assert firmware.to_load(GOOD, replace(OLD, boot="131286")) == [("prot", PROT)]
    assert firmware.to_load(GOOD, replace(OLD, prot="134250", boot="131286")) == []


def test_a_build_counts_for_its_own_part_alone() -> None:
    """What runs as boot code is not what runs as firmware; unknown is not running."""
    crossed = replace(OLD, prot="131286", boot="134250")
    assert firmware.to_load(GOOD, crossed) == [("prot", PROT), ("boot", BOOT)]
    assert firmware.to_load(GOOD, Facts(product="IP112")) == [("prot", PROT)]


def test_a_product_that_is_not_named_has_nothing_to_load() -> None:
    """Neither has a phone that did not say what it is, nor a longer name than one named."""
    for product in ("IP999", "", "IP232A", "IP23"):
        assert firmware.to_load(GOOD, replace(OLD, product=product)) == []
