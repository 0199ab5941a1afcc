"""A page about a model's server: its fields, an example, a line to try; one file, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from trilho_runtime.protocols.schemas import seen_at_training

if TYPE_CHECKING:
    from trilho_runtime.protocols.operations import Served

HEADERS = [
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("x-content-type-options", "nosniff"),
    ("vary", "accept-language"),
]
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d1d1f;background:#fff}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}
pre{background:#f4f4f6;padding:1rem;overflow:auto;border-radius:.4rem}code{font-size:.9em}
@media(prefers-color-scheme:dark){body{color:#eee;background:#161618}pre{background:#242428}td,th{border-color:#444}}
"""
WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "about": "A {task} model, version {version}. Each row that is sent gets one prediction.",
        "fields": "Fields of a row",
        "field": "Field",
        "type": "Type",
        "null": "May be null",
        "seen": "Seen at training",
        "to": "to",
        "yes": "yes",
        "no": "no",
        "example": "An example",
        "try": "To try it",
        "routes": "Routes",
        "document": "The whole description is in {link}, in OpenAPI.",
        "other": "Em português",
        "number": "number",
        "integer": "integer",
        "boolean": "true or false",
        "string": "text",
        "timestamp": "ISO 8601 time",
        "classification": "classification",
        "regression": "regression",
    },
    "pt": {
        "about": "Um modelo de {task}, versão {version}. Cada linha enviada recebe uma predição.",
        "fields": "Campos de uma linha",
        "field": "Campo",
        "type": "Tipo",
        "null": "Pode ser nulo",
        "seen": "Visto no treino",
        "to": "a",
        "yes": "sim",
        "no": "não",
        "example": "Um exemplo",
        "try": "Para experimentar",
        "routes": "Rotas",
        "document": "A descrição completa está em {link}, em OpenAPI.",
        "other": "In English",
        "number": "número",
        "integer": "inteiro",
        "boolean": "verdadeiro ou falso",
        "string": "texto",
        "timestamp": "data e hora ISO 8601",
        "Predict rows": "Predizer linhas",
        "Tell what turned out to be true": "Dizer o que se mostrou verdadeiro",
        "Which model this is": "Que modelo é este",
        "Counters for Prometheus": "Contadores para o Prometheus",
        "This document as a page": "Este documento em uma página",
        "This document": "Este documento",
        "Whether the model answers": "Se o modelo responde",
        "Which server this is": "Que servidor é este",
        "Whether the server lives": "Se o servidor está vivo",
        "Whether the server is ready": "Se o servidor está pronto",
        "Inputs and outputs as tensors": "Entradas e saídas como tensores",
        "Whether the model is ready": "Se o modelo está pronto",
        "Infer from tensors": "Inferir a partir de tensores",
        "What was served, as counts": "O que foi servido, em contagens",
        "classification": "classificação",
        "regression": "regressão",
    },
}


def language_of(query: str, accepted: str) -> str:
    """Give the page's language: what ?lang= says, else the better liked of the two that there are.

    >>> language_of("", "pt-BR,pt;q=0.9,en;q=0.8"), language_of("lang=en", "pt"), language_of("", "de")
    ('pt', 'en', 'en')
    """
    asked = parse_qs(query).get("lang", [""])[0][:2].lower()
    if asked in WORDS:
        return asked
    liked: dict[str, float] = {}
    for part in accepted[:200].split(","):
        name, _, quality = part.strip().partition(";q=")
        try:
            liked.setdefault(name[:2].lower(), float(quality or 1))
        except ValueError:
            continue
    return "pt" if liked.get("pt", 0.0) > liked.get("en", 0.0) else "en"


def page(document: Mapping[str, Any], manifest: Mapping[str, Any], served: Served, address: str, language: str) -> str:
    """Give the page."""
    words, task = WORDS[language], str(manifest["task"])
    title, version = escape(document["info"]["title"]), escape(document["info"]["version"])
    example = _example(document)
    other = "en" if language == "pt" else "pt"
    about = words["about"].format(task=words.get(task, escape(task)), version=version)
    link = '<a href="openapi.json">openapi.json</a>'
    parts = [
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>',
        f'<h1>{title}</h1><p>{about} <a href="?lang={other}" hreflang="{other}">{words["other"]}</a></p>',
        f"<h2>{words['fields']}</h2>{_fields(manifest['signature'], served, words)}",
        f"<h2>{words['example']}</h2><pre>{_written(example)}</pre>",
        f"<h2>{words['try']}</h2><pre>{escape(_curl(example, served, address))}</pre>",
        f"<h2>{words['routes']}</h2>{_routes(document, words)}",
        f"<p>{words['document'].format(link=link)}</p></body></html>",
    ]
    return "\n".join(parts)


def _example(document: Mapping[str, Any]) -> Any:
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    return content["examples"]["one"]["value"]


def _written(example: Any) -> str:
    return escape(json.dumps(example, indent=2, ensure_ascii=False))


def _fields(signature: Any, served: Served, words: Mapping[str, str]) -> str:
    rows = [
        f"<tr><td><code>{escape(field['name'])}</code></td><td>{words[field['type']]}</td>"
        f"<td>{words['yes' if field['nullable'] else 'no']}</td>"
        f"<td>{'' if field['name'] in served.hidden else escape(seen_at_training(field, words['to']))}</td></tr>"
        for field in signature
    ]
    head = "".join(f"<th>{words[name]}</th>" for name in ("field", "type", "null", "seen"))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _curl(example: Any, served: Served, address: str) -> str:
    """Give a command that sends the example; a key stays in the caller's environment."""
    key = '-H "x-api-key: $API_KEY" ' if served.keys else ""
    token = '-H "authorization: Bearer $(gcloud auth print-identity-token)" ' if served.tokens and not key else ""
    body = json.dumps(example, ensure_ascii=False).replace("'", "'\\''")
    return f"curl {address}/predict {key}{token}-H 'content-type: application/json' -d '{body}'"


def _routes(document: Mapping[str, Any], words: Mapping[str, str]) -> str:
    rows = [
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(words.get(operation['summary'], operation['summary']))}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return f"<table>{''.join(rows)}</table>"
