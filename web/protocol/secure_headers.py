"""Headers that every answer of every process has, those of refusals before the door included.

What answers with JSON is no page: a browser that is led to it shows nothing of it, in no frame, and to no other site.
They are those that OWASP's REST Security and HTTP Headers cheat sheets name for such answers. `/docs` is a page, and
has a Content-Security-Policy of its own.
"""

from web.asgi import Headers

POLICY = b"content-security-policy"
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
SECURE_HEADERS = [*_ALWAYS, (POLICY, b"default-src 'none'; frame-ancestors 'none'")]
SECURE_LINES = b"".join(b"%b: %b\r\n" % header for header in SECURE_HEADERS)


def secured(headers: Headers) -> Headers:
    """`headers` of one answer, and ours. A page's own Content-Security-Policy stays alone: of two, both are obeyed."""
    is_page = any(name == POLICY for name, _ in headers)
    return [*headers, *(_ALWAYS if is_page else SECURE_HEADERS)]
