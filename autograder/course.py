"""A course folder: nbgrader's layout, its configuration and its gradebook."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.preprocessors import AssignLatePenalties, GetGrades, IgnorePattern
from traitlets.config.loader import Config, PyFileConfigLoader

from autograder import Refusal, publish
from autograder.judge.execute import KERNEL, KERNELS, SaveVerdicts, TrustedExecute
from autograder.rebuild import Rebuild
from autograder.reports import export, feedback, masking
from autograder.reports.outputs import PlainOutputs
from autograder.rubric import SuggestCriteria
from autograder.schema import alembic_on_path, check_schema, write_schema
from autograder.submitted import BoundedNotebook, remove_links

CONFIG_FILE = "nbgrader_config.py"
# What makes and measures the data; the notebooks read the rest.
NOT_DATA = shutil.ignore_patterns("*.py", "*.toml", "*.md", "esqueletos", "__pycache__")
CONFIG = '''"""nbgrader's configuration of this course; its own commands run here read it too."""

from pathlib import Path

from autograder.course import configure

c = get_config()  # noqa: F821
configure(c, Path(__file__).parent)

# Your own settings go below, for example:
# c.Execute.timeout = 60  # seconds a cell may take
# c.CourseDirectory.db_url = "postgresql+psycopg://user@host/database"  # then: pip install 'psycopg[binary]'
# c.LatePolicy.penalty_method = "percent"  # with percent_a_day, grace_minutes and most_percent; also "zero"
'''


def configure(c: Config, root: Path) -> None:
    """Point nbgrader at the course in `root` and switch on what this package adds to it."""
    c.merge(publish.nbgrader_config())
    c.CourseDirectory.root = str(root)
    c.CourseDirectory.course_id = root.name
    # 60 s: SQLite's own 5 s give "database is locked" as soon as somebody works in formgrader.
    c.CourseDirectory.db_url = f"sqlite:///{root}/gradebook.db?timeout=60"
    c.Autograde.pre_convert_hook = remove_links
    c.Autograde.exporter_class = BoundedNotebook
    c.Autograde.sanitize_preprocessors = [Rebuild]
    c.Autograde.autograde_preprocessors = [
        *(TrustedExecute, IgnorePattern, SaveVerdicts),
        *(AssignLatePenalties, PlainOutputs, SuggestCriteria),
    ]
    # The grader's kernel, for this process and those that it starts; students' notebooks keep "python3".
    jupyter_path = os.environ.get("JUPYTER_PATH", "").split(os.pathsep)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(dict.fromkeys(filter(None, (str(KERNELS), *jupyter_path))))
    c.Execute.kernel_name = KERNEL
    c.Exporter.optimistic_validation = True  # once, after all preprocessors
    c.Execute.timeout = 30
    c.Execute.iopub_timeout = 15  # on a busy machine the last output may come later than the 4 s
    c.Execute.error_on_timeout = {"ename": "Timeout", "evalue": "", "traceback": [masking.OUT_OF_TIME]}
    c.Execute.shutdown_kernel = "immediate"
    # Progress bars and warnings go to stderr, for which nbgrader would take all points away.
    c.IgnorePattern.enabled = True
    c.IgnorePattern.pattern = ".*"
    c.AssignLatePenalties.plugin_class = "autograder.lateness.LatePolicy"
    c.GenerateFeedback.preprocessors = [
        GetGrades,
        masking.MaskHiddenTests,
        masking.MaskMarkScheme,
        feedback.ByExercise,
    ]
    c.GenerateFeedback.exporter_class = feedback.FeedbackPage
    c.HTMLExporter.filters = {"safe_markdown": feedback.safe_markdown}
    c.HTMLExporter.extra_template_basedirs = [str(path) for path in feedback.TEMPLATES]
    c.ExportApp.plugin_class = export.SafeCsv


@dataclass(frozen=True)
class Course:
    """A course in the folder `root`; a lesson is an nbgrader assignment of one notebook, all of one name."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> "Course":
        """The course in an existing folder; raises Refusal where there is none."""
        if not (root / CONFIG_FILE).is_file():
            raise Refusal(
                f"{root} is not a course: it has no {CONFIG_FILE}. Make one with `autograder init {root}`."
            )
        check_schema(root)
        return cls(root.resolve())

    @classmethod
    def init(cls, root: Path, sources: Mapping[str, NotebookNode], data: Path | None = None) -> "Course":
        """Make a course, or bring an existing one up to date, from each lesson's source notebook.

        nbgrader sets what lies beside a source notebook, here the lessons' `data`, beside every submission.
        """
        root.mkdir(parents=True, exist_ok=True)
        if not (root / CONFIG_FILE).exists():
            (root / CONFIG_FILE).write_text(CONFIG, encoding="utf-8")
            write_schema(root)
        check_schema(root)
        course = cls(root.resolve())
        alembic_on_path()
        for lesson, notebook in sources.items():
            source = course.notebook("source", lesson)
            write_notebook(source, notebook)
            if data:
                shutil.copytree(data, source.parent / data.name, dirs_exist_ok=True, ignore=NOT_DATA)
            course._release(lesson)
        return course

    def config(self) -> Config:
        """The course's nbgrader configuration, the instructor's own lines included."""
        config: Config = PyFileConfigLoader(CONFIG_FILE, path=str(self.root)).load_config()
        return config

    def api(self, **course_directory: str) -> NbGraderAPI:
        """nbgrader's own API on this course; keywords override settings of `c.CourseDirectory`."""
        config = self.config()
        config.CourseDirectory.update(course_directory)
        api = NbGraderAPI(config=config)
        api.log_level = logging.INFO
        return api

    def gradebook(self) -> Gradebook:
        """The gradebook; use it as a context manager."""
        directory = self.config().CourseDirectory
        return Gradebook(directory.db_url, directory.course_id)

    def notebook(self, step: str, lesson: str, student: str = ".") -> Path:
        """Where nbgrader keeps a notebook; `step` is source, release, submitted or autograded."""
        return self.root / step / student / lesson / f"{lesson}.ipynb"

    def lessons(self) -> list[str]:
        """The lessons that have a source notebook here."""
        return sorted(
            path.stem for path in self.root.glob("source/*/*.ipynb") if path.stem == path.parent.name
        )

    def released(self, lesson: str) -> NotebookNode:
        """A lesson's notebook as students got it."""
        notebook: NotebookNode = nbformat.read(self.notebook("release", lesson), as_version=4)
        return notebook

    def check_lesson(self, lesson: str) -> None:
        """Raise Refusal when the lesson is not one of the course."""
        if lesson not in self.lessons():
            known = ", ".join(self.lessons()) or "none"
            raise Refusal(
                f"The course has no lesson {lesson!r}; it has: {known}. Name one of these with --lesson."
            )

    def _release(self, lesson: str) -> None:
        result: dict[str, Any] = self.api().generate_assignment(lesson)
        if not result["success"]:
            raise Refusal(
                f"nbgrader could not make the student version of {lesson}:\n{result.get('log', '')}"
            )


def write_notebook(path: Path, notebook: NotebookNode | str) -> None:
    """Write a notebook whole or not at all, so that a kill never leaves half a file."""
    text = notebook if isinstance(notebook, str) else nbformat.writes(notebook) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
