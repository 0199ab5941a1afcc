"""scikit-learn's gradient boosting on top of another model, `init`, whose answers its trees correct."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import CLOSE
from trilho_runtime.compiled.evaluator import Evaluator, Floats, Parts, Read, joined, part_of
from trilho_runtime.compiled.linear import narrowed
from trilho_runtime.compiled.trees import Boosted, Trees, compile_boosted, link_of, sum_of_trees, tree_of

EPSILON = float(np.finfo(np.float64).eps)
INIT = "init"


def _centred(shares: Floats) -> Floats:
    logs = np.log(shares)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


RAW: dict[str, Callable[[Floats], Floats]] = {
    "identity": lambda values: values[:, None],
    "logit": lambda shares: np.log(shares[:, 1:] / (1 - shares[:, 1:])),
    "half logit": lambda shares: 0.5 * np.log(shares[:, 1:] / (1 - shares[:, 1:])),
    "softmax": _centred,
}


@dataclass
class Started(Boosted):
    """Stages of trees on top of what another model says of each row."""

    name: ClassVar[str] = "started"
    init: Evaluator | None = None

    def walked(self, matrix: Floats) -> Floats:
        """Give the other model's answers, before the link function, plus the trees'."""
        narrow = self.narrowed(matrix)
        start = self._start(narrow)
        parts = [self._on(self.trees.leaves(narrow[rows]), start[rows]) for rows in self.trees.chunks(len(matrix))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _start(self, narrow: Floats) -> Floats:
        assert self.init is not None
        found = np.asarray(self.init(narrow), np.float64)
        if self.link != "identity":
            found = np.clip(found, EPSILON, 1 - EPSILON)
        return RAW[self.link](found)

    def _on(self, leaves: NDArray[np.intp], start: Floats) -> Floats:
        found = self.trees.value[:, 0].take(leaves).reshape(-1, len(self.base), leaves.shape[1])
        found[0] += start.T
        return sum_of_trees(found).T

    def parts(self) -> Parts:
        """Give the other model's parts beside the trees'."""
        from trilho_runtime.compiled.estimators import parts_of

        assert self.init is not None
        own = super().parts()
        spec = {name: value for name, value in own.spec.items() if name != INIT}
        made = joined({INIT: parts_of(self.init)}, spec)
        return Parts(made.spec, own.arrays | made.arrays, made.files)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make both out of their parts."""
        from trilho_runtime.compiled.estimators import restore_evaluator

        own = dict(spec)
        init = restore_evaluator(own.pop("of")[INIT], *part_of(INIT, arrays, read))
        left = {name: value for name, value in arrays.items() if not name.startswith(f"{INIT}.")}
        return super().restore({**own, "init": init}, left, read)


def compile_started(estimator: Any, sparse: bool) -> Boosted:
    """Compile scikit-learn's gradient boosting, whatever it starts from. Raises NotCompiled as for that model."""
    from trilho_runtime.compiled.estimators import evaluator_of

    if estimator.init is None or estimator.init == "zero":
        return compile_boosted(estimator, sparse)
    init = narrowed(evaluator_of(estimator.init_, sparse), estimator.init_)  # it is given single precision
    stages = estimator.estimators_
    trees = Trees.of(tree_of(tree.tree_, estimator.learning_rate) for tree in stages.reshape(-1))
    link = link_of(estimator._loss) if hasattr(estimator, "classes_") else "identity"
    exact = init.exact if float(init.exact.replace("bit-equal", "0")) > float(CLOSE) else CLOSE
    return Started(trees, np.zeros(stages.shape[1]), link, False, exact, init)
