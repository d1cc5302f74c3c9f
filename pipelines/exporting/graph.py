"""An ONNX graph put together operator by operator; constants are given as arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from extract.onnx import OPSET

IR_VERSION = 10  # what goes with it


class Graph:
    """Operators one after another, each named by its output.

    Examples
    --------
    >>> graph = Graph()
    >>> doubled = graph.add("Mul", "x", np.float32(2))
    >>> graph.add("Add", doubled, np.float32(1))
    'Add_1'
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """The output of an operator with one.

        inputs : names of outputs before it, or arrays and NumPy scalars, which become constants; an
        empty name leaves an optional input out.
        """
        return self.add_many(kind, 1, *inputs, **attributes)[0]

    def add_many(self, kind: str, n_outputs: int, *inputs: Any, **attributes: Any) -> list[str]:
        """The outputs of an operator with several."""
        from onnx import helper

        named = [own if isinstance(own, str) else self._constant(own) for own in inputs]
        name = f"{self._prefix}{kind}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{i}" for i in range(1, n_outputs))]
        self.nodes.append(helper.make_node(kind, named, outputs, name=name, **attributes))
        return outputs

    def as_float64(self, name: str) -> str:
        """The same numbers in float64."""
        from onnx import TensorProto

        return self.add("Cast", name, to=TensorProto.DOUBLE)

    def as_float32(self, name: str) -> str:
        """The same numbers in float32."""
        from onnx import TensorProto

        return self.add("Cast", name, to=TensorProto.FLOAT)

    def choose(
        self,
        condition: str,
        then: Callable[["Graph"], str],
        otherwise: Callable[["Graph"], str],
        rank: int = 4,
    ) -> str:
        """The output of one of two graphs, of which the other is not computed.

        condition : one bool. then, otherwise : given an empty graph, which sees all names of this
        one, they add operators to it and name its output, float64 of that rank.
        """
        from onnx import TensorProto, helper

        branches = {}
        for name, fill in (("then_branch", then), ("else_branch", otherwise)):
            inner = Graph(f"{self._prefix}{len(self.nodes)}_{name}_")
            output = inner.add("Identity", fill(inner))
            info = helper.make_tensor_value_info(output, TensorProto.DOUBLE, [None] * rank)
            branches[name] = helper.make_graph(inner.nodes, name, [], [info], inner.constants)
        return self.add("If", condition, **branches)

    def absorb(self, model: Any, inputs: Sequence[str]) -> list[str]:
        """A model's operators, with these in place of its inputs -> its outputs' names.

        model : onnx.ModelProto of the same opset.
        """
        from onnx import compose

        prefix = f"m{len(self.nodes)}_"
        inner = compose.add_prefix(model, prefix).graph
        taken = dict(zip((own.name for own in inner.input), inputs, strict=True))
        for node in inner.node:
            node.input[:] = [taken.get(name, name) for name in node.input]
            # where in the tracer's source it came from: half of the file, and of this machine
            del node.metadata_props[:]
            node.doc_string = ""
        self.nodes += inner.node
        self.constants += inner.initializer
        return [own.name for own in inner.output]

    def model(self, inputs: Sequence[Any], outputs: Mapping[str, Any]) -> Any:
        """The onnx.ModelProto of the graph.

        inputs : onnx.ValueInfoProto of each. outputs : by name of an output in the graph, what it
        is called and of what type, as onnx.ValueInfoProto.
        """
        from onnx import helper

        nodes = list(self.nodes)
        for name, info in outputs.items():
            nodes.append(helper.make_node("Identity", [name], [info.name]))
        graph = helper.make_graph(
            nodes, "permafrost", list(inputs), list(outputs.values()), self.constants
        )
        return helper.make_model(
            graph,
            producer_name="permafrost",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name
