"""A parsed network's layers, as far as a builder looks at them: one for each node of the graph."""

import enum


class LayerType(enum.IntEnum):
    """A few of the real ones; all that is no constant is elementwise here."""

    CONVOLUTION = 0
    ELEMENTWISE = 9
    CONSTANT = 21


class Tensor(object):
    """ITensor: `name`, `dtype`, `shape`."""

    __slots__ = ("name", "dtype", "shape")

    def __init__(self, name, dtype, shape=()):
        self.name, self.dtype, self.shape = name, dtype, shape


class Layer(object):
    """ILayer of one node."""

    __slots__ = ("_node", "_type_of", "precision", "output_types")

    def __init__(self, node, type_of):
        self._node = node
        self._type_of = type_of
        self.output_types = {}

    @property
    def name(self):
        return self._node.name

    @property
    def type(self):
        return LayerType.CONSTANT if self._node.operator == "Constant" else LayerType.ELEMENTWISE

    @property
    def num_inputs(self):
        return len(self._node.inputs)

    @property
    def num_outputs(self):
        return len(self._node.outputs)

    def get_input(self, index):
        name = self._node.inputs[index]
        return Tensor(name, self._type_of(name)) if name else None

    def get_output(self, index):
        name = self._node.outputs[index]
        return Tensor(name, self._type_of(name))

    def set_output_type(self, index, dtype):
        self.output_types[index] = dtype
