"""What the head of an answer may mean, for every status there is."""

from __future__ import annotations

import pytest

from aiodownload.request.response import Accept, Refuse, accept_response


@pytest.mark.parametrize("status", [status for status in range(100, 600) if status != 200])
def test_only_a_200_can_be_a_whole_file(status: int) -> None:
    """Every status but 200 is refused, with a reason that names the status (RFC 9110 section 15.3.1)."""
    verdict = accept_response(status)
    assert isinstance(verdict, Refuse)
    assert str(status) in verdict.reason


def test_a_200_is_accepted() -> None:
    """A 200 is the whole representation."""
    assert accept_response(200) == Accept()


def test_an_unasked_part_is_called_a_part() -> None:
    """The reason for refusing a 206 says that it is a part and that the whole was asked for."""
    verdict = accept_response(206)
    assert isinstance(verdict, Refuse)
    assert "part" in verdict.reason
    assert "whole" in verdict.reason


def test_an_unasked_304_is_called_unasked() -> None:
    """The reason for refusing a 304 says that no condition was sent."""
    verdict = accept_response(304)
    assert isinstance(verdict, Refuse)
    assert "condition" in verdict.reason


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 306, 307, 308, 399])
def test_a_redirect_to_nowhere_is_called_so(status: int) -> None:
    """The reason for refusing another 3xx says that there is no place to go on to."""
    verdict = accept_response(status)
    assert isinstance(verdict, Refuse)
    assert "without a place" in verdict.reason


def test_a_verdict_is_a_value() -> None:
    """Two verdicts on the same status are equal, and none can be changed."""
    first = accept_response(404)
    assert first == accept_response(404)
    with pytest.raises(AttributeError):
        first.reason = "none"  # type: ignore[misc,union-attr]
