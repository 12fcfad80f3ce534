"""The command line (extra ``cli``)."""

from .commands import command

__all__ = ["command"]
