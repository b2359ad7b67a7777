"""The users table: many at once, whoever else is in the domain."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.storage import users
from tests import world

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("table_names")]

SIPS = [f"user{number:02}" for number in range(12)]


@given(
    wanted=st.sets(st.sampled_from([*SIPS, "", "s" * 1_025, "\U0001f4de", "zz"])),
    stretch=st.integers(1, 5),
    most=st.integers(1, 6),
)
@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_many_are_found_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch, wanted: set[str], stretch: int, most: int
) -> None:
    """However they are spread over the domain, and however far it is read through."""
    people = [users.User("d", sip, name=sip.title()) for sip in [*SIPS, "\U0001f4de"]]
    users.put_all(people)
    with monkeypatch.context() as patch:
        patch.setattr(users, "_STRETCH", stretch)
        patch.setattr(users, "_MAX_READ", most)
        found = users.find_many("d", wanted)
    assert sorted(found, key=lambda user: user.sip) == [
        user for user in people if user.sip in wanted
    ]


def test_a_full_domain_is_read_through() -> None:
    """A call for a thousand, and two for what lies beyond a far too full stretch."""
    users.put_all([users.User("d", f"user{number:04}") for number in range(2_100)])
    with world.calls() as made:
        assert len(users.find_many("d", (f"user{n:04}" for n in range(1_000)))) == 1_000
    assert made == ["Query"]
    with world.calls() as made:
        assert len(users.find_many("d", ["user0000", "user1999", "user2000", "user2099"])) == 4
    assert made == ["Query", "BatchGetItem"]
