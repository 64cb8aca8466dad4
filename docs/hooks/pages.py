"""Make pages of the site from files of the repository: those at its root, and notebooks as they were run."""

import json
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
NOTEBOOKS = {
    path.relative_to(ROOT).as_posix(): f"notebooks/{path.stem}.md"
    for path in sorted((ROOT / "analysis" / "notebooks").glob("*.ipynb"))
}
"""notebooks, and the pages that they are in the site"""
SHOWN = {
    "text/markdown": "{}",
    "text/html": "{}",
    "image/png": '<img alt="" src="data:image/png;base64,{}">',
    "text/plain": "```text\n{}\n```",
}
"""how a page shows each kind of output; of several the first"""
FRAME = '<table border="1" class="dataframe">'
"""how pandas opens a table"""
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:  # Any: mkdocs has no types
    """Add the files of the root, and the notebooks."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for source, page in NOTEBOOKS.items():
        files.append(File.generated(config, page, content=show_notebook(ROOT / source)))
    return files


def show_notebook(path: Path) -> str:
    """Return a notebook as Markdown."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            kind = next(kind for kind in SHOWN if kind in output["data"])
            parts.append(SHOWN[kind].format("".join(output["data"][kind])))
    page = "\n\n".join(parts)
    # The theme lets a table that has no class scroll, and gives it its own looks.
    return re.sub(r"<style scoped>.*?</style>\n", "", page, flags=re.S).replace(FRAME, "<table>")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to pages of the site; those to code become its path."""
    folder = "" if page.file.src_uri in PAGES.values() else "docs"
    return LINK.sub(lambda link: _relink(link, folder), markdown)


def _relink(link: re.Match[str], folder: str) -> str:
    path, hash_, anchor = link["target"].partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    path = posixpath.normpath(posixpath.join(folder, path))
    target = (PAGES | NOTEBOOKS).get(path) or (
        path.removeprefix("docs/") if path.startswith("docs/") else None
    )
    if target is None:
        return f"{link['text']} (`{path}`)" if link["text"].strip("`") != path else f"`{path}`"
    return f"{link['mark']}[{link['text']}]({target}{hash_}{anchor})"
