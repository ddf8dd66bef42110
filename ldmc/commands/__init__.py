"""The commands, one file each. Heavy imports happen inside them, so that `ldmc --help` answers at once."""
