"""One page of HTML that needs nothing else: style, colours and figures inside it, light, dark and on paper."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Colours that people with any common colour vision can tell apart (Okabe and Ito, 2008)."""

LIGHT: Mapping[str, str] = {
    "ground": "#ffffff",
    "panel": "#f4f6f8",
    "text": "#1a1d21",
    "soft": "#4c5560",
    "line": "#c5ccd3",
    "link": "#005a8f",
    "good": "#00614a",
    "bad": "#a03c00",
    "open": "#5f4b00",
}
"""Colours by role on a light screen and on paper."""

DARK: Mapping[str, str] = {
    "ground": "#14171a",
    "panel": "#1e2327",
    "text": "#e8eaed",
    "soft": "#aab4be",
    "line": "#454d55",
    "link": "#7cc4f0",
    "good": "#4cc9a0",
    "bad": "#ff9a66",
    "open": "#f0c75e",
}
"""Colours by role on a dark screen."""

WRITTEN = ("text", "soft", "link", "good", "bad", "open")
"""Roles that are text; each stands on ``ground`` and on ``panel``."""

INK = "#010203"
"""In figures: the text's colour; no other part of a figure may have it. The page replaces it by its own."""

SOFT = "#040506"
"""In figures: grids and frames."""

_STYLE = """
*{box-sizing:border-box}
html{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
body{margin:0 auto;padding:1.5rem;max-width:76rem;background:var(--ground);color:var(--text)}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .6rem}
h2{font-size:1.25rem;margin:2.4rem 0 .5rem;padding-top:.6rem;border-top:2px solid var(--line)}
h3{font-size:1.02rem;margin:1.4rem 0 .3rem}
p,ul,ol{margin:.4rem 0;max-width:52rem}
li{margin:.2rem 0}
a{color:var(--link)}
nav{display:flex;flex-wrap:wrap;background:var(--panel);padding:.6rem .9rem;border-radius:.4rem;font-size:.92rem}
nav a{margin-right:.9rem;white-space:nowrap}
table{border-collapse:collapse;font-size:.86rem;margin:.6rem 0;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.2rem 0}
th,td{padding:.35rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{background:var(--panel);position:sticky;top:0}
td.number,th.number{text-align:right;white-space:nowrap}
.wide{overflow-x:auto}
.wide td:not(.number){min-width:8.5rem}
.wide td.long{min-width:17rem}
.decision th[scope=row]{position:sticky;left:0;background:var(--ground);min-width:11rem}
.soft,.how{color:var(--soft)}
.how{font-size:.92rem}
.good{color:var(--good);font-weight:600}
.bad{color:var(--bad);font-weight:600}
.open{color:var(--open);font-weight:600}
.note{background:var(--panel);border-left:4px solid var(--line);padding:.5rem .8rem;max-width:52rem}
figure{margin:.8rem 0;overflow-x:auto}
figure svg{max-width:100%;height:auto}
figcaption{color:var(--soft);font-size:.92rem;max-width:52rem}
details{margin:.4rem 0}
summary{cursor:pointer;color:var(--link)}
@media print{
 body{max-width:none;padding:0;font-size:10.5pt}
 nav,.screen{display:none}
 h2{break-after:avoid}
 figure,tr,.note{break-inside:avoid}
 thead{display:table-header-group}
 thead th{position:static}
 .wide{overflow:visible}
 .wide td:not(.number),.wide td.long{min-width:0}
 .decision,.decision tbody,.decision tr,.decision th,.decision td{display:block;min-width:0;border:0;padding:1px 0}
 .decision thead{display:none}
 .decision tr{margin:.7rem 0;padding-top:.3rem;border-top:1px solid var(--line)}
 .decision th[scope=row]{position:static;min-width:0;font-size:9pt}
 .decision td::before{content:attr(data-name) ": ";font-weight:600}
 table{font-size:7.5pt}
}
"""


def page(title: str, body_html: str, lang: str = "en") -> str:
    """Write a whole page.

    Parameters
    ----------
    title
        Plain text.
    body_html
        What stands in ``<body>``; must be escaped already.
    lang
        Language of the text, for readers' programs: ``en``, ``da``.

    Returns
    -------
    str
        HTML without any reference to another file or address.
    """
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(lang)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{style()}</style>\n</head>\n<body>\n{body_html}\n</body>\n</html>\n"
    )


def style() -> str:
    """Return the CSS of every page: colours by role, dark where the reader's system is, light on paper."""
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    return f":root{{{_variables(LIGHT)}}}\n{dark}{_STYLE}"


@contextmanager
def drawing() -> Iterator[None]:
    """Draw figures for :func:`svg` inside this: text and frames get the colours that follow the page's scheme."""
    import matplotlib
    from cycler import cycler

    with matplotlib.rc_context(
        {
            "font.size": 9,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.edgecolor": SOFT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=list(OKABE_ITO[:6])),
            "grid.color": SOFT,
            "grid.linewidth": 0.5,
            "xtick.color": SOFT,
            "ytick.color": SOFT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "legend.frameon": False,
            "legend.labelcolor": INK,
        }
    ):
        yield


def svg(figure: Figure, title: str = "") -> str:
    """Return a matplotlib figure as inline SVG, its text as text, in the colours of the page.

    Parameters
    ----------
    figure
        Drawn within :func:`drawing`; the ground is transparent, :data:`INK` and :data:`SOFT` follow the page's scheme.
    title
        Says what is shown, for those who can't see it; no two figures of a page have the same.
    """
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title or "figure"}):
        figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace(INK, "var(--text)").replace(SOFT, "var(--line)")
    drawn = re.sub(r"<style.*?</style>", "", drawn, flags=re.DOTALL)  # it would hold for the whole page
    drawn = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", drawn)
    drawn = _own_names(drawn, title)
    named = f'<svg role="img" aria-label="{escape(title)}"' if title else '<svg role="img"'
    return drawn.replace("<svg", named, 1).strip()


def data_link(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]], text: str = "data as CSV") -> str:
    """Return a link that holds a table as CSV and saves it as ``name``; needs no other file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    coded = base64.b64encode(out.getvalue().encode()).decode()
    return f'<a class="screen" download="{escape(name)}" href="data:text/csv;base64,{coded}">{escape(text)}</a>'


def contrast(one: str, other: str) -> float:
    """Contrast of two colours ``#rrggbb``, 1 to 21 (WCAG 2.2, "contrast ratio"); text needs at least 4.5."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())


def _own_names(drawn: str, title: str) -> str:
    """Give a figure's ids a prefix of its own: two figures of one page must not share any."""
    prefix = re.sub(r"\W+", "-", title).strip("-").lower() or "figure"
    drawn = re.sub(r'\bid="', f'id="{prefix}-', drawn)
    drawn = re.sub(r'href="#', f'href="#{prefix}-', drawn)
    return drawn.replace("url(#", f"url(#{prefix}-")
