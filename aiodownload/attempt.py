"""One try of one bundle: ask, follow, judge, receive; and what is to be done after it."""

from __future__ import annotations

import base64
import math
import time
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from .bundle import AioDownloadBundle, Status
from .errors import (
    AioDownloadError,
    CodingError,
    DigestError,
    DownloadError,
    HomeError,
    ProtocolError,
    ResponseError,
    RetryAfterError,
    StatusError,
    StrategyError,
    TransportError,
)
from .request.redirects import REDIRECTS, Hop, Trail
from .request.response import PLAIN, Asked, Complete, Head, Part, Refuse, Restart, Whole, accept_response
from .request.retry_after import retry_after
from .request.strategy import RequestStrategy
from .storage.delivery import Delivery
from .storage.partial import PartialFile
from .storage.strategy import DownloadStrategy, goes_on, reads_by_itself
from .storage.workspace import Workspace
from .transport import TRANSPORT_ERRORS, Transport, transport_error

__all__ = ["Again", "Attempts", "Done", "Failed", "Permit", "Verdict", "bug", "sleep_time", "tell_failure"]


@dataclass(frozen=True, slots=True)
class Done:
    """``on_success`` returned."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again, no earlier than ``delay`` seconds from now."""

    error: AioDownloadError
    delay: float


@dataclass(frozen=True, slots=True)
class Failed:
    """It is over."""

    error: AioDownloadError


Verdict: TypeAlias = Done | Again | Failed


class Permit(Protocol):
    """The slot that a try holds."""

    async def pace(self) -> None:
        """Wait until one more request may start: before a redirect is followed."""

    def free(self) -> None:
        """The server has nothing more to do for this try; the slot may go to another.  May be called again."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that went wrong.

    :param retry: whether the strategy wants another one.
    :param at_least: seconds that the server asks to be left alone.
    """

    error: AioDownloadError
    retry: bool = False
    at_least: float = 0.0


@dataclass(frozen=True, slots=True)
class _Short:
    """The server sent less than the rest of the file; it is kept, and there is more to be had."""


_Outcome: TypeAlias = _Failure | Restart | _Short | None


def bug(bundle: AioDownloadBundle | None, hook: str, error: Exception) -> AioDownloadError:
    """Return what to raise for an exception that is beyond the contract of a hook."""
    if isinstance(error, (StrategyError, HomeError)):
        return error
    return StrategyError(bundle, hook, f"{type(error).__name__}: {error}")


class Attempts:
    """Makes single tries with the strategies, sessions and storage of one entered AioDownload."""

    def __init__(
        self, request: RequestStrategy, download: DownloadStrategy, transport: Transport, workspace: Workspace
    ) -> None:
        self._request = request
        self._download = download
        self._transport = transport
        self._workspace = workspace
        self._override = reads_by_itself(download)
        self._goes_on = goes_on(download)

    async def one(self, bundle: AioDownloadBundle, permit: Permit) -> Verdict:
        """Try ``bundle`` once.

        :param permit: the slot that was given for it.
        :raises StrategyError: for a bug in a strategy.
        :raises HomeError: if the folder for the files cannot be used.
        """
        bundle.attempts += 1
        bundle.status = Status.ATTEMPTED
        bundle.http_status = bundle.final_url = bundle.response_headers = None
        try:
            failure = await self._ask(bundle, permit)
        except TransportError as error:
            failure = self._broken(bundle, error)
        except DownloadError as error:
            failure = _Failure(error)
        finally:
            bundle._delivery = None
        if failure is None:
            bundle.error = None
            return Done()
        bundle.error = failure.error
        return self._after(bundle, failure)

    def _after(self, bundle: AioDownloadBundle, failure: _Failure) -> Verdict:
        if not failure.retry or bundle.attempts >= max(1, self._request.max_attempts):
            return Failed(failure.error)
        delay = sleep_time(self._request, bundle)
        return Again(failure.error, max(delay, failure.at_least))

    async def _ask(self, bundle: AioDownloadBundle, permit: Permit) -> _Failure | None:
        while (held := await self._held(bundle)) is not None:
            keep = True
            try:
                outcome = await self._exchange(bundle, permit, held)
                keep = not isinstance(outcome, Restart)
            finally:
                if await held.abandon(keep=keep):
                    self._workspace.kept(bundle)
            if not isinstance(outcome, (Restart, _Short)):
                return outcome
            # Our Range has made the next request necessary: it is no try of its own, and waits only for its turn.
            await permit.pace()
            if isinstance(outcome, Restart):
                break
        outcome = await self._exchange(bundle, permit, None)
        if isinstance(outcome, (Restart, _Short)):  # only a Range can lead to these
            raise ProtocolError("the server sent a part though the whole was asked for")
        return outcome

    async def _held(self, bundle: AioDownloadBundle) -> PartialFile | None:
        """What an earlier try has left, to go on with."""
        if not bundle._kept or not self._goes_on or bundle.params:
            return None
        bundle._kept = False
        return await self._workspace.take_up(bundle.file_path or "", str(bundle._parse()))

    async def _exchange(self, bundle: AioDownloadBundle, permit: Permit, held: PartialFile | None) -> _Outcome:
        """Ask, follow redirects, and judge the answer.

        :returns: None for success, or what is missing to that.
        """
        hop, asked = _first_hop(bundle), PLAIN
        if held is not None and held.held is not None:
            origin = held.held
            asked = Asked(held.size, None, origin.validator, origin.total)
            # And no If-None-Match: a 304 would be an answer about the whole.
            hop = hop._replace(range={"Range": f"bytes={held.size}-", "If-Range": origin.validator})
        trail: Trail | None = None
        while True:
            response = await self._transport.ask(hop)
            try:
                if response.status in REDIRECTS:
                    trail = trail or Trail()
                    locations = response.headers.getall("Location", ())
                    following = trail.follow(hop, response.status, locations, cookies="Set-Cookie" in response.headers)
                else:
                    following = None
                if following is None:
                    return await self._judge(bundle, hop.url, response, permit, asked, held)
            finally:
                # Gives the connection back if the body was read to its end, and closes it otherwise.
                response.close()
            await permit.pace()
            hop = following

    async def _judge(
        self,
        bundle: AioDownloadBundle,
        url: URL,
        response: aiohttp.ClientResponse,
        permit: Permit,
        asked: Asked,
        held: PartialFile | None,
    ) -> _Outcome:
        bundle.http_status = response.status
        bundle.final_url = str(url)  # without user and password, and percent-encoded
        bundle.response_headers = CIMultiDict(response.headers)
        verdict = accept_response(_head(response), asked)
        if isinstance(verdict, (Restart, Complete)):
            return verdict if isinstance(verdict, Restart) else Restart("the server has no more than is held")
        reason = self._unsuccessful(bundle, response)
        if isinstance(verdict, Part):
            if reason is not None:  # a strategy that wants a 200 gets one
                return Restart(reason)
            return await self._receive(bundle, response, permit, asked.validator, held)
        if isinstance(verdict, Whole) and reason is None:
            if held is not None:
                await held.abandon()
            return await self._receive(bundle, response, permit, verdict.etag, None)
        if isinstance(verdict, Refuse):
            reason = reason or verdict.reason
        return self._refused(bundle, response, StatusError(reason or "nothing to keep", response.status))

    def _unsuccessful(self, bundle: AioDownloadBundle, response: aiohttp.ClientResponse) -> str | None:
        """Why the strategy does not want the response, or None."""
        try:
            self._request.assert_response(response)
        except AssertionError as error:
            return str(error) or f"status {response.status} {response.reason or ''}".rstrip()
        except Exception as error:
            raise bug(bundle, "assert_response", error) from error
        return None

    def _refused(self, bundle: AioDownloadBundle, response: aiohttp.ClientResponse, refusal: ResponseError) -> _Failure:
        try:
            retry = bool(self._request.retry(response))
        except Exception as error:
            raise bug(bundle, "retry", error) from error
        wait = retry_after(response.headers.getall("Retry-After", ()), time.time())
        limit = self._request.max_retry_after
        if retry and wait > limit:
            told = f"{refusal}; the server asks to come back in {wait:.0f} s, and max_retry_after is {limit:g} s"
            return _Failure(RetryAfterError(told, response.status, wait))
        return _Failure(refusal, retry, wait)

    async def _receive(
        self,
        bundle: AioDownloadBundle,
        response: aiohttp.ClientResponse,
        permit: Permit,
        validator: str | None,
        held: PartialFile | None,
    ) -> _Outcome:
        bundle.size = None
        try:
            bundle._delivery = delivery = Delivery(
                self._workspace,
                bundle,
                response,
                permit.free,
                validator=validator if self._goes_on else None,
                held=held,
            )
            if self._override:
                delivery.decode_for_override()
            await self._download.on_success(response, bundle)
        except (StrategyError, HomeError):
            raise
        except (TransportError, CodingError, DigestError) as error:
            return _Short() if delivery.stopped_short else self._broken(bundle, error)
        except AioDownloadError as error:
            return _Failure(error)
        except TRANSPORT_ERRORS as error:
            translation = transport_error(error, self._request.timeout)
            translation.__cause__ = error
            return self._broken(bundle, translation)
        except Exception as error:
            raise bug(bundle, "on_success", error) from error
        finally:
            if bundle._delivery is not None:
                bundle._delivery.close()
        return None

    def _broken(self, bundle: AioDownloadBundle, error: DownloadError) -> _Failure:
        """No usable response, or a broken body.  A POST is sent again only after a response that says so."""
        if bundle.params:
            return _Failure(error)
        try:
            return _Failure(error, bool(self._request.retry_error(error)))
        except Exception as mistake:
            raise bug(bundle, "retry_error", mistake) from mistake


def sleep_time(strategy: RequestStrategy, bundle: AioDownloadBundle) -> float:
    """Ask the strategy; return seconds >= 0.

    :raises StrategyError: if the answer is no finite number.
    """
    try:
        seconds = float(strategy.get_sleep_time(bundle))
        if not math.isfinite(seconds):
            raise ValueError(f"{seconds} is no number of seconds")
    except Exception as error:
        raise bug(bundle, "get_sleep_time", error) from error
    return max(0.0, seconds)


async def tell_failure(strategy: DownloadStrategy, bundle: AioDownloadBundle) -> None:
    """Call ``on_fail``.

    :raises StrategyError: for a bug in it.
    """
    try:
        await strategy.on_fail(bundle)
    except Exception as error:
        raise bug(bundle, "on_fail", error) from error


def _head(response: aiohttp.ClientResponse) -> Head:
    """What the head of ``response`` says about its body."""

    get = response.headers.getall
    if response.status == 200:  # nearly always; the rest of it speaks of parts
        length, coding, etag = get("Content-Length", ()), get("Transfer-Encoding", ()), get("ETag", ())
        return Head(200, (), tuple(length), tuple(coding), (), "", tuple(etag))

    def field(name: str) -> tuple[str, ...]:
        return tuple(get(name, ()))

    return Head(
        response.status,
        content_range=field("Content-Range"),
        content_length=field("Content-Length"),
        transfer_encoding=field("Transfer-Encoding"),
        content_encoding=field("Content-Encoding"),
        content_type=", ".join(field("Content-Type")),
        etag=field("ETag"),
    )


def _first_hop(bundle: AioDownloadBundle) -> Hop:
    url = bundle._parse()
    headers = dict(bundle.headers)
    if url.raw_user is not None or url.raw_password is not None:
        if not any(name.lower() == "authorization" for name in headers):
            pair = f"{url.user or ''}:{url.password or ''}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
        url = url.with_user(None)
    body = bundle._form()
    return Hop("POST" if body is not None else "GET", url, headers, body)
