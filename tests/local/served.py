"""A running server, and how to talk to it over real HTTP."""

import http.client
import json
from typing import Any
from urllib.parse import urlencode


class Served:
    """A running server, and how to talk to it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(  # a request has these parts
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        body: object = None,
        source: str | None = None,
    ) -> tuple[int, dict[str, str], str]:
        """Make one request on a connection of its own."""
        address = (source, 0) if source else None
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=30, source_address=address
        )
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read().decode()
        finally:
            connection.close()

    def token(self, user: str = "user1") -> str:
        """Sign a demo person in."""
        return str(json.loads(self.ask("POST", "/dev/token", body={"user": user})[2])["token"])

    def code(self, token: str) -> str:
        """Issue a code."""
        status, _, body = self.ask(
            "POST", "/api/me/codes", token=token, body={"category": "Office"}
        )
        assert status == 201
        return str(json.loads(body)["code"])

    def redeem(self, code: str, hw_id: str, source: str) -> str:
        """Redeem a code as an update client does."""
        query = urlencode({"sn": hw_id, "type": "IP232", "PROVISIONING-CODE": code})
        return self.ask("GET", f"/api/devices/update?{query}", source=source)[2]

    def phones(self, token: str) -> list[dict[str, Any]]:
        """List a person's phones."""
        return list(json.loads(self.ask("GET", "/api/me/phones", token=token)[2])["items"])
