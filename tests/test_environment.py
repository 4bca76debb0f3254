"""environment.yml and the constraints against pyproject.toml: one set of dependencies, written three ways."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"pytorch-cpu": "torch"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared() -> dict[str, Requirement]:
    facts = project()
    lines = sum(facts["optional-dependencies"].values(), facts["dependencies"])
    return {(requirement := Requirement(line)).name: requirement for line in lines}


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {package.lower().replace("_", "-"): version for package, version in pins}


def test_conda_environment_is_the_projects():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    *conda, last = listed
    conda.remove("pip")
    conda.remove(f"python{project()['requires-python']}")
    assert last["pip"][-1] == "-e ."
    requirements = [Requirement(line) for line in conda + last["pip"][:-1]]
    ranges = {CONDA_NAMES.get(one.name, one.name): one.specifier for one in requirements}
    assert len(ranges) == len(requirements)
    assert ranges == {name: one.specifier for name, one in declared().items()}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-colab.txt"])
def test_pinned_versions_are_in_the_declared_ranges(name):
    pins = pinned(name)
    for package, requirement in declared().items():
        if package in pins:
            assert pins[package] in requirement.specifier, f"{package} {pins[package]} is not {requirement}"


def test_every_dependency_is_pinned():
    assert not declared().keys() - pinned("constraints.txt").keys()
