"""Paths that exist on one machine only, and places of data that production will not have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.doctor.flow.names import full_name, last
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

ABSOLUTE = re.compile(
    r"([A-Za-z]:[\\/](?![\\/])|\\\\[\w.-]+\\|~[\w.-]*/|file:///?|/(home|Users|root|mnt|media|Volumes|content|kaggle|"
    r"data\d?|srv|opt|var|usr|tmp|dbfs|workspace|scratch|storage|projects?|etc|work)/)\S*"
)
PLACES = (
    (re.compile(r"(?i)/content/(g?drive)/|^/gdrive/|google drive|MyDrive"), "a mounted Google Drive"),
    (re.compile(r"^/content/"), "the disk of a Colab session, which is gone when the session ends"),
    (re.compile(r"^(/kaggle/|\.\./input/)"), "the disk of a Kaggle session"),
    (re.compile(r"(?i)(^|[\\/~])(downloads|desktop|área de trabalho|area de trabalho|documentos|documents)[\\/]"),
     "a person's own folders"),
    (re.compile(r"(?i)onedrive|dropbox"), "a person's synchronised folder"),
    (re.compile(r"(?i)^([a-z]:[\\/]|\\\\)"), "a Windows drive or share"),
    (re.compile(r"^(/home/|/Users/|/root/|~)"), "one person's home folder"),
    (re.compile(r"^(/mnt/|/media/|/Volumes/)"), "a mounted disk"),
    (re.compile(r"^(/tmp/|/var/tmp/|/scratch/)"), "a folder for temporary files"),
)  # fmt: skip
READS = re.compile(r"(read_\w+|scan_\w+|loadtxt|genfromtxt|load|open|Path|glob|listdir|connect|fromfile|loads?|imread)")
MOUNTS = {
    "google.colab.drive.mount": "mounts a person's Google Drive",
    "google.colab.files.upload": "asks a person to upload a file",
    "pandas.read_clipboard": "reads the clipboard",
    "ipywidgets.FileUpload": "asks a person to upload a file",
    "input": "waits for a person to type",
    "getpass.getpass": "waits for a person to type",
    "tkinter.filedialog.askopenfilename": "asks a person for a file",
}
WHY = "production has no such place, and so the model could never be trained again there"
FIX = "name the data in trilho.toml, [data] source: a path from the project's folder, or a table"
URLS = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def absolute_paths(subject: Subject) -> Iterator[Finding]:
    """Find absolute paths, and data that is read from a place that production lacks; each path once."""
    reads = _read(subject)
    mounts = {chunk.place(node) for chunk, node, name in subject.calls() if _manual(name)}
    seen: set[tuple[str, int | None, int, str]] = set()
    for chunk, node in subject.nodes():
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or "\n" in node.value.strip():
            continue
        path = node.value.strip()
        place = chunk.place(node)
        key = (path, place.cell, place.line, place.file)
        where = next((words for pattern, words in PLACES if pattern.search(path)), None)
        looks = ABSOLUTE.fullmatch(path) or (where is not None and path.startswith("../input/"))
        if key in seen or place in mounts or not looks or (URLS.match(path) and not path.startswith("file:")):
            continue
        seen.add(key)
        if where is not None and (node in reads or _is_data(path)):
            yield finding(
                "data-location", place, f"`{_short(path)}` is an absolute path into {where}: {WHY}", "error", FIX
            )
        elif path.rstrip("/") not in ("/tmp", "/dev/null"):  # noqa: S108
            yield finding(
                "absolute-path",
                place,
                f"`{_short(path)}` is an absolute path: it exists on this machine only",
                "warning",
                "write it relative to the project's folder, or give it as a setting",
            )


def manual_sources(subject: Subject) -> Iterator[Finding]:
    """Find data that only a person at the keyboard can provide."""
    for chunk, node, name in subject.calls():
        full = _manual(name)
        if full and (full != "input" or isinstance(node.func, ast.Name)):
            yield finding(
                "data-location",
                chunk.place(node),
                f"`{name}` {MOUNTS[full]}: no training can do that by itself",
                "error",
                FIX,
            )


def _manual(name: str) -> str:
    """Give the name under which a call is known that a person has to answer, "" where it is none."""
    return name if name in MOUNTS else f"google.colab.{name}" if f"google.colab.{name}" in MOUNTS else ""


def own_database(subject: Subject) -> Iterator[Finding]:
    """Find databases on the notebook's own machine."""
    pattern = re.compile(r"^[a-z0-9+]+://[^/\s]*@?(localhost|127\.0\.0\.1)(:\d+)?(/|$)")
    for chunk, node in subject.nodes():
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and pattern.match(node.value)
            and not (node.value.startswith(("http://", "https://")))
        ):
            yield finding(
                "data-location",
                Place(chunk.cell, node.lineno, chunk.file),
                f"a database on this very machine is read: {WHY}",
                "warning",
                FIX,
            )


def _read(subject: Subject) -> set[ast.AST]:
    """Give the constants that are (part of) what a reader is given, directly or by a name."""
    found: set[ast.AST] = set()
    for _, node in subject.nodes():
        if isinstance(node, ast.Call) and READS.fullmatch(last(full_name(node.func, subject.known))) and node.args:
            for inner in ast.walk(node.args[0]):
                found.add(inner)
                if isinstance(inner, ast.Name) and inner.id in subject.constants.values:
                    found |= set(ast.walk(subject.constants.values[inner.id]))
    return found


def _is_data(path: str) -> bool:
    return bool(
        re.search(
            r"(?i)\.(csv|tsv|txt|parquet|pq|xlsx?|json|jsonl|feather|db|sqlite|zip|gz|pkl|pickle|"
            r"sas7bdat)$",
            path,
        )
    )


def _short(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:40]}...{path[-30:]}"
