"""Find values that look like secrets: they are named (`secret://NAME`), never written.

    python tools/check_secrets.py            every file that git knows
    python tools/check_secrets.py --staged   what the next commit would add
    python tools/check_secrets.py FILE ...   these files

A line that only looks like one is let through with the comment `not-a-secret` on it. Each project carries a copy of
this file, which is why it needs nothing but Python.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ALLOWED = "not-a-secret"
REFERENCE = r"secret://[A-Za-z0-9][\w./-]*"
LARGEST = 5_000_000  # bytes of a file that is still read
UNREAD = frozenset(
    {".git", ".venv", ".platform", ".trilho", "__pycache__", ".pytest_cache", ".ruff_cache", "node_modules"}
)
IMAGE = r"[0-9A-Za-z+/=]{1000,}"  # such as a plot in a notebook
ENTROPY = 3.2  # bits a character of a long word: names stay below, keys above
KEYS = tuple(f"{word}{dash}key" for word in ("api", "access", "account", "auth", "private") for dash in ("_", "-", ""))
WORDS = ("passw", "pwd", "senha", "secret", "token", "credential", *KEYS)
PATTERNS: dict[str, tuple[tuple[str, ...], str]] = {  # by kind: texts one of which is in it, in small letters; the rule
    "a private key": (("private key",), r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "a key of an AWS account": (("akia", "asia"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Google API key": (("aiza",), r"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    "a Google OAuth token": (("ya29.", "gocspx-"), r"\bya29\.[0-9A-Za-z_-]{20,}|\bGOCSPX-[0-9A-Za-z_-]{20,}"),
    "a GitHub token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{36,})",
    ),
    "a GitLab token": (("glpat-",), r"\bglpat-[0-9A-Za-z_-]{20,}"),
    "a Slack token": (("xox",), r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}"),
    "the address of a webhook": (
        ("hooks.slack.com", "webhook.office.com", "logic.azure.com"),
        r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[0-9A-Za-z/_-]{20,}"
        r"|https://[\w.-]+\.(?:webhook\.office|logic\.azure)\.com[^\s\"']*?(?:/webhookb2/|[?&]sig=)[^\s\"']{12,}",
    ),
    "a key of OpenAI or Anthropic": (("sk-",), r"\bsk-(?:ant-|proj-|svcacct-)?[0-9A-Za-z_-]{32,}"),
    "a Hugging Face token": (("hf_",), r"\bhf_[0-9A-Za-z]{30,}"),
    "a PyPI token": (("pypi-",), r"\bpypi-[0-9A-Za-z_-]{50,}"),
    "a Stripe key": (("k_live_",), r"\b[rs]k_live_[0-9A-Za-z]{20,}"),
    "a SendGrid key": (("sg.",), r"\bSG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}"),
    "a Databricks token": (("dapi",), r"\bdapi[0-9a-f]{32}\b"),
    "a JSON web token": (("eyj",), r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"),
    "an Azure storage key": (("accountkey=",), r"\bAccountKey=[0-9A-Za-z+/]{60,}={0,2}"),
    "a password in an address": (
        ("://",),
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'$<{]{1,80}:(?P<password>[^\s:/@\"'$<{]{3,80})@",
    ),
    "a secret in an assignment": (
        WORDS,
        r"(?i)(?:(?P<word>passwords?|passwd|pwd|senhas?)|secrets?"
        r"|(?:api|access|account|auth|private)[_-]?keys?|(?<![a-z])tokens?|(?:access|auth|bearer|refresh)[_-]?token"
        r"|credentials?)\\?[\"']?\]?\s{0,8}(?::\s{0,4}str\s{0,4})?(?:=(?!=)|:(?!:)|=>)\s{0,8}"
        r"\\?(?P<quote>[\"']?)(?P<value>[^\s\"'\\,;#]{4,200})\\?(?P=quote)",
    ),
}
PLACEHOLDERS = (
    r"(?i)^(?:x+|\*+|\.+|-+|_+|0+|(?:my|your|the|some|a)[-_ ].*|.*(?:changeme|change[-_]me|placeholder|example|dummy"
    r"|redacted|todo|fixme).*|none|null|true|false|passwords?|passwd|secret|senha|token|user|str|string|text|varchar"
    r"|hidden|\$.*|%.*|\{.*|<.*)$"
)
CODE = r"[()\[\]{}]|^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$|^[A-Z][A-Z0-9_]*$|^[a-z_]+$|^(?:https?|gs|s3|file)://|^[./~]"


class Found(NamedTuple):
    """A value that looks like a secret: where, and what it looks like, never the value itself."""

    line: int
    column: int
    kind: str


def find_secrets(text: str) -> Iterator[Found]:
    """Give what looks like a secret in a text, line by line.

    >>> list(find_secrets('aws = "AKIA' + 'Z7Q2M4N8P1R5T9V3"'))
    [Found(line=1, column=8, kind='a key of an AWS account')]
    >>> list(find_secrets('password = "secret://warehouse"\\npassword = os.environ["PASSWORD"]'))
    []
    """
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOWED in line:
            continue
        if len(line) > 1000:
            line = re.sub(IMAGE, lambda image: " " * len(image[0]), line)
        small = line.lower()
        for kind, (marks, pattern) in PATTERNS.items():
            if not any(mark in small for mark in marks):
                continue
            match = next(filter(_counts, re.finditer(pattern, line)), None)
            if match is not None:
                yield Found(number, match.start() + 1, kind)
                break


def _counts(match: re.Match[str]) -> bool:
    """Leave out references, placeholders, and code that only names a secret."""
    named = match.groupdict()
    if "password" in named:
        return not re.match(PLACEHOLDERS, named["password"]) and not re.search(REFERENCE, match[0])
    if "value" not in named:
        return True
    value, quoted = named["value"], bool(named["quote"])
    if re.match(REFERENCE, value) or re.match(PLACEHOLDERS, value):
        return False
    if not quoted and re.search(CODE, value):
        return False
    if quoted and re.search(r"\s|^(?:https?|gs|s3|file)://|^[./~]|[{}<>]", value):
        return False
    if quoted and named["word"]:
        return len(set(value)) > 2
    return len(value) > 5 and len(set(value)) > 3 and (_mixed(value) or _is_one_long_word(value))


def _mixed(value: str) -> bool:
    """Say whether a value has digits or signs among letters, as passwords have and words have not."""
    return bool(re.search(r"[A-Za-z]", value)) and bool(re.search(r"[0-9!@#$%^&*+=?]", value)) and entropy(value) >= 2


def _is_one_long_word(value: str) -> bool:
    return value.isalpha() and len(value) > 15 and entropy(value) > ENTROPY


def entropy(text: str) -> float:
    """Give the bits of information in a character of a text.

    >>> entropy("aaaa"), entropy("abcd")
    (0.0, 2.0)
    """
    counts = [text.count(char) / len(text) for char in set(text)]
    return -sum(share * math.log2(share) for share in counts) + 0.0


def check(files: Iterable[tuple[str, str]]) -> list[str]:
    """Give a line for every value that looks like a secret in named texts."""
    return [
        f"{name}:{found.line}:{found.column}: it looks like {found.kind}"
        for name, text in files
        for found in find_secrets(text)
    ]


def main(arguments: Sequence[str]) -> int:
    """Check files, all of a project's, or what is staged; exit with 1 when something looks like a secret."""
    if list(arguments) == ["--staged"]:
        problems = check(_staged())
    else:
        problems = check(_read(name) for name in list(arguments) or _names())
    if not problems:
        return 0
    sys.stderr.write("\n".join(problems) + "\n")
    sys.stderr.write(
        "Hint: keep the value in a secret store and write secret://NAME instead; a value that was ever committed is "
        f"known: renew it. A line that is none is let through with the comment {ALLOWED}\n"
    )
    return 1


def _names() -> Iterator[str]:
    """Name the files that git knows or would add; without git all but those of environments and caches."""
    import subprocess

    try:
        words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        yield from filter(None, subprocess.run(words, capture_output=True, check=True, text=True).stdout.split("\0"))
    except (OSError, subprocess.CalledProcessError):
        for folder, folders, names in os.walk("."):
            folders[:] = [name for name in folders if name not in UNREAD]
            yield from (os.path.relpath(os.path.join(folder, name)) for name in names)  # noqa: PTH118


def _read(name: str) -> tuple[str, str]:
    path = Path(name)
    if not path.is_file() or path.stat().st_size > LARGEST:
        return name, ""
    return name, _text(path.read_bytes())


def _staged() -> Iterator[tuple[str, str]]:
    import subprocess

    words = ["git", "diff", "--cached", "--name-only", "--diff-filter=ACMR", "-z"]
    names = subprocess.run(words, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        content = subprocess.run(["git", "show", f":{name}"], capture_output=True, check=False).stdout
        yield name, _text(content) if len(content) <= LARGEST else ""


def _text(content: bytes) -> str:
    """Read text in whatever encoding; a binary file has none."""
    return "" if b"\0" in content[:8192] else content.decode("utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
