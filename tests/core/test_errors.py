import inspect
import re

from chalicelib.core import errors


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every failure the service can name is drawn where people look for it."""
    drawn: dict[int, str] = {}
    parents: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.search(r"(\w+Error)\b", line):
            name, depth = found[1], found.start()
            drawn[depth] = name
            above = [known for known in drawn if known < depth]
            parents[name] = drawn[max(above)] if above else "Exception"
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DialtoneError)
    ]
    assert parents == {kind.__name__: kind.__base__.__name__ for kind in kinds if kind.__base__}


def test_errors_carry_what_their_answers_need() -> None:
    """Faults, reasons and pauses; the text of a refused code says nothing of why."""
    fault = errors.Fault("category", "missing")
    assert errors.RequestTooLargeError(fault).faults == (fault,)
    refused = errors.CodeNotRedeemableError(errors.Refusal.EXPIRED)
    assert refused.refusal is errors.Refusal.EXPIRED
    assert "expired" not in str(refused)
    elsewhere = errors.DeviceElsewhereError(errors.Refusal.DEVICE_OF_ANOTHER_USER)
    assert elsewhere.refusal is errors.Refusal.DEVICE_OF_ANOTHER_USER
    assert errors.LimitReachedError("guesses", 7).retry_after_seconds == 7
    assert errors.StoreUnavailableError("ThrottlingException").retry_after_seconds == 5
    assert errors.NotFoundError("category").kind == "category"


def test_what_is_in_use_says_by_what() -> None:
    """By kind and number, for people and for those who count."""
    error = errors.InUseError({"devices": 3, "jobs": 1})
    assert error.used_by == {"devices": 3, "jobs": 1}
    assert str(error) == "in use by devices (3), jobs (1)"


def test_every_fault_is_told_at_once() -> None:
    """By field and message, for people and for logs."""
    faults = (errors.Fault("category", "missing"), errors.Fault("users.3", "unknown"))
    error = errors.InvalidRequestError(*faults)
    assert error.faults == faults
    assert str(error) == "category: missing; users.3: unknown"


def test_no_two_reasons_of_a_refusal_can_be_told_apart_by_the_text() -> None:
    """One answer for every code that cannot be redeemed, one for every device elsewhere."""
    refusals = list(errors.Refusal)
    assert len({str(errors.CodeNotRedeemableError(why)) for why in refusals}) == 1
    assert len({str(errors.DeviceElsewhereError(why)) for why in refusals}) == 1
    assert [errors.CodeNotRedeemableError(why).refusal for why in refusals] == refusals
