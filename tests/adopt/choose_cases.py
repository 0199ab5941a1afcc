"""Small notebooks as people write them, each run once by the notebooks' interpreter, and what is chosen of them."""

from __future__ import annotations

import atexit
import csv
import datetime
import math
import random
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from trilho.adopt.capture import capture, find_interpreter
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.plan import Choice
from trilho.adopt.slice.choose import choose
from trilho.adopt.trace import Trace

PYTHON = Path(__file__).parents[1] / "notebooks" / ".venv" / "bin" / "python"
CASES = Path(__file__).parent / "choose_cases"


@cache
def ran(name: str) -> tuple[Notebook, Trace, Path]:
    """Run a notebook of choose_cases/, and give it with its trace and the trace's folder."""
    folder = Path(mkdtemp(prefix=f"choose-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    notebook_file = folder / "work" / f"{name}.py"
    notebook_file.parent.mkdir()
    notebook_file.write_text((CASES / f"{name}.txt").read_text(encoding="utf-8"), encoding="utf-8")
    write_customers(notebook_file.parent / "churn.csv")
    write_sales(notebook_file.parent / "vendas.csv")
    notebook = read_notebook(notebook_file)
    trace = capture(notebook, find_interpreter(notebook, str(PYTHON)), folder / "scratch", lambda _: None)
    failed = [statement.error for statement in trace.statements if statement.state == "failed"]
    assert not failed, failed
    return notebook, trace, folder / "scratch"


def chosen(name: str, *, model: str = "", target: str = "", time: str = "") -> Choice:
    """Give what is chosen of a notebook."""
    notebook, trace, scratch = ran(name)
    return choose(notebook, trace, model=model, target=target, time=time, scratch=scratch)


def write_customers(path: Path) -> None:
    """Write customers, some of whom left."""
    rng = random.Random(1)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["customer_id", "signup", "plan", "age", "usage", "calls", "Churn"])
        for number in range(400):
            age, usage, calls = rng.randint(18, 80), rng.gauss(50, 15), rng.randint(0, 9)
            left = rng.random() < 1 / (1 + math.exp(-(0.05 * (age - 50) + 0.3 * (calls - 4) - 0.03 * (usage - 50))))
            day = datetime.date(2022, 1, 1) + datetime.timedelta(days=number)
            writer.writerow(
                [f"C{number:05d}", day, rng.choice("ABC"), age, round(usage, 2), calls, "Yes" if left else "No"]
            )


def write_sales(path: Path) -> None:
    """Write sales of two shops by day, as a Brazilian ERP does."""
    rng = random.Random(1)
    with path.open("w", newline="", encoding="latin-1") as handle:
        writer = csv.writer(handle, delimiter=";")
        writer.writerow(["data", "loja", "preco", "promoção", "vendas"])
        for number in range(400):
            for shop in ("A", "B"):
                price = rng.uniform(5, 15)
                sold = max(1, round(100 - 4 * price + 10 * (shop == "A") + 15 * math.sin(number) + rng.gauss(0, 5)))
                day = datetime.date(2022, 1, 1) + datetime.timedelta(days=number)
                told = f"{price:.2f}".replace(".", ",")
                writer.writerow([day.strftime("%d/%m/%Y"), shop, told, rng.randint(0, 1), sold])
