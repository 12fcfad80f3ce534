"""One try at one URL: ask, follow, judge, receive."""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple, TypeAlias

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from .asking import Asking, NoAnswer, condition, first_hop
from .bundle import AioDownloadBundle, Status
from .entries import Publication
from .errors import (
    AioDownloadError,
    CodingError,
    DigestError,
    DownloadError,
    HomeError,
    JournalError,
    ProtocolError,
    ResponseError,
    RetryAfterError,
    RobotsError,
    StatusError,
    StrategyError,
    TransportError,
)
from .events import Received, Receiving, Watchers
from .flow import Flow, Flows
from .intake import divert
from .permission import Permissions
from .permit import Permit
from .recorder import confirm
from .request.hosts import Share
from .request.response import (
    PLAIN,
    Asked,
    Complete,
    Head,
    Part,
    Refuse,
    Restart,
    Unchanged,
    Whole,
    accept_response,
)
from .request.retry_after import LATER, retry_after
from .request.strategy import RequestStrategy
from .segments import Refused, Segments
from .storage.content import Arriving, Body
from .storage.delivery import Delivery, Divide, Framing
from .storage.kept import Origin
from .storage.partial import PartialFile
from .storage.publishing import Publishing
from .storage.strategy import DownloadStrategy, goes_on, reads_by_itself
from .storage.workspace import Workspace
from .transport import TRANSPORT_ERRORS, Transport, transport_error

__all__ = ["Confirmed", "Exchanges", "Failure", "Result", "bug"]


class Confirmed:
    """The file that is there is what the server has."""


class Failure(NamedTuple):
    """A try that went wrong.

    :param retry: whether the strategy wants another one.
    :param at_least: seconds that the server asks to be left alone.
    :param later: whether its status says that it has too much to do.
    :param silent: whether there was no answer at all.
    """

    error: AioDownloadError
    retry: bool = False
    at_least: float = 0.0
    later: bool = False
    silent: bool = False


class _Short:
    """The server sent less than the rest of the file; it is kept, and there is more to be had."""


class _Plan(NamedTuple):
    """What a request was made for.

    :param url: at which of the bundle's URLs it began.
    :param asked: what it said.
    :param held: the beginning of the file, which it asked the rest of, or None.
    """

    url: URL
    asked: Asked
    held: PartialFile | None


_Outcome: TypeAlias = Failure | Restart | _Short | Confirmed | Publishing | None


Result: TypeAlias = Failure | Confirmed | Publishing | None


def _extent(verdict: Whole | Part, held: PartialFile | None) -> tuple[int | None, int]:
    """Bytes of the whole body, if known, and how many of them are there already."""
    if isinstance(verdict, Whole):
        return verdict.length, 0
    missing = sum(end - first for first, end in held.gaps) if held is not None else verdict.end - verdict.first
    return verdict.total, verdict.total - missing


def _keep() -> None:
    """Keep the slot."""


_LOUD = (StrategyError, HomeError, JournalError)  # they end the run


def bug(bundle: AioDownloadBundle | None, hook: str, error: Exception) -> AioDownloadError:
    """Return what to raise for an exception that is beyond the contract of a hook."""
    if isinstance(error, _LOUD):
        return error
    return StrategyError(bundle, hook, f"{type(error).__name__}: {error}")


class Exchanges:
    """Makes single tries, each at one URL, with the strategies, sessions and storage of one entered AioDownload."""

    def __init__(
        self,
        request: RequestStrategy,
        download: DownloadStrategy,
        transport: Transport,
        workspace: Workspace,
        permissions: Permissions | None = None,
        watchers: Watchers | None = None,
        share: Share | None = None,
    ) -> None:
        self._watchers = watchers or Watchers()
        self._asking = Asking(transport, permissions)
        self._flows = Flows(request, share)
        self._request = request
        self._download = download
        self._workspace = workspace
        self._override = reads_by_itself(download)
        self._goes_on = goes_on(download)

    async def one(self, bundle: AioDownloadBundle, permit: Permit, url: URL) -> Result:
        """Try ``bundle`` at ``url``."""
        permit.attempted()
        bundle.attempts += 1
        bundle.status = Status.ATTEMPTED
        bundle.http_status = bundle.final_url = bundle.response_headers = None
        failure: Result
        try:
            failure = await self._ask(bundle, permit, url)
        except (TransportError, RobotsError) as error:
            failure = self._broken(bundle, error)
        except DownloadError as error:
            failure = Failure(error)
        finally:
            bundle._delivery = None
        bundle.error = failure.error if isinstance(failure, Failure) else None
        return failure

    async def _ask(self, bundle: AioDownloadBundle, permit: Permit, url: URL) -> Result:
        while bundle._kept and (held := await self._held(bundle)) is not None:
            keep = True
            try:
                outcome = await self._exchange(bundle, permit, url, held)
                keep = not isinstance(outcome, Restart)
            finally:
                if await held.abandon(keep=keep):
                    self._workspace.kept(bundle)
            if not isinstance(outcome, (Restart, _Short)):
                return outcome
            # Our Range has made the next request necessary: it is no try of its own, and waits only for its turn.
            await permit.pace(url)
            if isinstance(outcome, Restart):
                break
        outcome = await self._exchange(bundle, permit, url, None)
        if isinstance(outcome, Restart) and bundle._condition is not None:  # its file is gone: ask for all of it
            bundle._condition = None
            await permit.pace(url)
            outcome = await self._exchange(bundle, permit, url, None)
        if isinstance(outcome, (Restart, _Short)):  # only a Range or a condition can lead to these
            raise ProtocolError("the server sent a part though the whole was asked for")
        return outcome

    async def _held(self, bundle: AioDownloadBundle) -> PartialFile | None:
        """What an earlier try has left, to go on with."""
        bundle._kept = False
        if not self._goes_on or bundle.params:
            return None
        return await self._workspace.take_up(bundle.file_path or "", str(bundle._parse()))

    async def _exchange(
        self, bundle: AioDownloadBundle, permit: Permit, url: URL, held: PartialFile | None
    ) -> _Outcome:
        """Ask, follow redirects, and judge the answer.

        :returns: None for success, or what is missing to that.
        """
        hop, asked = first_hop(bundle, url), PLAIN
        if held is not None and held.held is not None:
            origin, (first, end) = held.held, held.gaps[0]
            asked = Asked(first, None if end == origin.total else end - 1, origin.validator, origin.total)
            hop = hop._replace(terms=_range(asked))
        elif bundle._condition is not None and (terms := condition(bundle, url)):
            asked, hop = Asked(condition=True), hop._replace(terms=terms)
        try:
            response, hop = await self._asking.follow(hop, permit)
        except NoAnswer as silence:
            return Failure(silence.error, self._wanted(bundle, silence.error), silent=True)
        try:
            return await self._judge(bundle, hop.url, response, permit, _Plan(url, asked, held))
        finally:
            # Gives the connection back if the body was read to its end, and closes it otherwise.
            response.close()

    async def _judge(
        self,
        bundle: AioDownloadBundle,
        url: URL,
        response: aiohttp.ClientResponse,
        permit: Permit,
        plan: _Plan,
    ) -> _Outcome:
        bundle.http_status = response.status
        bundle.final_url = bundle._text_of(url)  # without user and password, and percent-encoded
        bundle.response_headers = CIMultiDict(response.headers)
        verdict = accept_response(_head(response), plan.asked)
        if isinstance(verdict, (Restart, Complete)):
            return verdict if isinstance(verdict, Restart) else Restart("the server has no more than is held")
        if isinstance(verdict, Unchanged):
            return await self._confirmed(bundle)
        reason = self._unsuccessful(bundle, response)
        if isinstance(verdict, Part):
            if reason is not None:  # a strategy that wants a 200 gets one
                return Restart(reason)
            return await self._receive(bundle, response, permit, plan, verdict, self._flow(bundle, url))
        if isinstance(verdict, Whole) and reason is None:
            if plan.held is not None:
                await plan.held.abandon()
            return await self._receive(bundle, response, permit, plan, verdict, self._flow(bundle, url))
        if isinstance(verdict, Refuse):
            reason = reason or verdict.reason
        refusal = StatusError(reason or "nothing to keep", response.status)
        return self._refused(bundle, response, permit, refusal)

    def _flow(self, bundle: AioDownloadBundle, url: URL) -> Flow | None:
        """What limits the body of ``bundle`` that comes from ``url``, and lets be heard of it."""
        watchers = self._watchers
        if not (watchers.listening and watchers.wants(Received)):
            return self._flows.of(url)
        return self._flows.of(url, lambda count: watchers.emit(Received(bundle, count)))

    async def _confirmed(self, bundle: AioDownloadBundle) -> Confirmed | Restart:
        """The server has nothing newer than the file, and the file must still be what it was."""
        file: Publication = bundle._condition
        there = (await self._workspace.states([file.path])).get(file.path)
        if there is None or not file.is_of(there):
            return Restart("the file that was to be confirmed is not there any more")
        confirm(bundle, file)
        return Confirmed()

    def _unsuccessful(self, bundle: AioDownloadBundle, response: aiohttp.ClientResponse) -> str | None:
        """Why the strategy does not want the response, or None."""
        try:
            self._request.assert_response(response)
        except AssertionError as error:
            return str(error) or f"status {response.status} {response.reason or ''}".rstrip()
        except Exception as error:
            raise bug(bundle, "assert_response", error) from error
        return None

    def _refused(
        self,
        bundle: AioDownloadBundle,
        response: aiohttp.ClientResponse,
        permit: Permit,
        refusal: ResponseError,
    ) -> Failure:
        try:
            retry = bool(self._request.retry(response))
        except Exception as error:
            raise bug(bundle, "retry", error) from error
        wait, told = self._sent_away(response, permit)
        if told and retry:
            return Failure(RetryAfterError(f"{refusal}; {told}", response.status, wait))
        return Failure(refusal, retry, wait, later=response.status in LATER and wait == 0)

    def _sent_away(self, response: aiohttp.ClientResponse, permit: Permit) -> tuple[float, str]:
        """For how many seconds the server asks to be left alone, and in words if that is too long to wait for.

        If its status says that it has too much to do, that is true for others as well.
        """
        wait, limit = (
            retry_after(response.headers.getall("Retry-After", ()), time.time()),
            self._request.max_retry_after,
        )
        if wait <= limit:
            return wait, ""
        told = f"the server asks to come back in {wait:.0f} s, and max_retry_after is {limit:g} s"
        if response.status in LATER:
            permit.closed(wait, RetryAfterError(f"{told} (it told another bundle)", response.status, wait))
        return wait, told

    async def _receive(
        self,
        bundle: AioDownloadBundle,
        response: aiohttp.ClientResponse,
        permit: Permit,
        plan: _Plan,
        verdict: Whole | Part,
        flow: Flow | None,
    ) -> _Outcome:
        bundle.size = None
        if self._watchers.listening and self._watchers.wants(Receiving):
            self._watchers.emit(Receiving(bundle, *_extent(verdict, plan.held)))
        try:
            bundle._delivery = delivery = self._delivery(bundle, response, permit, plan, verdict, flow)
            if not self._override:
                return await delivery.receive(wait=False)
            delivery.decode_for_override()
            await self._download.on_success(response, bundle)
        except _LOUD:
            raise
        except (TransportError, CodingError, DigestError) as error:
            return _Short() if delivery.stopped_short else self._broken(bundle, error)
        except AioDownloadError as error:
            return Failure(error)
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

    def _delivery(
        self,
        bundle: AioDownloadBundle,
        response: aiohttp.ClientResponse,
        permit: Permit,
        plan: _Plan,
        verdict: Whole | Part,
        flow: Flow | None,
    ) -> Delivery:
        """What brings the body to its file."""
        if isinstance(verdict, Whole):
            validator, held, framing = verdict.etag, None, Framing(verdict.length, verdict.chunked)
        else:
            # Its Content-Range binds it, however else its end is marked.
            framing = Framing.of(response)._replace(length=verdict.end - verdict.first)
            validator, held = plan.asked.validator, plan.held
        return Delivery(
            self._workspace,
            bundle,
            response,
            _keep if bundle.mirrors else permit.free,  # the next mirror is asked at once
            framing=framing,
            validator=validator if self._goes_on else None,
            held=held,
            own=not bundle.mirrors or plan.url == bundle._parse(),
            flow=flow,
            divide=self._divider(bundle, permit, plan, flow),
            untouched=not self._override,
            divert=divert,
        )

    def _divider(self, bundle: AioDownloadBundle, permit: Permit, plan: _Plan, flow: Flow | None) -> Divide | None:
        """What fetches a large file in several parts; None where that is not wanted."""
        count = self._download.segments if bundle._divisible else 1
        if not self._goes_on or bundle.params or (count == 1 and plan.held is None):
            return None

        def divide(sink: PartialFile, origin: Origin) -> Segments:
            asked = Asked(validator=origin.validator, total=origin.total)
            ask = partial(self._ask_part, bundle, plan.url, asked, flow)
            return Segments(count, sink, ask, lambda one: one.pace(plan.url), permit)

        return divide

    async def _ask_part(
        self,
        bundle: AioDownloadBundle,
        url: URL,
        asked: Asked,
        flow: Flow | None,
        first: int,
        end: int,
        permit: Permit,
    ) -> Arriving:
        """Ask for some bytes of the file that is being fetched.

        :raises Refused: if the server has not that file any more, or gives no parts of it.
        :raises DownloadError: if they cannot be had now.
        """
        asked = asked._replace(first=first, last=end - 1)
        try:
            response, _ = await self._asking.follow(first_hop(bundle, url)._replace(terms=_range(asked)), permit)
        except NoAnswer as silence:
            raise silence.error from silence
        try:
            verdict = accept_response(_head(response), asked)
            reason = self._unsuccessful(bundle, response)
            if isinstance(verdict, Part) and reason is None:
                return Arriving(Body(response.content, flow), verdict.end, response.close)
            if isinstance(verdict, Refuse):
                self._sent_away(response, permit)
            raise Refused(reason or getattr(verdict, "reason", "the server sent the whole of it"))
        except BaseException:
            response.close()
            raise

    def _broken(self, bundle: AioDownloadBundle, error: DownloadError) -> Failure:
        """No usable response, or a broken body.  A POST is sent again only after a response that says so."""
        return Failure(error, self._wanted(bundle, error))

    def _wanted(self, bundle: AioDownloadBundle, error: DownloadError) -> bool:
        """Whether the strategy wants another try after ``error``."""
        if bundle.params:
            return False
        try:
            return bool(self._request.retry_error(error))
        except Exception as mistake:
            raise bug(bundle, "retry_error", mistake) from mistake


def _range(asked: Asked) -> dict[str, str]:
    """The fields that ask for a part; with no If-None-Match, since a 304 would be an answer about the whole."""
    last = "" if asked.last is None else asked.last
    return {"Range": f"bytes={asked.first}-{last}", "If-Range": asked.validator or ""}


def _head(response: aiohttp.ClientResponse) -> Head:
    """What the head of ``response`` says about its body."""

    get = response.headers.getall
    if response.status == 200:  # nearly always; the rest of it speaks of parts
        length, coding, etag = get("Content-Length", ()), get("Transfer-Encoding", ()), get("ETag", ())
        return Head(200, (), length, coding, (), "", etag)

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
