// The last line of defence against secrets in what a page shows: the same as redact() of the service.
// It must not know what is shown.

export const MASK = "***";

const SECRETS = [
  [/\b(bearer\s+)[A-Za-z0-9._~+/-]+=*/gi, `$1${MASK}`],
  [/\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g, MASK],
  // a device's token is 43 characters of base64, whatever stands before it
  [/(?<![\w-])[A-Za-z0-9_-]{43}(?![\w-])/g, MASK],
  // a parameter of a URL, URL-encoded up to twice: it ends at the separator of its own level
  ...[
    ["=", "&"],
    ["%3d", "%26"],
    ["%253d", "%26|%2526"],
  ].map(([equals, end]) => [
    new RegExp(
      "(?:(?<![a-z_-])|(?<=%3f|%253f|%26|%2526))" +
        `((?:device_token|token|password|provisioning-?code|code)${equals})(?!prompt\\b)(?:(?!${end})[^&\\s"'])+`,
      "gi",
    ),
    `$1${MASK}`,
  ]),
  // options of configuration lines
  [/(\/pwd\s+)\S+/g, `$1${MASK}`],
  [/(\/user\s+[^,%\s]+(?:,|%2c))\S+/gi, `$1${MASK}`],
  [/(?<![0-9A-Fa-f.:-])\d{4}([ -]?)\d{4}\1\d{4}(?![0-9A-Fa-f])/g, MASK],
];

/** Mask whatever looks like a code, a token or a password in free text. */
export function redact(text) {
  return SECRETS.reduce((left, [pattern, masked]) => left.replace(pattern, masked), text);
}
