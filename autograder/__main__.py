"""`python -m autograder`: the same commands as the installed `autograder`."""

from autograder.cli import main

main()
