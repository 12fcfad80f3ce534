"""Config: settings for the commands from a TOML file."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

import click

__all__ = ["default_path", "defaults"]


def default_path() -> Path:
    """Where a user's own settings are, if there are any."""
    return Path(click.get_app_dir("aiodownload")) / "config.toml"


def defaults(path: Path, group: click.Group) -> dict[str, dict[str, Any]]:
    """The settings of a file, by command, as defaults of its options.

    A table ``[get]`` is for that command only; what stands above all tables is for every command that has such an
    option.  Names are those of the long options, without the dashes at their beginning.

    :raises click.UsageError: for a file that cannot be read, and for a name that no command has.
    """
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise click.UsageError(f"the settings in {path} cannot be read: {os.strerror(error.errno or 0)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} is no TOML file: {error}") from error
    commands = {name: _options(command) for name, command in group.commands.items()}
    common = {name: value for name, value in found.items() if not isinstance(value, dict)}
    everything = {name for options in commands.values() for name in options}
    for name in common:
        _check(name, everything, path, "no command")
    result = {}
    for name, options in commands.items():
        given = {**{key: value for key, value in common.items() if key in options}, **found.get(name, {})}
        for key in given:
            _check(key, set(options), path, f"[{name}]: the command")
        result[name] = {options[key]: value for key, value in given.items()}
    for name, value in found.items():
        if isinstance(value, dict):
            _check(name, set(commands), path, "no command")
    return result


def _options(command: click.Command) -> dict[str, str]:
    """The parameter behind each long option."""
    found = {}
    for option in command.params:
        if isinstance(option, click.Option) and option.expose_value:
            for name in option.opts:
                if name.startswith("--"):
                    found[name[2:]] = str(option.name)
    return found


def _check(name: str, known: set[str], path: Path, whose: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name.replace("_", "-"), known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise click.UsageError(f"{path}: {whose} has no {name!r}{hint}")
