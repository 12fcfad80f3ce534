"""Objects: a bucket of an object store, through obstore: looked at, written to, its errors turned into ours."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..checksums import Digest, Hasher
from ..entries import FileState
from ..errors import ConfigurationError, HomeError, MissingExtraError, StoreError, UsageError
from ..homes import Bucket
from .disk import Disk

if TYPE_CHECKING:
    from obstore.store import MemoryStore, ObjectStore

__all__ = ["DIGEST", "ETAG", "MARK", "MODIFIED", "PROOF", "Seen", "Store", "memory_store", "needs_obstore"]

_log = logging.getLogger("aiodownload")

# Names of metadata that every store takes: Azure wants identifiers, S3 has no case, and proxies drop underscores.
MARK, PROOF, DIGEST, ETAG, MODIFIED = (
    "aiodownload",
    "aiodownloadproof",
    "aiodownloadsha256",
    "aiodownloadetag",
    "aiodownloadmodified",
)

LOOKS = 32  # objects that are looked at at once
# Seconds before the interpreter is taken down.  After each answer, threads of obstore ask for its lock once more, and
# abort the process if they are as late as that.
LAST_BREATH = 0.1
_DEFAULTS = {"timeout": "10m", "connect_timeout": "10s"}  # obstore's 30 s are too short for a part on a slow line
_TRIAL = {"max_retries": "2", "retry_timeout": "15", "timeout": "30s"}
_ENVIRONMENT = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}  # what obstore reads there begins with
_RETRIES = ("max_retries", "retry_timeout")
_KINDS = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}

_INSTANCE = re.compile(r"//(?:169\.254\.169\.254|metadata\.google\.internal)[:/]")  # the last place to look for a key
_STATUS = re.compile(r"status code: (\d{3}(?: [A-Za-z-]+){0,4})")
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
_HTTP = re.compile(r" - (?:HTTP error: )?([a-z][a-z ]{2,60})")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ResourceNotFound"})
_NO_ENTRY = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "AuthenticationFailed",
        "AccountIsDisabled",
    }
)

_memory: dict[str, MemoryStore] = {}  # what memory:// stands for, by the name that may follow
_user: list[int] = []  # the process that has used obstore: its threads do not live on in a child that is forked


class Seen(NamedTuple):
    """An object that is there.

    :param size: its bytes.
    :param mark: the random number that it carries if it was written here, else None.
    :param sha256: what its bytes were proven to come to when it was written (hex digits), or None.
    """

    size: int
    mark: int | None
    sha256: str | None

    @property
    def state(self) -> FileState | None:
        """What is compared with a journal; None if somebody else has written it."""
        return None if self.mark is None else FileState.marked(self.size, self.mark)

    @property
    def proven(self) -> tuple[str, ...]:
        """``"sha256:<hex>"``, or nothing."""
        return () if self.mark is None or self.sha256 is None else (f"sha256:{self.sha256}",)


def needs_obstore() -> None:
    """:raises MissingExtraError: if obstore is not installed."""
    if importlib.util.find_spec("obstore") is None:
        raise MissingExtraError("a home in an object store", "objects")


def memory_store(name: str = "") -> MemoryStore:
    """Return what ``memory://name`` stands for in this process.

    :raises MissingExtraError: if obstore is not installed.
    """
    needs_obstore()
    from obstore.store import MemoryStore

    return _memory.setdefault(name, MemoryStore())


class Store:
    """A bucket, and the place in it where home is.

    :param home: its URL, with the prefix (str).
    :param store: what obstore makes of it.
    :param trial: the same, for a question whose answer must not take long.
    """

    def __init__(self, home: str, store: ObjectStore, trial: ObjectStore) -> None:
        self.home = home
        self._root = Bucket.of(home).url + "/"
        self._store = store
        self._trial = trial
        self._refused = False

    @classmethod
    def open(cls, home: str, options: Mapping[str, str]) -> Store:
        """Read settings and credentials.  Blocks.

        :raises ConfigurationError: if the options are none of this store.
        :raises UsageError: in a child that was forked when obstore was in use: it would wait for ever.
        """
        if not _user:
            _user.append(os.getpid())
            atexit.register(time.sleep, LAST_BREATH)
        if _user[0] != os.getpid():
            raise UsageError(
                "this process was forked from one that has used an object store, whose threads it has not; start it "
                "another way, such as ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))"
            )
        bucket = Bucket.of(home)
        if bucket.scheme == "memory":
            if options:
                raise ConfigurationError("store_options: memory:// has none")
            memory = memory_store(bucket.name)
            return cls(home, memory, memory)
        return cls(home, _made(bucket, options), _made(bucket, {**options, **_TRIAL}))

    async def probe(self) -> None:
        """Ask for an object that is not there, which tells whether there is a bucket, and one for us.

        A refusal alone is none of our business: to write may be allowed where to read is not.

        :raises HomeError: if it is certain that nothing can be written.
        """
        import obstore

        key = self.key(f"{self.home}/.aiodownload-{secrets.token_hex(8)}")
        try:
            await obstore.get_async(self._trial, key)
        except FileNotFoundError as error:
            reason = _NO_BUCKET.intersection(_CODE.findall(str(error))) and _words(error)
        except obstore.exceptions.PermissionDeniedError as error:
            reason = _NO_ENTRY.intersection(_CODE.findall(str(error))) and _words(error)
        except Exception as error:
            reason = _words(error)
        else:
            return
        if reason:
            raise HomeError(self.home, str(reason))

    def folded(self, path: str) -> str:
        """A key is compared as it is spelled."""
        return path

    def key(self, path: str) -> str:
        """Return the key of the object whose URL is ``path``."""
        return path.removeprefix(self._root)

    async def put(self, path: str, data: bytes, attributes: dict[str, str]) -> None:
        """Write an object at once.

        :raises StoreError: if that is not possible.
        """
        import obstore

        put = partial(obstore.put_async, attributes=attributes, use_multipart=False)
        await self._told(path, put, data)

    async def upload(
        self, path: str, parts: AsyncIterator[bytes], attributes: dict[str, str], part: int, flying: int
    ) -> None:
        """Write an object in parts; it appears when ``parts`` has ended, and never if that raises.

        Must not be cancelled: nobody would tell the store to forget the parts.

        :param part: bytes of each.
        :param flying: how many are under way at once.
        :raises StoreError: if that is not possible.
        """
        import obstore

        put = partial(
            obstore.put_async, attributes=attributes, use_multipart=True, chunk_size=part, max_concurrency=flying
        )
        await self._told(path, put, parts)

    async def _told(self, path: str, put: Callable[..., Awaitable[object]], body: object) -> None:
        """Write by ``put``, and say in our words what it says."""
        try:
            await put(self._store, self.key(path), body)
        except Exception as error:
            told = _words(error)
        else:
            return
        raise StoreError(path, told)

    async def look(self, paths: Sequence[str]) -> list[Seen | None]:
        """See which objects are there, many at once.

        :raises HomeError: if the store cannot be reached.
        """
        gate = asyncio.Semaphore(LOOKS)

        async def one(path: str) -> Seen | None:
            async with gate:
                return await self._look(path)

        looks = [asyncio.ensure_future(one(path)) for path in paths]
        try:
            return list(await asyncio.gather(*looks))
        finally:
            for look in looks:
                look.cancel()

    async def _look(self, path: str) -> Seen | None:
        import obstore

        try:
            found = await obstore.get_async(self._store, self.key(path), options={"head": True})
        except FileNotFoundError:
            return None
        except (obstore.exceptions.PermissionDeniedError, obstore.exceptions.InvalidPathError) as error:
            self._warn(error)
            return None
        except Exception as error:
            found, told = None, _words(error)
        if found is None:
            raise HomeError(self.home, told)
        metadata = {name.lower(): value for name, value in found.attributes.items()}
        mark = metadata.get(MARK, "")
        sha256 = metadata.get(DIGEST, "")
        return Seen(
            found.meta["size"],
            int(mark, 16) if re.fullmatch("[0-9a-f]{16}", mark) else None,
            sha256 if re.fullmatch("[0-9a-f]{64}", sha256) else None,
        )

    def _warn(self, error: Exception) -> None:
        """Once: S3 refuses to tell of an object that is not there to those who may not list."""
        if not self._refused:
            self._refused = True
            _log.warning(
                "%s does not tell which objects are there (%s): none is taken for there", self.home, _words(error)
            )

    async def agrees(self, path: str, expected: Sequence[Digest], disk: Disk) -> bool:
        """Whether the object has every expected checksum: by what it carries, or else by reading it."""
        import obstore

        (seen,) = await self.look([path])
        if seen is None:
            return False
        if {f"{one.algorithm}:{one.value.hex()}" for one in expected} <= set(seen.proven):
            return True
        hasher = Hasher(expected)
        try:
            found = await obstore.get_async(self._store, self.key(path))
            async for data in found.stream(min_chunk_size=1 << 20):
                await disk.run(hasher.update, memoryview(data))
        except (obstore.exceptions.BaseError, OSError, ValueError):
            return False
        return hasher.mismatch() is None


def _made(bucket: Bucket, options: Mapping[str, str]) -> ObjectStore:
    import obstore

    config: dict[str, Any] = dict(options)
    retry: dict[str, Any] = {}
    for name in _RETRIES:
        if (text := config.pop(name, None)) is not None:
            if not re.fullmatch(r"[0-9]{1,6}", text):
                raise ConfigurationError(f"store_options: {name!r} must be a whole number, of retries or of seconds")
            retry[name] = int(text) if name == "max_retries" else timedelta(seconds=int(text))
    for name, value in _DEFAULTS.items():
        if _ENVIRONMENT[bucket.scheme] + name.upper() not in os.environ:
            config.setdefault(name, value)
    make: Callable[..., ObjectStore] = getattr(obstore.store, _KINDS[bucket.scheme])
    try:
        return make(bucket.name, config=config, retry_config=retry)
    except (obstore.exceptions.BaseError, ValueError) as error:
        text = str(error)
    # What it says may quote a value.
    if "Account must be specified" in text:
        told = "give the account, by AZURE_STORAGE_ACCOUNT_NAME or as account_name"
    elif unknown := [name for name in options if f"'{name}'" in text]:
        told = f"{unknown[0]!r} is not one of obstore's names"
    else:
        told = "one of them, or of those in the environment, has a value that obstore cannot read"
    raise ConfigurationError(f"store_options of {bucket.scheme}://: {told}")


def _words(error: BaseException) -> str:
    """What a store says, without anything that may be a secret: its status, and its own word for it.

    What is raised with it has no other cause and context: the rest of what was said is nobody's business.
    """
    text = str(error)
    if _INSTANCE.search(text):
        return "no credentials were found; give them by the environment or in store_options"
    said = [*_STATUS.findall(text)[:1], *_CODE.findall(text)[:1]]
    if said:
        return " ".join(said)
    found = _HTTP.search(text)
    if found is None:
        return f"obstore says {type(error).__name__}"
    if found[1].startswith("builder error"):
        return "its endpoint cannot be asked; for http:// set allow_http to true, in store_options or the environment"
    return f"it cannot be reached ({found[1].strip()})"
