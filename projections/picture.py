"""Picture: what all plots share: the look, texts of any kind, and files in PNG, SVG, PDF and HTML.

Figures are made without pyplot: nothing global is changed, and nothing is kept.
"""

from __future__ import annotations

import enum
import html
import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger.errors import InvalidValue
from ledger.partial import partial_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE, ACCENT, GOOD = "#1f2933", "#9aa5b1", "#2166ac", "#b2182b"
_LONGEST_TEXT = 40
_WHOLE_NUMBERS = 12  # so many at most are written out at an axis


class PictureFormat(enum.StrEnum):
    """What a picture can be written as."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"
    HTML = "html"


_STYLE = {
    "font.size": 10,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "text.parse_math": False,  # names may hold any text, dollars too
    "svg.hashsalt": "ledger",  # the same picture is the same file
    "svg.fonttype": "none",
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False,
}


def need_matplotlib() -> None:
    """Raise InvalidValue, with the cure, when there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise InvalidValue("pictures are drawn by matplotlib: pip install 'experiment-ledger[plot]'.") from None


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the package's look; signs that the font lacks are boxes, and no warning."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(width: float = 9.0, height: float = 5.0, **grid: Any) -> tuple[Figure, Any]:
    """Return a figure of that size in inches and its axes, as many as ``grid`` says."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def entitle(figure: Figure, title: str, notes: Sequence[str]) -> None:
    """Put the title on top, and below it what the reader has to know."""
    figure.suptitle(shortened(title, 80), x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    said = "; ".join(note for note in notes if note)
    if said:
        figure.axes[0].set_title(said, fontsize=9, color="#52606d", pad=10)


def shortened(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Return a text as one line that is not too long.

    >>> shortened("a" * 50)[-3:], shortened("two\\nlines")
    ('aa…', 'two lines')
    """
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def whole_steps(axis: Any) -> None:
    """Let an axis of numbered things show whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=_WHOLE_NUMBERS, integer=True))


def numbers(column: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a column as floats; NaN for what is no number, or is missing.

    >>> numbers(pd.Series([1, "a", None, True], dtype=object)).tolist()
    [1.0, nan, nan, nan]
    """
    if column.dtype == object:
        kept = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else np.nan for v in column]
        return np.array(kept, dtype=np.float64)
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def is_missing(value: Any) -> bool:
    """Say whether a cell of a table is empty.

    >>> is_missing(pd.NA), is_missing(float("nan")), is_missing([])
    (True, True, False)
    """
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def described(values: Mapping[str, Any]) -> str:
    """Return what is said of a point when the mouse is on it: a name and a value to a line."""
    return "\n".join(f"{name}: {shortened(str(value))}" for name, value in values.items())


def log_scale(axes: Axes, values: Any, *, is_log: bool, what: str) -> None:
    """Make the vertical axis logarithmic if asked to; InvalidValue for values that have no logarithm."""
    if not is_log:
        return
    if len(values) and np.nanmin(values) <= 0:
        raise InvalidValue(f"{what} has values of 0 or less, which a logarithmic axis cannot show. Leave log out.")
    axes.set_yscale("log")


# ------------------------------------------------------------------------------------------------------------- files

_ENDS = {f".{form.value}": form for form in PictureFormat} | {".htm": PictureFormat.HTML}


def save_picture(
    figure: Figure, path: str | os.PathLike[str], *, file_format: PictureFormat | str | None = None, dpi: int = 150
) -> Path:  # fmt: skip
    """Write a figure to a file, which appears when it is whole; its format is told by the name's end if left out.

    An HTML file is one page that needs no other: the picture as SVG, with a word on each trial under the mouse.
    """
    form = _format(path, file_format)
    with partial_file(path) as file:
        file.write(rendered(figure, form, dpi=dpi))
    return Path(path)


def _format(path: str | os.PathLike[str], named: PictureFormat | str | None) -> PictureFormat:
    known = ", ".join(PictureFormat)
    if named is not None:
        if named not in set(PictureFormat):
            raise InvalidValue(f"{named!r} is no format of a picture; use one of {known}.")
        return PictureFormat(named)
    end = Path(path).suffix.lower()
    if end not in _ENDS:
        raise InvalidValue(f"{str(path)!r} does not tell a format of pictures: let it end in one of {', '.join(_ENDS)}.")
    return _ENDS[end]


def rendered(figure: Figure, form: PictureFormat, *, dpi: int = 150) -> bytes:
    """Return the bytes of a picture."""
    made = io.BytesIO()
    is_svg = form in (PictureFormat.SVG, PictureFormat.HTML)
    metadata = {"Date": None} if is_svg else {"CreationDate": None} if form is PictureFormat.PDF else {}
    with styled():
        figure.savefig(made, format="svg" if is_svg else form.value, dpi=dpi, facecolor="white", metadata=metadata)
    if not is_svg:
        return made.getvalue()
    svg = _with_titles(made.getvalue().decode(), getattr(figure, "_ledger_titles", {}))
    return (svg if form is PictureFormat.SVG else _page(svg, figure)).encode()


def tell(figure: Figure, artist: Any, text: str) -> None:
    """Let the picture say the text when the mouse is on the artist."""
    titles: dict[str, str] = figure.__dict__.setdefault("_ledger_titles", {})
    name = f"told-{len(titles)}"
    artist.set_gid(name)
    titles[name] = text


def _with_titles(svg: str, titles: Mapping[str, str]) -> str:
    """Put a title, which browsers show under the mouse, into each group that something is told of."""

    def titled(match: re.Match[str]) -> str:
        return f"{match[0]}<title>{html.escape(titles[match[1]])}</title>" if match[1] in titles else match[0]

    return re.sub(r'<g id="(told-\d+)">', titled, svg) if titles else svg


def _page(svg: str, figure: Figure) -> str:
    title = html.escape(figure.get_suptitle())
    picture = svg[svg.index("<svg") :]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{margin:2rem auto;max-width:72rem;font-family:sans-serif}svg{width:100%;height:auto}"
        'g[id^="told-"]:hover{opacity:.55}</style></head>\n'
        f"<body>{picture}</body></html>\n"
    )
