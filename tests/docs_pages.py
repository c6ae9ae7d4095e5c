"""What `/docs` must show, whichever process serves it."""

import re
from typing import Any

import httpx

from tests.patience import PATIENCE
from web.docs.assets import ASSETS, MEDIA_TYPES


def assert_docs_show(url: str, documents: dict[str, dict[str, Any]]) -> None:
    """The page of `documents`, by the path that serves them: all of each, and it loads nothing from elsewhere."""
    answer = httpx.get(f"{url}/docs", timeout=PATIENCE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = answer.text
    for path, document in documents.items():
        assert f"<h1>{document['info']['title']}</h1>" in text
        assert f'href="{path}"' in text
        assert httpx.get(url + path, timeout=PATIENCE).json() == document
        for name in document["paths"]:
            assert f"<code>{name}</code></h2>" in text
    assert text.count("<h1>") == len(documents)
    assert re.findall(r'<div class="document" data-url="([^"]+)">', text) == list(documents)
    assert_loads_only_our_files(answer, url, set(documents))
    refused = httpx.post(f"{url}/docs")
    assert (refused.status_code, refused.headers["allow"], refused.json()["success"]) == (405, "GET, HEAD", False)
    missing = httpx.get(f"{url}/docs/nothing")
    assert (missing.status_code, missing.json()["error"]) == (404, "Not found")


def assert_loads_only_our_files(page: httpx.Response, url: str, documents: set[str]) -> None:
    """The policy lets nothing else in; so the page has no script and no style of its own, and names no other host."""
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert not re.search("unsafe|nonce|https?:|\\*", policy)
    text = page.text
    assert not re.search(r"<(img|iframe|object|embed|video|audio|style)\b|@import|url\(|\bon[a-z]+=", text)
    assert set(re.findall(r"<script\b[^>]*>(.*?)</script>", text)) == {""}
    loaded = set(re.findall(r'\b(?:href|src)="([^#][^"]*)"', text)) - {"data:,"}
    assert loaded == documents | {f"{ASSETS}/{name}" for name in MEDIA_TYPES}
    for name, kind in MEDIA_TYPES.items():
        packed = httpx.get(f"{url}{ASSETS}/{name}", timeout=PATIENCE)
        plain = httpx.get(f"{url}{ASSETS}/{name}", headers={"Accept-Encoding": "gzip;q=0"}, timeout=PATIENCE)
        assert (packed.status_code, packed.headers["content-encoding"]) == (200, "gzip")
        assert "content-encoding" not in plain.headers
        assert packed.content == plain.content
        assert packed.headers["content-type"].startswith(kind)
    assert httpx.get(f"{url}{ASSETS}/page.py").status_code == 404
