"""Personal data: CPF, CNPJ, e-mail, telephone and names, in columns, in code and in what a notebook has saved."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, Text, finding
from trilho.adopt.doctor.tables import samples
from trilho.adopt.plan import Finding

RULE = "personal-data"
CPF = re.compile(r"(?<![\d.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\d-])")
CNPJ = re.compile(r"(?<![\w.])[0-9A-Z]{2}\.[0-9A-Z]{3}\.[0-9A-Z]{3}/[0-9A-Z]{4}-\d{2}(?!\d)")
EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9._%+-]+@(?!(?:example|exemplo|test|"
    r"localhost)\b)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
    r"\.[A-Za-z]{2,}\b"
)
PHONE = re.compile(
    r"(?<![\d.,-])(?:\+?55[\s-]?)?\(?(?:1[1-9]|2[12478]|3[1-578]|4[1-9]|5[1345]|6[1-9]|7[13-579]|"
    r"8[1-9]|9[1-9])"
    r"\)?[\s-]?(?:9[\s.]?\d{4}|[2-5]\d{3})[\s.-]?\d{4}(?![\d.,-])"
)
SHAPED_PHONE = re.compile(r"[()+]|\d[\s-]9?\d{4}-\d{4}")
PERSON = re.compile(
    r"[A-ZÀ-Ý][a-zà-ÿ']+(?:\s+(?:d[aeo]s?|e|von|van|del|di)\.?)?(?:\s+[A-ZÀ-Ý][a-zà-ÿ'.]+)+|"
    r"[A-ZÀ-Ý']{2,}(?:\s+D[AEO]S?)?(?:\s+[A-ZÀ-Ý']{2,})+"
)
NAME_COLUMN = re.compile(
    r"(?i)^(nome|name|nm)(_?(completo|cliente|cli|pessoa|paciente|aluno|funcionario|titular|"
    r"usuario|"
    r"contato|mae|pai|social|vendedor|motorista|medico))?$|^(full|first|last|customer|client|"
    r"patient|user|person|employee|contact|driver|student|given|family)_?names?$|^sobrenome$|"
    r"^(cliente|paciente|titular|funcionario|aluno|customer|patient|employee)(_nome|"
    r"_name)?$"
)
BY_NAME = (
    (re.compile(r"(?i)(^|_)(cpf|nr_?cpf|num_?cpf|cpf_?cnpj)(_|$)"), "CPF numbers"),
    (re.compile(r"(?i)(^|_)cnpj(_|$)"), "CNPJ numbers"),
    (re.compile(r"(?i)(^|_)(e_?mail|email)(_|$|s$)"), "e-mail addresses"),
    (re.compile(r"(?i)^(\w+_)?(telefone|celular|fone|phone|whatsapp|cell_?phone|mobile_?phone)(_?(number|numero|\d))?$"),
     "telephone numbers"),
    (re.compile(r"(?i)^(nome_(completo|cliente|pessoa|paciente|aluno|funcionario|mae|pai|social)|(full|first|last|customer|"
                r"patient|employee)_?name|sobrenome)$"), "names of people"),
    (re.compile(r"(?i)^(rg|nr_?rg|cnh|pis|pasep|nis|titulo_eleitor|passaporte|passport(_number)?|ssn)$"),
     "identity numbers"),
    (re.compile(r"(?i)^(numero_cartao|card_number|credit_card(_number)?|cartao_credito|pan)$"), "card numbers"),
)  # fmt: skip
WHY = "it needs a legal basis, an owner and an end (LGPD), and goes wherever the file goes"
FIX_COLUMN = (
    "leave the column out when the data is read, or replace it with a keyed hash; else list it: [model] personal"
)
FIX_OUTPUT = "clear the cell's output before the notebook is shared or committed"


@dataclass(frozen=True)
class Kind:
    """A kind of personal data that values give away."""

    name: str
    test: Callable[[str], bool]
    least: float = 0.6  # the share of a column's values that must be of it


def is_cpf(value: str) -> bool:
    """Check a CPF by its two check digits.

    >>> is_cpf("529.982.247-25"), is_cpf("529.982.247-24"), is_cpf("111.111.111-11")
    (True, False, False)
    """
    digits = re.sub(r"[.\-\s]", "", value)
    if not digits.isdigit() or len(digits) != 11 or len(set(digits)) == 1:
        return False
    return all(_digit(digits[:size], range(size + 1, 1, -1)) == int(digits[size]) for size in (9, 10))


def is_cnpj(value: str) -> bool:
    """Check a CNPJ by its two check digits; since 2026 it may have letters.

    >>> is_cnpj("11.222.333/0001-81"), is_cnpj("12.ABC.345/01DE-35"), is_cnpj("11.222.333/0001-80")
    (True, True, False)
    """
    text = re.sub(r"[.\-/\s]", "", value).upper()
    if not re.fullmatch(r"[0-9A-Z]{12}\d{2}", text) or len(set(text)) == 1:
        return False
    weights = [5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]
    return _digit(text[:12], weights) == int(text[12]) and _digit(text[:13], [6, *weights]) == int(text[13])


def _digit(text: str, weights: object) -> int:
    total = sum((ord(sign) - 48) * weight for sign, weight in zip(text, weights, strict=True))  # type: ignore[call-overload]
    return 0 if total % 11 < 2 else 11 - total % 11


KINDS = (
    Kind("CPF numbers", is_cpf),
    Kind("CNPJ numbers", is_cnpj),
    Kind("e-mail addresses", lambda value: EMAIL.fullmatch(value.strip()) is not None, 0.5),
    Kind("telephone numbers", lambda value: PHONE.fullmatch(value.strip()) is not None
         and SHAPED_PHONE.search(value) is not None),
)  # fmt: skip


def personal_columns(subject: Subject) -> Iterator[Finding]:
    """Find personal data in the files that are read, by their values; then in columns that the code names."""
    told: set[str] = set()
    for sample in samples(subject):
        found = {column: kind for column, values in sample.columns.items() if (kind := kind_of(column, values))}
        told |= set(found)
        if found:
            yield finding(RULE, sample.place, f"{sample.path} holds {_listed(found)}: {WHY}", "warning", FIX_COLUMN)
    named: dict[Place, dict[str, str]] = {}
    for place, column, kind in _named(subject):
        if column not in told:
            told.add(column)
            named.setdefault(place, {})[column] = kind
    for place, found in named.items():
        yield finding(RULE, place, f"the code names {_listed(found)}: {WHY}", "warning", FIX_COLUMN)


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{kind} (column `{column}`)" for column, kind in found.items())


def kind_of(column: str, values: list[str]) -> str:
    """Tell what personal data a column holds, "" where none is seen.

    >>> kind_of("contato", ["ana@loja.com.br", "rui@loja.com.br", "eva@mail.com"])
    'e-mail addresses'
    """
    values = [value for value in values if value.strip()]
    if len(values) < 3:
        return ""
    named = next((kind for pattern, kind in BY_NAME if pattern.search(column)), "")
    padded = [value.zfill(11) if value.isdigit() and "CPF" in named else value for value in values]
    for kind in KINDS:
        share = sum(map(kind.test, padded)) / len(padded)
        if share >= kind.least and (len(set(values)) > 2 or named):
            return kind.name
    if named == "telephone numbers" and sum(8 <= len(re.sub(r"\D", "", v)) <= 13 for v in values) >= 0.6 * len(values):
        return named
    if NAME_COLUMN.search(column) and sum(bool(PERSON.fullmatch(v.strip())) for v in values) >= 0.6 * len(values):
        return "names of people"
    return named if named in ("identity numbers", "card numbers") else ""


def _named(subject: Subject) -> Iterator[tuple[Place, str, str]]:
    """Give the columns that the code names and whose names say what they hold."""
    for chunk, node in subject.nodes():
        match node:
            case ast.Subscript(slice=ast.Constant(value=str(name))):
                names = [name]
            case (
                ast.Subscript(slice=ast.List(elts=elements) | ast.Tuple(elts=[_, ast.List(elts=elements)]))
                | ast.keyword(arg="usecols" | "columns" | "subset", value=ast.List(elts=elements))
            ):
                names = [e.value for e in elements if isinstance(e, ast.Constant) and isinstance(e.value, str)]
            case _:
                continue
        for name in names:
            kind = next((kind for pattern, kind in BY_NAME if pattern.search(name)), "")
            if kind:
                yield chunk.place(node), name, kind


def personal_outputs(subject: Subject) -> Iterator[Finding]:
    """Find personal data in saved outputs and in cells; one finding for a cell."""
    shown: dict[tuple[int | None, str, bool], dict[str, int]] = {}
    for text in subject.texts:
        for kind, count in _in_text(text) if text.kind != "file" else ():
            counts = shown.setdefault((text.cell, text.file, text.kind == "output"), {})
            counts[kind] = counts.get(kind, 0) + count
    for (cell, file, output), counts in shown.items():
        where, fix = (
            ("the saved output", FIX_OUTPUT)
            if output
            else ("the cell", "take it out: made-up values do for an example")
        )
        what = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
        yield finding(RULE, Place(cell, 1, file), f"{where} shows {what}: {WHY}", "warning", fix)


def _in_text(text: Text) -> Iterator[tuple[str, int]]:
    found = {
        "CPF numbers": sum(map(is_cpf, CPF.findall(text.text))),
        "CNPJ numbers": sum(map(is_cnpj, CNPJ.findall(text.text))),
        "e-mail addresses": len(set(EMAIL.findall(_without_decorators(text)))),
        "telephone numbers": sum(bool(SHAPED_PHONE.search(m)) for m in PHONE.findall(text.text))
        if text.kind == "output"
        else 0,
    }
    found["CPF numbers"] += _bare_cpfs(text.text) if text.kind == "output" else 0
    if text.kind == "output":
        found["names of people"] = _names_shown(text.text)
    yield from ((kind, count) for kind, count in found.items() if count)


def _without_decorators(text: Text) -> str:
    """Take out what only looks like an address: logins in connection strings and git's `git@host`."""
    return re.sub(r"\w+://\S+|git@\S+|[\w.-]+@[\w.-]+\.iam\.gserviceaccount\.com", " ", text.text)


def _bare_cpfs(text: str) -> int:
    """Count unformatted CPFs below a heading that says that they are some."""
    if not re.search(r"(?i)\bcpf\b", text):
        return 0
    return sum(map(is_cpf, re.findall(r"(?<![\d.])\d{11}(?![\d.])", text)))


def _names_shown(text: str) -> int:
    """Count people's names in a printed table whose heading names such a column."""
    lines = text.splitlines()
    head = next((at for at, line in enumerate(lines[:3]) if any(NAME_COLUMN.search(w) for w in line.split())), None)
    if head is None:
        return 0
    shown = sum(bool(PERSON.search(line)) for line in lines[head + 1 : head + 30])
    return shown if shown >= 2 else 0
