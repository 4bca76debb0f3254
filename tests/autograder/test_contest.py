"""Adapters as hand-ins: only what keeps the rules is measured, on our own base; standings name nobody."""

import json
import struct
from dataclasses import asdict
from pathlib import PurePosixPath

import pytest
from safetensors.torch import load_file, save
from typer.testing import CliRunner

from autograder import Refusal, cli
from autograder.contest.board import pseudonym
from autograder.contest.handin import check, read_handin
from autograder.contest.measure import base_dimensions, hidden_set
from autograder.contest.rules import read_contest
from autograder.intake.archives import Upload
from autograder.results import results
from tests.autograder.small_lesson import LESSON
from toolkit import LoRA, attach, base_model
from toolkit import save as save_adapter

RULES = f"""
grade_id = "{LESSON}-aberta"
base = "tiny"
kinds = ["LORA"]
max_rank = 4
targets = ["q_proj", "v_proj"]
max_mib = 1
seconds = 240
test = "test.jsonl"
prompt = "texto"
answer = "tipo"
instruction = "instrucao.txt"
thresholds = [[0.0, 1], [0.9, 5]]
"""


@pytest.fixture
def contest(course):
    folder = course.root / "contests" / LESSON
    folder.mkdir(parents=True)
    (folder / "contest.toml").write_text(RULES)
    (folder / "instrucao.txt").write_text("Qual é o tipo de {texto}?")
    lines = [{"texto": f"cláusula {n}", "tipo": ("multa", "foro")[n % 2]} for n in range(4)]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_contest(course, LESSON)


def adapter(folder, rank=2, targets=("q_proj",)):
    """A LoRA adapter for the tiny base, saved as a student saves it."""
    model = attach(base_model("tiny").load(), LoRA(rank=rank, alpha=4, targets=targets))
    save_adapter(model, folder)
    return folder


def uploads(folder, **changed):
    data = {path.name: path.read_bytes() for path in folder.iterdir()} | changed
    return [Upload(PurePosixPath("x") / name, lambda d=d: d) for name, d in data.items() if d is not None]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return adapter(tmp_path_factory.mktemp("a") / "adaptador")


def test_what_cannot_be_read_is_refused_in_two_languages(good, contest):
    huge = struct.pack("<Q", 1 << 40) + b"{}"
    for files in (
        uploads(good, **{"adapter_config.json": None}),
        uploads(good, **{"adapter_config.json": b"[" * 100_000}),
        uploads(good, **{"adapter_config.json": b"[1]"}),
        uploads(good, **{"adapter_model.safetensors": b"\x80\x04pickle..."}),
        uploads(good, **{"adapter_model.safetensors": huge}),
        uploads(good, **{"adapter_model.safetensors": b"0" * (2 << 20)}),
        [*uploads(good), *uploads(good, **{"adapter_config.json": b"{}"})],
    ):
        with pytest.raises(Refusal) as refusal:
            read_handin(files, contest)
        assert refusal.value.to_student
    assert read_handin(uploads(good), contest).config["r"] == 2


def test_the_rules_are_kept(good, contest, tmp_path):
    base = base_dimensions(contest)
    check(read_handin(uploads(good), contest), contest, base)
    config = json.loads((good / "adapter_config.json").read_text())
    for change, said in (
        ({"r": 8}, "rank 8"),
        ({"r": True}, "rank True"),
        ({"peft_type": "IA3"}, "kind"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ({"target_modules": ".*"}, "adapts"),
    ):
        files = uploads(good, **{"adapter_config.json": json.dumps(config | change).encode()})
        with pytest.raises(Refusal, match=said):
            check(read_handin(files, contest), contest, base)
    other = json.dumps(base | {"layers": 99}).encode()
    with pytest.raises(Refusal, match="another base"):
        check(read_handin(uploads(good, **{"base.json": other}), contest), contest, base)


@pytest.mark.timeout(900)
def test_a_class_is_measured_ranked_and_given_points(good, course, contest, tmp_path):
    tensors = load_file(good / "adapter_model.safetensors")
    wrong = save({name: tensor[:1] for name, tensor in tensors.items()})
    for student, files in (("1", {}), ("2", {"adapter_model.safetensors": wrong})):
        for upload in uploads(good, **files):
            path = (
                tmp_path
                / "d"
                / f"Nome{student} Sobre{student}_7_assignsubmission_file"
                / "ad"
                / upload.path.name
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(upload.read())
    (tmp_path / "r.csv").write_text("id,first_name,last_name\n1,Nome1,Sobre1\n2,Nome2,Sobre2\n")
    command = [
        "adapters",
        course.root,
        "--lesson",
        LESSON,
        "--submissions",
        tmp_path / "d",
        "--roster",
        tmp_path / "r.csv",
    ]
    result = CliRunner().invoke(cli.app, [str(word) for word in (*command, "--json")])
    board = json.loads(result.stdout)
    assert 0 <= board["1"]["score"] <= 1 and board["1"]["points"] == contest.points(board["1"]["score"]) >= 1
    assert board["2"]["score"] is None and "forma" in board["2"]["reason"]
    with course.gradebook() as gradebook:
        found = results(gradebook, LESSON)
        assert found["1"].score == board["1"]["points"] and found["2"].score == 0
        assert "conjunto escondido" in found["1"].comments[contest.grade_id]
    page = (course.root / "reports" / f"{LESSON}-classificacao.html").read_text(encoding="utf-8")
    assert pseudonym(course, "1") in page and "Nome1" not in page
    again = json.loads(CliRunner().invoke(cli.app, [str(word) for word in (*command, "--json")]).stdout)
    assert again == board  # unchanged: not measured again


def test_a_contest_without_rules_or_with_unknown_ones_is_refused(course, contest):
    with pytest.raises(Refusal, match="no contest"):
        read_contest(course, "02_outra")
    (contest.folder / "instrucao.txt").write_text("Sem lugar para o texto")
    with pytest.raises(Refusal, match="hidden set"):
        hidden_set(contest)
    (contest.folder / "contest.toml").write_text(RULES + "extra = 1\n")
    with pytest.raises(Refusal, match="extra"):
        read_contest(course, LESSON)
    assert asdict(contest)["max_rank"] == 4
