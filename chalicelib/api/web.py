"""What tells of the service itself: its health, its interface, how to sign in, and the pages."""

from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chalice.app import Response

from chalicelib import settings
from chalicelib.api.views import Call, Views, document
from chalicelib.core.errors import NotFoundError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

views = Views(__name__)

CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"


@views.route("/health", methods=["GET"])
def health(_call: Call) -> Response:
    """Tell that the process is alive; nothing else is asked."""
    return document({"status": "ok"})


@views.route("/config.json", methods=["GET"])
def config(_call: Call) -> Response:
    """Tell a page how to sign in, and where it hears what changes."""
    used = settings.current()
    return document(
        {
            "issuer": used.issuer,
            "client_id": used.audience,
            "websocket_url": used.websocket_url,
            "is_sandbox": used.is_sandbox,
        }
    )


@views.route("/openapi.json", methods=["GET"])
def openapi(_call: Call) -> Response:
    """Describe every route."""
    text = _package().joinpath("openapi.json").read_text(encoding="utf-8")
    return _page(text, "application/json", "public, max-age=300")


@views.route("/", methods=["GET"])
def front_page(_call: Call) -> Response:
    """Show the pages, which are one document and its modules."""
    text = _web().joinpath("index.html").read_text(encoding="utf-8")
    page = text.replace("$version", _version())
    answer = _page(page, "text/html; charset=utf-8", "no-cache")
    answer.headers["Content-Security-Policy"] = _policy()
    return answer


@views.route("/web/{version}/{name}", methods=["GET"])
def web_file(_call: Call, version: str, name: str) -> Response:
    """Bring a file of the pages; a version's files never change, so whoever has one keeps it."""
    content_type = CONTENT_TYPES.get(name.rpartition(".")[2])
    found = {one.name: one for one in _web().iterdir()}
    if version != _version() or content_type is None or name not in found:
        raise NotFoundError("file")
    return _page(found[name].read_text(encoding="utf-8"), content_type, _FOR_EVER)


def _package() -> "Traversable":
    # a phone's cold start does without it (docs/decisions/0006)
    from importlib.resources import files

    return files("chalicelib")


def _web() -> "Traversable":
    return _package().joinpath("web")


@cache
def _version() -> str:
    """Name what is in all files together."""
    import hashlib

    content = hashlib.sha256()
    for one in sorted(_web().iterdir(), key=lambda one: one.name):
        content.update(one.name.encode() + b"\0" + one.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def _policy() -> str:
    """Allow what the pages do: our own files, calls to us and the issuer, our websocket."""
    used = settings.current()
    called = (used.issuer, used.sign_in_url, used.websocket_url)
    parts = [urlsplit(url) for url in called if url]
    others = {f"{part.scheme}://{part.netloc}" for part in parts}
    connect = " ".join(["'self'", *sorted(others)])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _page(text: str, content_type: str, cache_control: str) -> Response:
    return Response(
        body=text,
        status_code=200,
        headers={
            "Content-Type": content_type,
            "Cache-Control": cache_control,
            "Content-Security-Policy": "default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )
