"""Vocabulary of `@observe("scheduler")`: classes that give tasks the processor.

- `switch*` `context_switch*`
  - ContextSwitch when both sides are known
    - `from_pid`: argument from_pid, previous, prev, old or the first
    - `to_pid`: argument to_pid, next, new or the second (numbers, or objects with a pid)
    - `reason`: argument reason, else "switch"
- `preempt*` `on_preempt*`
  - ProcessPreempted when what was left is known
    - `quantum_remaining_us`: the number returned, else attribute or argument quantum_remaining_us
      or remaining_us
    - pid: argument pid, task, process or the first
- `dispatch*` `wake_to_run*` `record_latency*`
  - SchedulerLatency when the latency is known
    - `wake_to_run_us`: the number returned, else attribute or argument wake_to_run_us or
      latency_us
    - pid: argument pid, task, process or the first
- `stall*` `on_stall*` `report_stall*` `loop_stall*`
  - LoopStalled when the duration is known
    - `duration_ms`: attribute of what was returned, else argument
    - `stack`: attribute of what was returned, else argument, else nothing
    - pid: argument pid, task, process or the first
- `throttle*` `on_throttle*`
  - CpuThrottled when the duration is known
    - `usage_pct`, `duration_ms`: attributes of what was returned, else arguments
    - pid: argument pid, task, process or the first
"""

from kobs.events import (
    ContextSwitch,
    CpuThrottled,
    LoopStalled,
    ProcessPreempted,
    SchedulerLatency,
)
from kobs.observe import Rule, Vocabulary
from kobs_instrumentation.vocabulary.common import (
    at_most_255,
    both,
    emission,
    given,
    known,
    number,
    text,
    told,
)

_TASK = given("pid", "task", "process", 0)


def _task(value: object) -> int | None:
    """The number of a task; 0 is none at all, that is idle."""
    found = value if isinstance(value, int) else getattr(value, "pid", None)
    return found if isinstance(found, int) and found >= 0 else None


_FROM = given("from_pid", "previous", "prev", "old", 0).map(_task)
_TO = given("to_pid", "next", "new", 1).map(_task)
_LEFT = told("quantum_remaining_us", "remaining_us", plain=True).map(number)
_LATENCY = told("wake_to_run_us", "latency_us", plain=True).map(number)
_DURATION = told("duration_ms").map(number)

VOCABULARY = Vocabulary(
    "scheduler",
    classes=("*Scheduler",),
    rules=(
        Rule(
            ("switch*", "context_switch*"),
            (
                emission(
                    ContextSwitch,
                    where=both(known(_FROM), known(_TO)),
                    fields={
                        "from_pid": _FROM,
                        "to_pid": _TO,
                        "reason": given("reason", default="switch").map(text),
                    },
                ),
            ),
        ),
        Rule(
            ("preempt*", "on_preempt*"),
            (
                emission(
                    ProcessPreempted,
                    where=known(_LEFT),
                    fields={"quantum_remaining_us": _LEFT},
                    pid=_TASK,
                ),
            ),
        ),
        Rule(
            ("dispatch*", "wake_to_run*", "record_latency*"),
            (
                emission(
                    SchedulerLatency,
                    where=known(_LATENCY),
                    fields={"wake_to_run_us": _LATENCY},
                    pid=_TASK,
                ),
            ),
        ),
        Rule(
            ("stall*", "on_stall*", "report_stall*", "loop_stall*"),
            (
                emission(
                    LoopStalled,
                    where=known(_DURATION),
                    fields={
                        "duration_ms": _DURATION,
                        "stack": told("stack", default="").map(text),
                    },
                    pid=_TASK,
                ),
            ),
        ),
        Rule(
            ("throttle*", "on_throttle*"),
            (
                emission(
                    CpuThrottled,
                    where=known(_DURATION),
                    fields={
                        "usage_pct": told("usage_pct").map(at_most_255),
                        "duration_ms": _DURATION,
                    },
                    pid=_TASK,
                ),
            ),
        ),
    ),
)
