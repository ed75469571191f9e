"""The ratios as a picture (SVG, by hand): a line for each work and peer, around 1 = as much as the peer.

A dot is the median, the line through it goes from quartile to quartile, a tick is the target.  The axis is
logarithmic, so that half and twice are equally far from 1.  It looks well on light and on dark pages.
"""

import math
from collections.abc import Iterable, Iterator
from html import escape

from bench.results import Measured, Ratio, Results, digits
from bench.sample import QUANTITIES
from bench.targets import limit_of

WIDTH = 860
LEFT, RIGHT = 250, 640
"""Where the axis begins and ends; works are named to the left of it, peers and figures to the right."""
ROW, GAP, TITLE = 16, 7, 26
"""Heights: of a line, between two works, of a group's title."""
TOP, BOTTOM = 78, 52
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Of each decade: where an axis may have a label."""
LABELS = 9
"""The most of them."""
COLOURS = {
    "haproxy": "b",
    "haproxy, splicing": "b",
    "nginx": "c",
    "jdresolve": "b",
    "logresolve": "c",
    "adnslogres": "d",
    "pen without it": "d",
}
"""Which of the colours a peer has; the C suite has the first, "a"."""
LEGEND = "dot: median of the rounds, line: quartiles, tick: target, *: once, perhaps a smaller sample"
HOLLOW = "haproxy, splicing"

LIGHT = {"back": "#ffffff", "text": "#1f2328", "quiet": "#636c76", "line": "#d8dee4", "less": "#eef7f0"}
LIGHT |= {"a": "#0b63ce", "b": "#b3500c", "c": "#1a7f37", "d": "#7a3fc2"}
DARK = {"back": "#0d1117", "text": "#e6edf3", "quiet": "#9198a1", "line": "#30363d", "less": "#10221a"}
DARK |= {"a": "#58a6ff", "b": "#f0883e", "c": "#4cc35f", "d": "#bc8cff"}
SHAPES = """\
text { font: 12px "Segoe UI", Helvetica, Arial, "DejaVu Sans", sans-serif }
.title { font-size: 16px; font-weight: 600 } .group { font-weight: 600 } .small { font-size: 11px }
.one { stroke-width: 1.5 } .bar { stroke-width: 6; opacity: 0.25 } .range { stroke-width: 2 }
.dot { stroke-width: 1.5 } .target { stroke-width: 2 }"""


def colours(palette: dict[str, str]) -> str:
    """The style rules of a palette, without variables, which not every viewer knows."""
    one = """\
text {{ fill: {text} }} .quiet {{ fill: {quiet} }} .back {{ fill: {back} }} .less {{ fill: {less} }}
.grid {{ stroke: {line} }} .one {{ stroke: {quiet} }} .target {{ stroke: {text} }}
""".format(**palette)
    peers = "\n".join(
        f".{name} * {{ stroke: {palette[name]} }} .{name} .dot {{ fill: {palette[name]} }}" for name in "abcd"
    )
    return f"{one}{peers}\n.hollow .dot {{ fill: {palette['back']} }}"


class Axis:
    """A logarithmic scale that has room for all of `values`, and for 1."""

    def __init__(self, values: Iterable[float]) -> None:
        known = [1.0, *values]
        self.low, self.high = min(known) / 1.15, max(known) * 1.15

    def at(self, value: float) -> float:
        """Where a value is, in pixels."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return LEFT + share * (RIGHT - LEFT)

    def labels(self) -> list[float]:
        """The values that get a line and a label: 1, and as many others as can be read."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in (STEPS, (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
            labels = [step * 10.0**decade for decade in decades for step in steps]
            found = [label for label in labels if self.low <= label <= self.high]
            if len(found) <= LABELS:
                break
        return found


def chart(results: Results, groups: Iterable[str], title: str) -> str:
    """A picture of the works of these groups; without a line if none was measured."""
    works = {
        group: [work for work in members if work.others]
        for group, members in results.groups().items()
        if group in groups
    }
    works = {group: members for group, members in works.items() if members}
    axis = Axis(_extent(work for members in works.values() for work in members))
    rows, bottom = [], float(TOP)
    for group, members in works.items():
        quantity = QUANTITIES[members[0].quantity].title
        rows.append(_text(12, bottom + 17, f"{group}: {quantity}", "group"))
        bottom += TITLE
        for work in members:
            rows += _work(work, axis, bottom)
            bottom += ROW * len(work.others) + GAP
    return _page(bottom + BOTTOM, [*_frame(axis, bottom, title), *rows])


def _extent(works: Iterable[Measured]) -> Iterator[float]:
    """All values that must be on the axis."""
    for work in works:
        for peer in work.others:
            yield from work.ratio(peer)
            yield limit_of(work.name, peer) or 1.0


def _page(height: float, parts: list[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    back = f'<rect class="back" width="{WIDTH}" height="{height:.0f}" rx="6"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    style = f"{SHAPES}\n{colours(LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{colours(DARK)}\n}}"
    return "\n".join([head, f"<style>\n{style}\n</style>", back, *parts, "</svg>"]) + "\n"


def _frame(axis: Axis, bottom: float, title: str) -> Iterator[str]:
    """What is behind the rows: the title, the half where pen is the better one, the axis."""
    one = axis.at(1.0)
    yield _text(12, 26, title, "title")
    yield f'<rect class="less" x="{LEFT}" y="{TOP}" width="{one - LEFT:.1f}" height="{bottom - TOP:.1f}"/>'
    yield _text(LEFT, bottom + 40, LEGEND, "quiet small")
    yield _text(one - 8, 48, "◀ pen needs less", "quiet small", "end")
    yield _text(one + 8, 48, "more ▶", "quiet small")
    for value in axis.labels():
        x = axis.at(value)
        yield _line(x, TOP, x, bottom, "one" if value == 1 else "grid")
        for y in (TOP - 8, bottom + 18):
            yield _text(x, y, f"{value:g}", "quiet small", "middle")


def _work(work: Measured, axis: Axis, top: float) -> Iterator[str]:
    """A work: its title, and a line for each peer."""
    yield _text(LEFT - 12, top + 12, work.short, "", "end")
    for number, peer in enumerate(work.others):
        y = top + ROW * number + ROW / 2
        ratio = work.ratio(peer)
        kind = COLOURS.get(peer, "a") + (" hollow" if peer == HOLLOW else "")
        yield f'<g class="{kind}">{"".join(_ratio(ratio, axis, y))}</g>'
        limit = limit_of(work.name, peer)
        if limit:
            yield _line(axis.at(limit), y - 6, axis.at(limit), y + 6, "target")
        yield _text(RIGHT + 46, y + 4, digits(ratio.median), "", "end")
        yield _text(RIGHT + 56, y + 4, peer + ("*" if work.series[peer].sample else ""), "quiet")


def _ratio(ratio: Ratio, axis: Axis, y: float) -> Iterator[str]:
    middle = axis.at(ratio.median)
    yield _line(axis.at(1.0), y, middle, y, "bar")
    yield _line(axis.at(ratio.low), y, axis.at(ratio.high), y, "range")
    yield f'<circle class="dot" cx="{middle:.1f}" cy="{y:.1f}" r="4"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(text, quote=False)}</text>"
