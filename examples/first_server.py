# SPDX-License-Identifier: Apache-2.0
"""The smallest server: a "model" that squares a number.

python examples/first_server.py
curl -X POST http://127.0.0.1:8000/predict -H "Content-Type: application/json" -d '{"input": 4}'
"""

import os

import cubbyhole as ls


class Square(ls.LitAPI):
    def setup(self, device):
        self.model = lambda x: x**2  # load your model here: it runs once in each worker process

    def decode_request(self, request):
        return request["input"]

    def predict(self, x):
        return self.model(x)

    def encode_response(self, output):
        return {"output": output}


if __name__ == "__main__":
    server = ls.LitServer(Square())
    server.run(port=int(os.environ.get("PORT", "8000")))
