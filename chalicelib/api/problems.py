"""The one table of errors over HTTP: core errors to problem+json (RFC 9457).

What is not in the table is a defect: a 500 with a fixed text. The two script routes are outside of
it (views.py, `script`). It must not say more to a caller than the table does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalice.app import Response

from chalicelib import documents
from chalicelib.core import errors

CONTENT_TYPE = "application/problem+json"
_PREFIX = "urn:dialtone:problem:"


@dataclass(frozen=True)
class Situation:
    """A row of the table.

    Args:
        status: of HTTP.
        slug: last part of the problem's type.
        title: one sentence, the same for every occurrence.
    """

    status: int
    slug: str
    title: str


TABLE: Mapping[type[errors.DialtoneError], Situation] = {
    errors.RequestTooLargeError: Situation(413, "too-large", "The request is too large"),
    errors.InvalidRequestError: Situation(400, "malformed", "The request is malformed"),
    errors.NotSignedInError: Situation(401, "not-signed-in", "Sign in first"),
    errors.NotAllowedError: Situation(403, "not-allowed", "You may not do this"),
    errors.NotFoundError: Situation(404, "not-found", "There is no such thing for you"),
    errors.CodeNotRedeemableError: Situation(
        404, "code-not-redeemable", "This code cannot be redeemed"
    ),
    errors.InUseError: Situation(409, "in-use", "Others still depend on it"),
    errors.InProgressError: Situation(409, "in-progress", "The same request is not done yet"),
    errors.ConflictError: Situation(409, "conflict", "It is not in the state that this needs"),
    errors.DeviceElsewhereError: Situation(
        409, "device-elsewhere", "The device belongs to another domain or user"
    ),
    errors.LimitReachedError: Situation(429, "limit-reached", "Too many attempts"),
    errors.CentralUnavailableError: Situation(
        503, "central-unavailable", "The central service does not issue codes at this moment"
    ),
    errors.StoreUnavailableError: Situation(
        503, "unavailable", "The service is not available for a moment"
    ),
}

DEFECT = Situation(500, "internal", "Something went wrong on our side")
_OF_THE_FRAMEWORK = {
    400: Situation(400, "malformed", "The request is malformed"),
    404: Situation(404, "not-found", "There is nothing here"),
    405: Situation(405, "method-not-allowed", "This method is not allowed here"),
    406: Situation(406, "not-acceptable", "There is no answer of the accepted types"),
    413: Situation(413, "too-large", "The request is too large"),
    415: Situation(415, "unsupported-media-type", "This content type is not read here"),
}


def problem_of(error: Exception) -> Response:
    """Write any exception as problem+json."""
    situation = next((row for kind, row in TABLE.items() if isinstance(error, kind)), DEFECT)
    members: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, errors.InvalidRequestError):
        members["faults"] = documents.faults(error.faults)
    if isinstance(error, errors.NotFoundError | errors.ConflictError):
        members["detail"] = str(error)
    if isinstance(error, errors.InUseError):
        members["used_by"] = dict(error.used_by)
    if isinstance(
        error, errors.LimitReachedError | errors.StoreUnavailableError | errors.InProgressError
    ):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, errors.NotSignedInError):
        headers["WWW-Authenticate"] = "Bearer"
    return _written(situation, members, headers)


def reshaped(answer: Response) -> Response:
    """Turn an answer that Chalice made by itself (405, 415, …) into problem+json."""
    is_of_chalice = isinstance(answer.body, dict) and set(answer.body) == {"Code", "Message"}
    if not is_of_chalice:
        return answer
    situation = _OF_THE_FRAMEWORK.get(answer.status_code, DEFECT)
    kept = {name: str(value) for name, value in answer.headers.items() if name.lower() == "allow"}
    return _written(situation, {}, {**kept, "Access-Control-Allow-Origin": "*"})


def _written(situation: Situation, members: dict[str, Any], headers: dict[str, str]) -> Response:
    body = {
        "type": f"{_PREFIX}{situation.slug}",
        "title": situation.title,
        "status": situation.status,
        **members,
    }
    return Response(
        body=json.dumps(body),
        status_code=situation.status,
        headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", **headers},
    )
