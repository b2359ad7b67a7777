"""The map of the deployment: the app, its middleware in order, its blueprints, its events.

Websockets, stream and schedule are declared here and nowhere else, for Chalice wraps them right
only here (docs/decisions/0014). No logic, no I/O and no environment here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chalice.app import (
    Chalice,
    CORSConfig,
    DynamoDBEvent,
    Rate,
    Request,
    Response,
    WebsocketEvent,
)

from chalicelib.api import devices, domains, phones, problems, profile, rollouts, scripts, web
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from chalicelib.sockets import connections, outward, push
else:
    # a phone's cold start does without websockets and events
    connections = on_use("chalicelib.sockets.connections")
    outward = on_use("chalicelib.sockets.outward")
    push = on_use("chalicelib.sockets.push")

app = Chalice("dialtone", configure_logs=False)
app.experimental_feature_flags.add("WEBSOCKETS")
app.api.cors = CORSConfig(
    allow_origin="*", allow_headers=["Authorization", "Idempotency-Key"], max_age=600
)
# Files that people send come as they are, in any encoding; what we send is text alone.
app.api.binary_types = ["application/octet-stream"]


@app.middleware("http")
def answers_of_chalice(event: Request, get_response: Callable[[Request], Response]) -> Response:
    """Give Chalice's own errors the form of ours."""
    return problems.reshaped(get_response(event))


app.register_blueprint(web.views)
app.register_blueprint(phones.views)
app.register_blueprint(profile.views)
app.register_blueprint(rollouts.views)
app.register_blueprint(domains.views)
app.register_blueprint(devices.views)
app.register_blueprint(scripts.views)


@app.on_ws_connect()
def websocket_connect(event: WebsocketEvent) -> Response:
    """Take note of a connection that opens."""
    return connections.opened(event)


@app.on_ws_message()
def websocket_message(event: WebsocketEvent) -> Response:
    """Answer a message."""
    return connections.received(event)


@app.on_ws_disconnect()
def websocket_disconnect(event: WebsocketEvent) -> Response:
    """Forget a connection that is closed."""
    return connections.closed(event)


# The template gives the stream itself: Chalice wants to read an ARN here.
@app.on_dynamodb_record("notifications", name="follow_notifications")
def follow_notifications(event: DynamoDBEvent) -> dict[str, Any]:
    """Tell connections what has happened."""
    return push.follow(event)


# The second and last reader: a stream is not made for more.
@app.on_dynamodb_record("notifications", name="hand_over")
def hand_over(event: DynamoDBEvent) -> dict[str, Any]:
    """Tell other systems what has happened."""
    return outward.follow(event)


@app.schedule(Rate(1, unit=Rate.MINUTES), name="hand_over_again")
def hand_over_again(event: object) -> None:  # noqa: ARG001 - Chalice's signature
    """Tell PBXes what they could not be told before."""
    outward.remind()


@app.schedule(Rate(1, unit=Rate.MINUTES), name="every_minute")
def every_minute(event: object) -> None:  # noqa: ARG001 - Chalice's signature
    """Tell how likely it is that a code is guessed, and what could not be told before."""
    from chalicelib.roles import guesses  # a phone's cold start does without it

    guesses.measure_risk()
    push.remind()
