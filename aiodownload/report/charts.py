"""Charts: figures as pictures (SVG) that take their colours from the page; Vega-Lite draws them."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import MissingExtraError

__all__ = ["Bar", "across", "over", "require"]

WIDTH = 340  # of a picture; its text is legible at three quarters of that, too

_CONFIG = {
    "font": "sans-serif",
    "view": {"stroke": None},
    # The font of the reader may be wider than the one that is measured here: axes are given an extent.
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "domainColor": "var(--line)",
        "gridColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "labelLimit": 130,
    },
}
_NAMED = re.compile(r'<path aria-label="([^"]*)"([^>]*)/>')
_ROLE = re.compile(r' (?:aria-[a-z]+|role|xmlns:xlink|version)="[^"]*"')
_SIZE = re.compile(r' width="[0-9.]+" height="[0-9.]+"')


class Bar(NamedTuple):
    """One bar.

    :param start: where it begins on the axis of time.
    :param end: where it ends there.
    :param value: how long it is.
    :param name: what stands beside it, and what is told when it is pointed at.
    """

    start: float
    end: float
    value: float
    name: str


def require() -> Any:
    """Return the package that draws.

    :raises MissingExtraError: if it is absent.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtraError("aiodownload report", "report") from error
    return vl_convert


def over(bars: Sequence[Bar], time: str, label: str) -> str:
    """Values over time.

    :param time: title of the axis of time.
    :param label: id of the element that says in words what the picture shows.
    """
    return _drawn(
        {
            "height": 190,
            "data": {"values": [{"a": one.start, "b": one.end, "value": one.value, "name": one.name} for one in bars]},
            "mark": {"type": "bar", "color": "var(--accent)", "binSpacing": 1},
            "encoding": {
                "x": {
                    "field": "a",
                    "type": "quantitative",
                    "bin": "binned",
                    "title": time,
                    "axis": {"grid": False, "tickCount": 5, "format": ",~f"},
                    "scale": {"domain": [bars[0].start, bars[-1].end], "nice": False},
                },
                "x2": {"field": "b"},
                "y": {
                    "field": "value",
                    "type": "quantitative",
                    "title": None,
                    "axis": {"tickCount": 5, "format": ",~f", "minExtent": 36, "domain": False, "ticks": False},
                    "scale": {"domainMin": 0, "nice": True},
                },
                "description": {"field": "name"},
            },
        },
        label,
    )


def across(bars: Sequence[Bar], unit: str, label: str) -> str:
    """Values one below the other, each beside its name.

    :param unit: title of the axis of values.
    :param label: id of the element that says in words what the picture shows.
    """
    whole = max(1, min(4, int(max(one.value for one in bars))))  # no ticks between whole numbers
    return _drawn(
        {
            "height": 22 * len(bars) + 45,
            "data": {"values": [{"value": one.value, "name": one.name, "at": at} for at, one in enumerate(bars)]},
            "mark": {"type": "bar", "color": "var(--accent)"},
            "encoding": {
                "y": {
                    "field": "name",
                    "type": "nominal",
                    "title": None,
                    "sort": {"field": "at"},
                    "axis": {"ticks": False, "labelColor": "var(--ink)", "minExtent": 112},
                },
                "x": {
                    "field": "value",
                    "type": "quantitative",
                    "title": unit,
                    "axis": {"tickCount": whole, "format": "~s", "domain": False, "ticks": False},
                },
                "description": {"field": "name"},
            },
        },
        label,
    )


def _drawn(spec: dict[str, Any], label: str) -> str:
    svg: str = require().vegalite_to_svg(
        {
            **spec,
            "width": WIDTH,
            "autosize": {"type": "fit", "contains": "padding"},
            "padding": 2,
            "background": None,
            "config": _CONFIG,
        }
    )
    # One picture with one description; what each bar is, is told where the mouse is, and by the table below.
    svg = _ROLE.sub("", _NAMED.sub(r"<path\2><title>\1</title></path>", svg))
    head, end, rest = svg.partition(">")
    opened = _SIZE.sub("", head).replace(' class="marks"', "")
    return f'{opened} class="chart" role="img" aria-labelledby="{html.escape(label)}"{end}{rest}'
