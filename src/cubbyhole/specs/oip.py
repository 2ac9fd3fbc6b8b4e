# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol (v2) over a LitAPI, with its binary tensor extension: what Triton's and KServe's clients speak.

Flow:  POST body -> read_request -> predict({input: array}) -> {output: array} -> JSON, raw tensors or both, as the client asked
Owns:  nothing beside what it declares.
See:   specs/oip_tensors.py (the bytes); docs/guide/clients.md
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from cubbyhole.core.entries import Result, ResultMeta
from cubbyhole.formats.parts import Parts, pad_with_spaces
from cubbyhole.specs.base import LitSpec
from cubbyhole.specs.oip_tensors import (
    TensorSpec,
    as_declared,
    check_head,
    declare,
    from_json,
    from_raw,
    refused,
    shown,
    to_json,
    to_raw,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from cubbyhole.core.entries import Buffer, RequestMeta

HEADER = "inference-header-content-length"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNSUPPORTED = ("classification", "shared_memory_region")


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Head(msgspec.Struct):
    inputs: list[_Tensor]
    outputs: list[_Wanted] = []
    id: str = ""
    parameters: dict[str, Any] = {}


class OIPRequest(msgspec.Struct):
    """A checked request.

    Attributes:
        inputs: Arrays by input name, read-only.
        outputs: (declared output, as raw bytes) in the order of the answer.
        id: The client's, given back.
        parameters: The client's; `predict` finds them in its context.
    """

    inputs: dict[str, Any]
    outputs: list[tuple[TensorSpec, bool]]
    id: str
    parameters: dict[str, Any]


_decode_head = msgspec.json.Decoder(_Head).decode
_encode_json = msgspec.json.Encoder().encode


class OIPSpec(LitSpec):
    """Serves a LitAPI at `/v2/models/{name}/infer`, as clients of the Open Inference Protocol expect it.

    `predict` gets a dict of arrays by input name, read-only views of the request's bytes, and returns a dict of arrays by output
    name. With `max_batch_size` over 1 it gets a list of such dicts, and returns one for each.

    Args:
        name: The model's.
        inputs: (datatype, shape) by name, e.g. `{"x": ("float32", [-1, 224])}`; -1 is any size.
        outputs: Likewise.
        version: The model's; `/v2/models/{name}/versions/{version}` is served too.

    Raises:
        ValueError: a name, datatype or shape that cannot be served.
    """

    error_key: ClassVar[str] = "error"
    root: ClassVar[str] = (
        "/v2"  # below it, what is not served is refused in the protocol's way, too
    )

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, tuple[str, Sequence[int]]],
        outputs: Mapping[str, tuple[str, Sequence[int]]],
        version: str = "1",
    ) -> None:
        super().__init__()
        for text in (name, version):
            if not _NAME.fullmatch(text):
                raise ValueError(
                    f"{text!r} cannot be part of a URL: use letters, digits, '.', '_' and '-'."
                )
        self.name = name
        self.version = version
        self.inputs = {key: declare(key, *value) for key, value in inputs.items()}
        self.outputs = {key: declare(key, *value) for key, value in outputs.items()}
        self.api_path = f"/v2/models/{name}/infer"
        self.more_paths = (f"/v2/models/{name}/versions/{version}/infer",)
        self._is_ready: Callable[[], bool] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind also what asks for readiness."""
        return {**super().__getstate__(), "_is_ready": None}

    def pre_setup(self, lit_api: Any) -> None:
        """Check that the LitAPI returns, and register the protocol's other endpoints.

        Raises:
            ValueError: `predict` is a generator.
        """
        if inspect.isgeneratorfunction(lit_api.predict) or inspect.isasyncgenfunction(
            lit_api.predict
        ):
            raise ValueError(
                "predict is a generator, but OIPSpec does not stream: return a dict of arrays."
            )
        self.add_endpoint("/v2", self._server_metadata, ["GET"])
        self.add_endpoint("/v2/health/live", self._live, ["GET"])
        self.add_endpoint("/v2/health/ready", self._ready, ["GET"])
        for root in (
            f"/v2/models/{self.name}",
            f"/v2/models/{self.name}/versions/{self.version}",
        ):
            self.add_endpoint(root, self._metadata, ["GET"])
            self.add_endpoint(f"{root}/ready", self._ready, ["GET"])
            self.add_endpoint(f"{root}/config", self._config, ["GET"])

    def learn_readiness(self, is_ready: Callable[[], bool]) -> None:
        """Learn whom to ask whether all workers are ready; called in the server's process."""
        self._is_ready = is_ready

    def populate_context(self, context: dict[str, Any], request: OIPRequest) -> None:
        """Put the client's id and parameters into the context."""
        context.update(id=request.id, parameters=request.parameters)

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:  # noqa: ARG002
        """Give predict the arrays by input name."""
        return request.inputs

    def read_request(self, body: Buffer, meta: RequestMeta | None = None) -> OIPRequest:
        """Parse and check a body. See `LitSpec.read_request`.

        Raises:
            HTTPError: 400 for everything that is not as the protocol or the declaration says.
        """
        view = memoryview(body).cast("B").toreadonly()
        head_bytes = _head_bytes(view, meta)
        try:
            head = _decode_head(view[:head_bytes])
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise refused(f"The inference header is not a valid request: {error}") from error
        arrays: dict[str, np.ndarray] = {}
        start = head_bytes
        for tensor in head.inputs:
            start = self._read_input(arrays, tensor, view, start)
        if start != len(view):
            raise refused(f"The body has {len(view) - start} bytes after its last tensor.")
        missing = [name for name in self.inputs if name not in arrays]
        if missing:
            raise refused(f"Inputs are missing: {', '.join(missing)}.")
        return OIPRequest(arrays, self._wanted(head), head.id, head.parameters)

    def _read_input(
        self, arrays: dict[str, np.ndarray], tensor: _Tensor, view: memoryview, start: int
    ) -> int:
        """Read one input; return where the next begins."""
        spec = self.inputs.get(tensor.name)
        if spec is None:
            raise refused(
                f"There is no input {shown(tensor.name)}; the model takes {', '.join(self.inputs)}."
            )
        if tensor.name in arrays:
            raise refused(f"Input {tensor.name!r} comes twice.")
        _refuse_unsupported(tensor.parameters)
        count = check_head(spec, tensor.datatype, tensor.shape)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            if tensor.data is msgspec.UNSET:
                raise refused(f"Input {tensor.name!r} has neither data nor binary_data_size.")
            arrays[tensor.name] = from_json(spec, tensor.shape, count, tensor.data)
            return start
        if tensor.data is not msgspec.UNSET:
            raise refused(f"Input {tensor.name!r} has both data and binary_data_size.")
        if type(size) is not int or not 0 <= size <= len(view) - start:
            raise refused(
                f"Input {tensor.name!r} has binary_data_size {shown(size)}, but {len(view) - start} bytes are left."
            )
        arrays[tensor.name] = from_raw(spec, tensor.shape, count, view[start : start + size])
        return start + size

    def _wanted(self, head: _Head) -> list[tuple[TensorSpec, bool]]:
        _refuse_unsupported(head.parameters)
        binary = head.parameters.get("binary_data_output") is True
        if not head.outputs:
            return [(spec, binary) for spec in self.outputs.values()]
        wanted: dict[str, tuple[TensorSpec, bool]] = {}
        for output in head.outputs:
            spec = self.outputs.get(output.name)
            if spec is None or output.name in wanted:
                what = "There is no output" if spec is None else "Twice wanted is output"
                raise refused(
                    f"{what} {shown(output.name)}; the model gives {', '.join(self.outputs)}."
                )
            _refuse_unsupported(output.parameters)
            own = output.parameters.get("binary_data", binary)
            wanted[output.name] = (spec, own is True)
        return list(wanted.values())

    def render(self, request: OIPRequest, outputs: list[list[Any]]) -> Result:
        """Make the answer; with raw tensors its body is in parts (`formats/parts.py`).

        Raises:
            ValueError: the LitAPI gave something else than the declared outputs.
        """
        given = outputs[0][-1]
        if not isinstance(given, dict):
            raise ValueError(  # noqa: TRY004  (as for the other specs)
                f"predict gave {type(given).__name__}, but a dict of arrays by output name is needed: {list(self.outputs)}."
            )
        heads: list[dict[str, Any]] = []
        parts: list[Any] = []
        for spec, binary in request.outputs:
            if spec.name not in given:
                raise ValueError(f"predict gave no output {spec.name!r}, only {list(given)}.")
            array = as_declared(spec, given[spec.name])
            head = {**spec.described(), "shape": list(array.shape)}
            if binary:
                raw = to_raw(spec, array)
                parts.append(raw)
                head["parameters"] = {"binary_data_size": len(raw)}
            else:
                head["data"] = to_json(spec, array)
            heads.append(head)
        answer: dict[str, Any] = {"model_name": self.name, "model_version": self.version}
        if request.id:
            answer["id"] = request.id
        text = _encode_json({**answer, "outputs": heads})
        if not parts:
            return Result(text)
        meta = ResultMeta("application/octet-stream")
        return Result(Parts(text, parts, pad_with_spaces, meta=meta, length_header=HEADER))

    # The other endpoints, in the server's process --------------------------------------------------------------------

    async def _server_metadata(self) -> Any:
        from cubbyhole import __version__

        return {
            "name": "cubbyhole",
            "version": __version__,
            "extensions": ["binary_tensor_data", "model_configuration"],
        }

    async def _live(self) -> Any:
        return {"live": True}

    async def _ready(self) -> Any:
        if self._is_ready is not None and self._is_ready():
            return {"ready": True}
        from starlette.responses import JSONResponse  # the front's; a worker never comes here

        return JSONResponse({"error": "The server is not ready."}, 503, {"Retry-After": "1"})

    async def _metadata(self) -> Any:
        return self.metadata()

    def metadata(self) -> dict[str, Any]:
        """Return what the model takes and gives, as the protocol says it."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "python",
            "inputs": [spec.described() for spec in self.inputs.values()],
            "outputs": [spec.described() for spec in self.outputs.values()],
        }

    async def _config(self) -> Any:
        return {
            "name": self.name,
            "platform": "python",
            "backend": "python",
            "max_batch_size": 0,  # all dimensions are declared, the first one too
            "input": [_configured(spec) for spec in self.inputs.values()],
            "output": [_configured(spec) for spec in self.outputs.values()],
        }


def _configured(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape)}


def _head_bytes(view: memoryview, meta: RequestMeta | None) -> int:
    """Return how much of the body is JSON."""
    said = dict(meta.headers).get(HEADER) if meta is not None else None
    if said is None:
        return len(view)
    is_number = said.isascii() and said.isdigit() and len(said) < 20
    if not is_number or int(said) > len(view):
        raise refused(
            f"Inference-Header-Content-Length is {shown(said)}, but the body has {len(view)} bytes."
        )
    return int(said)


def _refuse_unsupported(parameters: dict[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if parameters.get(name):
            raise refused(f"The parameter {name!r} is not supported; leave it out.")
