# mypy: ignore-errors
"""Save the pipeline as an MLflow model: `mlflow_save.py MODEL OUT`.

The signature is written out, as MLflow would infer it: inferring wants pyarrow, which mlflow-skinny does without.
"""

import json
import sys
from pathlib import Path

import joblib
import mlflow.sklearn
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

KINDS = {"float64": "double", "str": "string"}

if __name__ == "__main__":
    folder, out = Path(sys.argv[1]), sys.argv[2]
    types = json.loads((folder / "types.json").read_bytes())
    columns = [ColSpec(KINDS[kind], name, required=False) for name, kind in types.items()]
    mlflow.sklearn.save_model(
        joblib.load(folder / "model.joblib"), out, signature=ModelSignature(Schema(columns)),
        pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle", pip_requirements=[],
    )  # fmt: skip
