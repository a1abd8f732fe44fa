"""An altair chart as an SVG element that can stand in a page beside others, and the keys of its legend."""

import re

import altair as alt
import vl_convert
from markupsafe import Markup, escape

WIDTH = 344
"""Pixels of a panel: three stand side by side at 1,200, one on a 400 px phone."""

INK, MUTED, RULE = "#1d232b", "#5c6672", "#e4e7ec"
BLUE, TEAL, GREEN, NULL = "#1f5fa8", "#0f766e", "#1a7f4b", "#858d98"

_CONFIG = {
    "aria": False,
    "background": None,
    "font": "Helvetica, Arial, Liberation Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "labelFontSize": 11,
        "titleColor": MUTED,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "gridColor": RULE,
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "titlePadding": 8,
        "labelOverlap": "greedy",
    },
    "axisY": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": 0, "titleY": -10},
}


def draw(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart,
    name: str,
    alternative: str,
    height: int,
    left: int,
    right: int = 12,
    top: int = 12,
) -> Markup:
    """Exactly WIDTH pixels wide, `height` for the data; the text alternative is the SVG's label."""
    spec = chart.to_dict(validate=False)
    titled = any(layer.get("encoding", {}).get("x", {}).get("title") for layer in spec.get("layer", [spec]))
    spec |= {
        "config": _CONFIG,
        "width": WIDTH - left - right,
        "height": height,
        "autosize": {"type": "none"},
        "padding": {"left": left, "right": right, "top": top, "bottom": 40 if titled else 26},
    }
    svg = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    return _inline(svg, f"fig-{re.sub(r'[^a-z0-9]+', '-', name.lower())}", alternative)


def _inline(svg: str, prefix: str, alternative: str) -> Markup:
    """Ids are numbered anew under the figure's own prefix: the drawer counts on across figures, so its own ids neither
    repeat between runs nor stay apart on a page. Namespaces are dropped; an HTML parser knows them."""
    names: dict[str, str] = {}
    for found in re.findall(r'\bid="([^"]+)"', svg):
        names.setdefault(found, f"{prefix}-{len(names)}")
    for old, new in names.items():
        svg = (
            svg.replace(f'id="{old}"', f'id="{new}"')
            .replace(f"url(#{old})", f"url(#{new})")
            .replace(f'"#{old}"', f'"#{new}"')
        )
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version|class)="[^"]*"', "", svg)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alternative)}"', 1))


def _swatch(body: str) -> Markup:
    return Markup(f'<svg class="key" width="22" height="14" viewBox="0 0 22 14" aria-hidden="true">{body}</svg>')


def line_key(colour: str, dot: bool = False, dash: str = "") -> Markup:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    circle = f'<circle cx="11" cy="7" r="3.4" fill="{colour}"/>' if dot else ""
    return _swatch(f'<path d="M1 7H21" stroke="{colour}" stroke-width="2"{dashes}/>{circle}')


def block_key(colour: str, opacity: float = 0.16) -> Markup:
    return _swatch(f'<rect x="2" y="2" width="18" height="10" fill="{colour}" fill-opacity="{opacity}"/>')


def glyph_key(shape: str, colour: str, filled: bool = True) -> Markup:
    paths = {
        "circle": "M11 2.5a4.5 4.5 0 1 0 .01 0Z",
        "stroke": "M11 1V13",
        "triangle-up": "M11 2.8L15.6 11.2H6.4Z",
        "square": "M7.2 3.2H14.8V10.8H7.2Z",
        "diamond": "M11 1.8L15.2 7L11 12.2L6.8 7Z",
        "cross": "M9.6 2.6H12.4V5.6H15.4V8.4H12.4V11.4H9.6V8.4H6.6V5.6H9.6Z",
    }
    fill = colour if filled else "white"
    return _swatch(f'<path d="{paths[shape]}" fill="{fill}" stroke="{colour}" stroke-width="1.4"/>')
