"""Make pages of the site from files at the root of the repository, which name others as a repository does."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""files of the root, and the pages that they are in the site"""
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:  # Any: mkdocs has no types
    """Add the files of the root."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to pages of the site; those to code become its path."""
    folder = "" if page.file.src_uri in PAGES.values() else "docs"
    return LINK.sub(lambda link: _relink(link, folder), markdown)


def _relink(link: re.Match[str], folder: str) -> str:
    path, hash_, anchor = link["target"].partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    path = posixpath.normpath(posixpath.join(folder, path))
    target = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if target is None:
        return f"{link['text']} (`{path}`)" if link["text"].strip("`") != path else f"`{path}`"
    return f"{link['mark']}[{link['text']}]({target}{hash_}{anchor})"
