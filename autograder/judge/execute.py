"""nbgrader's execution with the tests taken out of the student's kernel, its scores taken from the judge."""

import hashlib
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute, SaveAutoGrades
from nbgrader.utils import is_grade, is_locked, is_solution
from traitlets import Float, Integer

import autograder.runtime
from autograder.judge.items import HIDDEN, Verdict, defined_by
from autograder.judge.judge import Judge
from autograder.reports.outputs import plain
from autograder.runtime import hidden
from autograder.runtime.provisioner import WalledProvisioner

KERNELS = Path(autograder.runtime.__file__).parent / "jupyter"
KERNEL = "walled"
IN_KERNEL = "in-kernel"  # tag with which an author lets a test run in the student's kernel, as nbgrader does
SERVE = "__import__('autograder.judge.server', fromlist=['serve']).serve(get_ipython().user_ns)"
DEAD = "O processo do seu código terminou aqui ({})."
LATE = "O tempo desta entrega acabou antes desta célula."


class TrustedExecute(Execute):  # type: ignore[misc]
    """In place of Execute in `c.Autograde.autograde_preprocessors`: answers in a sandbox, tests beside it."""

    call_timeout = Float(20, help="Seconds that one call of a test into student code may take.").tag(
        config=True
    )
    item_timeout = Float(60, help="Seconds that one test cell may take.").tag(config=True)
    submission_timeout = Float(300, help="Seconds for all cells of a submission.").tag(config=True)
    output_bytes = Integer(
        1_000_000, help="Bytes of output that a cell keeps; ten times as many end it."
    ).tag(config=True)
    submission_output_bytes = Integer(20_000_000, help="Bytes of output that a submission keeps.").tag(
        config=True
    )
    output_messages = Integer(1_000, help="Messages that a cell keeps; ten times as many end it.").tag(
        config=True
    )

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """Run the notebook; `resources["verdicts"]` has what the judge found, by grade id."""
        self.store_widget_state = self.record_timing = False
        # Serving a test may take as long as the test; the judge has shorter patience with each call.
        self.timeout_func = lambda cell: self.item_timeout + 5 if cell.source == SERVE else self.timeout
        self.verdicts: dict[str, Verdict] = {}
        self.incidents: list[str] = []
        self.in_kernel: list[str] = []  # tests that an author lets run there
        self.lethal: set[int] = set()  # cells that took their kernel with them: not run again
        self.stale = False
        self.said = 0
        self.end = time.monotonic() + self.submission_timeout
        names, course = resources["nbgrader"], CourseDirectory(parent=self)
        folder = course.format_path(course.source_directory, ".", names["assignment"])
        # The kernel's home is a copy of the lesson's own files, not of what a submission brought along.
        resources.setdefault("metadata", {})["path"] = folder
        answers, seed = _lesson(nb, f"{folder}/{names['notebook']}.ipynb")
        self.extra_arguments = hidden.arguments(nb)
        told = {"seed": seed, "seconds": self.call_timeout, "student": names["student"]}
        self.judge = Judge(answers, told, self.item_timeout)
        try:
            nb, resources = super().preprocess(nb, resources)
        finally:
            self.judge.close()
        resources["verdicts"] = self.verdicts
        for (
            cell
        ) in nb.cells:  # before nbconvert checks them: a message of any form is no reason to grade nothing
            if cell.cell_type == "code":
                cell.execution_count = None
                if IN_KERNEL not in cell.metadata.get("tags", []):
                    cell.outputs = plain(cell.outputs)
        kept = {"seed": seed, "incidents": self.incidents, "in_kernel": self.in_kernel}
        nb.metadata.setdefault("autograder", {}).update({k: v for k, v in kept.items() if v})
        return nb, resources

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Run a cell where it belongs; whatever becomes of it, the next one has its chance."""
        trusted = _is_test(cell)
        if cell.cell_type != "code" or not (cell.source.strip() or trusted):
            return cell, resources
        cell.metadata.get("tags", [])[:] = [
            t for t in cell.metadata.get("tags", []) if t != self.skip_cells_with_tag
        ]
        if IN_KERNEL in cell.metadata.get("tags", []):
            self.in_kernel.append(cell.metadata["nbgrader"]["grade_id"])
        if time.monotonic() > self.end:
            self._set_verdict(cell, Verdict(0, LATE, "submission out of time")) if trusted else None
        elif trusted:
            self._judge(cell, index)
        else:
            self._run(cell, index)
            if is_locked(cell):
                self.judge.give(cell.source)
        return cell, resources

    def _run(self, cell: NotebookNode, index: int) -> bool:
        """Run a cell in the student's kernel, in a fresh one where need be; whether the kernel lives on."""
        try:
            if self.stale:
                self._start_afresh(index)
            self._execute(cell, index)
        except Exception as error:  # whatever a kernel can do to its client
            self.stale = True
            self.lethal.add(index)
            self.incidents.append(f"cell {index}: {type(error).__name__}")
            cell.outputs = [
                *cell.get("outputs", [])[:20],
                _error("KernelDied", DEAD.format(type(error).__name__)),
            ]
        return not self.stale

    def _execute(self, cell: NotebookNode, index: int) -> None:
        """Run a cell, whose messages are counted for itself and reach no other.

        A display of an earlier cell, updated, would show on the page what a hidden test handed over.
        """
        self.size = self.count = 0
        self.reset_execution_trackers()
        self.execute_cell(cell, index, store_history=cell.source != SERVE)

    def _start_afresh(self, upto: int) -> None:
        """A new kernel in which the cells before `upto` have run, those apart that killed one."""
        self._cleanup_kernel()
        self.km = self.create_kernel_manager()
        self.start_new_kernel()
        self.start_new_kernel_client()
        self.stale = False
        for index, cell in enumerate(self.nb.cells[:upto]):
            if time.monotonic() > self.end:
                raise TimeoutError(LATE)
            if (
                cell.cell_type == "code"
                and index not in self.lethal
                and cell.source.strip()
                and not _is_test(cell)
            ):
                kept = list(cell.get("outputs", []))
                self._execute(cell, index)
                cell.outputs = kept

    def _judge(self, cell: NotebookNode, index: int) -> None:
        """Let the judge run a test while the student's kernel serves it."""
        serving = NotebookNode(cell_type="code", source=SERVE, metadata={}, outputs=[], execution_count=None)
        self.nb.cells[index] = serving  # where nbclient seeks the displays that are updated
        with ThreadPoolExecutor(1) as pool:
            answer: Future[Verdict] | None = None
            try:
                if self.stale:
                    self._start_afresh(index)
                answer = pool.submit(self._verdict, cell.source, self.km.provisioner)
                self._execute(serving, index)
            except Exception as error:
                self.stale = True
                self.incidents.append(f"cell {index}: {type(error).__name__}")
                if answer:
                    self.km.provisioner.end_line()
            verdict = (
                answer.result() if answer else Verdict(0, DEAD.format("não pôde ser refeito"), "no kernel")
            )
        self.nb.cells[index] = cell
        self.stale = self.stale or verdict.lost
        cell.outputs = (
            [] if HIDDEN[0] in cell.source else [o for o in serving.outputs if o.output_type == "stream"]
        )
        self._set_verdict(cell, verdict)

    def _set_verdict(self, cell: NotebookNode, verdict: Verdict) -> None:
        name = cell.metadata["nbgrader"]["grade_id"]
        self.verdicts[name] = verdict
        if verdict.incident:
            self.incidents.append(f"{name}: {verdict.incident}")
        if verdict.message:
            cell.outputs = [*cell.get("outputs", []), _error("Teste", verdict.message)]

    def _verdict(self, source: str, provisioner: WalledProvisioner) -> Verdict:
        """The judge's verdict; a kernel that it has lost patience with is ended at once."""
        verdict = self.judge.verdict(source, provisioner.judge_line)
        if verdict.lost and provisioner.walled:
            provisioner.walled.signal(signal.SIGKILL)
        return verdict

    def on_cell_executed(self, **told: Any) -> None:
        """As the parent's; a cell that ran out of time is on the record."""
        if "header" not in told["execute_reply"]:  # nbclient's own, in place of the kernel's
            self.incidents.append(f"cell {told['cell_index']}: out of time")
        super().on_cell_executed(**told)

    def handle_comm_msg(self, outs: Any, msg: Any, cell_index: int) -> None:
        """Nothing: no page shows a widget, and the parent's imitation of one fails at prints into it."""

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        """As the parent's, with an end to what a cell may say."""
        length = len(repr(msg["content"]))
        self.count, self.size, self.said = self.count + 1, self.size + length, self.said + length
        kept = self.size <= self.output_bytes and self.count <= self.output_messages
        if self.said > self.submission_output_bytes:
            kept = False
            if self.said - length <= self.submission_output_bytes:
                self.incidents.append(f"cell {cell_index}: too much output of a submission")
        if self.size > 10 * self.output_bytes or self.count > 10 * self.output_messages:
            self.incidents.append(f"cell {cell_index}: flood of output")
            self.km.provisioner.walled.signal(signal.SIGKILL)
        if not kept and msg["msg_type"] != "status":
            return None
        return super().process_message(msg, cell, cell_index)


def _lesson(nb: NotebookNode, path: str) -> tuple[set[str], int]:
    """The names that the answers of the lesson at `path` define, and a seed: for the same bytes the same."""
    source = nbformat.read(path, as_version=4)
    codes = [cell for cell in source.cells if cell.cell_type == "code" and is_solution(cell)]
    digest = hashlib.sha256(repr([cell.source for cell in (*source.cells, *nb.cells)]).encode()).digest()
    return {name for cell in codes for name in defined_by(cell.source)}, int.from_bytes(digest[:6])


def _is_test(cell: NotebookNode) -> bool:
    graded = cell.cell_type == "code" and is_grade(cell) and not is_solution(cell)
    return graded and IN_KERNEL not in cell.metadata.get("tags", [])


def _error(kind: str, sentence: str) -> NotebookNode:
    output: NotebookNode = new_output("error", ename=kind, evalue=sentence, traceback=[sentence])
    return output


class SaveVerdicts(SaveAutoGrades):  # type: ignore[misc]
    """In place of SaveAutoGrades: a test's points are the judge's, its outputs decide nothing."""

    def _add_score(self, cell: NotebookNode, resources: dict[str, Any]) -> None:
        name = cell.metadata["nbgrader"]["grade_id"]
        if not _is_test(cell):  # by hand, or in the kernel because the author says so
            super()._add_score(cell, resources)
            return
        verdict = resources["verdicts"][name]
        grade = self.gradebook.find_grade(name, self.notebook_id, self.assignment_id, self.student_id)
        grade.auto_score = verdict.share * cell.metadata["nbgrader"]["points"]
        grade.needs_manual_grade = grade.manual_score is not None
        self.gradebook.db.commit()
