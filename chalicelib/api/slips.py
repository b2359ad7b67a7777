"""Slips: a page to print, with a provisioning code for each user, to be cut up and handed out.

It must not read a code: whoever calls says what stands on a slip.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape
from string import Template
from typing import TYPE_CHECKING

import segno
from chalice.app import Response

from chalicelib.core.codes import grouped

if TYPE_CHECKING:
    from chalicelib.core.rollouts import Rollout
    from chalicelib.roles.handouts import Handout

_STYLE = """\
@page { size: A4; margin: 12mm }
body { font: 11pt/1.4 system-ui, sans-serif; color: #000; background: #fff; margin: 0 auto;
  max-width: 186mm; padding: 4mm; overflow-wrap: anywhere }
h1 { font-size: 14pt; margin: 0 0 4mm }
article { display: grid; grid-template-columns: minmax(0, 1fr) 34mm; gap: 2mm 6mm; padding: 5mm 0;
  border-top: 1px dashed #666; break-inside: avoid }
h2 { font-size: 13pt; margin: 0 }
h2 span { font-weight: normal; margin-left: 3mm }
ol { margin: 1mm 0; padding-left: 6mm }
.code { font: bold 24pt/1.2 ui-monospace, monospace; letter-spacing: .06em; white-space: nowrap;
  margin: 0 }
p { margin: 0 }
svg { width: 34mm; height: 34mm }
@media screen and (max-width: 34rem) {
  article { grid-template-columns: minmax(0, 1fr) }
  .code { font-size: 18pt }
}
"""

_PAGE = Template("""\
<!doctype html>
<html lang="$language">
<head>
<meta charset="utf-8">
<title>$name: $codes</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>$style</style>
</head>
<body>
<main>
<h1>$name</h1>
$slips
</main>
</body>
</html>
""")
_SLIP = Template("""\
<article>
<div>
<h2>$user<span>$number</span></h2>
<ol>
<li>$connect</li>
<li>$type</li>
<li>$wait</li>
</ol>
<p class="code" translate="no">$code</p>
<p>$valid <time datetime="$until_utc">$until</time>. $once</p>
</div>
<div>$qr</div>
</article>""")
_NOBODY = Template("<p>$none</p>")
_TEXTS = {
    "en": {
        "language": "en",
        "codes": "provisioning codes",
        "connect": "Connect the phone to the network and wait until it asks for a provisioning"
        " code.",
        "type": "Type this code and confirm it with OK, or with # on a phone without OK.",
        "wait": "Wait: the phone may restart. It is ready when it shows your name or number.",
        "valid": "Valid until",
        "once": "The code works once; keep it to yourself.",
        "qr": "The code as a QR code",
        "none": "No code is pending on this page.",
    },
    "de": {
        "language": "de",
        "codes": "Provisioning-Codes",
        "connect": "Schließen Sie das Telefon an und warten Sie, bis es nach einem"
        " Provisioning-Code fragt.",
        "type": "Geben Sie diesen Code ein und bestätigen Sie mit OK, am Telefon ohne OK mit #.",
        "wait": "Warten Sie: Das Telefon startet vielleicht neu. Es ist bereit, wenn es Ihren"
        " Namen oder Ihre Nummer zeigt.",
        "valid": "Gültig bis",
        "once": "Der Code gilt einmal; behalten Sie ihn für sich.",
        "qr": "Der Code als QR-Code",
        "none": "Auf dieser Seite ist kein Code offen.",
    },
}

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'"


def sheet(
    rollout: "Rollout", handouts: Sequence["Handout"], more: str | None, languages: str = ""
) -> Response:
    """Write a page of slips.

    Args:
        handouts: those without a code get no slip.
        more: the query of the next page, None at the end; told as a link in the header.
        languages: what the caller reads, as in `Accept-Language`; German if that comes first.
    """
    texts = _TEXTS["de" if languages.lower().startswith("de") else "en"]
    slips = [_slip(handout, texts) for handout in handouts if handout.digits]
    page = _PAGE.substitute(
        texts,
        name=escape(rollout.name),
        style=_STYLE,
        slips="\n".join(slips) or _NOBODY.substitute(texts),
    )
    return Response(
        body=page,
        status_code=200,
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Content-Language": texts["language"],
            "Content-Security-Policy": _POLICY,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **({"Link": f'<slips?{more}>; rel="next"'} if more else {}),
        },
    )


def _slip(handout: "Handout", texts: Mapping[str, str]) -> str:
    until = handout.registration.expires_at.astimezone(UTC)
    code = segno.make(handout.digits, micro=False, error="m")
    return _SLIP.substitute(
        texts,
        user=escape(handout.user.name or handout.user.sip),
        number=escape(handout.user.number),
        code=grouped(handout.digits),
        until=f"{until:%Y-%m-%d %H:%M} UTC",
        until_utc=f"{until:%Y-%m-%dT%H:%M:%SZ}",
        qr=code.svg_inline(border=2, omitsize=True, title=texts["qr"]),
    )
