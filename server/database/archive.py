"""A whole backup: one tar file with the database, every file that it lists, the other files of
initial conditions that its jobs name, and tokens. Made while the server runs.

The first member is `manifest.json`: the path, size and sha256 of each other one. The database is
copied before the files, so that each file that the copy lists was there by then.
"""

import contextlib
import io
import os
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from nbody.confined_path import PathEscapes, confined
from nbody.durable_file import make_folder_durably, sha256_of, sync_folder, write_durably
from server.data_folder import locate
from server.database import backup
from server.errors import NotFound

FORMAT = "orrery-backup-1"
MANIFEST = "manifest.json"
STATE = ".orrery"
DATABASE = f"{STATE}/orrery.db"
SECRETS = ("admin.token", "worker.token", "webhook.secret")
PIECE = 2**20
MOST_MANIFEST_BYTES = 2**30
LISTED = """
SELECT path, bytes, sha256, rolling FROM checkpoints
UNION ALL SELECT path, bytes, sha256, 0 FROM artifacts
UNION ALL SELECT path, bytes, sha256, 0 FROM initial_conditions ORDER BY path
"""
NAMED = "SELECT DISTINCT json_extract(config, '$.ic_path') FROM jobs"


class Member(BaseModel):
    """A file of an archive."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(max_length=4096)  # relative to the data folder
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What an archive holds, besides this."""

    format: str
    made_at: float
    orrery: str
    members: list[Member]


@dataclass(frozen=True)
class Archived:
    """What became of a whole backup.

    Attributes:
        path: of the archive.
        files: in it.
        missing: what the database lists and is gone or damaged; it is not in the archive.
    """

    path: Path
    files: int
    missing: list[str] = field(default_factory=list[str])


def archive(
    data: Path, target: Path, is_elsewhere: Callable[[str, int], bool] = lambda _path, _size: False
) -> Archived:
    """Write a whole backup; readable by its owner alone, for it holds tokens.

    Args:
        is_elsewhere: whether a file that is not in the data folder is in a store, where it stays;
            what it raises ends this, and nothing is written.

    Raises:
        as `backup`.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists; name another file")
    prefix = ".backing-up-"  # in the data folder, for links to what may be deleted meanwhile
    with tempfile.TemporaryDirectory(dir=data, prefix=prefix) as name:
        copy = backup.backup(data / DATABASE, Path(name) / "orrery.db")
        members = {DATABASE: copy}
        missing = _add_listed(data, copy, members, is_elsewhere)
        for secret in SECRETS:
            if (data / STATE / secret).is_file():
                members[f"{STATE}/{secret}"] = data / STATE / secret
        described = [_describe(path, file) for path, file in members.items()]
        manifest = Manifest(
            format=FORMAT, made_at=time.time(), orrery=version("orrery"), members=described
        )
        write_durably(target, lambda path: _write(path, manifest, members), 0o600)
    return Archived(target, len(members), missing)


def unpack(source: Path, data: Path) -> Path | None:
    """Put a whole backup into a data folder, which may be empty or of another machine.

    All of it is looked through first. A file that is there with other content is kept beside, as
    `NAME.before-TIME`.

    Returns:
        As `restore`.

    Raises:
        as `restore`; nothing was changed.
    """
    state = data / STATE
    make_folder_durably(state, 0o700)
    with tempfile.TemporaryDirectory(dir=data, prefix=".restoring-") as name:
        fresh = Path(name)
        manifest = _extract(source, fresh)

        def bring() -> None:
            for member in manifest.members:
                if member.path != DATABASE:
                    _put(fresh / member.path, _place_of(member, data))

        return backup.restore(fresh / DATABASE, data / DATABASE, bring)


def is_archive(source: Path) -> bool:
    """Whether a file is a whole backup, by its looks."""
    return source.is_file() and tarfile.is_tarfile(source)


def _listed(copy: Path) -> list[tuple[str, int, str, bool]]:
    with closing(sqlite3.connect(copy)) as connection:
        return connection.execute(LISTED).fetchall()


def _add_listed(
    data: Path,
    copy: Path,
    members: dict[str, Path],
    is_elsewhere: Callable[[str, int], bool],
) -> list[str]:
    """Add what a database names; returns what it lists and is not there.

    Checkpoints that are only to resume from may be deleted meanwhile, for a newer one.
    """
    missing: list[str] = []
    links = copy.parent / "links"
    links.mkdir()
    for path, size, sha256, rolling in _listed(copy):
        try:
            file = _linked(locate(data, path, size), links)
        except (NotFound, FileNotFoundError):
            missing += [] if rolling or is_elsewhere(path, size) else [path]
            continue
        if sha256_of(file) == sha256:
            members[path] = file
        else:
            missing.append(path)
    with closing(sqlite3.connect(copy)) as connection:
        named = [row[0] for row in connection.execute(NAMED) if isinstance(row[0], str)]
    for path in named:
        with contextlib.suppress(PathEscapes):
            file = confined(data, path)
            if file.is_file():
                members[str(file.relative_to(data.resolve()))] = file
    return missing


def _linked(file: Path, links: Path) -> Path:
    """The same file by a name of our own, which nobody deletes; where links can be made."""
    link = links / secrets.token_hex(16)
    try:
        link.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:
        return file
    return link


def _describe(path: str, file: Path) -> Member:
    return Member(path=path, bytes=file.stat().st_size, sha256=sha256_of(file))


def _write(target: Path, manifest: Manifest, members: dict[str, Path]) -> None:
    """Write the archive; a file that changed since it was described makes it fail."""
    with tarfile.open(target, "w") as tar:
        payload = manifest.model_dump_json(indent=1).encode()
        tar.addfile(_header(MANIFEST, len(payload)), io.BytesIO(payload))
        for member in manifest.members:
            with members[member.path].open("rb") as stream:
                tar.addfile(_header(member.path, member.bytes), stream)


def _header(path: str, size: int) -> tarfile.TarInfo:
    """Plain: no owner, no time, no links."""
    header = tarfile.TarInfo(path)
    header.size, header.mode = size, 0o600
    return header


def _extract(source: Path, fresh: Path) -> Manifest:
    """All members of an archive into an empty folder, each compared with the manifest.

    Raises:
        FileNotFoundError, NoBackup
    """
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    try:
        with tarfile.open(source, "r") as tar:
            manifest = _manifest(tar)
            left = {member.path: member for member in manifest.members}
            for header in tar:
                if header.name != MANIFEST:
                    _extract_one(tar, header, left.pop(header.name), fresh)
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise backup.NoBackup(source) from error
    if left or DATABASE not in {member.path for member in manifest.members}:
        raise backup.NoBackup(source)
    return manifest


def _manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    stream = None if first is None or first.name != MANIFEST else tar.extractfile(first)
    if stream is None:
        raise ValueError(MANIFEST)
    manifest = Manifest.model_validate_json(stream.read(MOST_MANIFEST_BYTES))
    if manifest.format != FORMAT:
        raise ValueError(manifest.format)
    return manifest


def _extract_one(
    tar: tarfile.TarFile, header: tarfile.TarInfo, member: Member, fresh: Path
) -> None:
    """One member, if it is as the manifest says.

    Raises:
        ValueError
    """
    stream = tar.extractfile(header) if header.isreg() else None
    if stream is None or header.size != member.bytes:
        raise ValueError(member.path)
    target = _place_of(member, fresh)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        target.chmod(0o600)
        shutil.copyfileobj(stream, file, PIECE)
        file.flush()
        os.fsync(file.fileno())
    if sha256_of(target) != member.sha256:
        raise ValueError(member.path)


def _place_of(member: Member, folder: Path) -> Path:
    """Where a member goes: a plain path in a folder, or one of the server's own files.

    Raises:
        PathEscapes
    """
    own = {DATABASE, *(f"{STATE}/{secret}" for secret in SECRETS)}
    return folder / member.path if member.path in own else confined(folder, member.path)


def _put(fresh: Path, place: Path) -> None:
    """Move a file to its place, durably."""
    if place.is_file():
        if sha256_of(place) == sha256_of(fresh):
            return
        place.rename(place.with_name(f"{place.name}.before-{time.strftime('%Y%m%dT%H%M%S')}"))
    make_folder_durably(place.parent)
    mode = 0o600 if place.parent.name == STATE else 0o644
    if fresh.stat().st_dev == place.parent.stat().st_dev:
        fresh.chmod(mode)
        fresh.rename(place)
        sync_folder(place.parent)
    else:  # the server's own folder may be a link to another disk
        write_durably(place, lambda path: shutil.copyfile(fresh, path), mode)
