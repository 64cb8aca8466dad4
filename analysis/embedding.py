"""Embed a figure in a page: as SVG in the page's colours, or as a bitmap if the SVG is large."""

import base64
import re
from dataclasses import dataclass

import markupsafe

from analysis.figures import Drawn, to_png, to_svg

MAX_SVG_BYTES = 400_000
"""size above which a figure is embedded as PNG"""
_GREYS = ((0x30, "ink"), (0xA0, "soft"), (0xDC, "line"), (0xFA, "faint"), (0xFF, "ground"))
"""colour names of the page, each with the lightest grey that it replaces"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, as the page embeds it."""

    name: str
    title: str
    caption: str
    content: markupsafe.Markup
    """an element <svg> or <img>"""
    is_on_paper: bool
    """whether it has a bitmap, and so keeps a white background in dark mode"""


def embed(drawn: Drawn) -> tuple[Picture, dict[str, bytes]]:
    """Return a figure as the page embeds it, and its files."""
    svg, png, label = to_svg(drawn), to_png(drawn), f"{drawn.title}. {drawn.caption}"
    if len(svg) <= MAX_SVG_BYTES:
        content = inline(svg.decode(), drawn.name, label)
    else:
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        content = markupsafe.Markup('<img src="{}" alt="{}">').format(source, label)
    picture = Picture(
        name=drawn.name,
        title=drawn.title,
        caption=drawn.caption,
        content=content,
        is_on_paper="<img " in content or "<image " in content,
    )
    return picture, {f"figures/{drawn.name}.svg": svg, f"figures/{drawn.name}.png": png}


def as_id(name: str) -> str:
    """Return a name as the id of an element, to which an address can lead; names of a store hold anything."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def inline(svg: str, name: str, label: str) -> markupsafe.Markup:
    """Return an SVG as an element of a page: only ids that it uses, colours that the page defines.

    Args:
        svg: as matplotlib writes it, which escapes every text. name: begins all ids, as `as_id` writes it.
        label: what it shows.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", svg[svg.index("<svg ") :], flags=re.S)
    used = {each for found in re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', svg) for each in found}
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r'(?<= id=")|(?<=xlink:href="#)|(?<=url\(#)', f"{as_id(name)}-", svg)
    if "<image " not in svg:
        svg = re.sub(r"(?<=: )#([0-9a-f]{6})(?=[;\"])", _name_colour, svg)
    head, body = svg.split(">", 1)
    (box,) = re.findall(r'viewBox="(0 0 ([\d.]+) [\d.]+)"', head)
    opening = markupsafe.Markup('<svg role="img" aria-label="{}" viewBox="{}" style="--width: {}pt">')
    return opening.format(label, *box) + markupsafe.Markup(body)


def _name_colour(found: re.Match[str]) -> str:
    """Return a grey as the page's colour for it, another colour as a variable of its own."""
    code = found[1]
    if code[:2] == code[2:4] == code[4:]:
        name = next(name for lightest, name in _GREYS if int(code[:2], 16) <= lightest)
        return f"var(--{name})"
    return f"var(--c{code}, #{code})"
