# Two cells that `make lessons` sets after every lesson.

# %% [markdown]
# ## Conferir e entregar
#
# A célula abaixo roda de novo os testes visíveis e diz como está cada exercício; depois confere se o arquivo está completo e diz como baixá-lo. Ela não envia nada.

# %%
from toolkit import conferir, entregar

conferir()
print()
entregar()
