"""Settings: the only reader of the environment, once, at first use.

It must not open anything or know what a setting is used for.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_network

from chalicelib.core.rate_limits import Limit, LimitName

TABLES = (
    "codes",
    "holdings",
    "devices",
    "domains",
    "jobs",
    "users",
    "rollouts",
    "registrations",
    "audit",
    "sightings",
    "limits",
    "idempotency",
    "installations",
    "connections",
    "notifications",
)
"""The tables that the code of this deployment uses, by concept."""


def _default_tables() -> Mapping[str, str]:
    return {concept: f"dialtone-{concept}" for concept in TABLES}


def _default_limits() -> Mapping[LimitName, Limit]:
    return {
        LimitName.GUESSES: Limit(LimitName.GUESSES, burst=10, interval_ms=60_000),
        LimitName.ISSUES: Limit(LimitName.ISSUES, burst=10, interval_ms=360_000),
        LimitName.SIGHTINGS: Limit(LimitName.SIGHTINGS, burst=1_000, interval_ms=1_000),
        LimitName.TOKENS: Limit(LimitName.TOKENS, burst=10, interval_ms=60_000),
        LimitName.SAME_TOKEN: Limit(LimitName.SAME_TOKEN, burst=1, interval_ms=600_000),
        LimitName.FOREIGN_CODES: Limit(LimitName.FOREIGN_CODES, burst=20_000, interval_ms=4_000),
        LimitName.LOGINS: Limit(LimitName.LOGINS, burst=10, interval_ms=60_000),
        LimitName.DOMAIN_LOGINS: Limit(LimitName.DOMAIN_LOGINS, burst=100, interval_ms=6_000),
        LimitName.MESSAGES: Limit(LimitName.MESSAGES, burst=1_000, interval_ms=20),
        LimitName.PBX_REQUESTS: Limit(LimitName.PBX_REQUESTS, burst=30, interval_ms=20_000),
    }


@dataclass(frozen=True)
class Settings:
    """Everything that differs between deployments; docs/operations.md says what each is for.

    Args:
        tables: concept → table name (`CODES_TABLE` …).
        limits: name → limit (`GUESSES_BURST`, `GUESSES_INTERVAL_SECONDS` …).
        dynamodb_endpoint: another engine than AWS's, empty for AWS.
        public_url: our own base URL without a final slash, empty: as API Gateway names it.
        websocket_url: where AppWebsocket clients and pages connect, `wss://…`.
        websocket_endpoint: API Gateway's management API of these connections, `https://…`.
        event_bus: name of EventBridge's bus that events are put on, empty: none are.
        instance_domain: the domain whose AppWebsocket logins administer all domains, empty: none.
        code_key_secret, vault_key_secret: ARNs; empty: the keys are in `keys_file`.
        issuer, audience: whose ID tokens count, and for whom they must be made.
        sign_in_url: where the issuer's endpoints are if on another host; pages may call it.
        sip_claim, domain_claim, roles_claim: names of the claims.
        edge_hashes: SHA-256 of each secret that the edge in front may show; none: no edge.
        is_edge_only: whether requests that did not come through the edge are refused.
        audit_days: how long the audit trail is kept.
        keep_old_token_seconds: how long a security token counts after the next, unless said.
        central_url: a foreign central service to ask for codes, empty: ours issues them.
        central_key_secret: ARN of its key for us; empty: it is in `keys_file`.
        emit_metrics: whether to print embedded metrics, for CloudWatch to read.
        metrics_namespace: what they are under; another for each stage, or their alarms mix.
        guess_sources: how many addresses the risk of guessing is told for.
        is_sandbox: whether pages offer a phone to try the service with.
        pbx_plain: whether a PBX may be spoken to without TLS.
        gateway_host, gateway_port: where the gateway, which keeps phones' websockets, listens.
        gateway_proxies: networks of what stands before the gateway, `10.0.0.0/16`; what one of
            them says of a caller's address is believed, none: nobody's word is.
        gateway_drain_seconds: over how long the gateway closes its connections before it ends.
    """

    tables: Mapping[str, str] = field(default_factory=_default_tables)
    limits: Mapping[LimitName, Limit] = field(default_factory=_default_limits)
    dynamodb_endpoint: str = ""
    public_url: str = ""
    websocket_url: str = ""
    websocket_endpoint: str = ""
    event_bus: str = ""
    instance_domain: str = ""
    code_key_secret: str = ""
    vault_key_secret: str = ""
    keys_file: str = ""
    issuer: str = ""
    audience: str = ""
    sign_in_url: str = ""
    sip_claim: str = "sip"
    domain_claim: str = "domain"
    roles_claim: str = "roles"
    edge_hashes: tuple[str, ...] = ()
    is_edge_only: bool = True
    audit_days: int = 365
    keep_old_token_seconds: int = 86_400
    central_url: str = ""
    central_key_secret: str = ""
    log_level: str = "INFO"
    emit_metrics: bool = True
    metrics_namespace: str = "Dialtone"
    guess_sources: int = 10
    is_sandbox: bool = False
    pbx_plain: bool = False
    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8080
    gateway_proxies: tuple[str, ...] = ()
    gateway_drain_seconds: int = 60

    @property
    def demands_edge(self) -> bool:
        """Whether what did not come through the edge is refused."""
        return bool(self.edge_hashes) and self.is_edge_only


def read(environment: Mapping[str, str]) -> Settings:
    """Read settings from environment variables; what is not set keeps its default.

    Raises:
        ValueError: a number or a network is none.
    """
    plain = Settings()
    texts = {
        name: environment[name.upper()]
        for name in (
            "dynamodb_endpoint",
            "public_url",
            "websocket_url",
            "websocket_endpoint",
            "event_bus",
            "instance_domain",
            "code_key_secret",
            "vault_key_secret",
            "keys_file",
            "issuer",
            "audience",
            "sign_in_url",
            "sip_claim",
            "domain_claim",
            "roles_claim",
            "log_level",
            "metrics_namespace",
            "gateway_host",
            "central_url",
            "central_key_secret",
        )
        if environment.get(name.upper())
    }
    # events of websockets name another API than the one that phones come to, so there the template
    # tells what an HTTP request would
    texts.setdefault("public_url", environment.get("DEFAULT_PUBLIC_URL", ""))
    for name in ("public_url", "central_url", "websocket_endpoint"):
        if name in texts:
            texts[name] = texts[name].rstrip("/")
    return Settings(
        tables={
            concept: environment.get(f"{concept.upper()}_TABLE", name)
            for concept, name in plain.tables.items()
        },
        limits={name: _limit(environment, limit) for name, limit in plain.limits.items()},
        emit_metrics=environment.get("EMIT_METRICS", "true") == "true",
        guess_sources=int(environment.get("GUESS_SOURCES", plain.guess_sources)),
        is_sandbox=environment.get("SANDBOX", "false") == "true",
        pbx_plain=environment.get("PBX_PLAIN", "false") == "true",
        edge_hashes=tuple(environment.get("EDGE_HASHES", "").split()),
        is_edge_only=environment.get("EDGE_ONLY", "true") == "true",
        audit_days=int(environment.get("AUDIT_DAYS", plain.audit_days)),
        keep_old_token_seconds=int(
            environment.get("KEEP_OLD_TOKEN_SECONDS", plain.keep_old_token_seconds)
        ),
        gateway_port=int(environment.get("GATEWAY_PORT", plain.gateway_port)),
        gateway_proxies=_networks(environment.get("GATEWAY_PROXIES", "")),
        gateway_drain_seconds=int(
            environment.get("GATEWAY_DRAIN_SECONDS", plain.gateway_drain_seconds)
        ),
        **texts,
    )


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ip_network(one)) for one in text.split())


def _limit(environment: Mapping[str, str], plain: Limit) -> Limit:
    name = plain.name.upper()
    seconds = environment.get(f"{name}_INTERVAL_SECONDS")
    return Limit(
        plain.name,
        burst=int(environment.get(f"{name}_BURST", plain.burst)),
        interval_ms=int(float(seconds) * 1000) if seconds else plain.interval_ms,
    )


@cache
def current() -> Settings:
    """Tell the settings of this process."""
    return read(os.environ)
