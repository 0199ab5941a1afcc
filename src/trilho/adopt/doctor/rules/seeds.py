"""Randomness without a seed: the same code and data give another model each time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.doctor.flow.names import last
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

ALWAYS = frozenset({
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
    "GradientBoostingClassifier", "GradientBoostingRegressor", "DecisionTreeClassifier", "DecisionTreeRegressor",
    "ExtraTreeClassifier", "ExtraTreeRegressor", "BaggingClassifier", "BaggingRegressor", "AdaBoostClassifier",
    "AdaBoostRegressor", "IsolationForest", "MLPClassifier", "MLPRegressor", "SGDClassifier", "SGDRegressor", "KMeans",
    "MiniBatchKMeans", "GaussianMixture", "NMF", "FastICA", "TruncatedSVD", "TSNE", "RandomizedSearchCV",
    "ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit", "RandomUnderSampler", "RandomOverSampler", "SMOTE",
    "ADASYN", "BorderlineSMOTE", "SMOTENC", "SMOTETomek", "SMOTEENN", "BalancedRandomForestClassifier",
    "EasyEnsembleClassifier", "RUSBoostClassifier", "LatentDirichletAllocation", "IterativeImputer", "Perceptron",
    "RandomTreesEmbedding", "HistGradientBoostingClassifier", "HistGradientBoostingRegressor",
})  # fmt: skip
"""Estimators and splitters that draw, or break ties, at random. xgboost, lightgbm and catboost have a fixed seed."""
WHEN = {
    "KFold": ("shuffle", (True,)), "StratifiedKFold": ("shuffle", (True,)),
    "LogisticRegression": ("solver", ("sag", "saga", "liblinear")), "Ridge": ("solver", ("sag", "saga")),
    "SVC": ("probability", (True,)), "Lasso": ("selection", ("random",)), "ElasticNet": ("selection", ("random",)),
    "PCA": ("svd_solver", ("randomized", "arpack")),
}  # fmt: skip
"""Those that do so only with a certain argument."""
NUMPY = re.compile(
    r"numpy\.random\.(rand\w*|normal|choice|shuffle|permutation|uniform|binomial|poisson|sample|beta|"
    r"gamma|exponential|standard_normal)"
)
PLAIN = re.compile(r"random\.(random|randint|choice|choices|shuffle|sample|uniform|gauss|randrange)")
SEEDS = ("random_state", "seed", "random_seed")
LATE = "seed it: random_state=42"


def unseeded(subject: Subject) -> Iterator[Finding]:
    """Find splits, estimators and draws without a seed; one finding a line."""
    seeded = {name for _, _, name in subject.calls() if name in ("numpy.random.seed", "random.seed")}
    shown = _shown(subject)
    seen: set[tuple[int | None, int, str]] = set()
    for chunk, node, name in subject.calls():
        what = _draws(subject, node, name, "numpy.random.seed" in seeded, "random.seed" in seeded)
        place = chunk.place(node)
        key = (place.cell, place.line, place.file)
        if what and node not in shown and key not in seen:
            seen.add(key)
            yield finding(
                "unseeded-randomness",
                place,
                f"`{what}` draws at random without a seed: each run gives another result, so no two can be compared "
                "and no parity be shown",
                "warning",
                LATE,
            )


def _draws(subject: Subject, node: ast.Call, name: str, numpy_seeded: bool, plain_seeded: bool) -> str:
    """Give what draws without a seed, "" where nothing does. NumPy's seed also seeds scikit-learn and pandas."""
    word = last(name) if name else (node.func.attr if isinstance(node.func, ast.Attribute) else "")
    if PLAIN.fullmatch(name) and not plain_seeded:
        return name
    if name == "numpy.random.default_rng" and not node.args and not node.keywords:
        return "default_rng()"
    if numpy_seeded:
        return ""
    if NUMPY.fullmatch(name):
        return name.replace("numpy", "np")
    if _is_given(subject, node):
        return ""
    words = {keyword.arg: keyword.value for keyword in node.keywords}
    if word == "train_test_split":
        shuffle = words.get("shuffle")
        return "" if isinstance(shuffle, ast.Constant) and shuffle.value is False else word
    if (
        word == "sample"
        and isinstance(node.func, ast.Attribute)
        and ("frac" in words or "n" in words or (node.args and isinstance(node.args[0], ast.Constant)))
    ):
        return "" if name.startswith(("random.", "numpy.")) else ".sample()"
    if word in ALWAYS:
        return "" if word.startswith("Hist") and not _hist_draws(words) else word
    if word in WHEN:
        argument, values = WHEN[word]
        given = words.get(argument)
        return word if isinstance(given, ast.Constant) and given.value in values else ""
    return ""


def _hist_draws(words: dict[str | None, ast.expr]) -> bool:
    """Histogram boosting draws when it stops early, which it does by itself with more than 10,000 rows."""
    stops = words.get("early_stopping")
    return not (isinstance(stops, ast.Constant) and stops.value is False)


def _is_given(subject: Subject, node: ast.Call) -> bool:
    for keyword in node.keywords:
        if keyword.arg in SEEDS:
            return not (isinstance(keyword.value, ast.Constant) and keyword.value.value is None)
        if keyword.arg is None:
            return _holds_seed(subject, keyword.value)
    return False


def _holds_seed(subject: Subject, node: ast.expr) -> bool:
    """Whether `**params` brings a seed; what can't be read is believed to."""
    if isinstance(node, ast.Name):
        node = subject.constants.values.get(node.id, node)
    if isinstance(node, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value in SEEDS for key in node.keys)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict":
        return any(word.arg in SEEDS for word in node.keywords)
    return True


def _shown(subject: Subject) -> set[ast.AST]:
    """Give the calls whose result is only looked at: `df.sample(5)` at a cell's end."""
    found: set[ast.AST] = set()
    for chunk in subject.chunks:
        for statement in chunk.tree.body:
            if isinstance(statement, ast.Expr) and subject.kind == "notebook":
                calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
                found |= {node for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr == "sample"}
    return found
