"""What MkDocs does beside `mkdocs.yml`: decision records and changelog become pages, and no page loads from afar.

MkDocs calls these functions by their names (https://www.mkdocs.org/user-guide/plugins/#events).
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc\s*=\s*["']?(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b(?![^>]*\brel=["']?(?:canonical|alternate))[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^\s"'>]+"""
    r"""|@import\s+[^;]*//[^;]+|url\(\s*["']?(?:https?:)?//[^)]+"""
)

UNRENDERED = re.compile(r"```\w+|<p>\|.*|<p>#+ .*")


def on_config(config: Any) -> Any:
    """Puts every decision record into the navigation, below the page that lists them."""
    records = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    for section in config["nav"]:
        if isinstance(section, dict) and "Decisions" in section:
            section["Decisions"] = ["decisions.md", *(f"decisions/{name}" for name in records)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the repository's changelog as a page."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - only MkDocs comes here, and it is there then

    text = (ROOT / "CHANGELOG.md").read_text().replace("`docs/", "`")
    files.append(File.generated(config, "changelog.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fills the list of decisions. In guides, turns the file name after a fence's language into the block's title."""
    if page.file.src_uri != "decisions.md":
        return re.sub(r"^```(\w+) (\S+)$", r'```\1 title="\2"', markdown, flags=re.MULTILINE)
    lines = []
    for path in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        title = path.read_text().splitlines()[0].removeprefix("# ")
        lines.append(f"- [{title}](decisions/{path.name})".replace(". ", "\\. ", 1))
    return markdown + "\n" + "\n".join(lines) + "\n"


def on_post_build(config: Any) -> None:
    """Fails the build when a page would load something from another host, or shows markup instead of rendering it."""
    site = Path(config["site_dir"])
    found = []
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        text = path.read_text(errors="replace")
        found += [f"{path.relative_to(site)} loads {match[0]}" for match in LOADED.finditer(text)]
        found += [f"{path.relative_to(site)} does not render {match[0]}" for match in UNRENDERED.finditer(text)]
    if found:
        raise SystemExit("\n".join(["the site is not as it should be:", *found]))
