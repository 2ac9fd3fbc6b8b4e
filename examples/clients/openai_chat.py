# SPDX-License-Identifier: Apache-2.0
"""Chat with any server of OpenAI's API: whole, and as a stream. See examples/openai_library.py.

python examples/clients/openai_chat.py --base-url http://localhost:8000/v1 "What holds the model?"
"""

import argparse
import os

from openai import OpenAI

parser = argparse.ArgumentParser()
parser.add_argument("question", nargs="?", default="What holds the model?")
parser.add_argument("--base-url", default="http://localhost:8000/v1")
parser.add_argument("--model", default="gpt-4o-mini")
flags = parser.parse_args()

client = OpenAI(base_url=flags.base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
messages = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": flags.question},
]
answer = client.chat.completions.create(model=flags.model, messages=messages)
print("whole:  ", answer.choices[0].message.content)

print("stream: ", end="", flush=True)
for chunk in client.chat.completions.create(model=flags.model, messages=messages, stream=True):
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()
