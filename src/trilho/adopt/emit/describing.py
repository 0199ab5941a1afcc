"""A docstring for each of the notebook's own functions and classes, made of their names and the comments above them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Sequence

from trilho.adopt.emit.naming import cells_phrase, docstring

WORDS = """
add adjust aggregate apply assign balance bin bucket build calc calculate cap clean clip collapse combine compute
convert count create cut derive detect drop encode engineer enrich evaluate extract fetch fill filter find fit fix
flag format generate get give group impute join keep label load log make map mark mask merge normalise normalize
parse pick plot predict prepare preprocess process rank read remove rename replace resample reshape round sample
save scale score select set shift show sort split standardise standardize strip tag tidy tokenize train transform
trim tune update validate weigh winsorize wrap write adiciona agrupa ajusta aplica arruma avalia calcula carrega
categoriza codifica completa conta converte corrige corta cria divide enriquece escala extrai filtra gera imputa
insere junta limpa marca monta mostra normaliza padroniza pega prepara preenche processa separa seleciona soma
transforma trata treina troca valida adicionar agrupar ajustar aplicar avaliar calcular carregar codificar converter
corrigir criar dividir extrair filtrar gerar juntar limpar marcar montar normalizar preparar preencher processar
remover separar tratar transformar treinar
"""  # English and Portuguese, as names begin
VERBS = frozenset(WORDS.split())
SHORT = {"mae", "mse", "rmse", "mape", "smape", "wape", "wmape", "auc", "ks", "psi", "iv", "woe", "id", "bmi", "rfm"}


def described(name: str, parameters: Sequence[str] = ()) -> str:
    """Say in a line what a function of this name does.

    >>> described("add_features", ["d"]), described("clean", ["d"]), described("is_weekend", ["day"])
    ('Add features', 'Clean `d`', 'Say whether it is weekend')
    >>> described("mae", ["y", "p"]), described("haversine", ["a"])
    ('Compute the MAE', 'Compute the haversine')
    """
    words = [word for word in re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_") if word]
    if not words:
        return f"Give what `{name}` gives"
    shown = [word.upper() if word in SHORT else word for word in words]
    first, rest = words[0], " ".join(shown[1:])
    if first in ("is", "has", "should", "can") and rest:
        return f"Say whether it {first} {rest}"
    if first in VERBS:
        given = next((p for p in parameters if p not in ("self", "state")), "")
        return f"{first.capitalize()} {rest or (f'`{given}`' if given else 'what is needed')}"
    return f"Compute the {' '.join(shown)}"


def documented(source: str, cell: int) -> str:
    """Give a function or class a docstring, and its methods too, where they have none.

    A comment of one line directly above becomes the docstring: it says more than the name.

    >>> print(documented("# turn codes into words\\ndef decode(x):\\n    return x", 3))
    def decode(x):
        \"\"\"Turn codes into words. From cell 3.\"\"\"
        return x
    """
    tree = ast.parse(source)
    node = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return source
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
    for method in reversed(methods):
        source = _with(source, method, _of_method(method), "")
    if ast.get_docstring(node, clean=False) is not None:
        return source
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    lines = source.splitlines()
    above = [line.lstrip("# ").strip() for line in lines[:first] if line.strip()]
    said = above[0] if len(above) == 1 and _is_prose(above[0]) else ""
    words = f"{said[0].upper()}{said[1:]}" if said else _of(node)
    source = _with(source, node, words, cells_phrase([cell]))
    return "\n".join(source.splitlines()[first:]) if said else source


def _of(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", node.name).replace("_", " ").lower()
        return f"The notebook's {words}"
    return described(node.name, [a.arg for a in (*node.args.posonlyargs, *node.args.args)])


def _of_method(node: ast.FunctionDef) -> str:
    known = {"fit": "Learn from rows", "predict": "Give the prediction of each row",
             "predict_proba": "Give the probabilities of the classes of each row",
             "transform": "Transform rows", "fit_transform": "Learn from rows, and transform them"}  # fmt: skip
    return "" if node.name.startswith("_") else known.get(node.name) or _of(node)


def _is_prose(comment: str) -> bool:
    """Say whether a comment says something in words: no rule of dashes, and no code that was left out."""
    if not re.search(r"[^\W\d_]{3}", comment) or len(comment) > 90 or comment.lower().startswith(("todo", "fixme")):
        return False
    try:
        tree = ast.parse(comment)
    except SyntaxError:
        return True
    return all(isinstance(n, ast.Expr) and isinstance(n.value, ast.Name) for n in tree.body)


def _with(source: str, node: ast.FunctionDef | ast.ClassDef, words: str, more: str) -> str:
    if not words or ast.get_docstring(node, clean=False) is not None:
        return source
    line, column = head_end(source, node)
    pad = " " * (node.col_offset + 4)
    body = node.body[0]
    if body.lineno > line:
        pad = " " * body.col_offset
    text = docstring(words, more, pad)
    text = "\n".join(f"{pad}{part}" if part else part for part in text.splitlines())
    lines = source.splitlines()
    head, rest = lines[line - 1][: column + 1], lines[line - 1][column + 1 :].strip()
    after = [f"{pad}{rest}"] if rest and not rest.startswith("#") else []
    head += f"  {rest}" if rest.startswith("#") else ""
    return "\n".join([*lines[: line - 1], head, text, *after, *lines[line:]])


def head_end(source: str, node: ast.FunctionDef | ast.ClassDef) -> tuple[int, int]:
    """Give the line and the column, in characters, of the colon that ends the head of a function or class.

    >>> text = "def f(a,\\n      b={1: 2}):  # two\\n    return a"
    >>> head_end(text, ast.parse(text).body[0])
    (2, 15)
    """
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.start[0] < node.lineno or token.type != tokenize.OP:
            continue
        depth += token.string in "([{"
        depth -= token.string in ")]}"
        if token.string == ":" and not depth:
            return token.start
    return (node.lineno, len(source.splitlines()[node.lineno - 1]))
