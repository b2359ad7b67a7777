"""The map of the deployment: the app, its middleware in order, its blueprints.

No logic, no I/O and no environment here.
"""

from collections.abc import Callable

from chalice.app import Chalice, CORSConfig, Request, Response

from chalicelib.api import devices, domains, phones, problems, profile, scripts, web

app = Chalice("dialtone", configure_logs=False)
app.api.cors = CORSConfig(
    allow_origin="*", allow_headers=["Authorization", "Idempotency-Key"], max_age=600
)
# Chalice takes a slash for a file of bytes otherwise: what we send is text alone.
app.api.binary_types = []


@app.middleware("http")
def answers_of_chalice(event: Request, get_response: Callable[[Request], Response]) -> Response:
    """Give Chalice's own errors the form of ours."""
    return problems.reshaped(get_response(event))


app.register_blueprint(web.views)
app.register_blueprint(phones.views)
app.register_blueprint(profile.views)
app.register_blueprint(domains.views)
app.register_blueprint(devices.views)
app.register_blueprint(scripts.views)
