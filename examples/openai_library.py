# SPDX-License-Identifier: Apache-2.0
"""OpenAI's chat and embeddings in one server, without a large model: sentences are compared by their letters.

The chat answers with the sentence of a small text that is most like the question, word for word as a stream. Replace `Vectors` by a model
of yours; the clients stay as they are.

pip install scikit-learn openai
python examples/openai_library.py
python examples/clients/openai_chat.py --base-url http://localhost:8000/v1 "What holds the model?"
python examples/clients/openai_embeddings.py --base-url http://localhost:8000/v1
"""

import os

import cubbyhole as ls

TEXT = """
A front speaks HTTP and moves bytes.
A worker holds the model and runs it.
The supervisor starts both and notices a death at once.
The segment is one piece of shared memory without a name.
"""


class Vectors:
    """Texts as vectors of 512 numbers: how often each group of letters is in them."""

    def __init__(self):
        from sklearn.feature_extraction.text import HashingVectorizer

        self.vectorizer = HashingVectorizer(n_features=512, analyzer="char_wb", ngram_range=(2, 4))

    def __call__(self, texts):
        return self.vectorizer.transform(texts).toarray()


class Chat(ls.LitAPI):
    def setup(self, device):
        self.vectors = Vectors()
        self.sentences = [line for line in TEXT.splitlines() if line]
        self.known = self.vectors(self.sentences)

    def predict(self, request):
        question = request.messages[-1].content
        likeness = self.known @ self.vectors([question])[0]
        for word in self.sentences[int(likeness.argmax())].split():
            yield word + " "


class Embed(ls.LitAPI):
    def setup(self, device):
        self.vectors = Vectors()

    def predict(self, texts):
        return self.vectors(texts if isinstance(texts, list) else [texts])


if __name__ == "__main__":
    apis = [Chat(spec=ls.OpenAISpec()), Embed(spec=ls.OpenAIEmbeddingSpec())]
    ls.LitServer(apis).run(port=int(os.environ.get("PORT", "8000")))
