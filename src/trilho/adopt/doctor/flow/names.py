"""Full names of what code calls, classes of estimators by what fitting them learns, and words for the two sides."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

START, END = r"(?:^|_)(?:[xydXYD]|df|data)?", r"(?:$|[_XY0-9])"
TRAIN = re.compile(rf"{START}(?i:train|treino|treinamento|tr|trn|antes|fit|past)(?i:ing|ed)?{END}")
TEST = re.compile(
    rf"{START}(?i:test|teste|te|tst|val|valid|validacao|validation|holdout|hold|oot|eval|future|depois){END}"
)
VALIDATION = re.compile(rf"{START}(?i:val|valid|validacao|validation|eval|dev){END}")
METRIC = re.compile(
    r"accuracy_score|balanced_accuracy_score|f1_score|fbeta_score|precision_score|recall_score|roc_auc_score|"
    r"average_precision_score|log_loss|brier_score_loss|brier_score|matthews_corrcoef|cohen_kappa_score|jaccard_score|"
    r"(root_)?mean_\w+_(error|deviance)|median_absolute_error|max_error|r2_score|explained_variance_score|"
    r"d2_\w+_score|classification_report|confusion_matrix|precision_recall_fscore_support|zero_one_loss|hinge_loss|"
    r"mean_pinball_loss|ndcg_score|top_k_accuracy_score"
)
CURVES = frozenset({"roc_curve", "precision_recall_curve", "det_curve"})
FOLDERS = frozenset({"cross_val_score", "cross_validate", "cross_val_predict", "learning_curve", "validation_curve",
                     "permutation_test_score"})  # fmt: skip
SPLITTERS = re.compile(r"((Repeated)?(Stratified|Group|StratifiedGroup)?KFold|TimeSeriesSplit|Leave\w*Out|"
                       r"(Stratified|Group)?ShuffleSplit|PredefinedSplit)")  # fmt: skip
SEARCHES = re.compile(r"(Halving)?(Grid|Random)(ized)?SearchCV|HalvingGridSearchCV|BayesSearchCV|OptunaSearchCV")
TRANSFORMERS = frozenset({
    "StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler", "PowerTransformer", "QuantileTransformer",
    "KBinsDiscretizer", "SplineTransformer", "SimpleImputer", "KNNImputer", "IterativeImputer", "Imputer", "PCA",
    "KernelPCA", "IncrementalPCA", "TruncatedSVD", "NMF", "FastICA", "FactorAnalysis", "SelectKBest",
    "SelectPercentile", "SelectFromModel", "SelectFdr", "SelectFpr", "RFE", "RFECV", "SequentialFeatureSelector",
    "VarianceThreshold", "TargetEncoder", "CatBoostEncoder", "WOEEncoder", "LeaveOneOutEncoder", "JamesSteinEncoder",
    "MEstimateEncoder", "CountEncoder", "GLMMEncoder", "TfidfVectorizer", "TfidfTransformer",
    "LatentDirichletAllocation", "MissingIndicator", "OutlierTrimmer", "Winsorizer", "MeanMedianImputer",
    "DecisionTreeDiscretiser",
})  # fmt: skip
"""What they learn from rows is a statistic of them. Vocabularies (OneHotEncoder, LabelEncoder) are not: a category
that only the test rows have tells nothing of their target."""
BY_TARGET = frozenset({
    "TargetEncoder", "CatBoostEncoder", "WOEEncoder", "LeaveOneOutEncoder", "JamesSteinEncoder", "MEstimateEncoder",
    "GLMMEncoder", "SelectKBest", "SelectPercentile", "SelectFromModel", "SelectFdr", "SelectFpr", "RFE", "RFECV",
    "SequentialFeatureSelector", "DecisionTreeDiscretiser",
})  # fmt: skip
RESAMPLERS = re.compile(r"(Borderline|SVM|KMeans)?SMOTE(N|NC|ENN|Tomek)?|ADASYN|Random(Over|Under)Sampler|NearMiss|"
                        r"TomekLinks|ClusterCentroids|(Repeated)?EditedNearestNeighbours|AllKNN|OneSidedSelection|"
                        r"BalancedRandomForestClassifier|EasyEnsembleClassifier|RUSBoostClassifier|"
                        r"BalancedBaggingClassifier|resample")  # fmt: skip
PREDICTORS = re.compile(
    r"\w*(Classifier|Regressor|Regression|RegressionCV|SVC|SVR|NB|Ridge|RidgeCV|RidgeClassifierCV|Lasso|LassoCV|"
    r"ElasticNet|ElasticNetCV|LassoLars|LassoLarsCV|BayesianRidge|Lars|KMeans|DBSCAN|Prophet|CatBoost|Booster|"
    r"Perceptron|Discriminant\w+|IsolationForest|OLS|GLM|Logit|ARIMA|SARIMAX|Sequential|LinearGAM|LogisticGAM)"
)
CONTAINERS = frozenset({"Pipeline", "make_pipeline", "ColumnTransformer", "make_column_transformer", "FeatureUnion",
                        "make_union", "TransformedTargetRegressor", "CalibratedClassifierCV"})  # fmt: skip


def aliases(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Give what imported names stand for.

    >>> aliases(ast.walk(ast.parse("import numpy as np, os.path; from sklearn.svm import SVC as S")))
    {'np': 'numpy', 'os': 'os', 'S': 'sklearn.svm.SVC'}
    """
    found = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else (
                    alias.name.partition(".")[0])  # fmt: skip
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{'.' * node.level}{node.module or ''}.{alias.name}"
    return found


def full_name(node: ast.expr, known: dict[str, str]) -> str:
    """Give a dotted name with its first part resolved, "" for what is no dotted name.

    >>> full_name(ast.parse("pd.io.json", mode="eval").body, {"pd": "pandas"})
    'pandas.io.json'
    """
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([known.get(node.id, node.id), *reversed(parts)])


def last(name: str) -> str:
    """Give the last part of a dotted name."""
    return name.rpartition(".")[2]


def predicts(kinds: Iterable[str]) -> bool:
    """Whether one of the classes is a predictor, not only a transformer."""
    return any(PREDICTORS.fullmatch(last(kind)) or last(kind).startswith("notebook:model:") for kind in kinds)


def side_of(name: str) -> str:
    """Tell by a variable's name which side of a split it is: "train", "test" or "".

    >>> [side_of(name) for name in ("X_train", "ytr", "df_teste", "dval", "treino", "frame", "text", "strata")]
    ['train', 'train', 'test', 'test', 'train', '', '', '']
    """
    if TRAIN.search(name):
        return "train"
    return "test" if TEST.search(name) else ""
