"""What `/docs` must show, whichever process serves it."""

import re
from typing import Any

import httpx

from tests.patience import PATIENCE


def assert_docs_show(url: str, documents: dict[str, dict[str, Any]]) -> None:
    """The page of `documents`, by the path that serves them: all of each, and it loads nothing."""
    answer = httpx.get(f"{url}/docs", timeout=PATIENCE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    text = answer.text
    for path, document in documents.items():
        assert f"<h1>{document['info']['title']}</h1>" in text
        assert f'href="{path}"' in text
        assert httpx.get(url + path).json() == document
        for name in document["paths"]:
            assert f"<code>{name}</code></h2>" in text
    assert text.count("<h1>") == len(documents)
    assert sorted(re.findall(r' id="([^"]+)"', text)) == sorted(set(re.findall(r' href="#([^"]+)"', text)))
    assert not re.search(r"<(script|link|img|iframe|object|embed|video|audio)\b|@import|url\(", text)
    assert set(re.findall(r'\b(?:href|src)="([^#][^"]*)"', text)) == set(documents)
    refused = httpx.post(f"{url}/docs")
    assert (refused.status_code, refused.headers["allow"], refused.json()["success"]) == (405, "GET, HEAD", False)
