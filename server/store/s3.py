"""Files in a bucket of S3, under their paths in the data folder. Needs the `s3` extra.

Who asks for one is sent there by a link that is signed for a while, so that its bytes do not pass
through the server. Credentials, region and endpoint are those of the environment (`AWS_…`).
"""

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

LINK_S = timedelta(minutes=15)  # in which a download begins
ANSWER_S, RETRY_S, RETRIES = timedelta(seconds=20), timedelta(seconds=30), 3
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
            from obstore.store import S3Store as Bucket  # noqa: PLC0415
        except ImportError as error:
            raise StoreUnavailable(f"files cannot go to {url}: {ADVICE}") from error
        self.url = url
        self._obstore: Any = obstore
        # A missing key is FileNotFoundError, which is asked for where it may be.
        self._errors: tuple[type[Exception], ...] = (BaseError, OSError)
        try:
            self._bucket: Any = Bucket.from_url(
                url,
                config={"checksum_algorithm": "sha256"},  # of each piece, by the store itself
                client_options={"timeout": ANSWER_S, "allow_http": True},  # where that is named
                retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_S},
            )
        except self._errors as error:
            raise StoreUnavailable(f"{url}: {_first_line(error)}") from error

    def put(self, file: Path, key: str) -> None:
        """Send a file; it is there once this returns.

        Raises:
            StoreUnavailable
        """
        with self._told(key):
            self._obstore.put(self._bucket, key, file)

    def size(self, key: str) -> int | None:
        """Of a file there; None where it is not.

        Raises:
            StoreUnavailable
        """
        try:
            with self._told(key):
                return self._obstore.head(self._bucket, key)["size"]
        except FileNotFoundError:
            return None

    def has(self, key: str, size: int) -> bool:
        """Whether a file is there, of a size; where that is not known, it is not."""
        with suppress(StoreUnavailable):
            return self.size(key) == size
        return False

    def link(self, key: str) -> str:
        """Where whoever has the link gets a file, for a while.

        Raises:
            StoreUnavailable
        """
        with self._told(key):
            return self._obstore.sign(self._bucket, "GET", key, LINK_S)

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes of a file from `start` up to `end`.

        Raises:
            StoreUnavailable
        """
        with self._told(key):
            found = await self._obstore.get_async(
                self._bucket, key, options={"range": (start, end)}
            )
            async for piece in found.stream():
                yield bytes(piece)

    def remove(self, prefix: str) -> bool:
        """Delete a file, or all that is in a folder; returns whether nothing of it is left."""
        try:
            with self._told(prefix):
                for found in self._obstore.list(self._bucket, prefix=prefix):
                    self._obstore.delete(self._bucket, [file["path"] for file in found])
                with suppress(FileNotFoundError):
                    self._obstore.delete(self._bucket, prefix)
        except StoreUnavailable as error:
            logger.warning("%s is not deleted: %s", prefix, error)
            return False
        return True

    def _told(self, key: str) -> "_Told":
        return _Told(self._errors, f"{self.url}, {key}")


class _Told:
    """Failures of the store as ours, in a line; that something is not there is none."""

    def __init__(self, errors: tuple[type[Exception], ...], what: str) -> None:
        self._errors, self._what = errors, what

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, self._errors) and not isinstance(error, FileNotFoundError):
            raise StoreUnavailable(f"{self._what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
