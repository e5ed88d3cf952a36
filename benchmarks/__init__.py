"""What kobs costs: every figure that the design promises, its peers, its floors, and how it scales.

    rows.py          each figure, declared once: what is measured, against what, the target
    subject.py       how one thing is measured: a pyperf runner around one named subject
    subjects/        what is measured of kobs, of Python, and of the machine
    peers/           the same of other projects, each in an environment of its own
    native/          the floors in C, and what lost to the ring
    measure.py       rounds over subjects, so that a row's parts are measured side by side
    memory.py, scaling.py, rivals.py    what is no duration of a subject
    results.py       from series to rows with ratio and verdict; report.py prints them

`make bench` runs it all; `python -m benchmarks --help` says what can be left out.
"""
