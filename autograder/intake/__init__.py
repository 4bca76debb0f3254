"""What students handed in: found, capped, given to its student, and laid out for nbgrader."""
