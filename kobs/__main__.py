"""`python -m kobs` is the command `kobs`."""

from kobs.cli.main import entry

if __name__ == "__main__":
    entry()
