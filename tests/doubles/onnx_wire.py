"""Reads what the doubles need of an ONNX file, straight from its bytes: Python 3.6 on a Jetson has no onnx package.

Source of the field numbers: onnx/onnx.proto of github.com/onnx/onnx (wire format: protobuf's encoding guide).
"""

import io


class Model(object):
    """`ir_version`, `opset` (default domain), `domains` (others), `nodes`, `inputs`, `outputs`, `initializers` (name ->
    Tensor), `types` (name -> ONNX element type, where it is written down)."""

    def __init__(self, content):
        fields = _fields(content)
        self.ir_version = _last(fields, 1, 0)
        self.opset, self.domains = 0, []
        for item in _all(fields, 8):
            operator_set = _fields(item)
            domain = _last(operator_set, 1, b"").decode()
            if domain in ("", "ai.onnx"):
                self.opset = _last(operator_set, 2, 0)
            else:
                self.domains.append(domain)
        graph = _fields(_last(fields, 7, b""))
        self.nodes = [Node(item) for item in _all(graph, 1)]
        self.initializers = {tensor.name: tensor for tensor in (Tensor(item) for item in _all(graph, 5))}
        self.inputs = [value for value in (Value(item) for item in _all(graph, 11))
                       if value.name not in self.initializers]
        self.outputs = [Value(item) for item in _all(graph, 12)]
        values = self.inputs + self.outputs + [Value(item) for item in _all(graph, 13)]
        self.types = {value.name: value.type for value in values}
        self.types.update({name: tensor.type for name, tensor in self.initializers.items()})


class Node(object):
    """`operator`, `name`, `inputs`, `outputs`, `attributes` (name -> int, or None for what is no single integer),
    `tensor_types` (name -> element type of a tensor attribute)."""

    def __init__(self, content):
        fields = _fields(content)
        self.inputs = [item.decode() for item in _all(fields, 1)]
        self.outputs = [item.decode() for item in _all(fields, 2)]
        self.name = _last(fields, 3, b"").decode()
        self.operator = _last(fields, 4, b"").decode()
        self.attributes, self.tensor_types = {}, {}
        for item in _all(fields, 5):
            attribute = _fields(item)
            name = _last(attribute, 1, b"").decode()
            self.attributes[name] = _last(attribute, 3, None)
            if _all(attribute, 5):
                self.tensor_types[name] = _last(_fields(_last(attribute, 5, b"")), 2, 0)


class Tensor(object):
    """An initializer: `name`, `type`, `size` (elements), `external` (key -> text; {} where the data is inside)."""

    def __init__(self, content):
        fields = _fields(content)
        self.name = _last(fields, 8, b"").decode()
        self.type = _last(fields, 2, 0)
        self.size = 1
        for item in _all(fields, 1):
            for dimension in _packed(item):
                self.size *= dimension
        self.external = {}
        for item in _all(fields, 13):
            entry = _fields(item)
            self.external[_last(entry, 1, b"").decode()] = _last(entry, 2, b"").decode()


class Value(object):
    """An input or output: `name`, `type`, `shape` (tuple; 0 for what is not static)."""

    def __init__(self, content):
        fields = _fields(content)
        self.name = _last(fields, 1, b"").decode()
        tensor = _fields(_last(_fields(_last(fields, 2, b"")), 1, b""))
        self.type = _last(tensor, 1, 0)
        shape = _fields(_last(tensor, 2, b""))
        self.shape = tuple(_last(_fields(item), 1, 0) for item in _all(shape, 1))


def read_model(path):
    """Model of the file at `path`."""
    with io.open(path, "rb") as stream:
        return Model(stream.read())


def _fields(content):
    """[(number, value)]: ints for varints, bytes for all that has a length."""
    found, place = [], 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(content, place)
            value = value - (1 << 64) if value >> 63 else value
        elif kind == 2:
            size, place = _varint(content, place)
            value, place = content[place:place + size], place + size
        else:
            size = {1: 8, 5: 4}[kind]
            value, place = content[place:place + size], place + size
        found.append((key >> 3, value))
    return found


def _varint(content, place):
    value, shift = 0, 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _packed(item):
    if isinstance(item, int):
        return [item]
    found, place = [], 0
    while place < len(item):
        value, place = _varint(item, place)
        found.append(value)
    return found


def _all(fields, number):
    return [value for key, value in fields if key == number]


def _last(fields, number, otherwise):
    found = _all(fields, number)
    return found[-1] if found else otherwise
