"""Which denial is whose: what the sandbox watch told of, the others do not tell again."""

BY_POLICY = "is denied by the sandbox policy"
"""In the words of each error that a policy raises in the program."""


def is_by_policy(error: BaseException) -> bool:
    """Whether the operating system was not even asked."""
    return isinstance(error, PermissionError) and BY_POLICY in str(error.strerror)
