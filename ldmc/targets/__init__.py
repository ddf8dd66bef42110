"""Targets: what a device is and can do, as data. One TOML file each."""
