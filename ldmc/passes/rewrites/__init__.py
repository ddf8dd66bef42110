"""Graph rewrites that `fold` is made of: each takes an `onnx_ir.Model` and changes it in place."""
