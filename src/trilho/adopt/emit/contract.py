"""contract.toml, inferred from the rows that the notebook read; and which of its columns are personal data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trilho.adopt.plan import Choice

PERSONAL = re.compile(
    r"(^|_)(cpf|cnpj|rg|e_?mail|phone|telefone|celular|fone|whatsapp|nome|nome_cliente|nome_completo|sobrenome|full_?name|"
    r"first_?name|last_?name|surname|customer_?name|endereco|address|passaporte|passport|ssn)($|_)"
)
ENDINGS = ("_id", "_code", "_type", "_count", "_tipo", "_qtd")


def is_personal_name(column: str) -> bool:
    """Say whether a column is named like one that tells who somebody is.

    >>> [is_personal_name(name) for name in ("CPF", "emailCliente", "nome_loja", "rgb")]
    [True, True, False, False]
    """
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower().replace(" ", "_").replace("-", "_")
    if snake.endswith(ENDINGS) or re.search(r"nome_(?!cliente|completo|do_cliente|da_mae|mae|pai)", snake):
        return False
    return PERSONAL.search(snake) is not None


def personal_columns(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give the columns that look like personal data, by their names or by what they hold."""
    texts = [column for column in columns if column["kind"] in ("string", "integer", "other")]
    return [c["name"] for c in texts if c["personal"] or is_personal_name(c["name"])]


def contract_text(facts: Mapping[str, Any], choice: Choice) -> str:
    """Write what the data must satisfy: types, nulls, ranges with head-room, texts of few values."""
    lines = ["# What the data must satisfy before a model learns from it, inferred from what the notebook read.", "",
             "[table]", f"min_rows = {max(1, int(facts['rows']) // 2)}"]  # fmt: skip
    key = next((c for c in facts["columns"] if c["name"] == choice.key), None)
    lines += [f"unique = [{text(choice.key)}]"] if key is not None and key["unique"] else []
    for column in facts["columns"]:
        if column["kind"] != "other":
            lines += ["", f"[columns.{key_text(column['name'])}]", *_rules(column, choice)]
    return "\n".join(lines) + "\n"


def _rules(column: Mapping[str, Any], choice: Choice) -> list[str]:
    is_target = column["name"] == choice.target.column
    timed = column["name"] == choice.time and column.get("time")  # a text in the file, a time in the dataset
    lines = [f'type = "{"timestamp" if timed else column["kind"]}"']
    lines += [] if column["nulls"] and not is_target else ["nullable = false"]
    low, high = column["min"], column["max"]
    if timed:
        return lines
    if column["values"]:
        return [*lines, f"values = [{', '.join(map(text, column['values']))}]"]
    if column["kind"] not in ("number", "integer") or low is None or not math.isfinite(low + high):
        return lines
    if column.get("distinct") == 2 and (low, high) == (0, 1):
        return [*lines, "values = [0, 1]"]
    room = max(high - low, abs(high), 1)
    return [
        *lines,
        f"min = {rounded(0 if low >= 0 else low - room, math.floor)}",
        f"max = {rounded(high + room, math.ceil)}",
    ]


def rounded(value: float, to: Callable[[float], int]) -> str:
    """Round outwards to two digits.

    >>> rounded(1234.5, math.ceil), rounded(-17.3, math.floor), rounded(0, math.floor)
    ('1300', '-18', '0')
    """
    if value == 0:
        return "0"
    scale = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return f"{to(value / scale) * scale:.12g}"


def key_text(name: str) -> str:
    """Write a key of TOML.

    >>> key_text("temp_c"), key_text("valor (R$)")
    ('temp_c', '"valor (R$)"')
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else text(name)


def text(value: object) -> str:
    """Write a text of TOML."""
    return json.dumps(str(value), ensure_ascii=False)
