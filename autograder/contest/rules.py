"""What a lesson asks of an adapter, in `contests/LESSON/contest.toml` of the course:

grade_id = "adaptador"                 # an answer graded by hand, whose points these are
base = "SmolLM2-135M-Instruct"         # as toolkit.base_model names it
kinds = ["LORA"]                       # peft's types
max_rank = 16
targets = ["q_proj", "v_proj"]         # modules that it may adapt
max_mib = 16
seconds = 300                          # of one CPU core, for the measurement
test = "test.jsonl"                    # hidden; beside this file
prompt = "texto"
answer = "tipo"
instruction = "instrucao.txt"          # beside it too
thresholds = [[0.5, 1], [0.7, 2]]      # macro-F1 from which on there are so many points
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from autograder import Refusal
from autograder.course import Course

FILE = "contest.toml"


@dataclass(frozen=True)
class Contest:
    """The rules of one lesson's contest; `folder` is where they and the hidden set lie."""

    folder: Path
    grade_id: str
    base: str
    kinds: list[str]
    max_rank: int
    targets: list[str]
    max_mib: float
    seconds: float
    test: str
    prompt: str
    answer: str
    instruction: str
    thresholds: list[tuple[float, float]]

    def points(self, score: float) -> float:
        """The points of a score: those of the highest threshold reached."""
        return max((points for least, points in self.thresholds if score >= least), default=0.0)


def read_contest(course: Course, lesson: str) -> Contest:
    """The contest of a lesson; raises Refusal where it has none, or rules are missing."""
    folder = course.root / "contests" / lesson
    if not (folder / FILE).is_file():
        raise Refusal(f"{lesson} has no contest: write its rules into {folder / FILE}.")
    said = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
    names = {field.name for field in fields(Contest)} - {"folder"}
    if said.keys() != names:
        wrong = ", ".join(sorted(said.keys() ^ names))
        raise Refusal(f"{folder / FILE}: missing or unknown: {wrong}.")
    return Contest(folder, **said)
