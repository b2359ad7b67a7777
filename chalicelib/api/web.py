"""What tells of the service itself: its health, its interface, how to sign in, its front page."""

from chalice.app import Response

from chalicelib import settings
from chalicelib.api.views import Call, Views, document

views = Views(__name__)


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
        }
    )


@views.route("/openapi.json", methods=["GET"])
def openapi(_call: Call) -> Response:
    """Describe every route."""
    return _file("openapi.json", "application/json")


@views.route("/", methods=["GET"])
def front_page(_call: Call) -> Response:
    """Say what this is."""
    return _file("web/index.html", "text/html; charset=utf-8")


def _file(name: str, content_type: str) -> Response:
    from importlib.resources import files

    return Response(
        body=files("chalicelib").joinpath(name).read_text(encoding="utf-8"),
        status_code=200,
        headers={
            "Content-Type": content_type,
            "Cache-Control": "public, max-age=300",
            "Content-Security-Policy": "default-src 'none'; style-src 'self'",
            "X-Content-Type-Options": "nosniff",
        },
    )
