"""Live: what an AioDownload has open while it is entered, and all runs on it share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .admission import chosen_path
from .attempt import Attempts, Done, Failed, Verdict, tell_failure
from .bundle import AioDownloadBundle, Status
from .dispatcher import Dispatcher, Startable
from .errors import ConfigurationError, DownloadError
from .events import Watchers
from .exchange import Exchanges
from .observers.logs import LogObserver, somebody_reads
from .outlast import outlast
from .permission import Permissions
from .permit import Permit
from .recorder import Recorder
from .request.hosts import Share
from .request.schedule import Entry, Schedule
from .request.strategy import check_request_settings, limits_of
from .run import Crew, Deliver, Run
from .source import Source
from .storage.publishing import Publishing
from .storage.strategy import check_download_settings
from .transport import Transport
from .tries import OwnTries

if TYPE_CHECKING:
    from .download import AioDownload

__all__ = ["Live"]


class Live:
    """Sessions, disk threads, one schedule, and the runs that share them.

    :param settings: what was entered.
    :param share: which hosts are asked from here only, if others download for the same run.
    :raises ConfigurationError: for a setting that cannot work.
    """

    def __init__(self, settings: AioDownload, share: Share | None = None) -> None:
        self.request = settings.request_strategy
        self.download = settings.download_strategy
        check_request_settings(self.request)
        check_download_settings(self.download)
        logs = (LogObserver(),) if somebody_reads() else ()
        self.watchers = Watchers((*settings.observers, *logs))
        schedule: Schedule[Startable] = Schedule(limits_of(self.request), share)
        self.dispatcher = Dispatcher(schedule, self.request.max_retry_after, self.watchers)
        self.workspace = self.download._workspace()
        self._transport = Transport(
            settings.client,
            self.request.timeout,
            public_only=self.request.public_only,
            contact=self.request.contact,
        )
        permissions = Permissions(self._transport, self.request) if self.request.robots else None
        exchanges = Exchanges(
            self.request, self.download, self._transport, self.workspace, permissions, self.watchers, share
        )
        self.attempts = Attempts(self.request, exchanges)
        self.recorder = self._recorder(settings)
        self.runs: set[Run] = set()
        self.workspace.disk.starving = self._starving

    def _recorder(self, settings: AioDownload) -> Recorder | None:
        refresh = self.download.refresh
        if settings.journal is None:
            if refresh:
                raise ConfigurationError(
                    "refresh=True needs a journal, which knows what was fetched: AioDownload(journal=)"
                )
            if self.download.skip_cached and self.download.content_disposition:
                raise ConfigurationError(
                    "skip_cached=True with content_disposition=True needs a journal, which knows the names that "
                    "servers have suggested: AioDownload(journal=)"
                )
            return None
        return Recorder(settings.journal, self.download, self.workspace)

    async def open(self) -> None:
        """Open the journal and the session.

        :raises JournalError: if the journal cannot be used.
        """
        if self.recorder is not None:
            await self.recorder.open()
        await self._transport.open()

    async def close(self) -> None:
        """Cancel what is unfinished, wait for it, and close everything, also if this wait is cancelled."""
        await outlast(self._close())

    async def _close(self) -> None:
        for run in tuple(self.runs):
            await run.close()
        self.dispatcher.close()
        try:
            await self._transport.close()
        finally:
            try:
                await self.workspace.close()
            finally:
                try:
                    if self.recorder is not None:
                        await self.recorder.close()
                finally:
                    await self.watchers.close()

    def start(self, source: Source, deliver: Deliver, *, at_once: bool = False, crew: Crew = OwnTries) -> Run:
        """Begin a run."""
        return Run(self, source, deliver, at_once=at_once, crew=crew)

    def release(self, entry: Entry[Startable]) -> None:
        """A slot is free again: start what may go, and let runs read on."""
        if not self.dispatcher.release(entry):  # what starts looks by itself
            for run in self.runs:
                run.look_for_room()

    def _starving(self) -> bool:
        return not self.runs or any(run.starves for run in self.runs)

    async def try_once(self, bundle: AioDownloadBundle) -> None:
        """One try, at once."""
        try:
            bundle._parse()
            bundle._file_path = chosen_path(self.download, bundle)
            verdict: Verdict = await self.attempts.one(bundle, Permit())
            if isinstance(verdict, Publishing):
                await verdict.finish()
                verdict = Done()
        except DownloadError as error:
            bundle.error = error
            verdict = Failed(error)
        if isinstance(verdict, Done):
            bundle.status = Status.DONE
        elif isinstance(verdict, Failed):
            bundle.status = Status.FAILED
            await self.workspace.failed(bundle)
            await tell_failure(self.download, bundle)
