"""Checks of settings: each names the setting and says what would be right."""

from __future__ import annotations

import math

from .errors import ConfigurationError

__all__ = ["contact", "flag", "low_speed", "number", "whole"]


def flag(name: str, value: object) -> None:
    """:raises ConfigurationError: unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """:raises ConfigurationError: unless ``value`` is an int of at least ``least``, and at most ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigurationError(f"{name} must be a whole number {bound}, not {value!r}")


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


def low_speed(value: object) -> None:
    """:raises ConfigurationError: unless ``value`` is None or a pair of numbers above 0."""
    if value is None:
        return
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ConfigurationError(f"low_speed must be (bytes per second, seconds), not {value!r}")
    number("low_speed, its bytes per second,", value[0], above=0)
    number("low_speed, its seconds,", value[1], above=0)


def contact(value: object) -> None:
    """:raises ConfigurationError: unless ``value`` is None or can stand in a comment of a User-Agent."""
    if value is None:
        return
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or set(value) & set("()\\"):
        raise ConfigurationError(
            f"contact must be printable ASCII without brackets and backslashes, such as a mail address, not {value!r}"
        )
