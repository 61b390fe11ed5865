"""The nodes of a convolutional network in ONNX, as a converter of skl2onnx."""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.ml.convolution.estimators import ConvolutionalClassifier, ConvolutionalRegressor


def register() -> None:
    """Make skl2onnx convert them. Needs the extra `onnx`."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    classifier, regressor = (
        shape_calculator.calculate_linear_classifier_output_shapes,
        shape_calculator.calculate_linear_regressor_output_shapes,
    )
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(ConvolutionalClassifier, "TrellisConvolutionalClassifier", classifier, _convert, options=options)
    update_registered_converter(ConvolutionalRegressor, "TrellisConvolutionalRegressor", regressor, _convert)


class _Graph:
    """Adds nodes to the container of a conversion, each with one output."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope = scope
        self._container = container

    def constant(self, values: np.ndarray) -> str:
        from onnx import TensorProto

        kind = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}.get(values.dtype.kind, TensorProto.STRING)
        flat = [value.encode() for value in values.ravel()] if kind == TensorProto.STRING else values.ravel().tolist()
        name = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(values.shape), flat)
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        made: str = output or self._scope.get_unique_variable_name(kind.lower())
        self._container.add_node(kind, list(inputs), [made], name=self._scope.get_unique_operator_name(kind), **attributes)
        return made


def _convert(scope: Any, operator: Any, container: Any) -> None:
    estimator, graph = operator.raw_operator, _Graph(scope, container)
    outputs = [variable.full_name for variable in operator.outputs]
    values = _network(estimator, graph, operator.inputs[0].full_name)
    if not hasattr(estimator, "classes_"):
        scaled = graph.node("Mul", values, graph.constant(np.array([estimator.target_scale_], np.float32)))
        graph.node("Add", scaled, graph.constant(np.array([estimator.target_mean_], np.float32)), output=outputs[0])
        return
    if len(estimator.classes_) == 2:
        second = graph.node("Sigmoid", values)
        first = graph.node("Sub", graph.constant(np.ones(1, np.float32)), second)
        probabilities = graph.node("Concat", first, second, output=outputs[1], axis=1)
    else:
        probabilities = graph.node("Softmax", values, output=outputs[1], axis=1)
    position = graph.node("ArgMax", probabilities, axis=1, keepdims=0)
    classes = np.asarray(estimator.classes_)
    graph.node("Gather", graph.constant(classes.astype(np.int64) if classes.dtype.kind in "bui" else classes), position, output=outputs[0])


def _network(estimator: Any, graph: _Graph, values: str) -> str:
    layout = estimator.layout
    values = graph.node("Cast", values, to=1)
    values = graph.node("Reshape", values, graph.constant(np.array([-1, layout.height, layout.width, layout.channels])))
    values = graph.node("Div", graph.node("Sub", values, graph.constant(estimator.mean_)), graph.constant(estimator.scale_))
    values = graph.node("Transpose", values, perm=[0, 3, 1, 2])
    for number, block in enumerate(estimator.blocks):
        weights, biases = (graph.constant(each) for each in estimator.weights_[2 * number : 2 * number + 2])
        left, right, above, below = block.padding
        values = graph.node("Conv", values, weights, biases, kernel_shape=list(block.kernel), pads=[above, left, below, right])
        values = graph.node("Relu" if estimator.activation == "relu" else "Tanh", values)
        values = graph.node("MaxPool", values, kernel_shape=list(block.pool), strides=list(block.pool))
    values = graph.node("GlobalAveragePool", values) if estimator.head == "average" else values
    return graph.node("Gemm", graph.node("Flatten", values, axis=1), *(graph.constant(each) for each in estimator.weights_[-2:]), transB=1)
