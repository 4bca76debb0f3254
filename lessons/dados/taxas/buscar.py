"""The learning rates of lesson 07: every method is tried at rates a factor of about three apart; writes taxas.csv.

The same for all: SmolLM2-135M, the same clauses in the same order, as many steps, the loss on clauses that are
neither trained on nor tested. A method whose best rate is at the edge of what was tried gets one more there.
`python -m lessons.dados.taxas.buscar prompt 0.1 0.3` tries and adds rows; less than a minute a rate on a quiet machine.
"""

import csv
import sys
from pathlib import Path

from toolkit import Adapter, Full, LoRA, PrefixTuning, PromptTuning, base_model, clauses, train

FILE = Path(__file__).with_name("taxas.csv")
COLUMNS = ("metodo", "taxa", "passos", "perda_antes", "perda_depois", "segundos_por_passo")
KINDS = ("confidencialidade", "foro", "pagamento", "vigência")
METHODS = {
    "completo": Full(),
    "LoRA": LoRA(rank=8, alpha=16, targets="all-linear"),
    "prefixo": PrefixTuning(20),
    "prompt": PromptTuning(20),
    "adaptador": Adapter(8),
}
STEPS = 8


def row(name: str, rate: float) -> dict[str, object]:
    """One training run's figures. Losses in nats a token of the answer."""
    base, task = base_model("SmolLM2-135M-Instruct"), clauses(FILE.parents[1])
    data, held_out = ([e for e in part if e.answer in KINDS] for part in (task.train, task.validation))
    plan = base.plan(METHODS[name], batch=4, seq_len=256)
    run = train(plan, data, base, steps=STEPS, learning_rate=rate, validation=held_out[:12])
    (_, before), (_, after) = run.validation
    figures = (name, rate, STEPS, round(before, 3), round(after, 3), round(run.seconds / STEPS, 2))
    return dict(zip(COLUMNS, figures, strict=True))


def main(name: str, *rates: str) -> None:
    """Try the rates, and write each one's row as soon as it is there."""
    for rate in map(float, rates):
        new = not FILE.exists()
        found = row(name, rate)
        with FILE.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(found)
        print(found, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
