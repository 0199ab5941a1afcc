"""The rules: each one small function that takes a subject and gives findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trilho.adopt.doctor.rules import (
    balance,
    imports,
    leakage,
    network,
    paths,
    personal,
    pickles,
    secrets,
    seeds,
    split,
    state,
    target,
    tests,
    tuning,
)  # fmt: skip
from trilho.adopt.doctor.subject import Subject
from trilho.adopt.plan import Finding

Rule = Callable[[Subject], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    secrets.secrets,
    leakage.leakage, leakage.fitted_to_test, target.target_leakage, target.almost_the_target,
    split.seen_rows, split.random_split_of_time, tuning.tuned_on_test, tuning.search_saw_test,
    paths.absolute_paths, paths.manual_sources, paths.own_database, network.network_calls, network.shell_downloads,
    personal.personal_columns, personal.personal_outputs,
    state.order, state.mutable_globals, state.mutable_defaults, state.state_from_elsewhere, state.failed_cells,
    seeds.unseeded, balance.scores_no_probabilities, pickles.pickled_main,
    imports.unused_imports, imports.unpinned_installs, imports.unpinned_imports, tests.tests_missing,
)  # fmt: skip
CURED = frozenset({"unpinned-import", "tests-missing", "unused-import", "install-in-notebook"})
"""What a notebook that is adopted no longer has: the project has a lock, tests, and only the imports that it uses."""
