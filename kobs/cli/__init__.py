"""The `kobs` command."""
