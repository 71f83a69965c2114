"""Names with bytes behind them: what a shared store of banks has to offer, and a bucket as such a store."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Protocol

from w2s_fast.core.errors import CacheError, UsageError

CONFLICT_WAITS = (0.0, 0.1, 0.4, 1.6, 3.2)
"""Seconds before each try to create an object that a store says exists, and that it then has not."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object: its name, its bytes, and when it was put there (seconds since 1970, by the store's clock)."""

    name: str
    bytes: int
    modified: float


class Objects(Protocol):
    """Objects by names such as `v1/refs/x.json`, each there whole or not at all. CacheError where a store refuses."""

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:
        """Create an object, durably: True where the name holds these bytes afterwards.

        False, and nothing is changed, when it holds others, unless `replace`. CacheError where the store says that the
        name is taken, and it is not.
        """
        ...

    def get(self, name: str, *, limit: int) -> bytes:
        """Its bytes; FileNotFoundError without it, CacheError when there are more than `limit`."""
        ...

    def list(self, prefix: str) -> Iterator[Stored]:
        """All objects below the folder `prefix`, in the order of their names."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...


@dataclass(frozen=True, kw_only=True)
class BucketObjects:
    """Objects in an obstore store: a bucket of S3, GCS or Azure, or memory."""

    store: Any
    url: str

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:
        with _told(self.url):
            for wait in CONFLICT_WAITS:
                time.sleep(wait)
                if self._put_once(name, data, replace=replace):
                    return True
                # a no alone says little: S3 answers so, too, to a name on which two writers met (nothing was written
                # then), and to the repetition of a request of ours whose answer was lost (it was written)
                try:
                    return self.get(name, limit=len(data)) == data
                except FileNotFoundError:
                    continue
                except CacheError:  # more bytes than these
                    return False
        raise CacheError(
            f"{self.url}/{name}: {len(CONFLICT_WAITS)} times the store said that it exists, and it does not; "
            "run the command again, and if that does not help use a store that keeps conditional writes"
        )

    def _put_once(self, name: str, data: bytes, *, replace: bool) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            # in one request: only such a one can be conditional
            obstore.put(self.store, _plain(name), data, mode="overwrite" if replace else "create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def get(self, name: str, *, limit: int) -> bytes:
        import obstore

        with _told(self.url):
            found = obstore.get(self.store, _plain(name))
            if found.meta["size"] > limit:
                raise CacheError(f"{self.url}/{name} holds {found.meta['size']} bytes, more than {limit}; remove it")
            return bytes(found.bytes())

    def list(self, prefix: str) -> Iterator[Stored]:
        import obstore

        with _told(self.url):
            found = [
                Stored(name=str(one["path"]), bytes=int(one["size"]), modified=one["last_modified"].timestamp())
                for page in obstore.list(self.store, prefix=_plain(prefix))
                for one in page
            ]
        return iter(sorted(found, key=lambda one: one.name))

    def delete(self, name: str) -> None:
        import obstore

        with _told(self.url):
            try:
                obstore.delete(self.store, _plain(name))
            except FileNotFoundError:
                return


@cache
def open_objects(url: str) -> Objects:
    """The store at an address, with credentials from the environment as obstore finds them; one for each address."""
    try:
        from obstore.store import MemoryStore, from_url
    except ModuleNotFoundError:
        raise UsageError(f"the cache {url} needs obstore; install it with: pip install 'w2s_fast[cloud]'") from None
    with _told(url):
        # memory is this process's own: for tests
        return BucketObjects(store=MemoryStore() if url.startswith("memory:") else from_url(url), url=url)


def _plain(name: str) -> str:
    """The name, refused unless it is a relative path without `..`."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name:
        raise CacheError(f"{name[:80]!r} is not a name of an object; names are relative paths")
    return name


@contextmanager
def _told(where: str) -> Generator[None]:
    try:
        yield
    except (FileNotFoundError, CacheError):
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("obstore"):
            raise
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CacheError(f"{where}: {why[:200]}; check the address, the network and the credentials") from error
