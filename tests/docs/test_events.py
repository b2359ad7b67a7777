"""What whoever listens to events is told, held against itself; tests/sockets holds real ones."""

import pytest

from chalicelib import event_bus
from chalicelib.roles.announcements import Kind
from chalicelib.sockets import outward
from tests import bus


def test_every_event_has_its_row_its_schema_and_its_example() -> None:
    """By its detail-type; the schema has no other name for one."""
    (schema,) = bus.blocks("schema")
    for kind in Kind:
        assert f"\n| `{kind}` | " in bus.PAGE
        assert kind in schema["$defs"]
    assert {name for name in schema["$defs"] if name.istitle() or name[0].isupper()} == set(Kind)
    shown = {example["detail-type"] for example in bus.blocks("event")}
    assert shown == set(Kind) - {Kind.PHONE_REMOVED}


@pytest.mark.parametrize("example", bus.blocks("event"), ids=lambda one: one["detail-type"])
def test_every_example_is_as_the_schema_has_it(example: dict[str, object]) -> None:
    """From our source, and in the version that we write."""
    assert bus.faults(str(example["detail-type"]), example["detail"]) == []
    assert example["source"] == event_bus.SOURCE
    assert isinstance(example["detail"], dict)
    assert example["detail"]["version"] == outward.VERSION


def test_the_pattern_asks_for_what_there_is() -> None:
    """Source, detail-types and version, as they are written."""
    (pattern,) = bus.blocks("pattern")
    assert pattern["source"] == [event_bus.SOURCE]
    assert set(pattern["detail-type"]) < set(Kind)
    assert pattern["detail"]["version"] == [outward.VERSION]


def test_the_schema_says_no() -> None:
    """To what lacks a member, has another one, or has a code where a name should be."""
    example = bus.blocks("event")[0]["detail"]
    less = {name: value for name, value in example.items() if name != "at"}
    for wrong in (less, {**example, "code": "123456789012"}, {**example, "version": "2"}, {}):
        assert bus.faults(Kind.PHONE_PROVISIONED, wrong) != []
