from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trilho.adopt.magics import clean
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.errors import UsageError


def code(source: str, count: int | None = None) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "execution_count": count, "outputs": [], "metadata": {}}


def written(folder: Path, cells: list[dict[str, Any]], **top: Any) -> Path:
    path = folder / "n.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **top}))
    return path


def read(folder: Path, *sources: str, counts: list[int | None] | None = None) -> Notebook:
    counts = counts or [None] * len(sources)
    return read_notebook(written(folder, [code(s, c) for s, c in zip(sources, counts, strict=True)]))


def rules(notebook: Notebook) -> list[tuple[str, int | None]]:
    return [(finding.rule, finding.cell) for finding in notebook.findings]


def refused(path: Path) -> list[str]:
    with pytest.raises(UsageError) as caught:
        read_notebook(path)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("source", "cleaned", "magics"),
    [
        ("%matplotlib inline\nx = 1", "\nx = 1", [(1, "line", "dropped")]),
        ("%%time\nx = 1", "\nx = 1", [(1, "cell", "dropped")]),
        ("# why\n%%time\nx = 1", "# why\n\nx = 1", [(2, "cell", "dropped")]),
        ("%%time\n%%capture o\nx = 1", "\n\nx = 1", [(1, "cell", "dropped"), (2, "cell", "dropped")]),
        ("%time x = f(1)", "x = f(1)", [(1, "line", "translated")]),
        ("%prun -s cum f(1)", "f(1)", [(1, "line", "translated")]),
        ("%timeit f(1)", "", [(1, "line", "dropped")]),
        ("!pip install x\nx = 1", "\nx = 1", [(1, "shell", "refused")]),
        ("pip install -q x", "", [(1, "shell", "refused")]),
        ("%pip install x", "", [(1, "shell", "refused")]),
        ("if a:\n    !ls\nb = 1", "if a:\n    pass\nb = 1", [(2, "shell", "refused")]),
        ("!curl \\\n  -O u\nx = 1", "\n\nx = 1", [(1, "shell", "refused")]),
        ("files = !ls", "", [(1, "shell", "refused")]),
        ("f = !ls d/*.csv", "import glob; f = sorted(glob.glob('d/*.csv'))", [(1, "shell", "translated")]),
        ("%cd ../data", "import os; os.chdir('../data')", [(1, "line", "translated")]),
        ("h = %env HOME", "import os; h = os.environ['HOME']", [(1, "line", "translated")]),
        ("df?\n?df\ndf.head??", "\n\n", [(1, "line", "dropped"), (2, "line", "dropped"), (3, "line", "dropped")]),
        ("%%bash\nls", "", [(1, "cell", "refused")]),
        ("%%writefile a.py\nx = 1", "", [(1, "cell", "refused")]),
        ("%%html\n<b>", "", [(1, "cell", "dropped")]),
        ("%sql\nselect 1", "", [(1, "cell", "refused")]),
        ("%run other.py", "from other import *", [(1, "line", "translated")]),
        ("%run ../other.ipynb", "", [(1, "line", "refused")]),
        ("%store -r x", "", [(1, "line", "refused")]),
        ("x = (a\n     % b)", "x = (a\n     % b)", []),
        ("s = '''\n%who\n!ls\n'''", "s = '''\n%who\n!ls\n'''", []),
        ("ok = a != b", "ok = a != b", []),
        ("x = 'it\\'s'  # don't\n%who", "x = 'it\\'s'  # don't\n", [(2, "line", "dropped")]),
    ],
)
def test_what_is_not_python_is_put_aside_line_by_line(
    source: str, cleaned: str, magics: list[tuple[int, str, str]]
) -> None:
    found, put_aside = clean(source)
    assert found == cleaned
    assert [(magic.line, magic.kind, magic.effect) for magic in put_aside] == magics


def test_a_bigquery_cell_becomes_the_call_it_stands_for() -> None:
    found, [magic] = clean('%%bigquery df --project p --params {"a": 1}\nSELECT x\nFROM d.t WHERE a = @a')
    assert magic.effect == "translated"
    first, *rest = found.split("\n")
    assert first == 'from google.cloud import bigquery; df = bigquery.Client(project=\'p\').query("""'
    assert rest[0] == "SELECT x"
    assert rest[1].startswith('FROM d.t WHERE a = @a""", job_config=bigquery.QueryJobConfig(query_parameters=[')
    assert found.endswith("for k, v in {'a': 1}.items()])).to_dataframe()")
    compile(found, "cell", "exec")


def test_a_bigquery_cell_of_a_variable_and_one_that_writes() -> None:
    assert clean("%%bigquery df\n$sql")[0] == (
        "from google.cloud import bigquery; df = bigquery.Client().query(sql).to_dataframe()\n"
    )
    assert clean("%%bigquery df --destination_table d.t\nSELECT 1")[1][0].effect == "refused"
    assert r'query(r"""' in clean("%%bigquery df\nSELECT REGEXP_EXTRACT(a, '\\d')")[0]


def test_statements_have_their_comments_and_places(tmp_path: Path) -> None:
    notebook = read(
        tmp_path, "import a; import b  # two\n# why\n# so\nx = f(\n  1,\n)  # end", "@d\ndef g():\n    return 1\n"
    )
    assert [(s.id, s.cell, s.line, s.source) for s in notebook.statements[:3]] == [
        (0, 0, 1, "import a"),
        (1, 0, 1, "import b  # two"),
        (2, 0, 4, "# why\n# so\nx = f(\n  1,\n)  # end"),
    ]
    assert notebook.statements[3].source == "@d\ndef g():\n    return 1"
    assert notebook.modules == ("a", "b")
    assert [s.id for s in notebook.of_cell(1)] == [3]


def test_accents_do_not_move_the_end_of_a_statement(tmp_path: Path) -> None:
    notebook = read(tmp_path, "ação = 'é'; b = 'ç'  # fim")
    assert [s.source for s in notebook.statements] == ["ação = 'é'", "b = 'ç'  # fim"]


def test_cells_are_counted_with_markdown(tmp_path: Path) -> None:
    cells = [{"cell_type": "markdown", "source": ["# a\n", "b"]}, code("x = 1", 4)]
    path = written(tmp_path, cells, metadata={"kernelspec": {"name": "py39"}})
    notebook = read_notebook(path)
    assert [(c.index, c.kind, c.source, c.execution_count) for c in notebook.cells] == [
        (0, "markdown", "# a\nb", None),
        (1, "code", "x = 1", 4),
    ]
    assert notebook.statements[0].cell == 1
    assert notebook.kernel == "py39"


def test_document_order_where_it_works(tmp_path: Path) -> None:
    notebook = read(tmp_path, "x = 1", "y = x", "z = y", counts=[2, 1, 3])
    assert notebook.order == "document"
    assert [s.cell for s in notebook.statements] == [0, 1, 2]
    assert rules(notebook) == [("out-of-order", 1)]


def test_saved_counts_where_document_order_fails(tmp_path: Path) -> None:
    notebook = read(tmp_path, "y = x + K", "x = 1\nK = 2", "z = y", "oops", counts=[5, 4, 6, None])
    assert notebook.order == "counts"
    assert [s.cell for s in notebook.statements] == [1, 1, 0, 2]
    assert ("hidden-state", 0) in rules(notebook)


def test_a_constant_that_stands_too_low_is_brought_up(tmp_path: Path) -> None:
    notebook = read(tmp_path, "import os\ndef f(): return K", "y = f()", "z = 1\nK = 3\nw = K")
    assert notebook.order == "document"
    assert [(s.cell, s.source) for s in notebook.statements] == [
        (0, "import os"), (0, "def f(): return K"), (2, "K = 3"), (1, "y = f()"), (2, "z = 1"), (2, "w = K"),
    ]  # fmt: skip
    assert [s.id for s in notebook.statements] == list(range(6))
    assert rules(notebook) == [("hidden-state", 2)]


def test_a_name_that_nothing_defines_is_told_and_order_stays(tmp_path: Path) -> None:
    notebook = read(tmp_path, "y = x", "z = y", counts=[2, 1])
    assert [s.cell for s in notebook.statements] == [0, 1]
    [finding] = [f for f in notebook.findings if f.rule == "undefined-name"]
    assert (finding.cell, finding.line, finding.severity) == (0, 1, "error")


@pytest.mark.parametrize(
    "sources",
    [
        ["from pylab import *", "plot(x)"],
        ["try:\n    df\nexcept NameError:\n    df = 1"],
        ["for i in range(3):\n    if i: t += i\n    t = i"],
        ["display(1)\nget_ipython()\nprint(__name__, _)"],
        ["class A:\n    def f(self): return LATE", "a = A()", "LATE = 1", "a.f()"],
        ["def f(): return g()\ndef g(): return 1", "f()"],
        ["[y := i for i in [1]]", "y"],
    ],
)
def test_names_that_are_there_after_all(tmp_path: Path, sources: list[str]) -> None:
    notebook = read(tmp_path, *sources)
    assert notebook.findings == ()
    assert [s.cell for s in notebook.statements] == sorted(s.cell for s in notebook.statements)


def test_duplicates_and_refused_magics_are_found(tmp_path: Path) -> None:
    sources = ["import os", "x = [1]\nx.append(2)", "import  os", "!pip install a", "fs = !ls", "x=[1]\nx.append(2)"]
    notebook = read(tmp_path, *sources)
    assert rules(notebook) == [
        ("install-in-notebook", 3), ("shell-command", 4), ("duplicate-cell", 2), ("duplicate-cell", 5),
    ]  # fmt: skip
    severities = {f.cell: f.severity for f in notebook.findings if f.rule == "duplicate-cell"}
    assert severities == {2: "note", 5: "warning"}


def test_a_cell_that_never_ran_may_be_no_python(tmp_path: Path) -> None:
    notebook = read(tmp_path, "x = 1", "this is a note", counts=[1, None])
    assert rules(notebook) == [("not-python", 1)]
    assert len(notebook.statements) == 1


def test_nbformat_3(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "heading", "level": 1, "source": ["Title"]},
        {"cell_type": "code", "input": ["x = 1\n", "x"], "language": "python", "prompt_number": 3,
         "outputs": [{"output_type": "pyout", "text": ["1"], "prompt_number": 3}]},
    ]  # fmt: skip
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps({"worksheets": [{"cells": cells}], "metadata": {"name": ""}, "nbformat": 3}))
    notebook = read_notebook(path)
    assert [c.kind for c in notebook.cells] == ["markdown", "code"]
    assert notebook.cells[1].execution_count == 3
    assert notebook.cells[1].outputs == ({"output_type": "execute_result", "data": {"text/plain": ["1"]}},)
    assert [s.source for s in notebook.statements] == ["x = 1", "x"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": [code("ação = 1")], "metadata": {}}, ensure_ascii=False), encoding=encoding)
    assert read_notebook(path).statements[0].source == "ação = 1"


def test_a_script_with_cells(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("# %% [markdown]\n# Title\n# %% load\nimport os\n\n# why\nx = os.sep\n# %%\nprint(x)\n")
    notebook = read_notebook(path)
    assert [(c.index, c.kind) for c in notebook.cells] == [(0, "markdown"), (1, "code"), (2, "code")]
    assert [(s.cell, s.line, s.source) for s in notebook.statements] == [
        (1, 1, "import os"), (1, 4, "# why\nx = os.sep"), (2, 1, "print(x)"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("no json", "n.ipynb is no notebook: not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "n.ipynb is no notebook: it has no cells"),
        ('{"cells": [], "metadata": {}}', "n.ipynb has no cell with code"),
        ('{"cells": [{"cell_type": "code", "source": ["!ls"]}]}', "n.ipynb has no cell with Python in it"),
        ('{"cells": [{"cell_type": "code", "source": "x"}], "metadata": {"kernelspec": {"language": "R"}}}',
         "n.ipynb is a notebook in R; what can be adopted is Python"),
        ('{"cells": [{"cell_type": "markdown", "source": ""}, {"cell_type": "code", "source": "x = 1\\ny = = 2"}]}',
         "n.ipynb: cell 1, line 2 is not Python: invalid syntax"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_in_two_lines(tmp_path: Path, content: str, fact: str) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(content)
    lines = refused(path)
    assert lines[0] == fact
    assert len(lines) == 2
    assert lines[1].startswith("Hint: ")


def test_python_2_and_no_file(tmp_path: Path) -> None:
    path = written(tmp_path, [code("print 'a'", 1)])
    assert refused(path)[1] == "Hint: convert it to Python 3 first: 2to3 -w FILE"
    assert refused(tmp_path / "x.ipynb")[0] == f"there is no file {tmp_path / 'x.ipynb'}"


def test_the_file_is_only_read(tmp_path: Path) -> None:
    path = written(tmp_path, [code("x = 1")])
    before = path.read_bytes(), path.stat().st_mtime_ns
    path.chmod(0o444)
    assert len(read_notebook(path).digest) == 64
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
