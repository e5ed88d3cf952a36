"""placeholder"""


def attach(path: str) -> None:
    raise NotImplementedError
