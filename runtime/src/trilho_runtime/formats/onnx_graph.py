"""An ONNX graph that is put together node by node, and of models that other libraries wrote.

Needs the `onnx` library; nothing here is imported by a server.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

OPSET, ML_OPSET = 19, 3
ML = "ai.onnx.ml"
ROWS = "rows"  # how the first dimension of every input and output is called


class Writer(Protocol):
    """What nodes are written to."""

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and give the output's name."""

    def constant(self, array: Any) -> str:
        """Add a value and give its name."""


class Graph:
    """Nodes in the order in which they run, with the values that they need."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._constants: list[Any] = []
        self._numbers = itertools.count()

    def take(self, name: str, kind: int) -> None:
        """Add an input of one column, by its name and onnx's number of its type."""
        from onnx import helper

        self.inputs.append(helper.make_tensor_value_info(name, kind, [ROWS, 1]))

    def give(self, name: str, tensor: str, kind: int, width: int | None) -> None:
        """Add an output of so many columns, or of one value a row."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        shape = [ROWS] if width is None else [ROWS, width]
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output and give the output's name."""
        from onnx import helper

        name = self._name(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """Add a value and give its name."""
        from onnx import numpy_helper

        name = self._name("value")
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def cast(self, tensor: str, dtype: str) -> str:
        """Give a tensor in another numpy type."""
        from onnx import helper

        return self.node("Cast", tensor, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def embed(self, model: Any, given: Mapping[str, str]) -> list[str]:
        """Add a whole model, its inputs taken from tensors of this graph, and give the names of its outputs."""
        from onnx import compose, helper

        prefix = self._name("part") + "/"
        own = compose.add_prefix(model, prefix).graph
        for value in own.input:
            name = value.name.removeprefix(prefix)
            self.nodes.append(helper.make_node("Identity", [given[name]], [value.name]))
        self.nodes.extend(own.node)
        self._constants.extend(own.initializer)
        return [value.name for value in own.output]

    def to_model(self, name: str) -> Any:
        """Give the graph as a checked model."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self._constants)
        own = {node.domain for node in self.nodes} - {"", ML}  # such as onnxruntime's own
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(own)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="trilho")
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model

    def _name(self, what: str) -> str:
        return f"trilho:{what}:{next(self._numbers)}"
