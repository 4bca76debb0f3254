"""nbgrader made safe and fast from below: what instructors run."""
