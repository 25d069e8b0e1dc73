"""The network of a stepper as an ONNX graph: features and ln t_ref in, dt out.

Legend: T states, F features without ln t_ref.
"""

import math
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from nbody.errors import NotExportable
from nbody.native.weights import Weights

OPSET, IR_VERSION = 13, 8
OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


@dataclass
class _Graph:
    """Nodes and constants, as they are added."""

    onnx: Any
    nodes: list[Any] = field(default_factory=list[Any])
    constants: list[Any] = field(default_factory=list[Any])

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node; returns the name of its output."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, values: list[float] | list[int], shape: tuple[int, ...] = ()) -> str:
        """Adds numbers, of float64 or of int64; returns their name."""
        name, kinds = f"constant_{len(self.constants)}", self.onnx.TensorProto
        kind = kinds.INT64 if isinstance(values[0], int) else kinds.DOUBLE
        self.constants.append(self.onnx.helper.make_tensor(name, kind, shape, values))
        return name

    def activated(self, activation: str, inside: str) -> str:
        """Adds an activation."""
        if activation in OPERATORS:
            return self.node(OPERATORS[activation], inside)
        if activation == "silu":
            return self.node("Mul", inside, self.node("Sigmoid", inside))
        if activation == "gelu":
            scaled = self.node("Mul", inside, self.constant([math.sqrt(0.5)]))
            above = self.node("Add", self.node("Erf", scaled), self.constant([1.0]))
            return self.node("Mul", self.node("Mul", inside, self.constant([0.5])), above)
        squared = self.node("Mul", inside, inside)
        above = self.node("Add", squared, self.constant([1.0]))
        return self.node("Div", inside, self.node("Sqrt", above))


def write_onnx(weights: Weights, path: Path) -> None:
    """Write the graph: input `features` (T, F + 1), the last of them ln t_ref, output `dt` (T,).

    The features have to come from elsewhere; what they are, and the envelope, stand in the
    metadata.

    Raises:
        NotExportable: onnx is not installed, or the network has a Fourier embedding.
    """
    try:
        onnx: Any = import_module("onnx")
    except ModuleNotFoundError as error:
        raise NotExportable("ONNX needs the package onnx: pip install 'orrery[export]'") from error
    if weights.waves is not None:
        raise NotExportable("a network with a Fourier embedding is not written as ONNX")
    graph, make, number = _Graph(onnx), onnx.helper, onnx.TensorProto.DOUBLE
    inside = graph.node(
        "Gather", "features", graph.constant([*range(weights.inputs)], (weights.inputs,)), axis=1
    )
    at, width = 0, weights.inputs
    for layer, outputs in enumerate(weights.widths):
        bias, rows = weights.values[at:], weights.values[at + outputs :]
        matrix = graph.constant(rows[: outputs * width].tolist(), (width, outputs))
        inside = graph.node(
            "Gemm", inside, matrix, graph.constant(bias[:outputs].tolist(), (outputs,))
        )
        if layer < len(weights.widths) - 1:
            inside = graph.activated(weights.activation, inside)
        at, width = at + outputs * (width + 1), outputs
    value = graph.node("Gather", inside, graph.constant([0]), axis=1)
    reference = graph.node("Gather", "features", graph.constant([weights.inputs]), axis=1)
    dt = graph.node("Exp", graph.node("Add", value, reference))
    factor = graph.constant([weights.calibration])
    graph.nodes.append(make.make_node("Mul", [dt, factor], ["dt"]))
    built = make.make_graph(
        graph.nodes,
        "orrery",
        [make.make_tensor_value_info("features", number, ["T", weights.inputs + 1])],
        [make.make_tensor_value_info("dt", number, ["T"])],
        graph.constants,
    )
    operators = [make.make_opsetid("", OPSET)]
    model = make.make_model(built, opset_imports=operators, ir_version=IR_VERSION)
    envelope = "" if weights.envelope is None else repr(weights.envelope.tolist())
    make.set_model_props(model, {"features": weights.features, "envelope": envelope})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
