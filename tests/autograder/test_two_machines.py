"""A second machine, as two network namespaces on this one, which reach only each other (10.99.0.x)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.course import Course, write_notebook
from tests.autograder.small_lesson import LESSON, RIGHT, handed_in

ROOT = Path(__file__).parents[2]
SCHEDULER = "tcp://10.99.0.1:8786"
# `nsenter`, because `ip netns exec` would hide /sys, and with it the cgroups that the sandbox needs.
SCRIPT = f"""
set -e
trap 'kill $(jobs -p)' EXIT
folder=$1
mount -t tmpfs none /run
ip netns add one
ip netns add two
ip link add v1 netns one type veth peer name v2 netns two
ip -n one addr add 10.99.0.1/24 dev v1
ip -n two addr add 10.99.0.2/24 dev v2
for pair in "one v1" "two v2"; do
  set -- $pair
  ip -n $1 link set lo up
  ip -n $1 link set $2 up
done
dask="{sys.executable} -m distributed.cli"
worker="$dask.dask_worker {SCHEDULER} --nthreads 1 --memory-limit 0 --no-dashboard"
nsenter --net=/run/netns/one $dask.dask_scheduler --host 10.99.0.1 --port 8786 --no-dashboard &
nsenter --net=/run/netns/one $worker --host 10.99.0.1 --local-directory $folder/w1 &
nsenter --net=/run/netns/two $worker --host 10.99.0.2 --local-directory $folder/w2 &
nsenter --net=/run/netns/one {sys.executable} -m tests.autograder.test_two_machines $folder/course
"""


def grade_over_there(root: str) -> None:
    """In the first machine: grade with both, and print who did how much."""
    from autograder.schedule import grade_all, open_client

    course = Course.open(Path(root))
    students = sorted(path.name for path in (course.root / "submitted").iterdir())
    with open_client(1, SCHEDULER) as client:
        client.wait_for_workers(2, timeout=240)
        results = list(grade_all(course, LESSON, students, client))
        shares = client.run(lambda dask_worker: dask_worker.state.executed_count)
    failures = [one.log[-2000:] for one in results if one.failure]
    graded = {one.student: one.scores for one in results}
    print(json.dumps({"graded": graded, "shares": shares, "failures": failures}))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_machines_grade_one_class(course, tmp_path):
    for number in range(8):
        write_notebook(course.notebook("submitted", LESSON, f"s{number}"), handed_in(course, **RIGHT))
    # No process namespace: the sandbox could not mount a /proc of its own in it.
    command = ["unshare", "--net", "--mount", "bash", "-c", SCRIPT]
    done = subprocess.run(
        [*command, "x", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["failures"] == [] and len(said["graded"]) == 8
    assert all(scores[f"{LESSON}-soma-teste"] == 2 for scores in said["graded"].values())
    assert sorted(address.split(":")[1] for address in said["shares"]) == ["//10.99.0.1", "//10.99.0.2"]
    assert all(count > 0 for count in said["shares"].values())
    with course.gradebook() as gradebook:
        assert gradebook.find_submission(LESSON, "s7").score == 5


if __name__ == "__main__":
    grade_over_there(sys.argv[1])
