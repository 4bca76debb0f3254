"""nbgrader made safe and fast from below: what instructors run."""


class Refusal(ValueError):
    """What the grader will not take, in one sentence: what was wrong, what was expected, what to do."""
