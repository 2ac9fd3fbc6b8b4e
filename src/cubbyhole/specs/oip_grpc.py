# SPDX-License-Identifier: Apache-2.0
"""Messages of the Open Inference Protocol over gRPC, and what they are as a body over HTTP. Needs protobuf (`cubbyhole[grpc]`).

The protocol's messages are declared here as a table and made by protobuf at import: no generated file has to be kept in step with a
.proto, and there is one description of tensors, that of HTTP. A request becomes the HTTP body with binary tensors, an answer is made
of one; so both ways have the same checks.

See:   https://github.com/kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto (the field numbers)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from cubbyhole.core.errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# message -> fields as "name number type"; "*" before a type: repeated, "@": a map from string to it, "|": one of a choice
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live 1 bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready 1 bool",
    "ModelReadyRequest": "name 1 string, version 2 string",
    "ModelReadyResponse": "ready 1 bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name 1 string, version 2 string, extensions 3 *string",
    "ModelMetadataRequest": "name 1 string, version 2 string",
    "TensorMetadata": "name 1 string, datatype 2 string, shape 3 *int64",
    "ModelMetadataResponse": (
        "name 1 string, versions 2 *string, platform 3 string, inputs 4 *TensorMetadata, outputs 5 *TensorMetadata"
    ),
    "InferParameter": (
        "bool_param 1 |bool, int64_param 2 |int64, string_param 3 |string, double_param 4 |double, uint64_param 5 |uint64"
    ),
    "InferTensorContents": (
        "bool_contents 1 *bool, int_contents 2 *int32, int64_contents 3 *int64, uint_contents 4 *uint32, "
        "uint64_contents 5 *uint64, fp32_contents 6 *float, fp64_contents 7 *double, bytes_contents 8 *bytes"
    ),
    "InferInputTensor": (
        "name 1 string, datatype 2 string, shape 3 *int64, parameters 4 @InferParameter, contents 5 InferTensorContents"
    ),
    "InferRequestedOutputTensor": "name 1 string, parameters 2 @InferParameter",
    "ModelInferRequest": (
        "model_name 1 string, model_version 2 string, id 3 string, parameters 4 @InferParameter, inputs 5 *InferInputTensor, "
        "outputs 6 *InferRequestedOutputTensor, raw_input_contents 7 *bytes"
    ),
    "InferOutputTensor": (
        "name 1 string, datatype 2 string, shape 3 *int64, parameters 4 @InferParameter, contents 5 InferTensorContents"
    ),
    "ModelInferResponse": (
        "model_name 1 string, model_version 2 string, id 3 string, parameters 4 @InferParameter, outputs 5 *InferOutputTensor, "
        "raw_output_contents 6 *bytes"
    ),
    "ModelStreamInferResponse": "error_message 1 string, infer_response 2 ModelInferResponse",
}
_FieldProto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FieldProto.TYPE_BOOL,
    "int32": _FieldProto.TYPE_INT32,
    "int64": _FieldProto.TYPE_INT64,
    "uint32": _FieldProto.TYPE_UINT32,
    "uint64": _FieldProto.TYPE_UINT64,
    "float": _FieldProto.TYPE_FLOAT,
    "double": _FieldProto.TYPE_DOUBLE,
    "string": _FieldProto.TYPE_STRING,
    "bytes": _FieldProto.TYPE_BYTES,
}
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def _declare() -> dict[str, Any]:
    """Have protobuf make a class of each message."""
    file = descriptor_pb2.FileDescriptorProto(
        name="cubbyhole/oip_grpc.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add_field(message, *field.split(" "))
    pool = (
        descriptor_pool.DescriptorPool()
    )  # of our own: a client in the same process may have made the same names
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def _add_field(message: Any, name: str, number: str, kind: str) -> None:
    field = message.field.add(name=name, number=int(number), label=_FieldProto.LABEL_OPTIONAL)
    mark, bare = (kind[0], kind[1:]) if kind[0] in "*@|" else ("", kind)
    if mark == "*":
        field.label = _FieldProto.LABEL_REPEATED
    elif mark == "|":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    elif mark == "@":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", "1", "string")
        _add_field(entry, "value", "2", bare)
        field.label = _FieldProto.LABEL_REPEATED
        bare = f"{message.name}.{entry.name}"
    if bare in _SCALARS:
        field.type = _SCALARS[bare]
    else:
        field.type = _FieldProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{bare}"


MESSAGES = _declare()
_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


def body_of(request: Any) -> tuple[list[Any], int]:
    """Return a ModelInferRequest as the parts of an HTTP body, and how long the JSON is with which it begins.

    Raises:
        HTTPError: 400, tensors come both ways, or fewer raw ones than are named.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise HTTPError(
            400, f"The request names {len(request.inputs)} inputs, but has {len(raw)} raw ones."
        )
    inputs = []
    for number, tensor in enumerate(request.inputs):
        described: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": _parameters(tensor.parameters),
        }
        if raw:
            if tensor.HasField("contents"):
                raise HTTPError(400, f"Input {tensor.name[:64]!r} comes raw and as contents.")
            described["parameters"]["binary_data_size"] = len(raw[number])
        else:
            described["data"] = _contents(tensor)
        inputs.append(described)
    outputs = [
        {"name": output.name, "parameters": {**_parameters(output.parameters), "binary_data": True}}
        for output in request.outputs
    ]
    head = _encode_json(
        {
            "id": request.id,
            "parameters": {**_parameters(request.parameters), "binary_data_output": True},
            "inputs": inputs,
            "outputs": outputs,
        }
    )
    return [head, *raw], len(head)


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        which = value.WhichOneof("parameter_choice")
        if which is not None:
            found[name] = getattr(value, which)
    return found


def _contents(tensor: Any) -> list[Any]:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise HTTPError(
            400,
            f"Input {tensor.name[:64]!r} of datatype {tensor.datatype[:16]!r} can only come by raw_input_contents.",
        )
    values = list(getattr(tensor.contents, field))
    if field != "bytes_contents":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise HTTPError(
            400, f"Input {tensor.name[:64]!r} holds bytes that are no UTF-8: send it raw."
        ) from error


def answer_of(body: Any, head_bytes: int) -> Any:
    """Return a ModelInferResponse of an HTTP body with binary tensors."""
    view = memoryview(body).cast("B")
    head = _decode_json(view[:head_bytes])
    answer = MESSAGES["ModelInferResponse"](
        model_name=head["model_name"], model_version=head["model_version"], id=head.get("id", "")
    )
    start = head_bytes
    for output in head["outputs"]:
        answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        size = output["parameters"]["binary_data_size"]
        answer.raw_output_contents.append(bytes(view[start : start + size]))
        start += size
    return answer


def metadata_of(described: Mapping[str, Any]) -> Any:
    """Return a ModelMetadataResponse of what the HTTP endpoint says."""
    answer = MESSAGES["ModelMetadataResponse"](
        name=described["name"], versions=described["versions"], platform=described["platform"]
    )
    for side in ("inputs", "outputs"):
        for tensor in described[side]:
            getattr(answer, side).add(**tensor)
    return answer


def handlers(service: Any) -> Any:
    """Return gRPC's handlers of the methods that an object has, by their names."""
    import grpc

    found = {}
    for method, streams in _METHODS.items():
        request = MESSAGES[f"{method.replace('Stream', '')}Request"]
        make: Callable[..., Any] = (
            grpc.stream_stream_rpc_method_handler
            if streams
            else grpc.unary_unary_rpc_method_handler
        )
        found[method] = make(
            getattr(service, method),
            request_deserializer=request.FromString,
            response_serializer=MESSAGES[f"{method}Response"].SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, found)


_METHODS = {  # -> whether it streams
    "ServerLive": False,
    "ServerReady": False,
    "ModelReady": False,
    "ServerMetadata": False,
    "ModelMetadata": False,
    "ModelInfer": False,
    "ModelStreamInfer": True,
}
