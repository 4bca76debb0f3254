"""What the warm parent imports: a package of another version takes nothing else with it."""

import os
import subprocess
import sys

PROGRAM = """
import sys
from autograder.runtime import warm
warm.PRELOAD = "peft.no_such_name no_such_package.part colorsys"
warm.warm_up()
warm.check_threads()
sys.exit("colorsys" not in sys.modules)
"""


def test_a_name_that_is_missing_leaves_the_rest():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
