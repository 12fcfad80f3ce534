"""Outcomes: settled bundles as a list that a notebook shows well, as records, and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .bundle import AioDownloadBundle
from .errors import ConfigurationError, MissingExtraError
from .redact import printable, redact

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Outcomes", "record", "to_dataframe"]

SHOWN = 20  # bundles in the table of a notebook


def record(bundle: AioDownloadBundle) -> dict[str, Any]:
    """What became of ``bundle``, in values that JSON has: what ``aiodownload get --json`` writes, and nothing secret.

    :returns: ``url`` (str), ``ok`` (bool), ``status`` (str), ``attempts`` (int), ``http_status`` (int or None),
        ``final_url`` (str or None), ``file_path`` (str or None), ``size`` (bytes, int or None), ``verified`` (str),
        ``elapsed`` (seconds, float), ``error`` (str or None).
    """
    return {
        "url": redact(bundle.url),
        "ok": bundle.ok,
        "status": bundle.status.value,
        "attempts": bundle.attempts,
        "http_status": bundle.http_status,
        "final_url": bundle.final_url,
        "file_path": bundle.file_path,
        "size": bundle.size,
        "verified": bundle.verified.value,
        "elapsed": round(bundle.elapsed, 6),
        "error": None if bundle.error is None else str(bundle.error),
    }


class Outcomes(list[AioDownloadBundle]):
    """The bundles of a ``swarm``, in the order of its input: a list, which a notebook shows as a table."""

    __slots__ = ()

    @property
    def failed(self) -> list[AioDownloadBundle]:
        """Those that are not ``ok`` (list of bundles)."""
        return [bundle for bundle in self if not bundle.ok]

    def _repr_html_(self) -> str:
        """For IPython: how many became what, and the first of them, failures before all others."""
        from html import escape

        counts = Counter(bundle.status.value for bundle in self)
        summary = ", ".join(f"{escape(status)}: {count:,}" for status, count in counts.most_common())
        shown = sorted(self, key=lambda bundle: bundle.ok)[:SHOWN]
        head = "".join(f"<th>{name}</th>" for name in ("URL", "Status", "Bytes", "File or reason"))
        rows = "".join(_row(bundle) for bundle in shown)
        more = f"<p>and {len(self) - SHOWN:,} more</p>" if len(self) > SHOWN else ""
        return f"<p>{len(self):,} URLs: {summary or 'none'}</p><table><tr>{head}</tr>{rows}</table>{more}"


def _row(bundle: AioDownloadBundle) -> str:
    last = str(bundle.file_path if bundle.error is None else bundle.error)
    from html import escape

    cells = (printable(redact(bundle.url)), bundle.status.value, f"{bundle.size or 0:,}", printable(last))
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def to_dataframe(bundles: Iterable[AioDownloadBundle]) -> pd.DataFrame:
    """Return a table of what became of ``bundles``: a row for each, with the columns of their records.

    :param bundles: what ``swarm`` or ``each`` returned.
    :returns: a :class:`pandas.DataFrame`; ``http_status`` and ``size`` are nullable integers (``Int64``), and a column
        ``info`` has what the bundles carry, if any of them carries something.
    :raises MissingExtraError: without pandas (extra ``notebook``).
    :raises ConfigurationError: for what is no iterable of bundles.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("to_dataframe()", "notebook") from error
    given = list(bundles) if isinstance(bundles, Iterable) else [bundles]
    for bundle in given:
        if not isinstance(bundle, AioDownloadBundle):
            raise ConfigurationError(f"to_dataframe() takes the bundles of a swarm, not {type(bundle).__name__}")
    columns = list(record(AioDownloadBundle("")))
    frame = pd.DataFrame([record(bundle) for bundle in given], columns=columns)
    frame = frame.astype({"http_status": "Int64", "size": "Int64", "attempts": "int64", "elapsed": "float64"})
    if any(bundle.info is not None for bundle in given):
        frame["info"] = [bundle.info for bundle in given]
    return frame
