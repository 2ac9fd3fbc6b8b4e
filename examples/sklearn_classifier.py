# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits with scikit-learn, in batches.

Trains at start, on the 1,797 images of 8 x 8 pixels that come with scikit-learn (one second). Requests that wait together are
classified together: one call of the model for up to 32 of them.

pip install scikit-learn
python examples/sklearn_classifier.py
curl http://127.0.0.1:8000/predict -H "Content-Type: application/json" \
    -d '{"pixels": [0,0,5,13,9,1,0,0, 0,0,13,15,10,15,5,0, 0,3,15,2,0,11,8,0, 0,4,12,0,0,8,8,0,
                    0,5,8,0,0,9,8,0, 0,4,11,0,1,12,7,0, 0,2,14,5,10,12,0,0, 0,0,6,13,10,0,0,0]}'
"""

import os

import numpy as np
from fastapi import HTTPException

import cubbyhole as ls


class Digits(ls.LitAPI):
    def setup(self, device):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
        from sklearn.svm import SVC

        images, labels = load_digits(return_X_y=True)
        seen, held_out, seen_labels, held_out_labels = train_test_split(
            images, labels, test_size=0.25, random_state=0
        )
        self.model = SVC(gamma=0.001).fit(seen, seen_labels)
        self.accuracy = self.model.score(held_out, held_out_labels)

    def decode_request(self, request):
        pixels = np.asarray(request["pixels"], np.float64)
        if pixels.shape != (64,):
            raise HTTPException(
                422, f"pixels has the shape {pixels.shape}, but 64 values from 0 to 16 are needed."
            )
        return pixels

    def predict(self, batch):
        # batch: float64, shape (n, 64), n up to 32; the default `batch` stacked what decode_request gave
        return self.model.predict(batch)

    def encode_response(self, output):
        return {"digit": int(output), "accuracy_on_held_out": round(self.accuracy, 4)}


if __name__ == "__main__":
    server = ls.LitServer(Digits(max_batch_size=32, batch_timeout=0.005))
    server.run(port=int(os.environ.get("PORT", "8000")))
