# mypy: ignore-errors
"""LitServe with one worker: `litserve_app.py PORT LARGEST_BATCH`."""

import os
import sys
from pathlib import Path

import litserve
from model import Model


class Single(litserve.LitAPI):
    """One request at a time, LitServe's default."""

    def setup(self, device):
        self.kept = Model(Path(os.environ["BENCH_FOLDER"]))

    def decode_request(self, request):
        return request["instances"]

    def predict(self, rows):
        return self.kept.predict(rows)

    def encode_response(self, told):
        return {"predictions": told}


class Batching(Single):
    """The requests that wait, together."""

    def batch(self, inputs):
        return inputs

    def predict(self, requests):
        return self.kept.predict_all(requests)

    def unbatch(self, output):
        return output


if __name__ == "__main__":
    port, largest = int(sys.argv[1]), int(sys.argv[2])
    api = Batching(max_batch_size=largest, batch_timeout=0.001) if largest > 1 else Single()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)
