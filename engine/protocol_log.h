// ProtocolLoggingLevel = Verbose: the dialogue of sessions as lines of Exchange's protocol log
// (date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,event,data,context).
// Bodies and credentials never get here.
#pragma once

#include <stdint.h>

#include "base/endpoint.h"
#include "base/str.h"

struct ph_worker;

#define PH_PROTOCOL_LOG_HEADER                                                                     \
    "#Software: posthaste\n#Version: 1.0\n#Log-type: SMTP Protocol Log\n"                          \
    "#Fields: date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,"   \
    "event,data,context\n"

enum ph_protocol_event {
    PH_PROTOCOL_CONNECTED = '+',
    PH_PROTOCOL_DISCONNECTED = '-',
    PH_PROTOCOL_SENT = '>',
    PH_PROTOCOL_RECEIVED = '<',
    PH_PROTOCOL_NOTE = '*', // goes into the context
};

struct ph_protocol_session {
    struct ph_str connector;
    uint64_t id;
    const struct ph_endpoint *remote;
    uint32_t *sequence; // counts the session's lines
};

// One line for each of `text`'s; one without data where it is empty.
void ph_protocol_log(struct ph_worker *worker, const struct ph_protocol_session *session,
                     enum ph_protocol_event event, struct ph_str text);
