"""``python -m aiodownload``, and the ``aiodownload`` command."""

from __future__ import annotations

import sys

from .errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command line; without its packages say how to get them."""
    try:
        from .cli import command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("click", "rich"):
            raise
        sys.exit(_usage(str(MissingExtraError("the command line", "cli"))))
    command(prog_name="aiodownload")


def _usage(message: str) -> int:
    sys.stderr.write(f"aiodownload: {message}\n")
    return 2


if __name__ == "__main__":
    main()
