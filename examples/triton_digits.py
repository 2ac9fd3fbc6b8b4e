# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits for Triton's clients: the Open Inference Protocol over HTTP and gRPC, with binary tensors.

pip install 'cubbyhole[grpc]' scikit-learn 'tritonclient[http,grpc]'
python examples/triton_digits.py
python examples/clients/triton_http.py -u localhost:8000
python examples/clients/triton_grpc.py -u localhost:8001
"""

import os

import numpy as np

import cubbyhole as ls


class Digits(ls.LitAPI):
    def setup(self, device):
        from sklearn.datasets import load_digits
        from sklearn.svm import SVC

        images, labels = load_digits(return_X_y=True)
        self.model = SVC(gamma=0.001, probability=False, decision_function_shape="ovr").fit(
            images[200:], labels[200:]
        )

    def predict(self, x):
        # x["pixels"]: float32, shape (n, 64), 0 to 16; a view of the request's bytes
        scores = self.model.decision_function(x["pixels"])
        return {
            "scores": scores.astype(np.float32),
            "digit": scores.argmax(axis=1).astype(np.int64).reshape(-1, 1),
        }


if __name__ == "__main__":
    spec = ls.OIPSpec(
        "digits",
        inputs={"pixels": ("float32", [-1, 64])},
        outputs={"scores": ("float32", [-1, 10]), "digit": ("int64", [-1, 1])},
    )
    grpc_port = int(os.environ.get("GRPC_PORT", "8001"))
    server = ls.LitServer(Digits(spec=spec), grpc_port=grpc_port)
    server.run(port=int(os.environ.get("PORT", "8000")))
