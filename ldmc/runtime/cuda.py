"""The CUDA runtime through ctypes: memory, copies and one stream, and nothing else. No pycuda, no torch.

    cuda = Cuda()
    address = cuda.allocate(array.nbytes)
    cuda.to_device(address, array, stream)

Addresses and streams are plain integers, as TensorRT's Python API takes them. Every call is checked: what the library
refuses becomes a BundleProblem with its own words.

Source: CUDA Runtime API, https://docs.nvidia.com/cuda/cuda-runtime-api/ (memory, stream and device management); the
functions and numbers used here are the same from CUDA 10.2 to 13.
"""

import ctypes

import numpy as np

from .errors import BundleProblem

# The names that JetPack 4 (10.2), JetPack 5 (11.0) and JetPack 6 (12) install; the loader looks where it always does.
NAMES = ("libcudart.so.10.2", "libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13", "libcudart.so")
FOLDERS = ("", "/usr/local/cuda/lib64/")

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3  # enum cudaMemcpyKind
MAJOR, MINOR = 75, 76  # enum cudaDeviceAttr: cudaDevAttrComputeCapabilityMajor and ...Minor
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
NO_DEVICE = (35, 100)  # cudaErrorInsufficientDriver, which a machine without any driver gives, and cudaErrorNoDevice

DESCRIBE = "cudaGetErrorString"  # the one function that gives no error code
_SIZE, _POINTER, _INT = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
_ARGUMENTS = {
    "cudaMalloc": (ctypes.POINTER(_POINTER), _SIZE),
    "cudaFree": (_POINTER,),
    "cudaMemcpy": (_POINTER, _POINTER, _SIZE, _INT),
    "cudaMemcpyAsync": (_POINTER, _POINTER, _SIZE, _INT, _POINTER),
    "cudaStreamCreate": (ctypes.POINTER(_POINTER),),
    "cudaStreamDestroy": (_POINTER,),
    "cudaStreamSynchronize": (_POINTER,),
    "cudaMemGetInfo": (ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)),
    "cudaDeviceGetAttribute": (ctypes.POINTER(_INT), _INT, _INT),
    "cudaRuntimeGetVersion": (ctypes.POINTER(_INT),),
    DESCRIBE: (_INT,),
}


class Cuda(object):
    """The CUDA runtime library of this machine.

    Args: library: path or name of libcudart; None looks for it.
    Raises: BundleProblem where there is none, or it lacks a function.
    """

    def __init__(self, library=None):
        self._library = _open(library)
        for name, arguments in sorted(_ARGUMENTS.items()):
            function = getattr(self._library, name, None)
            if function is None:
                raise BundleProblem("%s has no function %s" % (self._library._name, name), "install CUDA 10.2 or later")
            function.argtypes = arguments
            function.restype = ctypes.c_char_p if name == DESCRIBE else _INT

    @property
    def version(self):
        """The runtime library's version, such as `10.2`."""
        number = _INT()
        self._call("cudaRuntimeGetVersion", ctypes.byref(number))
        return "%d.%d" % (number.value // 1000, number.value % 1000 // 10)

    def compute_capability(self, device=0):
        """Of the GPU `device`, such as `5.3`."""
        values = []
        for attribute in (MAJOR, MINOR):
            value = _INT()
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, device)
            values.append(value.value)
        return "%d.%d" % tuple(values)

    def memory_info(self):
        """(free, total) bytes of the GPU's memory; on a Jetson, of the memory that CPU and GPU share."""
        free, total = _SIZE(), _SIZE()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size_bytes):
        """The address of `size_bytes` of new device memory, aligned to 256 bytes or more. Free it."""
        address = _POINTER()
        self._call("cudaMalloc", ctypes.byref(address), size_bytes, wanted_bytes=size_bytes)
        return address.value

    def free(self, address):
        """Gives memory of `allocate` back."""
        self._call("cudaFree", address)

    def create_stream(self):
        """A new stream. Destroy it."""
        stream = _POINTER()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        return stream.value

    def destroy_stream(self, stream):
        """Ends a stream of `create_stream`."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream):
        """Waits until all that was put on `stream` is done; raises what went wrong there meanwhile."""
        self._call("cudaStreamSynchronize", stream)

    def to_device(self, address, array, stream=None):
        """Copies a C-contiguous array to `address`; on `stream` it returns early, and `array` must stay as it is."""
        self._copy(address, array.ctypes.data, array.nbytes, HOST_TO_DEVICE, stream)

    def to_host(self, array, address, stream=None):
        """Fills a C-contiguous array from `address`; on `stream`, by the time the stream is synchronized."""
        self._copy(array.ctypes.data, address, array.nbytes, DEVICE_TO_HOST, stream)

    def on_device(self, target, source, size_bytes, stream=None):
        """Copies within device memory."""
        self._copy(target, source, size_bytes, DEVICE_TO_DEVICE, stream)

    def read(self, address, shape, dtype):
        """A new array of `shape` and `dtype` from `address`."""
        array = np.empty(shape, dtype)
        self.to_host(array, address)
        return array

    def _copy(self, target, source, size_bytes, kind, stream):
        if stream is None:
            self._call("cudaMemcpy", target, source, size_bytes, kind)
        else:
            self._call("cudaMemcpyAsync", target, source, size_bytes, kind, stream)

    def _call(self, name, *arguments, wanted_bytes=None):
        status = getattr(self._library, name)(*arguments)
        if status == 0:
            return
        said = (getattr(self._library, DESCRIBE)(status) or b"unknown error").decode("ascii", "replace")
        message = "CUDA's %s failed: %s (error %d)" % (name, said, status)
        if status in NO_DEVICE:
            raise BundleProblem(message, "run it on a machine with an NVIDIA GPU and its driver")
        if status != OUT_OF_MEMORY:
            raise BundleProblem(message)
        if wanted_bytes is not None:
            message += "; %d MiB were asked for" % (wanted_bytes >> 20)
        raise BundleProblem(message, "end other programs, the desktop first: sudo systemctl isolate multi-user.target")


def _open(library):
    tried = [library] if library else [folder + name for folder in FOLDERS for name in NAMES]
    for path in tried:
        try:
            return ctypes.CDLL(path)
        except OSError as problem:
            reason = problem
    where = library or "%s, nor in %s" % (", ".join(NAMES), FOLDERS[1])
    message = "there is no CUDA runtime library here: %s (%s)" % (where, reason)
    raise BundleProblem(message, "on a Jetson, install the package cuda-cudart of its JetPack; elsewhere CUDA itself")
