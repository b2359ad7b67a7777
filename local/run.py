"""Starts the whole service on one machine, with demo data and an issuer of its own: `make run`.

It must be reachable from this machine alone, for whoever asks it for a token gets one.
"""

import asyncio
import errno
import json
import logging
import os
from contextlib import ExitStack
from datetime import UTC, datetime

from local import demo, dynamodb, pbx_server, serve, tables
from local.api_gateway import STAGE, Receive, Scope, Send, answer, body_of, problem
from local.identity import AUDIENCE, Issuer
from local.pbx import APP, PASSWORD, Pbx

HOST = "127.0.0.1"
SWEEP_SECONDS = 5
MAX_FORM_BYTES = 16_384
_ISSUER = "/issuer"
_PBX_FURTHER = 100
_PAGES = {"/", f"/{STAGE}", f"/{STAGE}/"}
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}

BANNER = """\
Dialtone is ready on {url}

  in a browser   {url}/                (Try it: a phone on a page)
  the service    {url}/api/            (description: {url}/api/openapi.json)
  phones ask     {url}/init
  Users instances connect to {websocket_url}/example.com/devices    (make app-client)
  the PBX        {users_url}   (user objects; to stop it and start it, make pbx first)
  demo people    user1 … user20, admin, platform       domain example.com
                 sysuser1, sysuser2, sysadmin          domain sysclient.example

Or try it in another shell:

  TOKEN=$(curl -s {url}/dev/token -d '{{"user": "user1"}}' | sed 's/.*: "//; s/".*//')
  curl -s {url}/api/me/codes -H "Authorization: Bearer $TOKEN" \\
    -H 'Content-Type: application/json' -d '{{"category": "Office"}}'
  make phone CODE="the 12 digits"{url_argument}
  curl -s {url}/api/me/phones -H "Authorization: Bearer $TOKEN"

A phone with a websocket of its own, with a code of sysuser1's, or without:

  make phone SYSCLIENT=1 CODE="the 12 digits"{url_argument}
  make phone PROVISIONING_URL="{sysclient_url}"

Ctrl+C ends it; what it stored {kept}.
"""


class DemoFront(serve.Front):
    """The port, and beside the service the issuer and the dev token."""

    def __init__(self, behind: serve.Service, issuer: Issuer, url: str) -> None:
        """Take what is behind the port, who signs people in, and where both are."""
        super().__init__(behind, say=True)
        self._issuer = issuer
        self._url = url

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find who answers."""
        path = serve.path_of(scope)
        if path.startswith(f"{_ISSUER}/"):
            query = scope["query_string"].decode("latin-1")
            form = (await body_of(receive, MAX_FORM_BYTES) or b"").decode("latin-1")
            below = path.removeprefix(_ISSUER)
            status, headers, body = self._issuer.answer(below, query, form, datetime.now(UTC))
            await answer(send, status, headers, body.encode())
        elif path in _PAGES and self._is_elsewhere(scope):
            # by another name it is another origin, from where nobody could sign in
            await answer(send, 307, {"Location": f"{self._url}/{STAGE}/"}, b"")
        elif path == "/dev/token" and scope["method"] == "POST":
            await self._dev_token(receive, send)
        else:
            await super().route(scope, receive, send)

    @staticmethod
    def _is_elsewhere(scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return any(value.startswith(b"localhost") for value in hosts)

    async def _dev_token(self, receive: Receive, send: Send) -> None:
        try:
            wanted = json.loads((await receive()).get("body", b""))
            token = self._issuer.token(wanted["user"], datetime.now(UTC))
        except (ValueError, KeyError, TypeError):
            title = 'Send {"user": "user1"}, with one of the demo people'
            await answer(send, 400, *problem("malformed", title, 400))
            return
        await answer(send, 200, _JSON, json.dumps({"token": token}).encode())


def _serve_pbx(stack: ExitStack, port: int, *, is_kept: bool) -> int:
    """Serve a PBX with the demo people, unless there is one already; tells its port.

    Args:
        port: of the service; the PBX's is 100 further, if PBX_PORT does not say another.
        is_kept: whether it must know tomorrow what it knows today, as the engine does.
    """
    wanted = int(os.environ.get("PBX_PORT") or port + _PBX_FURTHER)
    pbx = Pbx(serve.STATE / f"pbx-{wanted}.json" if is_kept and wanted else None)
    pbx_server.seed(pbx)
    try:
        return stack.enter_context(pbx_server.serve(pbx, HOST, wanted)).port
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # make pbx was there first
        return wanted


def main() -> None:
    """Serve until Ctrl+C."""
    port = os.environ.get("PORT") or serve.DEFAULT_PORT
    endpoint = os.environ.get("DYNAMODB_ENDPOINT", "")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    os.environ.setdefault("EMIT_METRICS", "false")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    url = f"http://{HOST}:{port}"
    people = (*demo.PEOPLE, *demo.SYSCLIENT_PEOPLE)
    issuer = Issuer(f"{url}/issuer", people, f"{url}/{STAGE}/")
    with ExitStack() as stack:
        own = {
            "DYNAMODB_ENDPOINT": endpoint or stack.enter_context(dynamodb.moto_engine()),
            **serve.websocket_settings(HOST, int(port), url),
            "PUBLIC_URL": f"{url}/{STAGE}",
            "KEYS_FILE": str(serve.STATE / "keys.json"),
            "INSTANCE_DOMAIN": demo.INSTANCE_DOMAIN,
            "ISSUER": issuer.url,
            "AUDIENCE": AUDIENCE,
            "SANDBOX": "true",
            "PBX_PLAIN": "true",
        }
        behind = stack.enter_context(serve.service(own, f"{HOST}:{port}"))
        demo.seed(datetime.now(UTC))
        demo.seed_sysclients(datetime.now(UTC), f"{HOST}:{port}")
        pbx_port = _serve_pbx(stack, int(port), is_kept=bool(endpoint))
        demo.seed_pbx(datetime.now(UTC), f"ws://{HOST}:{pbx_port}", APP, PASSWORD)

        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                arguments = (behind.client, behind.table_names, datetime.now(UTC))
                await asyncio.to_thread(tables.sweep, *arguments)

        banner = BANNER.format(
            url=url,
            sysclient_url=demo.provisioning_url(f"{HOST}:{port}"),
            websocket_url=url.replace("http", "ws", 1),
            users_url=f"http://{HOST}:{pbx_port}/users",
            url_argument="" if port == serve.DEFAULT_PORT else f" URL={url}/init",
            kept="stays in the other engine"
            if endpoint
            else "is gone then, for it lives in memory",
        )
        # moto alone does not delete what has expired; other engines do so by themselves
        beside = [] if endpoint else [sweep]
        serve.listen(DemoFront(behind, issuer, url), HOST, int(port), banner, *beside)


if __name__ == "__main__":
    main()
