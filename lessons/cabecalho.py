# Two cells that `make lessons` sets before every lesson; $repository, $branch and $lesson come from course.toml.

# %% [markdown]
# [![Abrir no Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/$repository/blob/$branch/lessons/colab/$lesson.ipynb)
#
# *No Colab: abra pelo botão acima, escolha uma GPU em **Ambiente de execução → Alterar o tipo** e salve uma cópia no seu Drive. Em casa, sem GPU, o caderno roda igual, com um modelo menor.*

# %%
# Preparação do ambiente: rode esta célula primeiro (cerca de um minuto no Colab, instantânea em casa).
# O --no-deps é proposital: não troca o torch, o transformers e o numpy que o Colab já carregou.
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules and not Path("aula-peft").exists():
    # Turmas sem GitHub: envie o aula-peft.zip para os arquivos do Colab antes de rodar esta célula.
    clone = "git clone -q --depth 1 --branch $branch https://github.com/$repository aula-peft"
    for command in (
        "unzip -q aula-peft.zip" if Path("aula-peft.zip").exists() else clone,
        f"{sys.executable} -m pip install -q --no-deps ./aula-peft bitsandbytes",
    ):
        subprocess.run(command, shell=True, check=True)

from toolkit import environment_card

machine = environment_card()

# Os dados das aulas: no Colab, na cópia do repositório; em casa, na pasta ao lado da do caderno.
DADOS = next(
    (p for p in map(Path, ("aula-peft/lessons/dados", "../dados", "dados")) if p.is_dir()), Path("dados")
)
