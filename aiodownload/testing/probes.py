"""Looks at a strategy from outside: its settings, its state, whether it pickles, and whether a call does any I/O."""

from __future__ import annotations

import copy
import functools
import inspect
import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import ConfigurationError
from .rules import Findings, Rule

__all__ = ["check_pickles", "check_settings", "check_state", "described", "made", "state", "touching"]

S = TypeVar("S")

DEEPEST = 8  # levels of a strategy's attributes that are compared

_FILES = (
    "open stat lstat listdir scandir mkdir rmdir remove unlink rename replace access readlink utime chmod link symlink"
)
_IO = {
    *((module, name) for module in ("posix", "nt") for name in _FILES.split()),
    *((module, "open") for module in ("io", "_io")),
    ("time", "sleep"),
    ("_socket", "getaddrinfo"),
    ("_socket", "gethostbyname"),
}


def made(given: S | Callable[..., S], kind: type[S], home: str | None, findings: Findings) -> S | None:
    """Return a strategy to try: what the factory makes, or a copy of the one that was given.

    :param home: the folder for the files, for a factory that takes one.
    """
    findings.subject = type(given).__name__ if isinstance(given, kind) else getattr(given, "__name__", repr(given))
    if isinstance(given, kind):
        return copy.copy(given)
    if not callable(given):
        raise TypeError(f"give a {kind.__name__} or a callable that makes one, not {given!r}")
    try:
        strategy: object = given(home=home) if home is not None and _takes(given, "home") else given()
    except Exception as error:
        findings.add(Rule.SETTINGS, "making one", described(error), f"make a {kind.__name__} without an exception")
        return None
    if not isinstance(strategy, kind):
        raise TypeError(f"{given!r} must make a {kind.__name__}, not {strategy!r}")
    findings.subject = type(strategy).__name__
    return strategy


def _takes(function: Callable[..., object], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    named = parameters.get(name)
    if named is not None:
        return named.kind is not named.POSITIONAL_ONLY
    return any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def check_settings(strategy: object, base: type, check: Callable[[Any], None], findings: Findings) -> bool:
    """Look whether ``base.__init__`` has set each of its settings, and whether all can work."""
    names = [name for name in inspect.signature(base).parameters if not _is_set(strategy, name)]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        seen = f"{', '.join(names[:3])}{more} {'is' if len(names) == 1 else 'are'} not set"
        findings.add(
            Rule.SETTINGS, "after __init__", seen, "call super().__init__(...) first, with settings by keyword"
        )
        return False
    try:
        check(strategy)
    except ConfigurationError as error:
        findings.add(Rule.SETTINGS, "after __init__", str(error), "a value that the base class would take")
        return False
    return True


def _is_set(strategy: object, name: str) -> bool:
    held = vars(strategy)
    if name in held or f"_{name}" in held:
        return True
    descriptor = inspect.getattr_static(type(strategy), name, None)
    return name != "home" and hasattr(type(descriptor), "__set__")


class _Pickler(pickle.Pickler):
    """Pickles a strategy, and takes for granted that its class can be imported: one made in a test cannot be."""

    def __init__(self, file: io.BytesIO, kind: type) -> None:
        super().__init__(file)
        self._kind = kind

    def persistent_id(self, obj: object) -> str | None:
        return "class" if obj is self._kind else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kind: type) -> None:
        super().__init__(file)
        self._kind = kind

    def persistent_load(self, pid: object) -> type:
        return self._kind


def check_pickles(strategy: object, base: type, findings: Findings) -> None:
    """Look whether ``strategy`` pickles, and has its settings afterwards."""
    right = "keep plain data in it, and functions that are defined in a module"
    file = io.BytesIO()
    try:
        _Pickler(file, type(strategy)).dump(strategy)
        file.seek(0)
        again = _Unpickler(file, type(strategy)).load()
    except Exception as error:
        findings.add(Rule.PICKLES, "pickle", described(error), right)
        return
    for name in inspect.signature(base).parameters:
        before, after = getattr(strategy, name), getattr(again, name, None)
        if before != after:
            seen = f"{name} was {before!r}, and is {after!r} afterwards"
            findings.add(Rule.PICKLES, "pickle", seen, "every setting as it was")


def described(error: BaseException) -> str:
    """Type and text of an exception."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def state(strategy: object, base: type, without: frozenset[str]) -> dict[str, object]:
    """Return what ``strategy`` and its classes hold, in a form that can be compared later.

    :param base: the class of the library, which is not looked at.
    :param without: names that do not count.
    """
    held = {name: _frozen(value, 0) for name, value in vars(strategy).items() if name not in without}
    for kind in type(strategy).__mro__[: -len(base.__mro__)]:
        for name, value in vars(kind).items():
            if isinstance(value, functools.cached_property):
                held.pop(name, None)
            elif not name.startswith("__") and not callable(value) and not hasattr(type(value), "__get__"):
                held[f"{kind.__name__}.{name}"] = _frozen(value, 0)
    return held


def check_state(before: dict[str, object], after: dict[str, object], findings: Findings) -> None:
    """Compare what a strategy has held before and after its runs."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        right = "put what belongs to one bundle into bundle.info; a strategy serves many bundles at once"
        findings.add(Rule.NO_STATE, "after the runs", f"{', '.join(changed)} changed in the course of it", right)


def _frozen(value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)) or depth > DEEPEST:
        return value if depth <= DEEPEST else None
    if isinstance(value, Mapping):
        return type(value), [(_frozen(key, depth + 1), _frozen(one, depth + 1)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [_frozen(one, depth + 1) for one in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(one) for one in value)
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and not isinstance(value, type) and held:
        return type(value), id(value), _frozen(held, depth + 1)
    return type(value), repr(value)


@contextmanager
def touching() -> Iterator[list[str]]:
    """Note the calls of this thread, meanwhile, that reach a disk or a network, or wait."""
    calls: list[str] = []

    def note(frame: object, event: str, function: Any) -> None:
        if event != "c_call":
            return
        module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
        if (module, name) in _IO:
            calls.append("open" if name == "open" else f"{str(module).lstrip('_').replace('posix', 'os')}.{name}")
        elif name == "connect" and type(getattr(function, "__self__", None)).__name__ == "socket":
            calls.append("socket.connect")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
