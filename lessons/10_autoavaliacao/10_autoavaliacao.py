# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Autoavaliação: o que ficou do curso
#
# Este caderno tem duas partes. A primeira é de **treino**: perguntas de todas as aulas, corrigidas na hora, com a razão de cada alternativa, quantas vezes você quiser. A segunda é a **avaliada**: dez questões e uma resposta aberta, corrigidas depois da entrega.
#
# **Tempo:** 45 a 60 minutos. **Antes:** as nove aulas. **Pontos:** 20.
#
# *Como responder.* No Colab cada questão é um formulário: escolha ou escreva, e o Colab põe a resposta dentro da célula, que vai no arquivo entregue. No JupyterLab a mesma célula aparece como código: escreva entre as aspas. Maiúsculas, espaços e parênteses não importam: `c`, `C)` e `(c)` são a mesma resposta. Depois rode a célula da questão e a célula logo abaixo, que só confere se a resposta está bem escrita; **ela não diz se está certa**.

# %% nbgrader={"grade_id": "apoio"}
# Apoio às questões: rode e siga em frente (não é preciso mexer aqui).
from toolkit import quiz

# Números que cada estudante recebe sorteados a partir da sua matrícula.
SORTEIOS = {
    "q7": {
        "largura": (512, 768, 1024, 2048, 4096),
        "valores": (128, 256, 512),
        "posto": (2, 4, 8, 16, 32),
        "camadas": (12, 16, 24, 28, 30),
    },
    "q8": {"bilhoes": (3, 4, 6, 7, 8, 13, 14, 32, 34, 65, 70), "lineares": (90, 92, 94, 95, 96, 97, 98)},
    "q9": {
        "exemplos": (960, 1152, 1440, 1920, 2304, 2880),
        "lote": (2, 4, 8),
        "acumulacao": (2, 3, 4, 6),
        "epocas": (2, 3, 4, 5),
    },
}

# %% [markdown]
# ## Parte 1: treino
#
# Uma questão por vez. **Conferir** corrige e diz por quê; **Próxima** passa adiante. Nada fica gravado. Para treinar uma aula só, escreva o nome dela: `quiz.practice("03_lora")`.

# %%
quiz.practice()

# %% [markdown]
# *Como usar bem:* antes de conferir, diga em voz alta por que as outras alternativas estão erradas. Se acertar sem saber dizer, a questão ainda não está respondida.

# %% [markdown]
# ## Parte 2: avaliada
#
# As questões numéricas têm números sorteados a partir da sua matrícula: os seus não são os dos seus colegas. Escreva-a como está na lista da turma e rode a célula.

# %% cellView="form"
# @title Sua matrícula
matricula = ""  # @param {type:"string"}


def enunciado(questao, texto):
    """Mostra o enunciado com os números sorteados para a matrícula."""
    try:
        print(texto.format(**quiz.drawn(matricula, questao, SORTEIOS[questao])))
    except NotImplementedError as aviso:
        print(f"Aviso: {aviso}.")


# %% tags=["instrutor"]
# O que a correção dá aos testes (a matrícula da lista e o crédito parcial), para este caderno rodar sozinho.
matricula = student_id = "2023001"
credit = print

# %% [markdown]
# ### Questão 1
#
# ◆◆◆◆◆ · 1 ponto · Aula 01, o problema que se quer resolver
#
# Uma equipe quer adaptar um modelo de 7 bilhões de parâmetros e ouve falar de PEFT. Que problema do ajuste fino essas técnicas atacam em primeiro lugar?
#
# - a) Faltam exemplos rotulados para a tarefa, e rotulá-los custa caro.
# - b) Programar um Transformer é difícil, e cada tarefa pede um novo.
# - c) Ajustar todos os parâmetros custa memória e computação demais.
# - d) Pré-treinar um modelo do zero é difícil e pede dados demais.

# %% cellView="form" nbgrader={"grade_id": "q1", "solution": true}
# @title Questão 1
q1 = ""  # @param ["", "a", "b", "c", "d"]
### BEGIN SOLUTION
q1 = "c"
### END SOLUTION

# %% nbgrader={"grade_id": "q1_teste", "points": 1}
escolha = quiz.letter(q1, "abcd")
### BEGIN HIDDEN TESTS
assert escolha != "a", "Faltar dados é um problema de qualquer ajuste; o PEFT não cria exemplos."
assert escolha != "b", "As bibliotecas já trazem o Transformer pronto, com PEFT ou sem ele."
assert escolha != "d", "O PEFT parte de um modelo já pré-treinado: não serve para pré-treinar."
assert escolha == "c"
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 2
#
# ◆◆◆◆◆ · 1 ponto · Aula 03, o que é LoRA
#
# Qual frase descreve o LoRA?
#
# - a) Troca o Transformer por uma rede mais simples, treinada para imitar as respostas dele.
# - b) Congela todos os parâmetros, não acrescenta nenhum e muda só o texto da pergunta.
# - c) Congela os pesos e põe, em paralelo a alguns deles, pares de matrizes treináveis de posto baixo.
# - d) Quantiza a base em 4 bits e treina todos os parâmetros que ficaram em 16 bits.

# %% cellView="form" nbgrader={"grade_id": "q2", "solution": true}
# @title Questão 2
q2 = ""  # @param ["", "a", "b", "c", "d"]
### BEGIN SOLUTION
q2 = "c"
### END SOLUTION

# %% nbgrader={"grade_id": "q2_teste", "points": 1}
escolha = quiz.letter(q2, "abcd")
### BEGIN HIDDEN TESTS
assert escolha != "a", "A arquitetura continua a mesma: as matrizes entram ao lado das que já existem."
assert escolha != "b", "Sem nenhum parâmetro novo não haveria o que treinar."
assert escolha != "d", "Os 4 bits são do QLoRA, e nem nele se treinam os pesos da base."
assert escolha == "c"
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 3
#
# ◆◆◆◆◆ · 1 ponto · Aula 06, LoRA e QLoRA
#
# O que se ganha, antes de tudo, ao passar de LoRA a QLoRA?
#
# - a) A base pode ser treinada em precisão total.
# - b) A base quantizada ocupa muito menos memória da GPU.
# - c) Não é mais preciso ter GPU para ajustar modelos grandes.
# - d) O modelo ajustado responde mais depressa.

# %% cellView="form" nbgrader={"grade_id": "q3", "solution": true}
# @title Questão 3
q3 = ""  # @param ["", "a", "b", "c", "d"]
### BEGIN SOLUTION
q3 = "b"
### END SOLUTION

# %% nbgrader={"grade_id": "q3_teste", "points": 1}
escolha = quiz.letter(q3, "abcd")
### BEGIN HIDDEN TESTS
assert escolha != "a", "A base continua congelada, e em 4 bits, não em precisão total."
assert escolha != "c", "A GPU continua necessária para modelos grandes; só pode ser menor."
assert escolha != "d", "Desquantizar custa tempo: o que se ganha é memória."
assert escolha == "b"
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 4
#
# ◆◆◆◆◆ · 1 ponto · Aula 08, ética
#
# Antes de publicar um modelo ajustado para triagem de currículos, qual destas preocupações é fundamental?
#
# - a) As licenças das bibliotecas de PEFT podem proibir o uso comercial.
# - b) O ajuste pode ampliar vieses sociais da base ou trazer os dos dados.
# - c) A integração com bases de conhecimento externas pode ser complexa.
# - d) Todas as etapas do processo podem exigir a compra de hardware de ponta.

# %% cellView="form" nbgrader={"grade_id": "q4", "solution": true}
# @title Questão 4
q4 = ""  # @param ["", "a", "b", "c", "d"]
### BEGIN SOLUTION
q4 = "b"
### END SOLUTION

# %% nbgrader={"grade_id": "q4_teste", "points": 1}
escolha = quiz.letter(q4, "abcd")
### BEGIN HIDDEN TESTS
assert escolha != "a", "As bibliotecas usadas no curso são de código aberto; o dano às pessoas pesa mais."
assert escolha != "c", "É uma questão técnica, de outra aula."
assert escolha != "d", "Com PEFT o hardware deixa de ser o obstáculo, e não é uma questão ética."
assert escolha == "b"
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade_id": "aberta_enunciado"}
# ### Questão 5 (aberta)
#
# ◆◆◆◆◆ · 4 pontos · Aulas 05 e 06
#
# Explique, em 8 a 15 linhas, como a quantização e os adaptadores de posto baixo, **juntos**, permitem ajustar um modelo de bilhões de parâmetros numa única GPU de consumo. Diga o que cada um dos dois poupa, por que nenhum deles bastaria sozinho, e o que se paga por isso. Use ao menos um número medido ou calculado no curso.
#
# ### BEGIN MARK SCHEME
# **Critérios, 1 ponto cada.**
#
# 1. **Quantização.** Diz que os pesos congelados da base são guardados em 4 bits (NF4) e por isso ocupam perto de um quarto do que ocupariam em 16 bits; são desquantizados na hora da conta. (palavras: 4 bits, 4-bit, quatro bits, nf4; base, congelad, pesos)
# 2. **Adaptadores.** Diz que só as matrizes de posto baixo são treinadas, em precisão maior, e que gradientes e estados do otimizador só existem para elas. (palavras: gradiente, otimizador, adam; adaptador, posto, lora, matrizes)
# 3. **Por que juntos.** Explica que só quantizar não deixa treinar (um passo pequeno se perde em 4 bits) e que só o LoRA ainda deixa a base inteira em 16 bits na memória. (palavras: sozinh, juntos, combina, apenas, só, ambos, nenhum; 16 bits, precisao, arredond, memoria)
# 4. **Preço e número.** Nomeia um custo real (tempo para desquantizar, pequena perda de qualidade) e traz um número coerente com o curso, como 4,127 bits por parâmetro ou os GiB de um modelo. (palavras: lent, tempo, veloc, qualidade, degrad, perda, erro; gib, gb, bits por, vezes, %)
# ### END MARK SCHEME

# %% [markdown] nbgrader={"grade_id": "aberta", "solution": true, "points": 4}
# No QLoRA os pesos congelados da base ficam guardados em NF4: 4,127 bits por parâmetro com a quantização dupla, no lugar de 16, de modo que um modelo de 7 bilhões cabe em cerca de 3,4 GiB e não em 13. Cada peso é desquantizado para 16 bits na hora da conta e descartado em seguida. Isso sozinho não permitiria treinar: um passo do otimizador é muito menor que a distância entre dois dos 16 códigos e se perderia no arredondamento. Por isso os pesos não são tocados, e ao lado deles se treinam as matrizes A e B de posto baixo, em precisão maior. Como só elas mudam, gradientes e estados do AdamW existem apenas para menos de 1 % dos parâmetros. O LoRA sozinho já pouparia isso, mas deixaria a base inteira em 16 bits na memória, que é o que não cabe numa GPU de consumo. O preço é o tempo de desquantizar cada camada na ida e na volta, que deixa o passo mais lento, e um pequeno erro nos pesos, que os adaptadores em parte compensam.

# %% [markdown]
# ### Questão 6
#
# ◆◆◆◆◇ · 2 pontos · Aula 06, o que se pode e o que não se pode prometer
#
# Marque **todas** as afirmações que se sustentam sem outra condição. Cada marca errada desconta uma certa.
#
# - a) No QLoRA, os pesos da base não recebem gradiente.
# - b) O QLoRA treina tão depressa quanto o LoRA.
# - c) O QLoRA usa sempre 16 vezes menos memória que o ajuste completo.
# - d) Fundir o adaptador nos pesos originais, de 16 bits, muda um pouco as respostas em relação às do modelo que foi treinado, com a base em 4 bits.
# - e) O número de parâmetros treináveis é o mesmo em LoRA e QLoRA com o mesmo posto e os mesmos módulos-alvo.

# %% cellView="form" nbgrader={"grade_id": "q6", "solution": true}
# @title Questão 6
q6_a = False  # @param {type:"boolean"}
q6_b = False  # @param {type:"boolean"}
q6_c = False  # @param {type:"boolean"}
q6_d = False  # @param {type:"boolean"}
q6_e = False  # @param {type:"boolean"}
### BEGIN SOLUTION
q6_a = q6_d = q6_e = True
### END SOLUTION

# %% nbgrader={"grade_id": "q6_teste", "points": 2}
marcadas = quiz.letters({"a": q6_a, "b": q6_b, "c": q6_c, "d": q6_d, "e": q6_e}, "abcde")
### BEGIN HIDDEN TESTS
credit(quiz.credit_for(marcadas, "ade"))
assert "b" not in marcadas, "b) Cada peso é desquantizado na ida e na volta: o passo do QLoRA é mais lento."
assert "c" not in marcadas, "c) A razão depende do modelo, do otimizador e do texto; 16 é um caso favorável."
assert "a" in marcadas, "a) Se sustenta: a base está congelada, o gradiente só passa por ela."
assert "d" in marcadas, "d) Se sustenta: os pesos originais não são iguais aos de 4 bits desquantizados."
assert "e" in marcadas, "e) Se sustenta: r(d + k) não depende de como o peso é guardado."
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 7
#
# ◆◆◆◆◇ · 2 pontos · Aula 03, contar parâmetros
#
# Rode a célula abaixo para ver o seu enunciado e responda com um número inteiro.

# %%
enunciado(
    "q7",
    "Um modelo tem {camadas} camadas. Em cada uma, q_proj é {largura} × {largura} e v_proj é {valores} × {largura}.\n"
    "Com LoRA de posto {posto} em q_proj e v_proj de todas as camadas, quantos parâmetros são treináveis?",
)

# %% cellView="form" nbgrader={"grade_id": "q7", "solution": true}
# @title Questão 7: número de parâmetros treináveis
q7 = ""  # @param {type:"string"}
### BEGIN SOLUTION
sorteados = quiz.drawn(matricula, "q7", SORTEIOS["q7"])
q7 = str(sorteados["camadas"] * sorteados["posto"] * (3 * sorteados["largura"] + sorteados["valores"]))
### END SOLUTION

# %% nbgrader={"grade_id": "q7_teste", "points": 2}
leituras = quiz.number(q7)
### BEGIN HIDDEN TESTS
n = quiz.drawn(student_id, "q7", SORTEIOS["q7"])
por_camada = n["posto"] * (n["largura"] + n["largura"]) + n["posto"] * (n["valores"] + n["largura"])
assert not quiz.close(leituras, por_camada, 0), "Essa é a conta de uma camada só: o LoRA está em todas."
assert quiz.close(leituras, n["camadas"] * por_camada, 0), (
    "São r(d + k) parâmetros por matriz, somados em q_proj e v_proj e em todas as camadas. Confira também se a matrícula que você escreveu é a da lista da turma: dela saem os números."
)
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 8
#
# ◆◆◆◆◇ · 2 pontos · Aula 05, bytes de um modelo quantizado
#
# Responda com duas casas decimais e escolha a unidade. Aceita-se erro de até 1 %.

# %%
enunciado(
    "q8",
    "Um modelo tem {bilhoes} bilhões de parâmetros, dos quais {lineares} % estão em camadas lineares.\n"
    "Estas são guardadas em NF4 com quantização dupla (4,127 bits por parâmetro); o resto fica em 16 bits.\n"
    "Quanta memória ocupam os pesos?",
)

# %% cellView="form" nbgrader={"grade_id": "q8", "solution": true}
# @title Questão 8: memória dos pesos
q8 = ""  # @param {type:"string"}
q8_unidade = ""  # @param ["", "MB", "GB", "MiB", "GiB"]
### BEGIN SOLUTION
sorteados = quiz.drawn(matricula, "q8", SORTEIOS["q8"])
fracao = sorteados["lineares"] / 100
q8 = f"{sorteados['bilhoes'] * (fracao * 4.127 + (1 - fracao) * 16) / 8:.2f}".replace(".", ",")
q8_unidade = "GB"
### END SOLUTION

# %% nbgrader={"grade_id": "q8_teste", "points": 2}
leituras = quiz.quantity(q8, q8_unidade)
### BEGIN HIDDEN TESTS
n = quiz.drawn(student_id, "q8", SORTEIOS["q8"])
pesos, lineares = n["bilhoes"] * 10**9, n["lineares"] / 100
certo = pesos * (lineares * 4.127 + (1 - lineares) * 16) / 8
assert not quiz.close(leituras, pesos * 4.127 / 8, 0.01), (
    "O que não é linear fica em 16 bits: some as duas partes."
)
assert not quiz.close(leituras, certo * 8, 0.01), "Esse é o número de bits: um byte tem 8."
assert not any(
    quiz.close(leituras, certo * razao, 0.01) for razao in (2**30 / 10**9, 10**9 / 2**30, 1000, 0.001)
), "A conta está certa, a unidade não: 1 GiB são 2^30 bytes e 1 GB são 10^9."
assert quiz.close(leituras, certo, 0.01), (
    "Some a parte linear (4,127 bits por parâmetro) e a outra (16 bits) e divida por 8. Confira também se a matrícula que você escreveu é a da lista da turma: dela saem os números."
)
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 9
#
# ◆◆◆◇◇ · 2 pontos · Aula 02, passos do otimizador
#
# Responda com um número inteiro.

# %%
enunciado(
    "q9",
    "Um conjunto de treino tem {exemplos} exemplos. O lote é de {lote}, com acumulação de {acumulacao} lotes por passo.\n"
    "Quantos passos o otimizador dá em {epocas} épocas?",
)

# %% cellView="form" nbgrader={"grade_id": "q9", "solution": true}
# @title Questão 9: passos do otimizador
q9 = ""  # @param {type:"string"}
### BEGIN SOLUTION
sorteados = quiz.drawn(matricula, "q9", SORTEIOS["q9"])
q9 = str(sorteados["exemplos"] * sorteados["epocas"] // (sorteados["lote"] * sorteados["acumulacao"]))
### END SOLUTION

# %% nbgrader={"grade_id": "q9_teste", "points": 2}
leituras = quiz.number(q9)
### BEGIN HIDDEN TESTS
n = quiz.drawn(student_id, "q9", SORTEIOS["q9"])
exemplos_por_passo = n["lote"] * n["acumulacao"]
assert not quiz.close(leituras, n["exemplos"] * n["epocas"] / n["lote"], 0), (
    "Esse é o número de lotes: o otimizador só dá um passo depois da acumulação."
)
assert not quiz.close(leituras, n["exemplos"] / exemplos_por_passo, 0), "Essa é a conta de uma época só."
assert quiz.close(leituras, n["exemplos"] * n["epocas"] // exemplos_por_passo, 0), (
    "Divida os exemplos vistos pelo que um passo consome: lote vezes acumulação. Confira também se a matrícula que você escreveu é a da lista da turma: dela saem os números."
)
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 10
#
# ◆◆◆◆◇ · 2 pontos · Aulas 05 e 06, o caminho de um passo
#
# Ponha em ordem o que acontece num passo de treino com QLoRA. Escreva as letras na ordem, por exemplo `c, a, b, ...`.
#
# - a) o otimizador muda A e B
# - b) o peso da camada é desquantizado de NF4 para 16 bits, para a conta da ida
# - c) a perda é calculada a partir dos logits
# - d) o peso é desquantizado outra vez, para levar o gradiente à entrada da camada
# - e) os gradientes de A e B estão completos em todas as camadas

# %% cellView="form" nbgrader={"grade_id": "q10", "solution": true}
# @title Questão 10: a ordem
q10 = ""  # @param {type:"string"}
### BEGIN SOLUTION
q10 = "b, c, d, e, a"
### END SOLUTION

# %% nbgrader={"grade_id": "q10_teste", "points": 2}
ordem = quiz.ordering(q10, "abcde")
### BEGIN HIDDEN TESTS
assert ordem.index("b") < ordem.index("c"), "Sem a conta da ida não há logits, nem perda."
assert ordem.index("c") < ordem.index("d"), "O retropasso parte da perda."
assert ordem.index("d") < ordem.index("e"), (
    "Para as camadas de baixo terem gradiente, ele precisa atravessar os pesos das de cima."
)
assert ordem.index("e") < ordem.index("a"), "O otimizador só age com todos os gradientes prontos."
### END HIDDEN TESTS

# %% [markdown]
# ### Questão 11
#
# ◆◆◆◆◆ · 2 pontos · Aula 08, avaliar e acompanhar
#
# Um modelo de triagem tem 91 % de acurácia. Marque **todas** as frases corretas. Cada marca errada desconta uma certa.
#
# - a) A acurácia alta mostra que ele não discrimina.
# - b) É preciso comparar as taxas de aprovação e de acerto entre os grupos.
# - c) Pares contrafactuais mostram se o atributo, sozinho, muda a decisão.
# - d) Tirar o nome e o gênero do currículo garante decisões iguais.
# - e) O acompanhamento continua depois da publicação, porque os dados de uso mudam.

# %% cellView="form" nbgrader={"grade_id": "q11", "solution": true}
# @title Questão 11
q11_a = False  # @param {type:"boolean"}
q11_b = False  # @param {type:"boolean"}
q11_c = False  # @param {type:"boolean"}
q11_d = False  # @param {type:"boolean"}
q11_e = False  # @param {type:"boolean"}
### BEGIN SOLUTION
q11_b = q11_c = q11_e = True
### END SOLUTION

# %% nbgrader={"grade_id": "q11_teste", "points": 2}
marcadas = quiz.letters({"a": q11_a, "b": q11_b, "c": q11_c, "d": q11_d, "e": q11_e}, "abcde")
### BEGIN HIDDEN TESTS
credit(quiz.credit_for(marcadas, "bce"))
assert "a" not in marcadas, "a) Um modelo pode acertar muito e errar sempre contra o mesmo grupo."
assert "d" not in marcadas, "d) Bairro, escola e modo de escrever continuam a revelar o grupo."
assert "b" in marcadas, "b) Está certa: paridade demográfica e igualdade de oportunidade comparam grupos."
assert "c" in marcadas, "c) Está certa: os dois textos só diferem no atributo."
assert "e" in marcadas, "e) Está certa: sem acompanhamento, uma deriva passa despercebida."
### END HIDDEN TESTS

# %% [markdown]
# ## Antes de entregar
#
# - A sua matrícula está escrita como na lista da turma?
# - Cada célula de conferência roda sem erro? `NotImplementedError` quer dizer que a questão ainda está em branco.
# - A resposta aberta está na célula da questão 5?
#
# Depois, **Ambiente de execução → Reiniciar e executar tudo**, e baixe o arquivo como diz o [guia das aulas](../README.md).
