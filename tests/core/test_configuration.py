from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import configuration, jobs, scripts

REQUIRED: dict[str, dict[str, Any]] = {
    "update-client": {"poll_minutes": 15},
    "ntp": {"server": "time.example.com"},
    "variables": {"variables": {"LANGUAGE": "de"}},
    "phone": {"pbx": "pbx.example.com"},
    "admin-password": {"password": "sesame"},
    "expert": {"lines": ["config rem UP1 /disc"]},
}
HW_ID = "0090333d1234"
TEXTS = st.one_of(
    st.text(max_size=20),
    st.text("aZ09 ./:,-_<>+[]#%&é\r\n\t\u2028\u00a0\x85☎", max_size=20),
    st.text("az09.-:", min_size=1, max_size=20),
    st.text(max_size=10).map("https://d.example/{}".format),
)
NAMES = st.one_of(st.text("aZ0_./-", min_size=1, max_size=8), st.text("a /\n", max_size=4))
OF_A_KIND: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "number": st.integers(-1, 2000),
    "choice": st.one_of(st.sampled_from(configuration.PROTOCOLS), TEXTS),
    "lines": st.lists(TEXTS, min_size=1, max_size=4),
    "names": st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3),
}
TYPES = st.sampled_from(sorted(configuration.CONFIGURATION_TYPES))
OPTIONS = {
    "update-client": {"poll_minutes": "/poll"},
    "ntp": {
        "server": "/addr",
        "alternate_server": "/addr2",
        "interval_minutes": "/interval",
        "time_zone": "/tz",
    },
    "phone": {
        "protocol": "/prot",
        "pbx": "/gk-addr",
        "alternate_pbx": "/gk-addr2",
        "gatekeeper_id": "/gk-id",
        "password": "/pwd",
    },
}
"""Parameter → option, of the types whose one line has an option for each parameter."""


@st.composite
def jobs_without_faults(
    draw: st.DrawFn, types: st.SearchStrategy[str] = TYPES
) -> tuple[str, dict[str, Any]]:
    """Make a type and parameters of it: whatever is drawn and has no fault."""
    job_type = draw(types)
    strategies = {
        parameter.name: OF_A_KIND[parameter.kind]
        for parameter in configuration.CONFIGURATION_TYPES[job_type].parameters
    }
    drawn = draw(st.fixed_dictionaries({}, optional=strategies))
    at_fault = {fault.field.partition(".")[0] for fault in configuration.faults_of(job_type, drawn)}
    good = {name: value for name, value in drawn.items() if name not in at_fault}
    return job_type, {**REQUIRED[job_type], **good}


def written(job_type: str, parameters: dict[str, Any]) -> list[str]:
    """Write the lines of a job that has no fault."""
    assert configuration.faults_of(job_type, parameters) == ()
    lines = configuration.CONFIGURATION_TYPES[job_type].lines(parameters, HW_ID)
    return [line.text for line in lines]


def test_the_types_are_in_the_order_of_a_script() -> None:
    """Here and where plans are made; raw lines come last."""
    assert tuple(configuration.CONFIGURATION_TYPES) == jobs.CONFIGURATION_ORDER
    assert set(REQUIRED) == set(configuration.CONFIGURATION_TYPES)
    for name, known in configuration.CONFIGURATION_TYPES.items():
        assert known.name == name
        assert known.about


@pytest.mark.parametrize(
    ("job_type", "parameters", "lines"),
    [
        ("update-client", {"poll_minutes": 15}, ["config add UP1 /poll 15"]),
        (
            "update-client",
            {"poll_minutes": 1, "url": "https://d.example/update?site=1"},
            ["config add UP1 /poll 1"],
        ),
        ("ntp", {"server": "time.example.com"}, ["config add NTP0 /addr time.example.com"]),
        (
            "ntp",
            {
                "time_zone": "CET-1CEST-2,M3.5.0/2,M10.5.0/3",
                "interval_minutes": 60,
                "alternate_server": "[2001:db8::1]:123",
                "server": "192.0.2.1",
            },
            [
                "config add NTP0 /addr 192.0.2.1 /addr2 %5B2001%3Adb8%3A%3A1%5D%3A123"
                " /interval 60 /tz CET-1CEST-2%2CM3.5.0%2F2%2CM10.5.0%2F3"
            ],
        ),
        (
            "variables",
            {"variables": {"LANGUAGE": "de", "A/b_c.d-1": "two words, # and %20"}},
            ["vars create LANGUAGE p de", "vars create A/b_c.d-1 p two words, # and %20"],
        ),
        (
            "variables",
            {"secret_variables": {"PIN": "1234"}, "variables": {"LANGUAGE": "de"}},
            ["vars create LANGUAGE p de", "vars create PIN p 1234"],
        ),
        ("variables", {"secret_variables": {"PIN": "1234"}}, ["vars create PIN p 1234"]),
        (
            "phone",
            {"pbx": "pbx.example.com"},
            ["config add PHONE /name 0090333d1234 /gk-addr pbx.example.com"],
        ),
        (
            "phone",
            {
                "password": "two words/ä",
                "gatekeeper_id": "main pbx",
                "alternate_pbx": "192.0.2.2",
                "pbx": "192.0.2.1:1300",
                "protocol": "H323/TLS",
            },
            [
                "config add PHONE /name 0090333d1234 /prot H323%2FTLS /gk-addr 192.0.2.1%3A1300"
                " /gk-addr2 192.0.2.2 /gk-id main%20pbx /pwd two%20words%2F%C3%A4"
            ],
        ),
        (
            "admin-password",
            {"password": "se,same 5%"},
            ["config add CMD0 /user admin%2Cse%2Csame%205%25"],
        ),
        (
            "admin-password",
            {"password": "sesame", "user": "root-1_.x"},
            ["config add CMD0 /user root-1_.x%2Csesame"],
        ),
        (
            "expert",
            {"secret_lines": ["vars create PIN p 1"], "lines": ["reset", "config write"]},
            ["reset", "config write", "vars create PIN p 1"],
        ),
        ("expert", {"secret_lines": ["reset"]}, ["reset"]),
    ],
)
def test_parameters_become_lines(
    job_type: str, parameters: dict[str, Any], lines: list[str]
) -> None:
    """Exactly these, in this order, whatever the order of the parameters."""
    assert written(job_type, parameters) == lines
    assert written(job_type, dict(reversed(parameters.items()))) == lines


@pytest.mark.parametrize(
    ("job_type", "source", "is_inferred"),
    [
        ("update-client", "options", False),
        ("ntp", "time", True),
        ("variables", "vars", True),
        ("phone", "registration", True),
        ("admin-password", "password", True),
        ("expert", "raw lines", False),
    ],
)
def test_lines_name_their_source(job_type: str, source: str, is_inferred: bool) -> None:
    """What the vendor does not document is announced in the script."""
    known = configuration.CONFIGURATION_TYPES[job_type]
    (line,) = known.lines(REQUIRED[job_type], HW_ID)
    assert (line.source, line.is_inferred) == (source, is_inferred)


@given(jobs_without_faults())
def test_no_parameter_can_begin_a_line(job: tuple[str, dict[str, Any]]) -> None:
    """Of any type: what has no fault makes printable lines, and a script of no more than these."""
    job_type, parameters = job
    lines = written(job_type, parameters)
    assert lines
    assert all(line.isprintable() and line.strip() for line in lines)
    known = configuration.CONFIGURATION_TYPES[job_type].lines(parameters, HW_ID)
    script = scripts.render("test", known)
    announced = sum(line.is_inferred for line in known)
    assert len(script.splitlines()) == script.count("\r\n") == 1 + announced + len(lines)


@given(jobs_without_faults(st.sampled_from(sorted(OPTIONS))))
def test_an_option_says_what_its_parameter_says(job: tuple[str, dict[str, Any]]) -> None:
    """No value can begin a word: as many words as options, and each decodes to its parameter."""
    job_type, parameters = job
    (line,) = written(job_type, parameters)
    _, _, _, *words = line.split(" ")
    read = {name: unquote(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    own = {"/name": HW_ID} if job_type == "phone" else {}
    names = OPTIONS[job_type]
    assert read == own | {
        names[name]: str(value) for name, value in parameters.items() if name in names
    }


@given(
    st.text(min_size=1, max_size=15).filter(str.isprintable),
    st.text("aZ09._-", min_size=1, max_size=15),
)
def test_a_password_is_what_follows_the_first_comma(password: str, user: str) -> None:
    """A name holds no comma, so that a password may."""
    (line,) = written("admin-password", {"password": password, "user": user})
    config, add, module, name, value = line.split(" ")
    assert (config, add, module, name) == ("config", "add", "CMD0", "/user")
    assert unquote(value).split(",", maxsplit=1) == [user, password]


@given(TYPES, st.dictionaries(st.text(min_size=1, max_size=10), st.none(), min_size=1, max_size=3))
def test_an_unknown_parameter_is_a_fault(job_type: str, strange: dict[str, None]) -> None:
    """Each by its name, and the known ones are told: nothing is dropped in silence."""
    known = [parameter.name for parameter in configuration.CONFIGURATION_TYPES[job_type].parameters]
    unknown = {name: value for name, value in strange.items() if name not in known}
    faults = configuration.faults_of(job_type, {**REQUIRED[job_type], **unknown})
    assert [fault.field for fault in faults] == list(unknown)
    assert {fault.message for fault in faults} <= {f"not one of {', '.join(known)}"}


@pytest.mark.parametrize("job_type", ["variables", "expert"])
def test_where_everything_is_optional_something_must_be_given(job_type: str) -> None:
    """A job that does nothing is a mistake."""
    known = [parameter.name for parameter in configuration.CONFIGURATION_TYPES[job_type].parameters]
    (fault,) = configuration.faults_of(job_type, {})
    assert (fault.field, fault.message) == ("", f"at least one of {', '.join(known)}")


@pytest.mark.parametrize(
    ("job_type", "parameters", "readable", "secrets"),
    [
        (
            "phone",
            {"pbx": "pbx.example.com", "password": "sesame"},
            {"pbx": "pbx.example.com", "password": "***"},
            {"password": "sesame"},
        ),
        (
            "admin-password",
            {"password": "sesame", "user": "root"},
            {"password": "***", "user": "root"},
            {"password": "sesame"},
        ),
        (
            "variables",
            {"variables": {"A": "1"}, "secret_variables": {"B": "2"}},
            {"variables": {"A": "1"}, "secret_variables": "***"},
            {"secret_variables": {"B": "2"}},
        ),
        (
            "expert",
            {"lines": ["reset"], "secret_lines": ["vars create B p 2"]},
            {"lines": ["reset"], "secret_lines": "***"},
            {"secret_lines": ["vars create B p 2"]},
        ),
        ("ntp", {"server": "a"}, {"server": "a"}, {}),
        ("phone", {"pbx": "a"}, {"pbx": "a"}, {}),
    ],
)
def test_secrets_are_parted_and_masked(
    job_type: str, parameters: dict[str, Any], readable: dict[str, Any], secrets: dict[str, Any]
) -> None:
    """What is read back shows that a secret is there, and not even how long it is."""
    known = configuration.CONFIGURATION_TYPES[job_type]
    before = dict(parameters)
    assert known.split(parameters) == (readable, secrets)
    assert parameters == before


@given(jobs_without_faults())
def test_secrets_put_back_are_the_job_again(job: tuple[str, dict[str, Any]]) -> None:
    """Nothing is lost between what is sealed and what may be read."""
    job_type, parameters = job
    readable, secrets = configuration.CONFIGURATION_TYPES[job_type].split(parameters)
    assert {**readable, **secrets} == parameters
    assert all(readable[name] == configuration.MASK for name in secrets)


def test_a_form_knows_what_to_ask_for() -> None:
    """Each parameter has a kind and a line about it; a choice has its choices, and no other."""
    for known in configuration.CONFIGURATION_TYPES.values():
        for parameter in known.parameters:
            assert parameter.kind in OF_A_KIND
            assert parameter.about
            assert bool(parameter.choices) == (parameter.kind == "choice")
            for choice in parameter.choices:
                assert parameter.check(parameter.name, choice) == ()


@pytest.mark.parametrize(
    ("job_type", "parameters", "fields"),
    [
        ("expert", {"lines": ["config write", "vars del X"]}, []),
        ("expert", {}, [""]),
        ("expert", {"lines": []}, ["lines"]),
        ("expert", {"lines": ["a"] * 500}, []),
        ("expert", {"lines": ("a",) * 501}, ["lines"]),
        ("expert", {"lines": "reset"}, ["lines"]),
        ("expert", {"lines": {"reset": 1}}, ["lines"]),
        ("expert", {"lines": ["x" * 2000]}, []),
        (
            "expert",
            {"lines": ["bell\a", "\u2028", "\x85", "\r", "\t"]},
            [f"lines.{n}" for n in range(5)],
        ),
        (
            "expert",
            {"lines": ["ok", "two\nlines", 5, "x" * 2001]},
            ["lines.1", "lines.2", "lines.3"],
        ),
        ("update-client", {"poll_minutes": 1}, []),
        ("update-client", {"poll_minutes": 0}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": 1440}, []),
        ("update-client", {"poll_minutes": 1441}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": 5.0}, ["poll_minutes"]),
        ("update-client", {}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": True}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": "5\nreset"}, ["poll_minutes"]),
        ("update-client", {"poll_minutes": 5, "url": "https://d.example/u"}, []),
        ("update-client", {"poll_minutes": 5, "url": "wss://d.example/u"}, ["url"]),
        ("update-client", {"poll_minutes": 0, "url": "d.example"}, ["poll_minutes", "url"]),
        ("update-client", {"url": "d.example", "pull": 1}, ["pull", "poll_minutes", "url"]),
        ("ntp", {}, ["server"]),
        ("ntp", {"server": "two words"}, ["server"]),
        ("ntp", {"server": "a", "alternate_server": "b\nreset"}, ["alternate_server"]),
        ("ntp", {"server": "a", "interval_minutes": 0}, ["interval_minutes"]),
        ("ntp", {"server": "a", "interval_minutes": 1441}, ["interval_minutes"]),
        ("ntp", {"server": "a", "time_zone": "<+03>-3"}, []),
        ("ntp", {"server": "a", "time_zone": "x" * 100}, []),
        ("ntp", {"server": "a", "time_zone": "x" * 101}, ["time_zone"]),
        ("ntp", {"server": "a", "time_zone": "CET\n"}, ["time_zone"]),
        ("ntp", {"server": "a", "time_zone": ""}, ["time_zone"]),
        ("ntp", {"server": "a", "time_zone": 1}, ["time_zone"]),
        ("variables", {"variables": {"A": "1"}, "secret_variables": {"B": "2"}}, []),
        ("variables", {"variables": {}}, ["variables"]),
        ("variables", {"variables": ["A"]}, ["variables"]),
        ("variables", {"variables": {f"A{n}": "1" for n in range(100)}}, []),
        (
            "variables",
            {"secret_variables": {f"A{n}": "1" for n in range(101)}},
            ["secret_variables"],
        ),
        ("variables", {"variables": {"A B": "1"}}, ["variables"]),
        ("variables", {"variables": {"": "1"}}, ["variables"]),
        ("variables", {"variables": {"A\n": "1"}}, ["variables"]),
        ("variables", {"variables": {"\u00c4": "1"}}, ["variables"]),
        ("variables", {"variables": {"A" * 100: "1"}}, []),
        ("variables", {"variables": {"A" * 101: "1"}}, ["variables"]),
        ("variables", {"variables": {"Update/Check": "1"}}, ["variables.Update/Check"]),
        ("variables", {"variables": {"UPDATES": "1"}}, []),
        (
            "variables",
            {"secret_variables": {"A": "", "B": "1\nreset", "C": " ", "D": 1, "E": "x" * 2001}},
            [f"secret_variables.{name}" for name in "ABCDE"],
        ),
        ("phone", {}, ["pbx"]),
        ("phone", {"pbx": None}, ["pbx"]),
        ("phone", {"pbx": "a", "alternate_pbx": "b c"}, ["alternate_pbx"]),
        ("phone", {"pbx": "a", "protocol": "h323"}, ["protocol"]),
        ("phone", {"pbx": "a", "protocol": ["SIP"]}, ["protocol"]),
        ("phone", {"pbx": "a", "gatekeeper_id": "x" * 101}, ["gatekeeper_id"]),
        ("phone", {"pbx": "a", "gatekeeper_id": "", "password": 5}, ["gatekeeper_id", "password"]),
        ("phone", {"pbx": "a", "password": "x" * 100}, []),
        ("phone", {"pbx": "a", "password": "two\nlines"}, ["password"]),
        ("phone", {"pbx": "a", "name": "0090333d1234"}, ["name"]),
        ("admin-password", {}, ["password"]),
        ("admin-password", {"password": "x" * 15, "user": "x" * 15}, []),
        ("admin-password", {"password": "x" * 16, "user": "x" * 16}, ["password", "user"]),
        ("admin-password", {"password": "x", "user": "a,b"}, ["user"]),
        ("admin-password", {"password": "x", "user": ""}, ["user"]),
        ("admin-password", {"password": "bell\a"}, ["password"]),
        ("expert", {"lines": ["reset"], "secret_lines": ["ok", ""]}, ["secret_lines.1"]),
        ("expert", {"lines": ["  "], "secret_lines": []}, ["lines.0", "secret_lines"]),
        ("nonsense", {}, ["type"]),
    ],
)
def test_parameters_are_checked_all_at_once(
    job_type: str, parameters: dict[str, Any], fields: list[str]
) -> None:
    """Every fault, by field; the known types are named."""
    faults = configuration.faults_of(job_type, parameters)
    assert [fault.field for fault in faults] == fields


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_raw_lines_without_a_fault_are_as_many_as_were_written(written: list[str]) -> None:
    """Nothing in one line can begin another; what could is a fault, named by its place."""
    faults = configuration.faults_of("expert", {"lines": written})
    at_fault = {fault.field for fault in faults}
    good = [line for place, line in enumerate(written) if f"lines.{place}" not in at_fault]
    lines = configuration.CONFIGURATION_TYPES["expert"].lines({"lines": good}, "a" * 12)
    script = scripts.render("test", lines)
    assert script.splitlines() == ["# dialtone: test", *good]
    assert script.count("\r\n") == len(good) + 1


def test_faults_say_what_would_be_right() -> None:
    """The limits and the known types are told, the value is not repeated."""
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("expert", {"lines": []}),
        ("expert", {"lines": [5]}),
        ("update-client", {}),
        ("nonsense", {}),
        ("ntp", {}),
        ("ntp", {"server": "a", "time_zone": ""}),
        ("variables", {"variables": []}),
        ("variables", {"variables": {"": "x"}}),
        ("variables", {"variables": {"UPDATE/X": "x"}}),
        ("phone", {"pbx": "a", "protocol": ""}),
        ("phone", {"pbx": "a", "password": ""}),
        ("admin-password", {}),
        ("admin-password", {"password": "x", "user": ""}),
    ]
    assert [configuration.faults_of(kind, parameters)[0].message for kind, parameters in wrong] == [
        "a list of 1 to 500 lines",
        "one printable line of 1 to 2000 characters",
        "a whole number from 1 to 1440",
        "one of update-client, ntp, variables, phone, admin-password, expert",
        "a host name or an address, with or without a port",
        "a time zone as POSIX writes it",
        "an object of 1 to 100 names and values",
        "a name is 1 to 100 letters, digits and _ . / -",
        "UPDATE/… are the update client's own",
        "one of H323, H323/TLS, SIP, SIP/TCP, SIP/TLS",
        "printable text of 1 to 100 characters",
        "printable text of 1 to 15 characters",
        "1 to 15 letters, digits and . _ -",
    ]
