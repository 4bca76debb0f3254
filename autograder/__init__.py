"""nbgrader made safe and fast from below: what instructors run."""

import sys

# jsonschema's import would build a grammar, a second in every process, for addresses that no notebook has.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


class Refusal(ValueError):
    """What the grader will not take, in one sentence: what was wrong, what was expected, what to do.

    `to_student`: the same in Portuguese, where it is about a file that a student sent.
    """

    def __init__(self, message: str, to_student: str = "") -> None:
        super().__init__(message)
        self.to_student = to_student
