"""Event ids: `recording` (20 bits) | `lane` (2 bits) | `ticket` (42 bits), unique in a session.

An id is derived from where an event stands, never stored with it; 0 means "no event".
Recording numbers begin at 1, so that no event has id 0. At a million events a second
42 bits of tickets last 50 days; after that ids (not tickets) repeat.
"""

import os

LANE_BITS = 2
TICKET_BITS = 42
RECORDING_BITS = 20

TICKET_MASK = (1 << TICKET_BITS) - 1
LANE_MASK = (1 << LANE_BITS) - 1
NO_LANE = LANE_MASK
"""The lane in the ids of in-flight entries whose begin event found no slot: no event has them."""
MAX_RECORDING = (1 << RECORDING_BITS) - 1

_RECORDING_SHIFT = LANE_BITS + TICKET_BITS


def event_id(recording: int, lane: int, ticket: int) -> int:
    """The id of the event that holds `ticket` in `lane` of the recording numbered `recording`."""
    return (recording << _RECORDING_SHIFT) | (lane << TICKET_BITS) | (ticket & TICKET_MASK)


def id_prefix(recording: int, lane: int) -> int:
    """The part of an event id that all events of one lane share: `prefix | ticket` is the id."""
    return (recording << _RECORDING_SHIFT) | (lane << TICKET_BITS)


def split_id(event: int) -> tuple[int, int, int]:
    """(recording, lane, ticket) of an event id."""
    return event >> _RECORDING_SHIFT, (event >> TICKET_BITS) & LANE_MASK, event & TICKET_MASK


_minted: list[int] = []


def mint_id() -> int:
    """A random 64-bit id, never 0: a span id, a link token, the low half of a trace id."""
    while True:
        try:
            made = _minted.pop()
        except IndexError:
            random = os.urandom(8 * 64)
            _minted.extend(int.from_bytes(random[at : at + 8], "little") for at in range(0, 512, 8))
            continue
        if made:
            return made


os.register_at_fork(after_in_child=_minted.clear)
