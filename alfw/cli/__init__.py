"""The command line: `alfw`. Modules here import what is heavy inside their commands, so that `--help` is quick."""
