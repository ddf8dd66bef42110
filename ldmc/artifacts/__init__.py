"""Artifacts: writing a bundle whole or not at all."""
