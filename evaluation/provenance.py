"""Where a page comes from: when it was created, by which versions, from which data file and which model."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from nearward.tabular.errors import InputError

_PACKAGES = ("nearward", "polars", "scikit-learn", "numpy")
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class DataFile:
    """A data file: its name, without its folder, and its sha256."""

    name: str
    sha256: str

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Hash a file; of a folder the names and hashes of its files, in order."""
        path, digest = Path(path), hashlib.sha256()
        if path.is_dir():
            for file in sorted(one for one in path.rglob("*") if one.is_file()):
                digest.update(f"{file.relative_to(path).as_posix()} {cls.read(file).sha256}\n".encode())
        else:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        return cls(path.name, digest.hexdigest())


@dataclass(frozen=True)
class Provenance:
    """What the foot of a page says about its origin.

    Parameters
    ----------
    created : str
        Date and time in UTC, ``2026-11-29 21:30 UTC``.
    versions : dict of package -> version
    data : tuple of DataFile
    model_sha256 : str, optional
        The model's identity, see ``nearward.tabular.persistence.artifact.model_hash``.
    """

    created: str
    versions: dict[str, str]
    data: tuple[DataFile, ...] = ()
    model_sha256: str | None = None

    @classmethod
    def now(cls, data: str | Path | list[Path] | tuple[Path, ...] = (), model_sha256: str | None = None) -> Self:
        """Return the provenance of a page that is created now, from some data files.

        The environment variable ``SOURCE_DATE_EPOCH`` (seconds since 1970, as in reproducible-builds.org) takes the place of the clock.

        Raises
        ------
        InputError
            ``SOURCE_DATE_EPOCH`` is not a whole number of seconds.
        """
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        try:
            created = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise InputError("SOURCE_DATE_EPOCH must be a whole number of seconds since 1970") from error
        paths = [data] if isinstance(data, str | Path) else data
        versions = {"Python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
        return cls(f"{created:%Y-%m-%d %H:%M} UTC", versions, tuple(DataFile.read(path) for path in paths), model_sha256)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, for JSON."""
        return asdict(self)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
