"""The files of a folder or of a zip, each within a size limit, links and special files refused."""

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autograder import Refusal

MAX_BYTES = 32 * 2**20  # a notebook; Colab's, with pictures, stay below 10 MiB
MAX_FILES = 20_000
IGNORED = ("__MACOSX", ".ipynb_checkpoints", ".DS_Store")


@dataclass(frozen=True)
class Upload:
    """One file as it was handed in: its path inside the folder or zip, and how to read its bytes."""

    path: PurePosixPath
    read: Callable[[], bytes]


@contextmanager
def open_uploads(place: Path) -> Iterator[Iterator[Upload]]:
    """The files of the folder or zip at `place`. Reading one that is not plain and small raises Refusal."""
    if place.is_dir():
        yield _first(_walk(place, PurePosixPath()), place)
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            yield _first(_members(archive), place)
    else:
        raise Refusal(
            f"{place} is neither a folder nor a zip: give --submissions the folder of downloaded notebooks."
        )


def _first(uploads: Iterator[Upload], place: Path) -> Iterator[Upload]:
    for count, upload in enumerate(uploads):
        if count == MAX_FILES:
            raise Refusal(f"{place} holds more than {MAX_FILES} files: take in the class in smaller folders.")
        if not any(part in IGNORED for part in upload.path.parts):
            yield upload


def _walk(folder: Path, inside: PurePosixPath) -> Iterator[Upload]:
    """Depth first, names in order; never through a link."""
    for entry in sorted(folder.iterdir()):
        name = inside / entry.name
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, name)
        else:
            yield Upload(name, lambda entry=entry: _read_file(entry))  # type: ignore[misc]


def _read_file(path: Path) -> bytes:
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        raise Refusal("is a link or a special file; only plain files are taken")
    try:
        with path.open("rb") as file:
            return _capped(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise Refusal(f"cannot be read ({error.strerror}); mend its permissions") from None


def _members(archive: zipfile.ZipFile) -> Iterator[Upload]:
    for member in archive.infolist():
        if not member.is_dir():
            yield Upload(PurePosixPath(member.filename), lambda m=member: _read_member(archive, m))  # type: ignore[misc]


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Nothing goes to disk, so a name like ../../x does nothing; the cap holds whatever the header says."""
    if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & 1:
        raise Refusal("is a link or encrypted inside the zip; only plain files are taken")
    try:
        with archive.open(member) as file:
            return _capped(file.read(MAX_BYTES + 1))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise Refusal(f"cannot be unpacked ({error}); download it again") from None


def _capped(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise Refusal(
            f"is larger than {MAX_BYTES // 2**20} MiB; have its outputs cleared and handed in again"
        )
    return data
