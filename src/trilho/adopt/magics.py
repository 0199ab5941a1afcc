"""What in a cell is IPython's and not Python's: magics, shell lines and questions, put aside line by line.

The cleaned code has the cell's own line numbers. A magic that runs Python keeps its Python, `%%bigquery` becomes the
call that it stands for, what only sets up the screen is dropped, and what would act outside the notebook is refused.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Effect = Literal["dropped", "translated", "refused"]

SCREEN = frozenset({
    "alias", "autoawait", "autocall", "autoindent", "automagic", "autoreload", "autosave", "capture",
    "colab_extension", "colors", "config", "connect_info", "debug", "doctest_mode", "dhist", "dirs", "env",
    "gui", "hist", "history", "killbgscripts", "load_ext", "lprun", "ls", "lsmagic", "ll", "magic",
    "matplotlib", "memit", "mprun", "notebook", "page", "pastebin", "pdb", "pdef", "pdoc", "pfile", "pinfo",
    "pinfo2", "pprint", "precision", "profile", "psearch", "psource", "pwd", "pycat", "qtconsole", "quickref",
    "recall", "rehashx", "reload_ext", "tb", "tensorboard", "timeit", "unalias", "unload_ext", "watermark",
    "who", "who_ls", "whos", "xdel", "xmode",
})  # fmt: skip
"""Line magics that leave no name and change no data: without them the notebook computes the same."""
TIMERS = frozenset({"time", "prun", "lprun", "memit", "pyinstrument", "snakeviz"})
"""Magics that run the Python after them, in the notebook's own names."""
KEEPERS = TIMERS | {"capture", "heat", "mprun", "pyspark", "python", "python3", "scalene"}
"""Cell magics whose body is Python of the notebook."""
SHOWN = frozenset({
    "html", "HTML", "javascript", "js", "latex", "markdown", "md", "svg", "SVG", "timeit", "debug",
})  # fmt: skip
"""Cell magics whose body leaves nothing behind."""
OTHERS = frozenset({
    "md", "sql", "sh", "fs", "scala", "r", "R", "python",
})  # fmt: skip
"""Words that take the whole cell with one percent sign, as Databricks writes them."""
INSTALLERS = re.compile(r"\s*(pip3?|conda|mamba|uv pip) (install|uninstall|update|upgrade)\b")
ASSIGNED = re.compile(r"(\s*)([A-Za-z_][\w, ]*?)\s*=\s*([%!])(.*)", re.DOTALL)
QUESTION = re.compile(r"\s*(\?{1,2}\s*[\w.*%\[\]'\"()]+|%{0,2}[\w.*\[\]'\"()]+\s*\?{1,2})\s*;?\s*$")
PYLAB = (
    "import numpy as np; import matplotlib.pyplot as plt; from matplotlib import pylab; "
    "from pylab import *; from numpy import *"
)


@dataclass(frozen=True)
class Magic:
    """A line, or a whole cell, that is not Python; `line` is 1-based in its cell."""

    line: int
    text: str
    kind: Literal["line", "cell", "shell"]
    effect: Effect


def clean(source: str) -> tuple[str, tuple[Magic, ...]]:
    r"""Replace what is not Python, keeping the number of every line.

    >>> clean("%matplotlib inline\nx = 1  # 100%\n%time y = x")[0]
    '\nx = 1  # 100%\ny = x'
    >>> clean("!pip install x")
    ('', (Magic(line=1, text='!pip install x', kind='shell', effect='refused'),))
    """
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), None)
    if first is None:
        return source, ()
    found = _cell_magic(lines, first)
    if found is not None:
        magic, code = found
        if not code.strip():
            return "", (magic,)
        if magic.effect == "translated":
            return code + "\n" * (len(lines) - 1 - code.count("\n")), (magic,)
        inner, more = clean(code)  # %%time over %%capture, and line magics in a timed cell
        return inner, (magic, *more)
    return _line_magics(lines)


def _cell_magic(lines: list[str], first: int) -> tuple[Magic, str] | None:
    head = lines[first].strip()
    match = re.match(r"(%%?)(\w+|!)\s*(.*)", head)
    if match is None or (match[1] == "%" and (match[2] not in OTHERS or match[3])):
        return None
    name, rest = match[2], match[3]
    body = [*lines[:first], "", *lines[first + 1 :]]
    if name == "bigquery":
        code = _bigquery(rest, first, lines[first + 1 :])
        return Magic(first + 1, head, "cell", "translated" if code else "refused"), code
    if name in KEEPERS:
        if name in TIMERS and rest and not rest.startswith("-"):
            body[first] = rest  # %%time x = 1 has a first line of its own
        return Magic(first + 1, head, "cell", "dropped"), "\n".join(body)
    return Magic(first + 1, head, "cell", "dropped" if name in SHOWN else "refused"), ""


def _line_magics(lines: list[str]) -> tuple[str, tuple[Magic, ...]]:
    code: list[str] = []
    magics: list[Magic] = []
    starts = _logical_starts(lines)
    number = 0
    while number < len(lines):
        line = lines[number]
        found = _line_magic(line) if next(starts) else None
        if found is None:
            code.append(line)
            number += 1
            continue
        kind, effect, text = found
        last = number
        while lines[last].endswith("\\") and last + 1 < len(lines):  # a shell line goes on
            last += 1
            next(starts)
        magics.append(Magic(number + 1, "\n".join(lines[number : last + 1]).strip(), kind, effect))
        code += [text, *([""] * (last - number))]
        number = last + 1
    return "\n".join(code), tuple(magics)


def _line_magic(line: str) -> tuple[Literal["line", "shell"], Effect, str] | None:
    """Say what a line is if it is no Python, and what stands in its place."""
    text = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    nothing = f"{indent}pass" if indent else ""
    if text.startswith("!") or INSTALLERS.match(line):
        return "shell", "refused", nothing
    if QUESTION.match(line):
        return "line", "dropped", nothing
    assigned = ASSIGNED.match(line)
    if assigned is not None:
        return _assigned(assigned)
    match = re.match(r"%(\w+)\s*(.*)", text)
    if match is None:
        return None
    name, rest = match[1], match[2].strip()
    if name in ("pip", "conda", "mamba", "uv", "system", "sx"):
        return "shell", "refused", nothing
    python = _translated(name, rest)
    if python:
        return "line", "translated", indent + python
    return (
        "line",
        "dropped" if name in SCREEN | TIMERS or (name == "store" and "-r" not in rest) else "refused",
        nothing,
    )


def _translated(name: str, rest: str) -> str:
    if name in TIMERS:
        return re.sub(r"^((-[slTD]\s*\S+|-\w+|--[\w-]+)\s+)+", "", rest)
    if name == "pylab":
        return PYLAB
    run = re.fullmatch(r"(?:-i\s+)?(?:\./)?([A-Za-z_]\w*)(?:\.py)?", _word(rest)) if name == "run" else None
    if run and run[1].isidentifier():
        return f"from {run[1]} import *"  # a script beside the notebook: its names
    if name == "cd" and rest and not rest.startswith("-"):
        return f"import os; os.chdir({_word(rest)!r})"
    if name in ("env", "set_env"):
        match = re.match(r"(\w+)[\s=]+(.+)", rest)
        return f"import os; os.environ[{match[1]!r}] = {_word(match[2])!r}" if match and "$" not in rest else ""
    return ""


def _assigned(match: re.Match[str]) -> tuple[Literal["line", "shell"], Effect, str] | None:
    """Read `files = !ls data/*.csv` and `here = %pwd`: as Python where that gives the same, else not at all."""
    indent, names, sign, rest = match[1], match[2], match[3], match[4].strip()
    nothing = f"{indent}pass" if indent else ""
    if sign == "%" and not re.match(r"\w+", rest):
        return None
    listed = re.fullmatch(r"ls\s+(?:-1\s+)?([\w./*?\[\]-]*[*?][\w./*?\[\]-]*)", rest)
    if listed:
        return "shell", "translated", f"{indent}import glob; {names} = sorted(glob.glob({listed[1]!r}))"
    if sign == "%" and rest == "pwd":
        return "line", "translated", f"{indent}import os; {names} = os.getcwd()"
    variable = re.fullmatch(r"env\s+(\w+)", rest) if sign == "%" else None
    if variable:
        return "line", "translated", f"{indent}import os; {names} = os.environ[{variable[1]!r}]"
    return "shell" if sign == "!" else "line", "refused", nothing


def _word(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _bigquery(options: str, first: int, body: list[str]) -> str:
    """Write `%%bigquery df --project p` as the client's call, or give "" where it would write or can't be read."""
    try:
        name, given = _bigquery_options(options)
    except ValueError:
        return ""
    client = f"project={given['project']!r}" if "project" in given else ""
    if "location" in given:
        client += f"{', ' if client else ''}location={given['location']!r}"
    extra = ""
    if "params" in given:
        extra = f", job_config=bigquery.QueryJobConfig(query_parameters={_parameters(given['params'])})"
    rows = f".result(max_results={given['max_results']})" if "max_results" in given else ""
    head = f"from google.cloud import bigquery; {f'{name} = ' if name else ''}bigquery.Client({client}).query("
    tail = f"{extra}){rows}.to_dataframe()"
    before = "\n" * first
    text = "\n".join(body).strip()
    if re.fullmatch(r"\$\w+", text):
        return f"{before}{head}{text[1:]}{tail}"
    quote = '"""' if '"""' not in text and not text.endswith('"') else "'''"
    if not text or quote in text:
        return ""
    return f"{before}{head}{'r' if chr(92) in text else ''}{quote}\n" + "\n".join(body).rstrip() + f"{quote}{tail}"


def _bigquery_options(options: str) -> tuple[str, dict[str, str]]:
    """Read the magic's own options. Raises ValueError for one that writes, or that is not known."""
    params = re.search(r"--params[\s=]+(\$\w+|\{.*\})", options)
    given = {"params": params[1]} if params else {}
    words = shlex.split(options.replace(params[0], "") if params else options)
    name = ""
    while words:
        word, _, value = words.pop(0).partition("=")
        if not word.startswith("-"):
            name = word
        elif word in ("--project", "--location", "--max_results", "--bqstorage_api", "--progress_bar_type"):
            given[word[2:]] = value or (words.pop(0) if words else "")
        elif word not in ("--use_bqstorage_api", "--use_rest_api", "--use_legacy_sql", "--verbose"):
            raise ValueError(word)
    if (name and not name.isidentifier()) or not given.get("max_results", "1").isdigit():
        raise ValueError(options)
    return name, given


def _parameters(given: str) -> str:
    types = "{int: 'INT64', float: 'FLOAT64', bool: 'BOOL', str: 'STRING'}"
    values = given[1:] if given.startswith("$") else repr(ast.literal_eval(given))
    return f"[bigquery.ScalarQueryParameter(k, {types}[type(v)], v) for k, v in {values}.items()]"


def _logical_starts(lines: list[str]) -> Iterator[bool]:
    """Say of each line whether a statement may begin there: not in brackets, in a long string or after a backslash."""
    quote, depth, continued = "", 0, False
    for line in lines:
        yield not quote and depth == 0 and not continued
        if not quote and depth == 0 and not continued and line.lstrip().startswith(("%", "!")):
            continue  # its quotes and brackets are not Python's
        quote, depth = _scan(line, quote, depth)
        continued = not quote and line.endswith("\\")


def _scan(line: str, quote: str, depth: int) -> tuple[str, int]:
    """Follow quotes and brackets through one line; gives the long string's quote that is open after it, and depth."""
    at = 0
    while at < len(line):
        if quote:
            end = re.compile(rf"(?:\\.|(?!{quote}).)*", re.DOTALL).match(line, at)
            at = end.end() if end else at
            if not line.startswith(quote, at):
                return (quote if len(quote) == 3 or line.endswith("\\") else ""), depth
            at, quote = at + len(quote), ""
        elif line[at] == "#":
            return "", depth
        elif line[at] in "'\"":
            quote = line[at] * 3 if line.startswith(line[at] * 3, at) else line[at]
            at += len(quote)
        else:
            depth = max(0, depth + (line[at] in "([{") - (line[at] in ")]}"))
            at += 1
    return (quote if len(quote) == 3 else ""), depth
