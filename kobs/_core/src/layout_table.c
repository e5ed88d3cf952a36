/* Every structure's fields as the compiler laid them out: {"Header.magic": (offset, size), ...}. */

#include "core.h"

#define FIELD(structure, name, field) \
    {name "." #field, offsetof(structure, field), sizeof(((structure *)0)->field)}
#define SIZE(structure, name) {name, 0, sizeof(structure)}

static const struct {
    const char *name;
    size_t offset, size;
} table[] = {
    SIZE(kobs_lane_info, "LaneInfo"),
    FIELD(kobs_lane_info, "LaneInfo", offset),
    FIELD(kobs_lane_info, "LaneInfo", slots),
    SIZE(kobs_region_info, "RegionInfo"),
    FIELD(kobs_region_info, "RegionInfo", offset),
    FIELD(kobs_region_info, "RegionInfo", size),
    SIZE(kobs_header, "Header"),
    FIELD(kobs_header, "Header", magic),
    FIELD(kobs_header, "Header", version),
    FIELD(kobs_header, "Header", byte_order),
    FIELD(kobs_header, "Header", header_size),
    FIELD(kobs_header, "Header", slot_size),
    FIELD(kobs_header, "Header", slot_header_size),
    FIELD(kobs_header, "Header", lane_count),
    FIELD(kobs_header, "Header", total_size),
    FIELD(kobs_header, "Header", counters),
    FIELD(kobs_header, "Header", schema),
    FIELD(kobs_header, "Header", strings),
    FIELD(kobs_header, "Header", in_flight),
    FIELD(kobs_header, "Header", readers),
    FIELD(kobs_header, "Header", lanes),
    FIELD(kobs_header, "Header", recording),
    FIELD(kobs_header, "Header", segment),
    FIELD(kobs_header, "Header", pid),
    FIELD(kobs_header, "Header", ppid),
    FIELD(kobs_header, "Header", state),
    FIELD(kobs_header, "Header", overflow),
    FIELD(kobs_header, "Header", trace_high),
    FIELD(kobs_header, "Header", parent_event),
    FIELD(kobs_header, "Header", started_monotonic_ns),
    FIELD(kobs_header, "Header", started_wall_ns),
    FIELD(kobs_header, "Header", refreshed_monotonic_ns),
    FIELD(kobs_header, "Header", refreshed_wall_ns),
    FIELD(kobs_header, "Header", sampling_rate),
    FIELD(kobs_header, "Header", session),
    FIELD(kobs_header, "Header", core),
    FIELD(kobs_header, "Header", command),
    FIELD(kobs_header, "Header", first_tickets),
    FIELD(kobs_header, "Header", keep_bytes),
    SIZE(kobs_counters, "Counters"),
    FIELD(kobs_counters, "Counters", heads),
    FIELD(kobs_counters, "Counters", contended),
    FIELD(kobs_counters, "Counters", discarded),
    FIELD(kobs_counters, "Counters", sampled_out),
    FIELD(kobs_counters, "Counters", too_big),
    FIELD(kobs_counters, "Counters", errors),
    FIELD(kobs_counters, "Counters", in_flight_overflow),
    FIELD(kobs_counters, "Counters", strings_overflow),
    FIELD(kobs_counters, "Counters", segments_dropped),
    FIELD(kobs_counters, "Counters", filtered),
    FIELD(kobs_counters, "Counters", sampled_out_by_category),
    FIELD(kobs_counters, "Counters", filtered_by_category),
    SIZE(kobs_slot_header, "SlotHeader"),
    FIELD(kobs_slot_header, "SlotHeader", stamp),
    FIELD(kobs_slot_header, "SlotHeader", timestamp_ns),
    FIELD(kobs_slot_header, "SlotHeader", causality_id),
    FIELD(kobs_slot_header, "SlotHeader", parent),
    FIELD(kobs_slot_header, "SlotHeader", span_id),
    FIELD(kobs_slot_header, "SlotHeader", link),
    FIELD(kobs_slot_header, "SlotHeader", pid),
    FIELD(kobs_slot_header, "SlotHeader", tid),
    FIELD(kobs_slot_header, "SlotHeader", type_id),
    FIELD(kobs_slot_header, "SlotHeader", severity_category),
    FIELD(kobs_slot_header, "SlotHeader", flags),
    FIELD(kobs_slot_header, "SlotHeader", origin),
    SIZE(kobs_in_flight, "InFlightEntry"),
    FIELD(kobs_in_flight, "InFlightEntry", event),
    FIELD(kobs_in_flight, "InFlightEntry", timestamp_ns),
    FIELD(kobs_in_flight, "InFlightEntry", causality_id),
    FIELD(kobs_in_flight, "InFlightEntry", span_id),
    FIELD(kobs_in_flight, "InFlightEntry", parent),
    FIELD(kobs_in_flight, "InFlightEntry", tid),
    FIELD(kobs_in_flight, "InFlightEntry", name),
    FIELD(kobs_in_flight, "InFlightEntry", origin),
    FIELD(kobs_in_flight, "InFlightEntry", type_id),
    FIELD(kobs_in_flight, "InFlightEntry", reserved),
    FIELD(kobs_in_flight, "InFlightEntry", pid),
    FIELD(kobs_in_flight, "InFlightEntry", reserved2),
    SIZE(kobs_reader_entry, "ReaderEntry"),
    FIELD(kobs_reader_entry, "ReaderEntry", pid),
    FIELD(kobs_reader_entry, "ReaderEntry", reserved),
    FIELD(kobs_reader_entry, "ReaderEntry", cursors),
    FIELD(kobs_reader_entry, "ReaderEntry", padding),
    {"SLOT_SIZE", 0, KOBS_SLOT_SIZE},
    {"PAYLOAD_SIZE", 0, KOBS_PAYLOAD_SIZE},
    {"LANES", 0, KOBS_LANES},
    {"IN_FLIGHT_ENTRIES", 0, KOBS_IN_FLIGHT_ENTRIES},
    {"READER_ENTRIES", 0, KOBS_READER_ENTRIES},
    {"PAGE", 0, KOBS_PAGE},
};

PyObject *
kobs_layout_table(void)
{
    PyObject *found = PyDict_New();

    for (size_t row = 0; found != NULL && row < sizeof(table) / sizeof(table[0]); row++) {
        PyObject *place = Py_BuildValue("(nn)", (Py_ssize_t)table[row].offset,
                                        (Py_ssize_t)table[row].size);
        if (place == NULL || PyDict_SetItemString(found, table[row].name, place) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(place);
    }
    return found;
}
