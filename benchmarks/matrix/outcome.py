"""The legend: what a run is called, judged by nothing but its exit status and the bytes on disk."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["BAD", "HANG", "LEGEND", "NOT_APPLICABLE", "classify"]

HANG = "hang"
NOT_APPLICABLE = "n/a"

LEGEND = {
    "OK": "the right file under the final name, exit status 0",
    "SW": "*silent wrong*: exit status 0, but wrong bytes under the final name (or a file outside of the folder)",
    "LW": "loud but wrong: exit status not 0, and wrong bytes under the final name, or an old whole file gone",
    "LC": "loud and clean: exit status not 0, and the final name is absent, or holds the old whole file",
    "E0": "exit status 0, and no file at all",
    HANG: "still running when its time was over",
    NOT_APPLICABLE: "does not apply to this tool; the reason stands below",
}
BAD = ("SW", "LW", "E0", HANG)


def classify(
    exit_code: int | None, found: bytes | None, old: bytes | None, wanted: Collection[bytes], kind: str = "plain"
) -> str:
    """Return the word of the legend for one run.

    :param exit_code: the exit status (int, negative for a signal), None if the run had to be stopped.
    :param found: the bytes under the final name, None if there is no such file.
    :param old: the whole file that was there before, None if there was none; a partial file does not count.
    :param wanted: the contents that would be right; none if only a failure is right.
    :param kind: ``"plain"``; ``"kill"`` if the run was killed on purpose, so that nobody takes its file for
        finished; ``"escape"`` if a file was written outside of the folder.
    """
    if exit_code is None:
        return HANG
    silent = exit_code == 0 and kind != "kill"
    if kind == "escape":
        return "SW" if silent else "LW"
    if silent:
        if found is None:
            return "E0"
        return "OK" if found in wanted else "SW"
    clean = found == old or (found is not None and found in wanted)
    return "LC" if clean else "LW"
