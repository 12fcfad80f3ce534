"""The contract of strategies as rules, and what is told when one is broken."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["ConformanceError", "Finding", "Findings", "Rule"]

SHOWN = 3  # findings of one rule in the message; the rest is counted


class Rule(enum.Enum):
    """What a strategy must keep to; the values say it in words."""

    SETTINGS = "every setting is readable once super().__init__() was called, and valid"
    PICKLES = "a strategy pickles, so that it can go to another process"
    NO_STATE = "a strategy holds settings and no state of a run"
    ASYNC_HOOKS = "on_success and on_fail are coroutine functions, and no other hook is"
    NO_BUGS = "a hook raises nothing that its contract does not name"

    PURE_PATH = "get_file_path is pure: a str, the same for the same bundle, without input and output"
    DISTINCT_PATHS = "different URLs get different paths"
    BELOW_HOME = "paths stay below home, whatever the URL says"
    FINAL_NAME = "the final name never holds a wrong or half file"
    OLD_FILE = "a failure leaves the old file as it was"
    NOTHING_ELSE = "nothing stays behind besides the files"
    OUTCOME = "what is whole is a success, and what is not is a failure"
    ON_FAIL_ONCE = "on_fail is called once for a failure, and not for a success"
    CANCELLATION = "a cancelled hook ends, and lets CancelledError pass"

    SLEEP_TIME = "get_sleep_time returns a finite number of seconds, for every number of attempts"
    ASSERT_RESPONSE = "assert_response returns None or raises AssertionError"
    RETRY = "retry returns True or False for every response"
    RETRY_ERROR = "retry_error returns True or False for every error"
    ATTEMPTS = "there are no more tries than max_attempts"
    SPACING = "request starts are as far apart as get_sleep_time says at attempts == 0"


@dataclass(frozen=True)
class Finding:
    """A rule that was broken.

    :param rule: which (:class:`Rule`).
    :param where: with what fault, URL or call (str).
    :param seen: what was seen (str).
    :param right: what would be right (str).
    """

    rule: Rule
    where: str
    seen: str
    right: str

    def __str__(self) -> str:
        return f"{self.where}: {self.seen}; right: {self.right}"


class ConformanceError(AssertionError):
    """A strategy breaks its contract.

    :param subject: the name of its class (str).
    :param findings: what was found (tuple of :class:`Finding`).
    """

    def __init__(self, subject: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(subject, findings)
        self.subject = subject
        self.findings = findings

    def __str__(self) -> str:
        grouped: dict[Rule, list[Finding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.rule, []).append(finding)
        lines = [f"{self.subject} breaks {len(grouped)} rule{'s' if len(grouped) > 1 else ''}:"]
        for rule, findings in grouped.items():
            lines += [f"{rule.name}: {rule.value}", *(f"    {finding}" for finding in findings[:SHOWN])]
            if len(findings) > SHOWN:
                lines.append(f"    and {len(findings) - SHOWN} more")
        return "\n".join(lines)


class Findings:
    """What a check has found so far.

    :param skip: rules that are not checked.
    """

    def __init__(self, skip: Collection[Rule] = ()) -> None:
        self.subject = "the strategy"
        self._skip = frozenset(skip)
        self._found: list[Finding] = []

    def add(self, rule: Rule, where: str, seen: str, right: str) -> None:
        """Note a broken rule, once."""
        finding = Finding(rule, where, seen, right)
        if rule not in self._skip and finding not in self._found:
            self._found.append(finding)

    def has(self, rule: Rule) -> bool:
        """Whether ``rule`` was found to be broken."""
        return any(finding.rule is rule for finding in self._found)

    def tell(self) -> None:
        """Return if nothing was found.

        :raises ConformanceError: with all that was.
        """
        if self._found:
            raise ConformanceError(self.subject, tuple(self._found))
