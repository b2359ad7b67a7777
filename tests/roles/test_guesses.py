"""How likely it is that somebody guesses a code, as administrators and operators read it."""

import json
from dataclasses import replace

import pytest

import app
from chalicelib import observability, settings
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.roles import guesses
from chalicelib.sockets import push
from chalicelib.storage import codes
from tests import world
from tests.conftest import use

pytestmark = pytest.mark.usefixtures("table_names")

_EVENT = {
    "id": "1",
    "source": "aws.events",
    "detail-type": "Scheduled Event",
    "detail": {},
    "account": "0",
    "time": "",
    "region": "",
    "resources": [],
    "version": "0",
}


def test_the_risk_counts_the_codes_that_are_stored() -> None:
    """At the limit that is set, from as many addresses as are set."""
    world.seed()
    none = guesses.show_risk(world.platform())
    assert (none.open_codes, none.chance) == (0, 0)
    for _ in range(3):
        world.issue()
    some = guesses.show_risk(world.platform())
    assert (some.open_codes, some.sources) == (3, 10)
    assert some.chance == pytest.approx(3 * 10 * 1450 / 1e12, rel=1e-3)


def test_the_risk_is_measured_every_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a metric without a dimension, among those of this stage."""
    world.seed()
    world.issue()
    used = replace(settings.current(), emit_metrics=True, metrics_namespace="dialtone-dev")
    use(used, monkeypatch)
    observability.forget()
    app.every_minute(_EVENT, None)
    written = json.loads(capsys.readouterr().out)
    assert written["GuessRisk"] == [pytest.approx(10 * 1450 / 1e12, rel=1e-3)]
    (told,) = written["_aws"]["CloudWatchMetrics"]
    assert (told["Namespace"], told["Dimensions"]) == ("dialtone-dev", [[]])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreUnavailableError("DescribeTable"), "risk not measured"),
        (ZeroDivisionError(), "defect"),
    ],
    ids=["the store", "a defect"],
)
def test_trouble_with_the_measure_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
) -> None:
    """What is told in the same minute comes after it."""

    def fail() -> int:
        raise error

    monkeypatch.setattr(codes, "count_roughly", fail)
    guesses.measure_risk()
    assert f'"message":"{said}"' in capsys.readouterr().out


def test_the_risk_is_measured_before_anybody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """For that may take the rest of the minute."""
    done: list[str] = []
    monkeypatch.setattr(guesses, "measure_risk", lambda: done.append("measured"))
    monkeypatch.setattr(push, "remind", lambda: done.append("told"))
    app.every_minute(_EVENT, None)
    assert done == ["measured", "told"]
