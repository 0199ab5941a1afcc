"""The certificate's page: one file, two languages, and the verdict first."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from trilho.adopt.parity.certificate import STAGES, Certificate, Digests, Measure, Model, Stage
from trilho.adopt.parity.page import page
from trilho.adopt.parity.wording import ENGLISH, PORTUGUESE
from trilho.errors import UsageError


def certificate(**changes: object) -> Certificate:
    stages = tuple(
        Stage(name=name, state="equal", rows=1234, max_difference=0.0, tolerance=1e-9 if n > 1 else 0.0)
        for n, name in enumerate(STAGES)
    )
    made = Certificate(
        project="atrasos", notebook="02_atrasos <final>.ipynb", stages=stages,
        metrics=(Measure(name="roc_auc", notebook=0.7351, project=0.7351),), rows=1234, data_rows=51_234,
        shipped=Model(name="bst", cell=4, why="the last one measured"), evaluated=Model(name="bst", cell=4),
        enforcement="landlock", form="model", batch_only=False,
        digests=Digests(notebook="1" * 64, data="2" * 64, code="3" * 64, environment="4" * 64, model="5" * 64),
        sample={"how": "", "seed": ""}, made="2026-11-24T12:00:00+00:00", python="3.11.7",
        libraries={"pandas": "3.1.1"}, pairs=((0.1, 0.1), (0.9, 0.9), (float("inf").__str__(), 0.5)),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def words(text: str) -> str:
    inner = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", inner).split())


def test_a_certified_project_is_told_in_plain_words() -> None:
    told = words(page(certificate()))
    assert "Yes. Certified. The same predictions, row by row, from the raw data to the answers over HTTP" in told
    assert "ROC AUC, notebook 0.7351 project: 0.7351" in told
    assert "Every single row: of 51,234 in the data, 1,234 chosen by hash were followed to the end." in told
    assert "How good the shipped model is" not in told
    assert "Python 3.11.7, pandas 3.1.1" in told


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    text = page(certificate())
    assert "<script" not in text
    assert not re.search(r"(src|href)=|url\(|https?://", text)
    assert "02_atrasos &lt;final&gt;.ipynb" in text
    assert text.count("<circle") == 2


def test_in_portuguese_numbers_too() -> None:
    text = page(certificate(), "pt")
    assert '<html lang="pt-BR">' in text
    told = words(text)
    assert "Sim. Certificado." in told
    assert "0,7351" in told
    assert "51.234" in told


def test_both_languages_say_the_same_things() -> None:
    assert set(ENGLISH) == set(PORTUGUESE)
    for name, text in ENGLISH.items():
        if isinstance(text, str):
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", PORTUGUESE[name])), name
        else:
            assert set(text) == set(PORTUGUESE[name])


def test_a_refusal_says_why_and_where() -> None:
    wrong = Stage(
        name="fit", state="different", rows=300, max_difference=2.5, tolerance=1e-9, reason="1 of 300 rows differ",
        first_difference={"row": 41, "notebook": 10.0, "project": 12.5},
    )  # fmt: skip
    stages = certificate().stages
    made = certificate(stages=(*stages[:2], wrong, *stages[3:]), problems=("numpy is 2.0 here",))
    told = words(page(made))
    assert "Not shown. Not certified." in told
    assert "numpy is 2.0 here fit: 1 of 300 rows differ" in told
    assert "row 41: 10.0 in the notebook, 12.5 in the project" in told
    assert made.max_difference == 2.5
    assert made.summary()["certified"] is False


def test_what_is_not_proven_depends_on_the_case() -> None:
    batch = [replace(s, state="not compared", required=False) if s.name == "http" else s for s in certificate().stages]
    made = certificate(stages=tuple(batch), batch_only=True, lags=("df.vendas.shift(7)",), enforcement="hooked",
                       form="whole", evaluated=Model(name="bst", cell=2))  # fmt: skip
    assert made.certified
    told = words(page(made))
    assert "the packaged model, for scoring in batches" in told
    assert "needs other rows (df.vendas.shift(7))" in told
    assert "(not enforced)" in told
    assert "the metric is that of bst before" in told
    assert "rows are served as the model's input" in told.replace("&#39;", "'")


def test_a_stage_that_is_missing_or_was_not_compared_is_never_claimed() -> None:
    stages = certificate().stages
    assert not certificate(stages=stages[:-1]).certified
    assert not certificate(rows=0).certified
    assert certificate(rows=0).reasons() == ["no rows were compared"]
    uncompared = replace(stages[-1], state="not compared", reason="no answer")
    assert not certificate(stages=(*stages[:-1], uncompared)).certified
    with pytest.raises(UsageError, match="the language is 'fr'; allowed: en, pt, pt-BR"):
        page(certificate(), "fr")
