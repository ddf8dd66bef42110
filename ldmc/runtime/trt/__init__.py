"""Building TensorRT engines, on the host and on the device: one engine per process (see `worker`)."""
