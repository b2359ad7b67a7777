import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import user_objects
from chalicelib.core.devices import Device, State
from chalicelib.core.user_objects import Flag, Step, Trouble

PHONE = Device("009033460af2", State.REGISTERED, name="Desk", product="IP222", app="phone")
WSS = "wss://pbx.example.com"

hw_ids = st.text(string.hexdigits.lower()[:16], min_size=12, max_size=12).filter(
    lambda text: text not in {"0" * 12, "f" * 12}
)
entries = st.fixed_dictionaries(
    {}, optional={"hw": hw_ids | st.text() | st.none() | st.integers(), "text": st.text()}
)


def test_a_device_has_its_name_its_app_and_what_the_domain_gives() -> None:
    """Its product, if it has no name; flags that are not set are not there."""
    flags = [Flag.REVERSE_PROXY, Flag.TLS_ONLY, Flag.NO_MOBILITY]
    assert user_objects.merged([], [PHONE], [], flags) == [
        {
            "hw": PHONE.hw_id,
            "text": "Desk",
            "app": "phone",
            "trusted": True,
            "tls": True,
            "no-mob": True,
        }
    ]
    plain = replace(PHONE, name="", app="")
    assert user_objects.merged([], [plain], [], []) == [{"hw": PHONE.hw_id, "text": "IP222"}]


@pytest.mark.parametrize("spelt", ["009033460AF2", "00-90-33-46-0a-f2", " 00:90:33:46:0A:F2 "])
def test_a_phone_is_known_however_it_is_spelt(spelt: str) -> None:
    """What is there stays as it is, and goes when it must."""
    there: list[dict[str, object]] = [
        {"hw": spelt, "admin": True},
        {"hw": "TEL1"},
        {"text": "none"},
        {"hw": 7},
    ]
    assert user_objects.merged(there, [PHONE], [], []) == there
    assert user_objects.merged(there, [], [PHONE.hw_id], []) == there[1:]


def test_an_analogue_phone_is_known_by_its_whole_name() -> None:
    """Its hardware id is the gateway's with the interface."""
    phone = replace(PHONE, hw_id="009033460af2-TEL1")
    made = user_objects.merged([{"hw": "009033460af2"}], [phone], [], [])
    assert [entry["hw"] for entry in made] == ["009033460af2", "009033460af2-TEL1"]
    assert user_objects.merged(made, [], [phone.hw_id], []) == made[:1]


@given(
    there=st.lists(entries),
    come=st.lists(hw_ids, unique=True),
    gone=st.lists(hw_ids, unique=True),
)
def test_merging_is_complete_and_changes_nothing_twice(
    there: list[dict[str, object]], come: list[str], gone: list[str]
) -> None:
    """Who came is there once more at most, who went is not, and the rest keeps its order."""
    gone = [hw_id for hw_id in gone if hw_id not in come]
    phones = [replace(PHONE, hw_id=hw_id) for hw_id in come]
    made = user_objects.merged(there, phones, gone, [Flag.TLS_ONLY])
    assert user_objects.merged(made, phones, gone, [Flag.TLS_ONLY]) == made
    assert set(come) <= {entry.get("hw") for entry in made} | {
        str(entry.get("hw")).strip() for entry in there
    }
    assert all(entry.get("hw") not in gone for entry in made)
    kept = [entry for entry in made if entry in there]
    assert kept == [entry for entry in there if entry in kept]


@given(seen=st.lists(entries), before=st.lists(entries), new=entries)
def test_what_others_did_is_done_again(
    seen: list[dict[str, object]], before: list[dict[str, object]], new: dict[str, object]
) -> None:
    """As far as they added and removed; what we wanted stays."""
    made = user_objects.with_others([*seen, new], seen, before)
    for entry in before:
        assert entry in made
    for entry in seen:
        assert (entry in made) == (entry in before)
    assert user_objects.with_others([*seen, new], seen, seen) == [*seen, new]


def test_each_trouble_ends_at_a_step() -> None:
    """What comes after it was not reached; without TLS there is no certificate."""
    for trouble in Trouble:
        went = user_objects.steps_until(trouble, WSS)
        assert list(went) == list(Step)
        failed = list(went.values()).index(False)
        assert set(list(went.values())[:failed]) <= {True}
        assert set(list(went.values())[failed + 1 :]) <= {None}
    password = user_objects.steps_until(Trouble.PASSWORD, "ws://127.0.0.1")
    assert password == {
        Step.NAME: True,
        Step.CONNECTION: True,
        Step.CERTIFICATE: None,
        Step.WEBSOCKET: True,
        Step.PASSWORD: False,
        Step.ADMIN_API: None,
        Step.USERS_API: None,
    }


@pytest.mark.parametrize(
    ("apis", "expected"), [(None, None), ([], False), (["PbxTableUsers"], True)]
)
def test_what_the_pbx_grants_beyond_is_told_if_it_says_so(
    apis: list[str] | None, expected: bool | None
) -> None:
    """It need not say anything."""
    went = user_objects.steps_of(WSS, apis)
    assert went.pop(Step.USERS_API) is expected
    assert set(went.values()) == {True}


def test_pauses_double_up_to_ten_minutes() -> None:
    """Or whatever is the most, however often it was tried."""
    assert [user_objects.pause_seconds(n, 600) for n in (1, 2, 3, 7, 8, 1_000)] == [
        5, 10, 20, 320, 600, 600,
    ]  # fmt: skip
    assert user_objects.pause_seconds(1_000, 21_600) == 21_600


def test_a_row_tells_which_phones_are_there() -> None:
    """However they are spelt; what is no phone is left out."""
    spelt = ("00-90-33-00-00-01", "009033000002", "009033460af2-TEL1", "softphone", "", 7)
    row = user_objects.Row("user1", devices=[{"hw": hw} for hw in spelt] + [{"text": "none"}])
    assert row.hw_ids() == {"009033000001", "009033000002", "009033460af2-TEL1"}


def test_another_user_is_named_in_one_short_line() -> None:
    """Whatever a name holds."""
    assert user_objects.of_another_user("a\n b") == "phone of another user: a b"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("phone of another user: carol", "phone of another user"),
        ("phone of another user", "phone of another user"),
        ("refused: locked", "refused: locked"),
        ("no such user", "no such user"),
        ("", ""),
    ],
)
def test_its_user_is_not_told_who_else_has_a_phone(reason: str, told: str) -> None:
    """Every other reason stays as it is."""
    assert user_objects.for_its_user(reason) == told
    assert len(user_objects.of_another_user("x" * 300)) == user_objects.MAX_REASON_LENGTH
