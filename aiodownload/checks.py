"""Checks of settings: each names the setting and says what would be right."""

from __future__ import annotations

import math

from .errors import ConfigurationError

__all__ = ["flag", "number", "whole"]


def flag(name: str, value: object) -> None:
    """:raises ConfigurationError: unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def whole(name: str, value: object, least: int) -> None:
    """:raises ConfigurationError: unless ``value`` is an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {value!r}")


def number(name: str, value: object, *, above: float | None = None, least: float | None = None) -> None:
    """:raises ConfigurationError: unless ``value`` is a finite number > ``above`` or >= ``least``."""
    fits = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (above is None or value > above)
        and (least is None or value >= least)
    )
    if not fits:
        bound = f"above {above:g}" if above is not None else f"of at least {least:g}"
        raise ConfigurationError(f"{name} must be a number {bound}, not {value!r}")
