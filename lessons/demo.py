"""The first half of `make demo`: LoRA on the real 135M model, on the clause data, measured, before and after."""

from pathlib import Path

from rich.console import Console

from toolkit import LoRA, answer, base_model, environment_card, read_examples, train

CLAUSES = Path(__file__).parent / "dados" / "clausulas"


def main(name: str = "SmolLM2-135M-Instruct", steps: int = 40) -> None:
    """Train for a minute or two on two cores and print what came of it."""
    console = Console(highlight=False)
    instruction = (CLAUSES / "instrucao.txt").read_text(encoding="utf-8").strip()
    train_set, held_out = (
        read_examples(CLAUSES / f"{split}.jsonl", "texto", "tipo", instruction) for split in ("train", "test")
    )
    environment_card()
    base = base_model(name)
    plan = base.plan(LoRA(rank=8, alpha=16), batch=4, seq_len=1024)

    console.print(f"\nLoRA em {base.name}: {steps} passos sobre cláusulas de contrato")
    asked = held_out[0]
    before = answer(base.model, base.tokenizer, asked.prompt, max_new_tokens=12)
    run = train(plan, train_set, base, steps=steps, learning_rate=1e-3, validation=held_out[:24])
    after = answer(run.model, base.tokenizer, asked.prompt, max_new_tokens=12)

    console.print(run)
    console.print(f"\n{asked.prompt}", markup=False)
    for label, text in (("antes", before), ("depois", after), ("certo", asked.answer)):
        console.print(f"  {label + ':':8}{' '.join(text.split())!r}", markup=False)


if __name__ == "__main__":
    main()
