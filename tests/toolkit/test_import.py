"""Importing the toolkit is light, and a name means the same however it was imported."""

import subprocess
import sys

CODE = """
import sys, toolkit
from toolkit.count import count
assert toolkit.count is count and callable(toolkit.base_model)
heavy = {"torch", "transformers", "peft", "bitsandbytes", "matplotlib", "ipywidgets"} & set(sys.modules)
assert not heavy, heavy
"""


def test_import_is_light():
    subprocess.run([sys.executable, "-c", CODE], check=True)
