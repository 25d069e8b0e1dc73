"""Files in the data folder, and in the store where there is one."""

from dataclasses import dataclass
from pathlib import Path

from server import data_folder
from server.settings import ServerSettings
from server.store.s3 import S3Store


@dataclass(frozen=True)
class KeptFiles:
    """Deletes what rows named, wherever it is. These functions wait: call them in a thread."""

    data: Path
    store: S3Store | None = None

    @classmethod
    def of(cls, settings: ServerSettings) -> "KeptFiles":
        """Where a server's files are.

        Raises:
            StoreUnavailable: the store's package is not here, or its settings make no sense.
        """
        return cls(settings.data, None if settings.store is None else S3Store(settings.store))

    def remove_file(self, relative: str) -> bool:
        """Delete a file; returns whether nothing of it is left."""
        gone = data_folder.remove_file(self.data, relative)
        return (self.store is None or self.store.remove(relative)) and gone

    def remove_folder(self, relative: str) -> bool:
        """Delete a folder of a job, with all that is in it; returns whether nothing is left."""
        gone = data_folder.remove_folder(self.data, relative)
        return (self.store is None or self.store.remove(relative)) and gone

    def has(self, relative: str, size: int) -> bool:
        """Whether the store has what is not in the data folder.

        Raises:
            StoreUnavailable
        """
        return self.store is not None and self.store.size(relative) == size
