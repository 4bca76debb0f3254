"""The files of a folder or zip, and of zips in it, each within a size limit, links refused."""

import io
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autograder import Refusal
from autograder.answers import visible

MAX_BYTES = 32 * 2**20  # a notebook; Colab's, with pictures, stay below 10 MiB
MAX_FILES = 200_000  # of a whole class
MAX_INNER = 200  # files in a zip that a student handed in
MAX_DEPTH = 2  # zips in zips
MAX_NAME = 1_000  # characters of a name in a zip; patterns that look for a student's take the square of that
IGNORED = ("__MACOSX", ".ipynb_checkpoints", ".DS_Store")
MEMBER = b"PK\x01\x02"  # begins each entry of a zip's directory
# What zipfile and its decompressors raise for a wrong byte (bz2: OSError; an unknown method: RuntimeError;
# lzma, of a dictionary of 4 GiB: MemoryError).
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError),
    MemoryError,
)


@dataclass(frozen=True)
class Upload:
    """One file as it was handed in: its path inside the folder or zip, and how to read its bytes."""

    path: PurePosixPath
    read: Callable[[], bytes]


@contextmanager
def open_uploads(place: Path) -> Iterator[Iterator[Upload]]:
    """The files of the folder or zip at `place`. Reading one that is not plain and small raises Refusal."""
    if place.is_dir():
        yield _unfold(_first(_walk(place, PurePosixPath()), place))
    elif zipfile.is_zipfile(place):
        try:
            archive = zipfile.ZipFile(place)
        except DAMAGED:
            raise Refusal(f"{place} is a broken zip: download it again.") from None
        with archive:
            yield _unfold(_first(_members(archive, PurePosixPath()), place))
    else:
        raise Refusal(
            f"{place} is neither a folder nor a zip: give --submissions the folder of downloaded notebooks."
        )


def _first(uploads: Iterator[Upload], place: Path) -> Iterator[Upload]:
    for count, upload in enumerate(uploads):
        if count == MAX_FILES:
            raise Refusal(f"{place} holds more than {MAX_FILES} files: take in the class in smaller folders.")
        yield upload


def _unfold(uploads: Iterator[Upload], depth: int = 0) -> Iterator[Upload]:
    """The files, and in place of a zip what is in it; one that cannot be opened says so when it is read."""
    for upload in uploads:
        if any(part in IGNORED for part in upload.path.parts):
            continue
        if upload.path.suffix.casefold() != ".zip":
            yield upload
            continue
        try:
            inner = _inner(upload, depth)
        except Refusal as reason:
            yield Upload(upload.path, _refusing(reason))
        else:
            yield from _unfold(iter(inner), depth + 1)


def _inner(upload: Upload, depth: int) -> list[Upload]:
    if depth == MAX_DEPTH:
        raise Refusal(
            "is a zip in a zip in a zip; ask for the notebook itself", "o arquivo é um zip dentro de outros"
        )
    with _zip_of(upload.read()) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    if max(map(len, names), default=0) > MAX_NAME:
        raise Refusal(
            "is a zip of names too long; ask for the notebook alone", "o zip tem nomes longos demais"
        )

    def read(name: str) -> bytes:
        with _zip_of(upload.read()) as again:
            return _read_member(again, again.getinfo(name))

    return [Upload(upload.path / printable(name), lambda name=name: read(name)) for name in names]  # type: ignore[misc]


def _zip_of(data: bytes) -> zipfile.ZipFile:
    """A zip that a student made; its directory is counted before anything parses it."""
    if data.count(MEMBER) > MAX_INNER:
        raise Refusal(
            f"is a zip of more than {MAX_INNER} files; ask for the notebook alone",
            "o zip tem arquivos demais",
        )
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED:
        raise Refusal("is a broken zip; ask for the .ipynb file itself", "o zip está corrompido") from None


def _refusing(reason: Refusal) -> Callable[[], bytes]:
    def read() -> bytes:
        raise reason

    return read


def _walk(folder: Path, inside: PurePosixPath) -> Iterator[Upload]:
    """Depth first, names in order; never through a link."""
    for entry in sorted(folder.iterdir()):
        name = inside / printable(entry.name)
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, name)
        else:
            yield Upload(name, lambda entry=entry: read_file(entry))  # type: ignore[misc]


def printable(name: str) -> str:
    """A file's name as it can be shown and written: characters, on one line, none that a terminal obeys."""
    data = os.fsencode(name)
    try:
        text = data.decode()
    except UnicodeDecodeError:  # as Windows names files in its zips
        text = data.decode("cp1252", "replace")
    return visible(text).replace("\n", " ")


def read_file(path: Path) -> bytes:
    """A plain file's bytes; raises Refusal where it is none, too large or not to be read."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        raise Refusal(
            "is a link or a special file; only plain files are taken", "o arquivo não é um arquivo comum"
        )
    try:
        with path.open("rb") as file:
            return _capped(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise Refusal(f"cannot be read ({error.strerror}); mend its permissions") from None


def _members(archive: zipfile.ZipFile, inside: PurePosixPath) -> Iterator[Upload]:
    for member in archive.infolist():
        if not member.filename.endswith("/"):  # is_dir() fails on an empty name
            yield Upload(inside / printable(member.filename), lambda m=member: _read_member(archive, m))  # type: ignore[misc]


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Nothing goes to disk, so a name like ../../x does nothing; the cap holds whatever the header says."""
    if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & 1:
        raise Refusal(
            "is a link or encrypted inside the zip; only plain files are taken", "o zip tem senha ou atalhos"
        )
    try:
        with archive.open(member) as file:
            data = file.read(MAX_BYTES + 1)
    except DAMAGED as error:
        raise Refusal(f"cannot be unpacked ({error}); download it again", "o zip está corrompido") from None
    return _capped(data)


def _capped(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        size = MAX_BYTES // 2**20
        raise Refusal(
            f"is larger than {size} MiB; have its outputs cleared and handed in again",
            f"o arquivo tem mais de {size} MiB: limpe as saídas das células",
        )
    return data
