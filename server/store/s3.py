"""Files in a bucket of S3, under their paths in the data folder. Needs the `s3` extra.

Who asks for one is sent there by a link that is signed for a while, so that its bytes do not pass
through the server. Credentials, region and endpoint are those of the environment (`AWS_…`).
"""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

LINK_S = timedelta(minutes=15)  # in which a download begins
CONNECT_S = timedelta(seconds=5)
ANSWER_S, FILE_S = timedelta(seconds=10), timedelta(minutes=30)  # whole requests
AWAY_S = 15.0  # in which a store that failed is not asked again by those who wait
ADVICE = "`pip install 'orrery[s3]'`"

logger = logging.getLogger(__name__)


class StoreUnavailable(OSError):
    """The store does not answer, or refuses."""


class S3Store:
    """A bucket, or what begins with a prefix in it.

    Args:
        url: `s3://BUCKET/PREFIX`.

    Raises:
        StoreUnavailable: the package is not here, or what the environment says makes no sense.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore  # noqa: PLC0415 - an extra
            from obstore.exceptions import BaseError  # noqa: PLC0415
        except ImportError as error:
            raise StoreUnavailable(f"files cannot go to {url}: {ADVICE}") from error
        self.url = url
        self._obstore: Any = obstore
        # A missing key is FileNotFoundError, which is asked for where it may be.
        self._errors: tuple[type[Exception], ...] = (BaseError, OSError)
        self._failed_at = -AWAY_S  # [s, monotonic]
        # Questions are answered soon or not at all; a file may take its time.
        self._asked, self._files = self._bucket(ANSWER_S, 1), self._bucket(FILE_S, 3)

    def _bucket(self, whole: timedelta, retries: int) -> Any:
        from obstore.store import S3Store as Bucket  # noqa: PLC0415

        try:
            return Bucket.from_url(
                self.url,
                config={"checksum_algorithm": "sha256"},  # of each piece, by the store itself
                client_options={
                    "connect_timeout": CONNECT_S,
                    "timeout": whole,
                    "allow_http": True,  # where the endpoint is one
                },
                retry_config={"max_retries": retries, "retry_timeout": whole},
            )
        except self._errors as error:
            raise StoreUnavailable(f"{self.url}: {_first_line(error)}") from error

    def put(self, file: Path, key: str) -> None:
        """Send a file; it is there once this returns.

        Raises:
            StoreUnavailable
        """
        with self._told(key):
            self._obstore.put(self._files, key, file)

    def size(self, key: str) -> int | None:
        """Of a file there; None where it is not.

        Raises:
            StoreUnavailable
        """
        try:
            with self._told(key):
                return self._obstore.head(self._asked, key)["size"]
        except FileNotFoundError:
            return None

    async def size_soon(self, key: str) -> int | None:
        """The same, for those who wait: one that has just failed is not asked.

        Raises:
            StoreUnavailable
        """
        if time.monotonic() - self._failed_at < AWAY_S:
            raise StoreUnavailable(f"{self.url} did not answer")
        try:
            with self._told(key):
                return (await self._obstore.head_async(self._asked, key))["size"]
        except FileNotFoundError:
            return None

    async def link(self, key: str) -> str:
        """Where whoever has the link gets a file, for a while.

        Raises:
            StoreUnavailable
        """
        with self._told(key):
            return await self._obstore.sign_async(self._asked, "GET", key, LINK_S)

    async def read(self, key: str, size: int) -> AsyncIterator[bytes]:
        """The bytes of a file.

        Raises:
            StoreUnavailable
        """
        with self._told(key):
            asked = {"range": (0, size)}
            found = await self._obstore.get_async(self._files, key, options=asked)
            async for piece in found.stream():
                yield bytes(piece)

    def remove(self, prefix: str) -> bool:
        """Delete a file, or all that is in a folder; returns whether nothing of it is left."""
        if time.monotonic() - self._failed_at < AWAY_S:
            logger.warning("%s is not deleted: %s did not answer", prefix, self.url)
            return False
        try:
            with self._told(prefix):
                for found in self._obstore.list(self._asked, prefix=prefix):
                    self._obstore.delete(self._asked, [file["path"] for file in found])
                with suppress(FileNotFoundError):
                    self._obstore.delete(self._asked, prefix)
        except StoreUnavailable as error:
            logger.warning("%s is not deleted: %s", prefix, error)
            return False
        return True

    def _told(self, key: str) -> "_Told":
        return _Told(self, self._errors, key)

    def failed(self) -> None:
        """It did not answer just now."""
        self._failed_at = time.monotonic()


class _Told:
    """Failures of the store as ours, in a line; that something is not there is none."""

    def __init__(self, store: S3Store, errors: tuple[type[Exception], ...], key: str) -> None:
        self._store, self._errors, self._key = store, errors, key

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, self._errors) and not isinstance(error, FileNotFoundError):
            self._store.failed()
            what = f"{self._store.url}, {self._key}: {_first_line(error)}"
            raise StoreUnavailable(what) from error


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
