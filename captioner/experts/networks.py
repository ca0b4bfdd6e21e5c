"""The small networks that the experts share: each is loaded on first use, once a process.

Nothing here is imported with the package: the runtimes cost a second to load. A network is a
function of arrays behind a lock, since none of the runtimes allows two threads into one model.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioner.weights import weight

Array = NDArray[Any]
Network = Callable[[Array], list[Array]]

_LOADING = threading.RLock()


def tflite(name: str) -> Network:
    """A TensorFlow Lite weight as a function of its one input; outputs in the model's order."""
    with _LOADING:
        return _tflite(name)


def tflite_inner(name: str, tensor: str) -> Network:
    """A TensorFlow Lite weight as a function of its one input that gives one inner tensor, in the
    model's own numbers (not dequantised). Raises KeyError where there is no such tensor."""
    with _LOADING:
        return _tflite_inner(name, tensor)


def onnx(name: str) -> Network:
    """An ONNX weight as a function of its one input; outputs in the model's order."""
    with _LOADING:
        return _onnx(name)[0]


def onnx_metadata(name: str) -> dict[str, str]:
    """The custom metadata of an ONNX weight."""
    with _LOADING:
        return _onnx(name)[1]


def tensorflow(name: str, layers: str) -> Network:
    """A frozen TensorFlow graph read by OpenCV, as a function of one (1, C, H, W) blob."""
    with _LOADING:
        return _tensorflow(name, layers)


@cache
def _tflite(name: str) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    path = str(weight(name))
    with _without_stderr():
        interpreter = Interpreter(path, num_threads=1)
        interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    output_indices = [output["index"] for output in interpreter.get_output_details()]

    def run(x: Array) -> list[Array]:
        interpreter.set_tensor(input_index, x)
        interpreter.invoke()
        return [interpreter.get_tensor(i) for i in output_indices]  # get_tensor copies

    return _one_at_a_time(run)


@cache
def _tflite_inner(name: str, tensor: str) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    path = str(weight(name))
    with _without_stderr(), warnings.catch_warnings():
        # It warns that keeping inner tensors takes memory: 30 MB of a small network.
        warnings.simplefilter("ignore")
        interpreter = Interpreter(path, num_threads=1, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    indices = {one["name"]: one["index"] for one in interpreter.get_tensor_details()}
    inner_index = indices[tensor]

    def run(x: Array) -> list[Array]:
        interpreter.set_tensor(input_index, x)
        interpreter.invoke()
        return [interpreter.get_tensor(inner_index)]

    return _one_at_a_time(run)


@cache
def _onnx(name: str) -> tuple[Network, dict[str, str]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(weight(name)), options, providers=["CPUExecutionProvider"]
    )
    input_name = session.get_inputs()[0].name
    metadata = dict(session.get_modelmeta().custom_metadata_map)

    def run(x: Array) -> list[Array]:
        return [np.asarray(output) for output in session.run(None, {input_name: x})]

    return _one_at_a_time(run), metadata


@cache
def _tensorflow(name: str, layers: str) -> Network:
    import cv2

    net = cv2.dnn.readNetFromTensorflow(str(weight(name)), str(weight(layers)))

    def run(x: Array) -> list[Array]:
        net.setInput(x)
        return [np.asarray(net.forward())]

    return _one_at_a_time(run)


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """TensorFlow Lite announces its delegate on the process's stderr at any log level."""
    sys.stderr.flush()
    own = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)
        os.close(nowhere)


def _one_at_a_time(run: Network) -> Network:
    lock = threading.Lock()

    def locked(x: Array) -> list[Array]:
        with lock:
            return run(x)

    return locked
