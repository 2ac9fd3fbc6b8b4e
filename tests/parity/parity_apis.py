# SPDX-License-Identifier: Apache-2.0
"""APIs such as users write, for the tests beside this file. Workers import this module, so it imports no test tools."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

import cubbyhole as ls


class Square(ls.LitAPI):
    def setup(self, device):
        self.model = lambda x: x**2

    def decode_request(self, request):
        return request["input"]

    def predict(self, x):
        return self.model(x)

    def encode_response(self, output):
        return {"output": output}


class Anything(ls.LitAPI):
    """Answers with what it got, or does what it is told."""

    def predict(self, x):
        match x:
            case {"sleep_s": seconds}:
                time.sleep(seconds)
            case {"http": code}:
                raise HTTPException(code, "as asked", headers={"Retry-After": "7"})
            case {"raise": text}:
                raise RuntimeError(text)
            case {"unpicklable": _}:
                raise RuntimeError(lambda: "cannot be pickled")
            case {"set": _}:
                return {1, 2}
            case {"die": _}:
                os.kill(os.getpid(), signal.SIGKILL)
            case {"who": _}:
                return {"worker": os.environ["LITSERVE_WORKER_ID"], "pid": os.getpid()}
            case {"device": _}:
                return self.device
        return x


class DeviceInSetup(ls.LitAPI):
    def setup(self, device):
        self.seen = [device, self.device]

    def predict(self, x):
        return [*self.seen, self.device]


class Form(ls.LitAPI):
    def decode_request(self, request):
        file = request["file"]
        return {"name": request["name"], "size": len(file.file.read()), "filename": file.filename}

    def predict(self, x):
        return x


class UrlForm(ls.LitAPI):
    def decode_request(self, request: ls.Request):
        return {key: request[key] for key in request}

    def predict(self, x):
        return x


class Item(BaseModel):
    name: str
    price: float


class Total(BaseModel):
    name: str
    total: float


class Typed(ls.LitAPI):
    def decode_request(self, request: Item) -> Item:
        assert isinstance(request, Item)
        return request

    def predict(self, x: Item) -> Item:
        return x

    def encode_response(self, output: Item) -> Total:
        return Total(name=output.name, total=output.price * 2)


class OtherName(ls.LitAPI):
    """Its parameter has a name that LitServe refuses."""

    def decode_request(self, payload):
        return payload["input"]

    def predict(self, x):
        return x + 1


class Batched(ls.LitAPI):
    """Arrays of one number; says how large the batch was. A string cannot be decoded."""

    def decode_request(self, request):
        if request["input"] == "bad":
            raise HTTPException(400, "bad item")
        if request["input"] == "broken":
            raise RuntimeError("broken item")
        return np.asarray(request["input"], dtype="float32")

    def predict(self, x):
        time.sleep(0.05)
        return np.stack([x * 2, np.full_like(x, len(x))], axis=1)

    def encode_response(self, output):
        return {"output": float(output[0]), "batch": int(output[1])}


class ShortBatch(ls.LitAPI):
    def predict(self, x):
        return x[:-1]


class Stream(ls.LitAPI):
    def predict(self, x):
        if x.get("raise_at") == 0:
            raise HTTPException(418, "before the first chunk")
        for number in range(x["count"]):
            if x.get("raise_at") == number:
                raise RuntimeError("in mid-stream")
            if "file" in x:
                Path(x["file"]).write_text(str(number))
            time.sleep(x.get("sleep_s", 0))
            yield number

    def encode_response(self, output):
        for number in output:
            yield {"n": number}


class Part(BaseModel):
    x: int


class MixedStream(ls.LitAPI):
    def predict(self, x):
        yield "a"
        yield b"b"
        yield {"k": 1}
        yield Part(x=1)

    def encode_response(self, output):
        yield from output


class BatchedStream(ls.LitAPI):
    def predict(self, x):
        for number in range(3):
            yield [f"{item['name']}{number} " for item in x]

    def encode_response(self, output):
        yield from output


class AsyncSleep(ls.LitAPI):
    async def decode_request(self, request):
        return request["sleep_s"]

    async def predict(self, x):
        await asyncio.sleep(x)
        return {"slept_s": x}

    async def encode_response(self, output):
        return output


class AsyncStream(ls.LitAPI):
    async def predict(self, x):
        for number in range(x["count"]):
            await asyncio.sleep(0)
            yield number

    async def encode_response(self, output):
        async for number in output:
            yield {"n": number}


class WithContext(ls.LitAPI):
    def decode_request(self, request, context):
        context["decoded"] = request["input"]
        return request["input"]

    def predict(self, x, context):
        context["predicted"] = x + 1
        return x

    def encode_response(self, output, context):
        return context


class BatchedContext(ls.LitAPI):
    def decode_request(self, request, context):
        context["mine"] = request["input"]
        return request["input"]

    def predict(self, x, context):
        assert isinstance(context, list)
        for item in context:
            item["seen"] = True
        return x

    def encode_response(self, output, context):
        return context


class Guarded(Square):
    def authorize(self, auth: HTTPAuthorizationCredentials = Depends(HTTPBearer())):
        if auth.scheme != "Bearer" or auth.credentials != "1234":
            raise HTTPException(status_code=401, detail="Bad token")


class LogsToFile(ls.Logger):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def process(self, key, value):
        if key == "bad":
            raise ValueError("this logger cannot take it")
        with Path(self.path).open("a") as file:
            file.write(json.dumps([key, value, os.getpid()]) + "\n")


class Logs(Square):
    def predict(self, x):
        self.log("bad", None)
        self.log("input", x)
        return super().predict(x)


class WritesEvents(ls.Callback):
    """Appends the name of each event that it hears."""

    def __init__(self, path):
        self.path = str(path)

    def _write(self, name, subject):
        with Path(self.path).open("a") as file:
            file.write(f"{name} {type(subject).__name__}\n")

    def on_before_setup(self, lit_api):
        self._write("before_setup", lit_api)

    def on_after_setup(self, lit_api):
        self._write("after_setup", lit_api)

    def on_before_decode_request(self, lit_api):
        self._write("before_decode", lit_api)

    def on_after_decode_request(self, lit_api):
        self._write("after_decode", lit_api)

    def on_before_predict(self, lit_api):
        self._write("before_predict", lit_api)

    def on_after_predict(self, lit_api):
        self._write("after_predict", lit_api)

    def on_before_encode_response(self, lit_api):
        self._write("before_encode", lit_api)

    def on_after_encode_response(self, lit_api):
        self._write("after_encode", lit_api)

    def on_server_start(self, litserver):
        self._write("server_start", litserver)

    def on_server_end(self, litserver):
        self._write("server_end", litserver)

    def on_request(self, active_requests, litserver):
        self._write(f"request:{active_requests}", litserver)

    def on_response(self, litserver):
        self._write("response", litserver)


class Raises(ls.Callback):
    def on_before_predict(self, *args, **kwargs):
        raise RuntimeError("a callback's own trouble")


class Unhealthy(Square):
    def health(self):
        return False


class SlowSetup(Square):
    def setup(self, device):
        time.sleep(0.3)
        super().setup(device)


class BrokenSetup(Square):
    def setup(self, device):
        raise RuntimeError("no weights here")


class Chat(ls.LitAPI):
    def setup(self, device):
        self.calls = 0

    def predict(self, x, context):
        self.calls += 1
        content = x.messages[-1].content
        if content == "http 429":
            raise HTTPException(429, "slow down")
        if content == "break":
            yield "so far"
            raise RuntimeError("in mid-stream")
        kinds = content if isinstance(content, str) else " ".join(type(p).__name__ for p in content)
        yield f"{kinds} {context['temperature']} "
        yield f"call {self.calls}"


class ChatAsync(ls.LitAPI):
    async def predict(self, x):
        for word in ("one ", "two "):
            await asyncio.sleep(0)
            yield word


class Embed(ls.LitAPI):
    """The length of each text, and two numbers that float32 holds exactly."""

    def predict(self, x):
        texts = [x] if isinstance(x, str) else x
        return np.array([[len(text), 0.5, 0.25] for text in texts], dtype="float32")


class NotThreadSafe(ls.LitAPI):
    """Answers with how many requests were in predict at once."""

    def setup(self, device):
        self.inside = 0

    def predict(self, x):
        self.inside += 1
        time.sleep(0.01)
        seen = self.inside
        self.inside -= 1
        return seen
