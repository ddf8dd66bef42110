"""A figure that becomes a part of the page: SVG without a width, a font or a colour of its own.

    figure --savefig--> <g id="mark3" style="fill: #040404">   ->   <g class="mark"><title>denoise 1.1 s</title>
                        <text style="font: 12px 'DejaVu Sans'">      <text style="font-size: 12px">
                                                                     ... style="fill: var(--c1)"

Every colour here stands for a CSS variable, so that one drawing serves dark, light and print.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ldmc.runtime.speech import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 340  # of the drawing, in its own units; about that many CSS pixels on a phone
FONT, SMALL = 12.0, 10.5
# Stand-ins that matplotlib draws with -> the page's variables. No drawing has any other colour.
_NAMES = ("text", "muted", "line", "c1", "c2", "c3", "c4", "c5", "c6", "bad", "band")
COLOURS = {name: f"#{index:02x}{index:02x}{index:02x}" for index, name in enumerate(_NAMES, start=1)}
_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_HEX = re.compile(r"#[0-9a-f]{6}")
_FONT = re.compile(r"font: (?:(\w+) )?([\d.]+)px [^;]+")
_FAMILY = re.compile(r"font-family: [^;]+(?:; |$)")  # newer versions of matplotlib write it apart
_REFERENCE = re.compile(r"#([\w-]+)")
_LINK = "{http://www.w3.org/1999/xlink}href"
_NARROW, _BROAD = frozenset("fijlrtI.,:;'|!()[]/- "), frozenset("mwMW@%")
_DPI = 72  # matplotlib's SVG is in points: then a unit is a pixel


class Drawing:
    """One chart. ident: unique on the page. title: what it shows. description: what there is to see, in words.

    height: in the drawing's units. The axes fill it, less `margins` (left, right, top, bottom).
    """

    def __init__(
        self, ident: str, title: str, description: str, height: float, margins: tuple[float, float, float, float]
    ) -> None:
        from matplotlib.figure import Figure

        self.ident, self.title, self.description = ident, printable(title), printable(description)
        self._marks: dict[str, tuple[str, str]] = {}
        self._figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI)
        self._figure.patch.set_visible(False)
        left, right, top, bottom = margins
        box = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
        self.axes: Axes = self._figure.add_axes(box)
        self.axes.patch.set_visible(False)
        for spine in self.axes.spines.values():
            spine.set_visible(False)
        self.axes.tick_params(length=0, labelsize=SMALL, labelcolor=COLOURS["muted"], colors=COLOURS["muted"], pad=3)
        self.axes.set_axisbelow(True)

    def mark(self, artist: Any, kind: str, told: str) -> None:
        """Name a bar, point, line or area: `told` shows when it is pointed at."""
        name = f"mark{len(self._marks)}"
        self._marks[name] = (kind, printable(told))
        artist.set_gid(name)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = "text",
        *,
        size: float = FONT,
        ha: str = "left",
        va: str = "baseline",
        style: str = "normal",
        transform: Any = None,
    ) -> None:
        """Text as it stands: no `$` starts a formula. transform: of x and y, if not the data's."""
        self.axes.text(
            x, y, printable(text), color=COLOURS[colour], fontsize=size, ha=ha, va=va, style=style,
            transform=transform or self.axes.transData, parse_math=False,
        )  # fmt: skip

    def grid(self, axis: str) -> None:
        """Thin lines at the ticks of one axis."""
        self.axes.grid(True, axis=axis, color=COLOURS["line"], linewidth=0.8)  # type: ignore[arg-type]

    def svg(self) -> str:
        """The drawing as an element of an HTML page."""
        root = ElementTree.fromstring(self._drawn())
        for element in root.iter():
            element.tag = element.tag.partition("}")[2] or element.tag
        self._strip(root)
        self._name(root)
        return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)

    def _drawn(self) -> bytes:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        content = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "ldmc", "svg.fonttype": "none"}), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a glyph that matplotlib's font lacks: the page's has it
            FigureCanvasAgg(self._figure)
            self._figure.savefig(content, format="svg", metadata={"Date": None})
        return content.getvalue()

    def _strip(self, root: ElementTree.Element) -> None:
        """Take out what would reach beyond the drawing: styles for the whole page, ids that another drawing has."""
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag in ("metadata", "style"):
                    parent.remove(child)
        used = {name for element in root.iter() for value in element.attrib.values() for name in _references(value)}
        for element in root.iter():
            own = element.attrib.pop("id", "")
            if own in used:
                element.set("id", f"{self.ident}-{own}")
            elif own in self._marks:
                kind, told = self._marks[own]
                element.set("class", f"mark {kind}")
                title = ElementTree.Element("title")
                title.text = told
                element.insert(0, title)
            for key, value in list(element.attrib.items()):
                if key == _LINK:
                    del element.attrib[key]
                    key = "href"
                element.set(key, self._own(value) if key in ("href", "clip-path") else _themed(key, value))

    def _own(self, value: str) -> str:
        return _REFERENCE.sub(rf"#{self.ident}-\1", value)

    def _name(self, root: ElementTree.Element) -> None:
        """Title and description, for those who do not see it."""
        view = root.get("viewBox", "")
        root.attrib.clear()
        labels = {"title": f"{self.ident}-title", "desc": f"{self.ident}-desc"}
        root.attrib.update(
            {
                "class": "chart",
                "id": self.ident,
                "viewBox": view,
                "role": "img",
                "aria-labelledby": " ".join(labels.values()),
            }
        )
        for place, (tag, ident) in enumerate(labels.items()):
            element = ElementTree.Element(tag, {"id": ident})
            element.text = self.title if tag == "title" else self.description
            root.insert(place, element)


def broad(text: str, size: float) -> float:
    """How broad `text` is at most, in the page's font, whichever it is."""
    return size * sum(map(_ems, text))


def _ems(letter: str) -> float:
    if letter in _NARROW:
        return 0.42
    return 1.0 if letter in _BROAD or not letter.isascii() else 0.78 if letter.isupper() else 0.64


def _references(value: str) -> list[str]:
    return _REFERENCE.findall(value) if value.startswith(("#", "url(")) else []


def _themed(key: str, value: str) -> str:
    """Colours as variables, the page's font, and no font's own size of line."""
    if key != "style":
        return value
    value = _FAMILY.sub("", _FONT.sub(lambda found: f"font-size: {found[2]}px", value))
    return _HEX.sub(lambda found: _VARIABLES.get(found[0], found[0]), value)
