"""The 28 tests of the ML Test Score as questions to a project: what answers them, and what to do where nothing does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from trilho.adopt.doctor.evidence import Evidence


@dataclass(frozen=True)
class Question:
    """One test as it is asked: what gives half a point or a whole one, and what to do for it."""

    title: str
    whole: Callable[[Evidence], str]  # the evidence, "" where there is none
    half: Callable[[Evidence], str]
    advice: str


def _tested(pattern: str, words: str) -> Callable[[Evidence], str]:
    """Evidence in the tests, where CI runs them."""
    return lambda e: words if e.tests_run and re.search(pattern, e.tests, re.IGNORECASE) else ""


def _written(pattern: str, words: str) -> Callable[[Evidence], str]:
    """Evidence in tests that nobody runs, in the notebooks or in the documents."""

    def find(e: Evidence) -> str:
        if re.search(pattern, e.tests, re.IGNORECASE):
            return f"{words}, in tests that no CI runs"
        if re.search(pattern, e.notebooks, re.IGNORECASE):
            return f"{words}, in the notebook"
        return f"{words}, in the documents" if re.search(pattern, e.documents, re.IGNORECASE) else ""

    return find


def _contract_checked(e: Evidence) -> str:
    if e.contract and e.facts.contracts:
        return f"a contract of {len(e.contract)} columns, checked before {e.facts.contracts} trainings"
    return f"a contract of {len(e.contract)} columns, and CI that trains" if e.contract and _ci_trains(e) else ""


def _contract(e: Evidence) -> str:
    return f"a contract of {len(e.contract)} columns" if e.contract else ""


def _ci_trains(e: Evidence) -> str:
    pattern = r"trilho[^\n]* (train|demo|pipeline run)|make (train|e2e|sample)"
    return "CI trains on a sample" if re.search(pattern, e.ci) else ""


def _declared_personal(e: Evidence) -> str:
    personal = getattr(e.subject.settings.model, "personal", None) if e.subject.settings is not None else None
    return f"[model] personal names {len(personal)} columns, which never reach the features" if personal else ""


def _policy(e: Evidence) -> str:
    found = e.has("policy*", "denylist*", "docs/*policy*")
    return found and f"{found} names what may not be a feature"


def _private(e: Evidence) -> str:
    checks = re.search(r"check_secrets|trilho doctor|detect-secrets|gitleaks", e.ci + _hooks(e))
    return "a check for secrets and personal data runs at every change" if checks and not e.rules("secret") else ""


def _hooks(e: Evidence) -> str:
    path = e.folder / ".pre-commit-config.yaml"
    return path.read_text(encoding="utf-8", errors="replace") if e.project and path.exists() else ""


def _seen_clean(e: Evidence) -> str:
    clean = not e.rules("secret", "personal-data")
    return "this examination found no personal data and no secrets" if clean and e.project else ""


def _lead_time(e: Evidence) -> str:
    return f"from commit to first answer is known of {e.facts.lead_times} versions" if e.facts.lead_times else ""


def _features_in_one_place(e: Evidence) -> str:
    settings = e.subject.settings
    named = settings.steps.features if settings is not None else ""
    return f"features are one function, {named}, and CI tests it" if named and e.ci else ""


def _module_tested(step: str) -> Callable[[Evidence], bool]:
    def find(e: Evidence) -> bool:
        settings = e.subject.settings
        named = getattr(settings.steps, step, None) if settings is not None else None
        if not named:
            return False
        module, _, function = named.rpartition(":")
        return bool(re.search(rf"\b({re.escape(module.rpartition('.')[2])}|{re.escape(function)})\b", e.tests))

    return find


def _step_tested(step: str, words: str, run: bool) -> Callable[[Evidence], str]:
    tested = _module_tested(step)
    return lambda e: words if tested(e) and (e.tests_run or not run) else ""


def _reviewed(e: Evidence) -> str:
    owners = e.has("CODEOWNERS", ".github/CODEOWNERS", "docs/CODEOWNERS")
    if e.facts.approvals:
        return f"{e.facts.approvals} versions were approved by a second person"
    approval = e.subject.settings is not None and e.subject.settings.gate.approval
    return (
        f"{owners} names who reviews" if owners and e.ci else "[gate] approval asks a second person" if approval else ""
    )


def _in_repository(e: Evidence) -> str:
    inside = any((folder / ".git").exists() for folder in (e.folder, *e.folder.parents))
    return "it is in a git repository" if inside else ""


def _correlated(e: Evidence) -> str:
    return (
        f"{e.facts.judged_versions} versions have both a held-out metric and labelled windows"
        if e.facts.judged_versions >= 3
        else ""
    )


def _judged(e: Evidence) -> str:
    return f"{e.facts.judged} served windows were held against labels" if e.facts.judged else ""


SEARCH = r"(Grid|Randomized|Halving\w*|Bayes)SearchCV|optuna|hyperopt|ray\.tune|RidgeCV|LassoCV|ElasticNetCV"


def _searched(e: Evidence) -> str:
    found = re.search(SEARCH, e.code) if e.project else None
    return f"every training searches its settings ({found[0]})" if found else ""


def _stale(e: Evidence) -> str:
    return f"{e.facts.judged} labelled windows show how the model ages" if e.facts.judged >= 12 else ""


SIMPLER = r"Dummy(Classifier|Regressor)|baseline|linha de base|LinearRegression|LogisticRegression|naive|simpler"
SLICES = r"slice|segment|by_group|per_group|por_grupo|por_regi|for \w+, \w+ in \w+\.groupby"
FAIR = r"fairness|fairlearn|aif360|demographic|equalized|disparate|inclusion|inclusão|viés|equidade"
TWICE = r"twice|reproduc|same_model|deterministic|duas vezes|is_the_same"
ONE_ROW = r"head\(1\)|iloc\[\[0\]\]|one_row|alone|a_single|uma_linha|\.iloc\[:1\]"
FINITE = r"isfinite|isnan|isinf|notna\(\)\.all|notnull\(\)\.all|assert_all_finite"
SPEED = r"perf_counter|benchmark|latency|latência|timeit|memory_usage|tracemalloc|max_seconds"
IMPORTANCE = r"permutation_importance|feature_importances_|plot_importance|shap\b|drop_column|ablation|importância"
COST = r"feature_cost|cost of (the |each |a )?feature|custo d[ae]s? feature|bytes per feature|seconds per feature"


def _reproducible(e: Evidence) -> str:
    if e.certified:
        return "the parity certificate fitted the model again and got the same predictions"
    if e.tests_run and re.search(TWICE, e.tests, re.IGNORECASE):
        return "a test trains twice and compares"
    return ""


def _seeded(e: Evidence) -> str:
    seeded = not e.rules("unseeded-randomness")
    pinned = bool(e.requirements.pinned) and not e.requirements.unpinned
    return "everything random has a seed, and every package a version" if seeded and pinned else ""


def _runs(e: Evidence) -> str:
    return f"{e.facts.runs} whole runs of the pipeline on this machine" if e.facts.runs else ""


def _gated(e: Evidence) -> str:
    return f"the gate judged {e.facts.gates} versions before they could serve" if e.facts.gates else ""


def _gate_set(e: Evidence) -> str:
    return "trilho's gate stands before every release; it has judged none yet" if e.project else ""


def _one_row_by_hand(e: Evidence) -> str:
    module = e.has("src/*/predict.py")
    return f"{module} answers for a single row, step by step" if module else _written(ONE_ROW, "one row is followed")(e)


def _canaried(e: Evidence) -> str:
    return f"{e.facts.canaries} rollouts went through a part of the traffic first" if e.facts.canaries else ""


def _canary_set(e: Evidence) -> str:
    settings = e.subject.settings
    steps = settings.serve.canary if settings is not None else []
    return f"[serve] canary = {steps}; no rollout has used it yet" if len(steps) > 1 else ""


def _rolled_back(e: Evidence) -> str:
    return f"{e.facts.rollbacks} rollbacks were done" if e.facts.rollbacks else ""


def _can_roll_back(e: Evidence) -> str:
    return "two versions are kept: `trilho rollback` has where to go" if e.facts.versions > 1 else ""


def _locked(e: Evidence) -> str:
    return f"{e.requirements.files[0]} pins every package" if _pins_all(e) else ""


def _pins_all(e: Evidence) -> bool:
    return bool(e.requirements.files and e.requirements.pinned and not e.requirements.unpinned)


def _updates(e: Evidence) -> str:
    found = e.has(".github/dependabot.y*ml", "renovate.json*", ".github/renovate.json*")
    return f"{found} tells of new versions, and the lock shows each change" if found and _pins_all(e) else ""


def _invariants(e: Evidence) -> str:
    return (
        "one contract checks every training, and served rows are read by the package's own signature"
        if e.contract and e.facts.windows
        else ""
    )


def _same_features(e: Evidence) -> str:
    http = e.certified
    return "the certificate compares the endpoint's answers with the notebook's, row by row" if http else ""


def _one_function(e: Evidence) -> str:
    settings = e.subject.settings
    return f"training and serving call one function, {settings.steps.features}" if settings is not None else ""


def _fresh(e: Evidence) -> str:
    return f"{e.facts.retrainings} retrainings were started by what was watched" if e.facts.retrainings else ""


def _fresh_set(e: Evidence) -> str:
    settings = e.subject.settings
    on = settings is not None and (settings.retrain.drift or settings.retrain.performance)
    return "[retrain] starts a training on drift or loss; none was needed yet" if on else ""


def _watched(e: Evidence) -> str:
    return f"{e.facts.judged} windows of served rows were measured with labels" if e.facts.judged else ""


def _labels(e: Evidence) -> str:
    settings = e.subject.settings
    return f"[labels] source = {settings.labels.source}" if settings is not None and settings.labels.source else ""


def _no(_: Evidence) -> str:
    return ""


QUESTIONS: dict[str, tuple[Question, ...]] = {
    "data": (
        Question("what is expected of each feature is in a schema", _contract_checked, _contract,
                 "trilho data contract writes contract.toml; every training checks it"),
        Question("each feature is worth having", _tested(IMPORTANCE, "a test measures what features are worth"),
                 _written(IMPORTANCE, "features' worth was looked at"),
                 "measure permutation importance in a test or in each training"),
        Question("no feature costs more than it gives", _tested(COST + "|" + SPEED, "a test measures time or memory"),
                 _written(COST, "the cost of features is told"), "write down what each source costs in time and money"),
        Question("features keep to rules that stand above the model", _declared_personal, _policy,
                 "name columns that may not be used: [model] personal, or a policy file with a test"),
        Question("data is kept private all the way", _private, _seen_clean,
                 "run trilho doctor --fail-under in CI, and the commit hook for secrets"),
        Question("a new feature reaches users quickly", _lead_time, _features_in_one_place,
                 "commit before training: then the journal measures commit to first answer"),
        Question("the code of the features is tested",
                 _step_tested("features", "tests call it, and CI runs them", True),
                 _step_tested("features", "tests call it; no CI runs them", False),
                 "assert features of a few known rows"),
    ),
    "model": (
        Question("every model's code is reviewed and in a repository", _reviewed, _in_repository,
                 "git, CODEOWNERS, and [gate] approval = true"),
        Question("the metric here goes with what users see", _correlated, _judged,
                 "send labels back (trilho labels): after three versions both can be compared"),
        Question("settings of the model were searched", _searched, _written(SEARCH, "settings were searched"),
                 "search settings by cross validation within the training rows"),
        Question("it is known how the model ages", _stale, _written(r"stale|envelhec|backtest|aging", "ageing is "
                                                                                                      "told of"),
                 "train on data that ends earlier, and score today's rows"),
        Question("no simpler model does as well", _tested(SIMPLER, "a test compares with a simpler model"),
                 _written(SIMPLER, "a simpler model was tried"), "compare with a constant and a linear model in a "
                                                                 "test"),
        Question("quality is enough on every important part of the data",
                 _tested(SLICES, "a test measures parts of the data"), _written(SLICES, "parts of the data were "
                                                                                        "looked at"),
                 "measure by region, product or customer group in a test"),
        Question("the model was examined for fairness", _tested(FAIR, "a test measures fairness"),
                 _written(FAIR, "fairness was looked at"), "compare errors between groups of people"),
    ),
    "infrastructure": (
        Question("training gives the same model again", _reproducible, _seeded,
                 "seed everything, lock the packages, and train twice in a test"),
        Question("the code that specifies the model is tested", _step_tested("train", "tests call it, and CI runs "
                                                                                      "them", True),
                 _step_tested("train", "tests call it; no CI runs them", False), "fit to a few rows in a test"),
        Question("the whole pipeline is tested as one", _ci_trains, _runs, "train on a sample in CI: trilho train"),
        Question("a model's quality is checked before it serves", _gated, _gate_set, "trilho train, and read the gate"),
        Question("a single example can be followed step by step",
                 _tested(ONE_ROW, "a test follows one row through the features"), _one_row_by_hand,
                 "test that a row alone has the features that it has among others"),
        Question("a model serves few users first", _canaried, _canary_set, "release with [serve] canary steps"),
        Question("an earlier model can be brought back quickly", _rolled_back, _can_roll_back,
                 "try trilho rollback before you need it"),
    ),
    "monitoring": (
        Question("changes of what it depends on are told", _updates, _locked,
                 "a lock file, and dependabot or renovate for it"),
        Question("what holds for training data holds for served rows", _invariants, _contract,
                 "a contract, and trilho watch over what is served"),
        Question("training and serving compute the same", _same_features, _one_function,
                 "trilho adopt proves it; see parity.json"),
        Question("the model is not too old", _fresh, _fresh_set, "[retrain] drift or performance, and trilho up"),
        Question("numbers stay finite", _tested(FINITE, "a test checks for NaN and infinity"),
                 _written(FINITE, "NaN and infinity are checked"), "assert that features and scores are finite"),
        Question("speed and memory do not get worse", _tested(SPEED, "a test measures time or memory"),
                 _written(SPEED, "time or memory was measured"), "measure time per row in a test, with a limit"),
        Question("quality on what is served does not get worse", _watched, _labels,
                 "send labels back, and trilho watch"),
    ),
}  # fmt: skip
