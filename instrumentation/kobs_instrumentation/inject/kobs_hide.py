"""What kobs adds to a child's environment, and how it is taken out of sight again.

Runs in any Python that a watched program may start, 2.7 included: plain syntax, no imports, no
annotations.
"""

# mypy: allow-untyped-defs

ADDED = (
    "KOBS_SESSION",
    "KOBS_OPTIONS",
    "KOBS_HOME",
    "KOBS_PARENT",
    "KOBS_LINK",
    "KOBS_ORIGIN",
    "KOBS_TRACEPARENT",
)
"""Variables that are ours alone. `KOBS_PYTHONPATH` is what PYTHONPATH was before, if anything;
`KOBS_ADDED_TRACEPARENT` the TRACEPARENT that we set where there was none."""

INJECT = "kobs_instrumentation/inject"


def hide(env, encode=str):
    """Take what kobs added out of a mapping of the environment; return it.

    `encode` makes a key or value of the mapping's type from a `str`. PYTHONPATH and TRACEPARENT
    get the values back that the program would see without kobs.
    """
    given = {}
    for name in ADDED:
        value = env.pop(encode(name), None)
        if value is not None:
            given[name] = value
    before = env.pop(encode("KOBS_PYTHONPATH"), None)
    path = env.get(encode("PYTHONPATH"))
    if path is not None:
        separator, mark = encode(":"), encode(INJECT)
        entries = path.split(separator)
        others = [entry for entry in entries if not entry.endswith(mark)]
        if len(others) != len(entries):
            rest = separator.join(others)
            if entries[0].endswith(mark) and rest == (before or encode("")):
                rest = before
            if rest is None:
                del env[encode("PYTHONPATH")]
            else:
                env[encode("PYTHONPATH")] = rest
    added = env.pop(encode("KOBS_ADDED_TRACEPARENT"), None)
    if added is not None and env.get(encode("TRACEPARENT")) == added:
        del env[encode("TRACEPARENT")]
    return given
