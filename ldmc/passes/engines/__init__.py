"""What `trt` is made of: building an engine in a process of its own, and the recipe for building it on a device."""
