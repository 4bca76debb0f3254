# Respostas com que as questões são testadas: com right=true todos os pontos, com right=false menos que todos.
# %% maiuscula_com_parentese answer="q1" right=true
q1 = "(C)"

# %% largura_cheia_e_espacos answer="q1" right=true
q1 = "  ｃ "

# %% letra_de_outro_alfabeto answer="q1" right=true
q1 = "с)"  # do alfabeto cirílico

# %% resposta_fixa answer="q1" right=false
q1 = "a"

# %% alternativa_b answer="q1" right=false
q1 = "b"

# %% alternativa_d answer="q1" right=false
q1 = "d"

# %% todas_as_alternativas answer="q1" right=false
q1 = "a b c d"


# %% objeto_que_e_igual_a_tudo answer="q1" right=false
class Igual(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


q1 = Igual("a")

# %% maiuscula_com_parentese answer="q2" right=true
q2 = "(C)"

# %% largura_cheia_e_espacos answer="q2" right=true
q2 = "  ｃ "

# %% letra_de_outro_alfabeto answer="q2" right=true
q2 = "с)"  # do alfabeto cirílico

# %% resposta_fixa answer="q2" right=false
q2 = "a"

# %% alternativa_b answer="q2" right=false
q2 = "b"

# %% alternativa_d answer="q2" right=false
q2 = "d"

# %% todas_as_alternativas answer="q2" right=false
q2 = "a b c d"


# %% objeto_que_e_igual_a_tudo answer="q2" right=false
class Igual(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


q2 = Igual("a")

# %% maiuscula_com_parentese answer="q3" right=true
q3 = "(B)"

# %% largura_cheia_e_espacos answer="q3" right=true
q3 = "  ｂ "

# %% letra_de_outro_alfabeto answer="q3" right=true
q3 = "в)"  # do alfabeto cirílico

# %% resposta_fixa answer="q3" right=false
q3 = "a"

# %% alternativa_c answer="q3" right=false
q3 = "c"

# %% alternativa_d answer="q3" right=false
q3 = "d"

# %% todas_as_alternativas answer="q3" right=false
q3 = "a b c d"


# %% objeto_que_e_igual_a_tudo answer="q3" right=false
class Igual(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


q3 = Igual("a")

# %% maiuscula_com_parentese answer="q4" right=true
q4 = "(B)"

# %% largura_cheia_e_espacos answer="q4" right=true
q4 = "  ｂ "

# %% letra_de_outro_alfabeto answer="q4" right=true
q4 = "в)"  # do alfabeto cirílico

# %% resposta_fixa answer="q4" right=false
q4 = "a"

# %% alternativa_c answer="q4" right=false
q4 = "c"

# %% alternativa_d answer="q4" right=false
q4 = "d"

# %% todas_as_alternativas answer="q4" right=false
q4 = "a b c d"


# %% objeto_que_e_igual_a_tudo answer="q4" right=false
class Igual(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


q4 = Igual("a")

# %% uma_por_uma answer="q6" right=true
q6_a = True
q6_b = False
q6_c = False
q6_d = True
q6_e = True

# %% por_conta answer="q6" right=true
q6_a = 1 < 2

# %% resposta_fixa answer="q6" right=false
q6_a = q6_b = q6_c = q6_d = q6_e = True

# %% so_uma_das_certas answer="q6" right=false
q6_b = q6_c = q6_d = q6_e = False

# %% uma_errada_a_mais answer="q6" right=false
q6_b = True

# %% so_as_erradas answer="q6" right=false
q6_a = q6_d = q6_e = False
q6_b = q6_c = True

# %% textos_em_vez_de_marcas answer="q6" right=false
q6_a = q6_b = q6_c = q6_d = q6_e = "sim"

# %% uma_por_uma answer="q11" right=true
q11_a = False
q11_b = True
q11_c = True
q11_d = False
q11_e = True

# %% por_conta answer="q11" right=true
q11_b = 1 < 2

# %% resposta_fixa answer="q11" right=false
q11_a = q11_b = q11_c = q11_d = q11_e = True

# %% so_uma_das_certas answer="q11" right=false
q11_a = q11_c = q11_d = q11_e = False

# %% uma_errada_a_mais answer="q11" right=false
q11_a = True

# %% so_as_erradas answer="q11" right=false
q11_b = q11_c = q11_e = False
q11_a = q11_d = True

# %% textos_em_vez_de_marcas answer="q11" right=false
q11_a = q11_b = q11_c = q11_d = q11_e = "sim"

# %% com_pontos answer="q7" right=true
n = quiz.drawn(matricula, "q7", SORTEIOS["q7"])
q7 = f"{n['camadas'] * n['posto'] * (3 * n['largura'] + n['valores']):,}".replace(",", ".")

# %% como_numero answer="q7" right=true
n = quiz.drawn(matricula, "q7", SORTEIOS["q7"])
q7 = n["camadas"] * n["posto"] * (3 * n["largura"] + n["valores"])

# %% com_espacos answer="q7" right=true
q7 = f" {int(q7):_} ".replace("_", " ")

# %% resposta_fixa answer="q7" right=false
q7 = "460800"

# %% uma_camada_so answer="q7" right=false
n = quiz.drawn(matricula, "q7", SORTEIOS["q7"])
q7 = str(n["posto"] * (3 * n["largura"] + n["valores"]))

# %% so_as_matrizes_b answer="q7" right=false
n = quiz.drawn(matricula, "q7", SORTEIOS["q7"])
q7 = str(n["camadas"] * n["posto"] * (n["largura"] + n["valores"]))

# %% matriz_inteira answer="q7" right=false
n = quiz.drawn(matricula, "q7", SORTEIOS["q7"])
q7 = str(n["camadas"] * n["largura"] * (n["largura"] + n["valores"]))

# %% numeros_de_um_colega answer="q7" right=false
n = quiz.drawn("2023002", "q7", SORTEIOS["q7"])
q7 = str(n["camadas"] * n["posto"] * (3 * n["largura"] + n["valores"]))

# %% infinito answer="q7" right=false
q7 = float("inf")

# %% em_gib answer="q8" right=true
n = quiz.drawn(matricula, "q8", SORTEIOS["q8"])
certo = n["bilhoes"] * 1e9 * (n["lineares"] / 100 * 4.127 + (1 - n["lineares"] / 100) * 16) / 8
q8, q8_unidade = f"{certo / 2**30:.2f}", "GiB"

# %% unidade_no_texto answer="q8" right=true
q8, q8_unidade = f"{q8} gb", ""

# %% resposta_fixa answer="q8" right=false
q8, q8_unidade = "3,5", "GB"

# %% unidade_trocada answer="q8" right=false
q8_unidade = "GiB"

# %% tudo_em_nf4 answer="q8" right=false
n = quiz.drawn(matricula, "q8", SORTEIOS["q8"])
q8 = f"{n['bilhoes'] * 4.127 / 8:.2f}"

# %% tudo_em_16_bits answer="q8" right=false
n = quiz.drawn(matricula, "q8", SORTEIOS["q8"])
q8 = str(2 * n["bilhoes"])

# %% em_bits answer="q8" right=false
n = quiz.drawn(matricula, "q8", SORTEIOS["q8"])
certo = n["bilhoes"] * 1e9 * (n["lineares"] / 100 * 4.127 + (1 - n["lineares"] / 100) * 16) / 8
q8 = f"{certo * 8 / 1e9:.2f}"

# %% sem_unidade answer="q8" right=false
q8_unidade = ""

# %% como_numero answer="q9" right=true
q9 = int(q9)

# %% decimal_que_e_inteiro answer="q9" right=true
q9 = f"{q9},0"

# %% resposta_fixa answer="q9" right=false
q9 = "100"

# %% sem_acumulacao answer="q9" right=false
n = quiz.drawn(matricula, "q9", SORTEIOS["q9"])
q9 = str(n["exemplos"] * n["epocas"] // n["lote"])

# %% uma_epoca_so answer="q9" right=false
n = quiz.drawn(matricula, "q9", SORTEIOS["q9"])
q9 = str(n["exemplos"] // (n["lote"] * n["acumulacao"]))

# %% sem_o_lote answer="q9" right=false
n = quiz.drawn(matricula, "q9", SORTEIOS["q9"])
q9 = str(n["exemplos"] * n["epocas"] // n["acumulacao"])

# %% um_a_mais answer="q9" right=false
q9 = str(int(q9) + 1)

# %% setas answer="q10" right=true
q10 = "B → C → D → E → A"

# %% sem_separador answer="q10" right=true
q10 = "bcdea"

# %% resposta_fixa answer="q10" right=false
q10 = "a, b, c, d, e"

# %% otimizador_antes_dos_gradientes answer="q10" right=false
q10 = "b, c, d, a, e"

# %% perda_antes_da_ida answer="q10" right=false
q10 = "c, b, d, e, a"

# %% falta_uma answer="q10" right=false
q10 = "b, c, d, a"

# %% letra_repetida answer="q10" right=false
q10 = "b, c, d, e, a, a"
