"""A course in one file, and a course out of one: folder and gradebook together, whatever its database."""

import contextlib
import sqlite3
import tarfile
import tempfile
from pathlib import Path

from nbgrader.api import Base
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, inspect, make_url, select

from autograder import Refusal
from autograder.course import CONFIG_FILE, Course

GRADEBOOK = "gradebook.db"
LEFT_OUT = (
    GRADEBOOK,
    f"{GRADEBOOK}-wal",
    f"{GRADEBOOK}-shm",
    f"{GRADEBOOK}-journal",
    ".grading",
    "__pycache__",
)


def backup(course: Course, path: Path) -> int:
    """Write `path` (.tar.gz); gives its size in bytes. The gradebook is in it as SQLite."""
    part = path.with_name(f"{path.name}.part")
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(part, "w:gz") as archive:
        copy = Path(scratch) / GRADEBOOK
        _copy_as_sqlite(course.config().CourseDirectory.db_url, copy)
        archive.add(copy, GRADEBOOK)
        for entry in sorted(course.root.iterdir()):
            if entry.name not in LEFT_OUT:
                archive.add(entry, entry.name)
    part.replace(path)
    return path.stat().st_size


def restore(path: Path, root: Path) -> Course:
    """Make a course in the new folder `root` of a backup. Raises Refusal where `root` is not empty."""
    if root.exists() and any(root.iterdir()):
        raise Refusal(f"{root} is not empty: restore into a new folder, so that nothing is overwritten.")
    try:
        with tarfile.open(path, "r:gz") as archive:
            if CONFIG_FILE not in archive.getnames():
                raise Refusal(f"{path} is no backup of a course: it has no {CONFIG_FILE}.")
            archive.extractall(root, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise Refusal(
            f"{path} cannot be read as a backup ({error}): give the file that `backup` wrote."
        ) from None
    course = Course(root.resolve())
    db_url = course.config().CourseDirectory.db_url
    if not db_url.startswith("sqlite:"):
        copy_gradebook(f"sqlite:///{course.root / GRADEBOOK}", db_url)
    return course


def _copy_as_sqlite(db_url: str, copy: Path) -> None:
    """A SQLite gradebook as it is, whole while others write; that of another database row by row."""
    if not db_url.startswith("sqlite:"):
        copy_gradebook(db_url, f"sqlite:///{copy}")
        return
    with (
        contextlib.closing(sqlite3.connect(str(make_url(db_url).database))) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def copy_gradebook(source: str, target: str) -> None:
    """Copy every row from one database URL to an empty one. Raises Refusal where the target has students."""
    tables = MetaData()
    for table in Base.metadata.sorted_tables:
        table.to_metadata(tables)
    Table("alembic_version", tables, Column("version_num", String(32), nullable=False))
    old, new = create_engine(source), create_engine(target)
    try:
        if inspect(new).get_table_names() and new.connect().execute(select(tables.tables["student"])).first():
            raise Refusal(f"The gradebook at {target} has students already: restore into an empty database.")
        tables.create_all(new)
        with old.connect() as reading, new.begin() as writing:
            for table in tables.sorted_tables:
                rows = [dict(row._mapping) for row in reading.execute(select(table))]
                if rows:
                    writing.execute(insert(table), rows)
    finally:
        old.dispose()
        new.dispose()
