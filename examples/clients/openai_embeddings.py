# SPDX-License-Identifier: Apache-2.0
"""Search a few sentences by their embeddings, with any server of OpenAI's API. See examples/openai_library.py.

python examples/clients/openai_embeddings.py --base-url http://localhost:8000/v1
"""

import argparse
import os

import numpy as np
from openai import OpenAI

parser = argparse.ArgumentParser()
parser.add_argument("query", nargs="?", default="a kitten on the carpet")
parser.add_argument("--base-url", default="http://localhost:8000/v1")
parser.add_argument("--model", default="text-embedding-3-small")
flags = parser.parse_args()

client = OpenAI(base_url=flags.base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
texts = ["The kitten sleeps on the carpet.", "Shares fell on Tuesday.", "Rain is expected at noon."]
answer = client.embeddings.create(model=flags.model, input=[*texts, flags.query])
vectors = np.array([item.embedding for item in answer.data])
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
likeness = vectors[:-1] @ vectors[-1]
for index in likeness.argsort()[::-1]:
    print(f"{likeness[index]:.2f}  {texts[index]}")
