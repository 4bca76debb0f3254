"""`python -m toolkit`: the calculator, the claims' table, the web page and the base model from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.methods import IA3, Adapter, Full, LoRA, Method, PrefixTuning, PromptTuning, QLoRA

app = typer.Typer(help="Ferramentas da aula de PEFT.", no_args_is_help=True, pretty_exceptions_enable=False)
METHODS: dict[str, Callable[[int], Method]] = {
    "full": lambda rank: Full(),
    "lora": lambda rank: LoRA(rank, alpha=2 * rank, targets="all-linear"),
    "qlora": lambda rank: QLoRA(rank, alpha=2 * rank, targets="all-linear"),
    "prefix": lambda rank: PrefixTuning(),
    "prompt": lambda rank: PromptTuning(),
    "ia3": lambda rank: IA3(),
    "adapter": lambda rank: Adapter(),
}


class UsageError(ValueError):
    """An option that makes no sense; the message is one sentence."""


@app.command()
def vram(
    model: Annotated[str, typer.Argument(help="nome do catálogo, id do hub ou caminho de um config.json")],
    method: Annotated[str, typer.Option(help=", ".join(METHODS))] = "lora",
    gpu: Annotated[str, typer.Option(help="placa da tabela, como 'T4' ou 'RTX 4090'")] = "T4",
    batch: Annotated[int, typer.Option(help="sequências por passo")] = 1,
    seq_len: Annotated[int, typer.Option(help="tokens por sequência")] = 512,
    rank: Annotated[int, typer.Option(help="posto, no LoRA e no QLoRA (em todos os módulos lineares)")] = 16,
    preset: Annotated[str, typer.Option(help="caminho pronto, como 'TRL 2026'")] = "toolkit",
    switch: Annotated[
        list[str] | None, typer.Option("--set", help="campo do Plan, como checkpointing=true (pode repetir)")
    ] = None,
    cards: Annotated[int, typer.Option("--gpus", help="número de placas iguais")] = 1,
    strategy: Annotated[str, typer.Option(help="zero1, zero2, zero3 ou fsdp, com --gpus")] = "fsdp",
    json: Annotated[bool, typer.Option("--json", help="saída em JSON, bytes")] = False,
    english: Annotated[bool, typer.Option("--english", help="in English")] = False,
) -> None:
    """Diz se um ajuste fino cabe na GPU, e o que fazer se não couber."""
    from toolkit.calculator import terminal
    from toolkit.models import Architecture
    from toolkit.presets import preset as preset_plan
    from toolkit.vram.fit import fit
    from toolkit.vram.sharding import shard

    switches = {"batch": batch, "seq_len": seq_len, "gpu": gpu, **_switches(switch or [])}
    if method not in METHODS:
        raise UsageError(f"--method deve ser um de {', '.join(METHODS)}; recebi {method!r}.")
    plan = preset_plan(preset, Architecture.from_config(model), METHODS[method](rank), **switches)
    result = fit(plan, gpu)
    shared = shard(plan, cards, strategy) if cards != 1 else None  # type: ignore[arg-type]
    if json:
        typer.echo(terminal.as_json(result, shared))
        return
    terminal.show(result, "en" if english else "pt")
    if shared:
        terminal.show_shared(shared, cards, strategy, "en" if english else "pt")


@app.command()
def claims() -> None:
    """Mostra o que se afirma sobre LoRA e QLoRA e o que a conta diz."""
    from toolkit.vram.claims import show_claims

    show_claims()


@app.command()
def page(folder: Annotated[Path, typer.Argument(help="pasta a escrever")] = Path("build/page")) -> None:
    """Constrói a calculadora como página estática, com o Python dentro."""
    from toolkit.calculator.page import build

    typer.echo(
        f"{build(folder)}: sirva com `python3 -m http.server -d {folder}` e abra http://localhost:8000"
    )


@app.command(name="base-model")
def prepare_base_model() -> None:
    """Prepara os modelos que funcionam sem rede: o base (93 MB, convertido uma vez) e o de brinquedo."""
    from toolkit.base_model import SMOLLM2, TINY, base_model

    for name in (SMOLLM2, TINY):
        typer.echo(f"Modelo em {base_model(name).folder}")


def _switches(texts: list[str]) -> dict[str, Any]:
    from toolkit.plan import Plan

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set espera campo=valor; recebi {text!r}.")
        if name in ("model", "method"):
            raise UsageError(f"--set não muda {name}: dê o modelo como argumento e o método com --method.")
        kind = Plan.__annotations__.get(name)
        found[name] = {"true": True, "false": False}.get(value.lower(), value) if kind == "bool" else value
        if kind == "int":
            found[name] = int(value) if value.lstrip("-").isdigit() else value
    return found


def main() -> None:
    """Run a command; a user's mistake is one sentence on stderr and exit status 2, never a traceback."""
    from toolkit.calculator.page import PageError

    try:
        app()
    except (ValueError, PageError) as error:
        typer.echo(f"Erro: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
