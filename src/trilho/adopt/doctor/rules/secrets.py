"""Secrets that stand in cells, outputs and files. A value is never repeated, only what kind it is and where."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, Text, finding
from trilho.adopt.plan import Finding

RULE = "secret"
PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple((kind, re.compile(pattern)) for kind, pattern in (
    ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("a Google service account's key", r"\"type\"\s*:\s*\"service_account\""),
    ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    ("a Google OAuth secret", r"\bGOCSPX-[0-9A-Za-z_-]{28}"),
    ("a Google OAuth token", r"\bya29\.[0-9A-Za-z_-]{20,}"),
    ("a GitHub token", r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{50,})"),
    ("a GitLab token", r"\bglpat-[0-9A-Za-z_-]{20,}"),
    ("a Slack token", r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}"),
    ("a Slack webhook", r"https://hooks\.slack\.com/(?:services|workflows)/[0-9A-Za-z_/-]{20,}"),
    ("a Teams webhook", r"https://[\w.-]+\.webhook\.office\.com/webhookb2/[\w@/-]{30,}"),
    ("a Discord webhook", r"https://discord(?:app)?\.com/api/webhooks/\d+/[\w-]{40,}"),
    ("a Stripe key", r"\b[rs]k_(?:live|test)_[0-9A-Za-z]{16,}"),
    ("an OpenAI or Anthropic key", r"\bsk-(?:proj-|ant-|svcacct-)?[0-9A-Za-z_-]{20,}"),
    ("a Hugging Face token", r"\bhf_[0-9A-Za-z]{30,}"),
    ("a Databricks token", r"\bdapi[0-9a-f]{32}\b"),
    ("a SendGrid key", r"\bSG\.[\w-]{16,}\.[\w-]{16,}"),
    ("an npm or PyPI token", r"\b(?:npm_[0-9A-Za-z]{36}|pypi-AgE[0-9A-Za-z_-]{40,})"),
    ("a Telegram bot's token", r"\b\d{8,10}:AA[0-9A-Za-z_-]{32,}"),
    ("a Mercado Pago token", r"\bAPP_USR-\d{10,}-[0-9a-f-]{20,}"),
    ("an Azure storage key", r"AccountKey=[0-9A-Za-z+/]{40,}={0,2}"),
    ("an Azure shared access signature", r"[?&]sig=[0-9A-Za-z%+/]{30,}"),
    ("a JSON web token", r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"),
    ("a Kaggle key", r"\"username\"\s*:\s*\"[^\"]+\"\s*,\s*\"key\"\s*:\s*\"[0-9a-f]{32}\""),
))  # fmt: skip
CONNECTION = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s:/@'\"]*):([^\s@/'\"]+)@[\w.\[-]")
ODBC = re.compile(r"(?i)\b(?:pwd|password|senha)\s*=\s*([^;'\"\s]+)\s*;|;\s*(?:pwd|password|senha)\s*=\s*([^;'\"\s]+)")
BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+([0-9A-Za-z+/._=-]{16,})")
NAMED = re.compile(
    r"(?i)(?:^|[_\W])(password|passwd|passwort|pwd|pass|senha|secret|token|api_?key|apikey|app_?key|"
    r"(?:access|secret|private|auth|account|encryption|signing|storage|chave)_?key(?:_id)?|"
    r"chave(?:_(?:api|acesso|secreta))?|client_?secret|credentials?|credencial|auth)$"
)
SAID = re.compile(
    r"(?i)\b(password|passwd|pwd|senha|secret|token|api[_ -]?key|secret[_ -]?(?:access[_ -]?)?key)\b"
    r"\s*(?:[:=]|é|is|eh)\s*[\"'`]?([^\s\"'`,;<>]{6,})"
)
PLACEHOLDER = re.compile(
    r"(?i)^(\W*|[x*.•]{3,}|none|null|true|false|changeme|change_me|dummy|fake|test|example|exemplo|password|senha|secret|"
    r"token|string|str|todo|redacted|removed|hidden|default|anonymous|unknown|public|basic|bearer|value|"
    r"(your|my|sua|seu|minha|meu|some|the|insert|put|add)[-_ ]?\w*.*|.*(<[^>]*>|\$\{|\{\{|%\().*|secret://.*|"
    r"projects/[^/]+/secrets/.*|\$\w+|os\.environ.*|env[:.].*|.*(example|placeholder|xxxx).*|https?://[^:@]*)$"
)
NOT_SECRET = re.compile(
    r"(?i)(hash|digest|sha\d*|md5|checksum|commit|uuid|guid|etag|fingerprint|version|revision|"
    r"charset|"
    r"alphabet|image|signature|base64|font|svg|png)"
)
ENTROPIC = re.compile(r"[0-9A-Za-z+/_=-]{24,128}")
HEX = re.compile(r"[0-9a-fA-F]{32,128}")
FIX = "take it out, make a new one (this one is in the file's history), and refer to it as secret://NAME"
WHY = "whoever gets the file gets the access, and a repository never forgets"


def secrets(subject: Subject) -> Iterator[Finding]:
    """Find secrets in code, comments, prose, outputs and files; one finding for a kind and a line."""
    seen: set[tuple[int | None, str, int]] = set()
    for place, kind, where in [*_in_code(subject), *_in_texts(subject)]:
        key = (place.cell, place.file, place.line)
        if key not in seen or where == "output":
            seen.add(key)
            at = {"output": "in the saved output", "prose": "in the text"}.get(where, "in the code")
            yield finding(RULE, place, f"{kind} stands {at}: {WHY}", "error", FIX)


def _in_texts(subject: Subject) -> Iterator[tuple[Place, str, str]]:
    told: set[tuple[int | None, str, str, str]] = set()
    for text in subject.texts:
        for line, kind, value in found_in(text):
            key = (text.cell, text.file, kind, value)
            if key not in told:
                told.add(key)
                yield Place(text.cell, line, text.file), kind, text.kind


def found_in(text: Text) -> Iterator[tuple[int, str, str]]:
    """Give line, kind and value of each secret in a text that its own form gives away."""
    for number, line in enumerate(text.text.splitlines(), 1):
        for kind, pattern in PATTERNS:
            match = pattern.search(line)
            if match and not _placeholder(match[0]):
                yield (1 if text.kind == "output" else number), kind, match[0]
        for value, kind in _spoken(line, text.kind):
            yield (1 if text.kind == "output" else number), kind, value


def _spoken(line: str, where: str) -> Iterator[tuple[str, str]]:
    for match in CONNECTION.finditer(line):
        if not _placeholder(match[3]) and not match[3].startswith(("{", "$", "%")):
            yield match[3], f"a password in a connection string ({match[1]})"
    for match in ODBC.finditer(line):
        value = match[1] or match[2]
        if not _placeholder(value) and not value.startswith(("{", "$", "%")):
            yield value, "a password in a connection string"
    for match in BEARER.finditer(line):
        if not _placeholder(match[1]) and _entropy(match[1]) > 3:
            yield match[1], "an authorization header"
    comment = line.partition("#")[2] if where == "source" else line if where in ("prose", "output") else ""
    for match in SAID.finditer(comment):
        if not _placeholder(match[2]) and _mixed(match[2]):
            yield match[2], f"what is called a {match[1].lower()}"


def _in_code(subject: Subject) -> Iterator[tuple[Place, str, str]]:
    for chunk, node in subject.nodes():
        for name, value in _named(node):
            text = value.value if isinstance(value, ast.Constant) else None
            if isinstance(text, str) and _is_secret(name, text):
                yield chunk.place(value), f"`{name}`, which looks like a password, key or token,", "source"
        text = node.value if isinstance(node, ast.Constant) else None
        random = isinstance(text, str) and not chunk.file.startswith("tests") and high_entropy(text)
        if random and not NOT_SECRET.search(_name_of(chunk.tree, node)):
            yield chunk.place(node), "a random-looking text, as keys and tokens are,", "source"


def _named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Give names with what is bound to them: variables, keywords, items, attributes, environment variables."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                match target:
                    case ast.Name(id=name) | ast.Attribute(attr=name):
                        yield name, value
                    case ast.Subscript(slice=ast.Constant(value=str(name))):
                        yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.keyword(arg=str(name), value=value):
            yield name, value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, value
        case ast.Call(func=ast.Attribute(attr="setdefault" | "setenv"), args=[ast.Constant(value=str(name)), value]):
            yield name, value
        case ast.FunctionDef(args=given):
            arguments = [*given.posonlyargs, *given.args]
            for argument, default in zip(reversed(arguments), reversed(given.defaults), strict=False):
                yield argument.arg, default
        case _:
            return


def _is_secret(name: str, text: str) -> bool:
    match = NAMED.search(name)
    if match is None or _placeholder(text) or len(text) < 4 or any(c.isspace() for c in text):
        return False
    word = match[1].lower()
    if word in ("password", "passwd", "pwd", "pass", "senha", "passwort"):
        return not text.startswith(("/", "gs://")) and text.lower() not in ("drop", "raise", "coerce", "ignore")
    return len(text) >= 12 and _mixed(text) and "/" not in text[:1] and not text.endswith((".json", ".txt", ".pem"))


def _mixed(text: str) -> bool:
    kinds = [any(test(c) for c in text) for test in (str.isdigit, str.isalpha, lambda c: not c.isalnum())]
    return sum(kinds) >= 2 and _entropy(text) > 2.2


def high_entropy(text: str) -> bool:
    """Whether a text is as random as a key: no word, no path, no digest in a list of names.

    >>> high_entropy("wJalrXUtnFEMI/K7MDENG+bPxRfiCYzq9dL0sT4v"), high_entropy("HistGradientBoostingClassifierAndMore")
    (True, False)
    """
    if HEX.fullmatch(text):
        return len(text) in (32, 40, 48, 64, 128) and _entropy(text.lower()) > 3.2
    if not ENTROPIC.fullmatch(text) or text.count("/") > 4 or text.count("_") > 3 or text.count("-") > 3:
        return False
    kinds = (any(map(str.isdigit, text)), any(map(str.islower, text)), any(map(str.isupper, text)))
    digits = sum(map(str.isdigit, text))
    return all(kinds) and digits >= 3 and _entropy(text) > 4.1 and _changes(text) > len(text) / 3


def _changes(text: str) -> int:
    """Count how often the kind of character changes: words in camel case change seldom."""
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in text]
    return sum(a != b for a, b in pairwise(kinds))


def _entropy(text: str) -> float:
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values()) if text else 0.0


def _placeholder(text: str) -> bool:
    return bool(PLACEHOLDER.match(text)) or len(set(text)) < 3


def _name_of(tree: ast.Module, constant: ast.AST) -> str:
    for node in ast.walk(tree):
        for name, value in _named(node):
            if value is constant:
                return name
    return ""
