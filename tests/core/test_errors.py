import inspect

from chalicelib.core import errors


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every failure the service can name is drawn where people look for it."""
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DialtoneError)
    ]
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in kinds if kind.__name__ not in errors.__doc__] == []


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
