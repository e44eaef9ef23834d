#include "epicenter.h"

static const ws_field note[] = {
    {"id", WS_STRING},
    {"text", WS_STRING},
    {"done", WS_BOOLEAN, .fallback = "false"},
    {0},
};

static void has_text(json *note) {
    if (!*json_get_string(note, "text")) ws_invalid("text", "must not be empty");
}

static const ws_table notes = {"notes", WS_VERSIONS({note}), .rule = has_text};

static json *finish(json *input) {
    return ws_update(&notes, json_get_string(input, "id"), json_object({"done", json_boolean(true)}));
}

const ws_workspace workspace = {
    .id = "my-workspace",
    .version = "0.1.0",
    .tables = WS_TABLES(&notes),
    .actions = WS_ACTIONS(
        {"notes/finish", WS_MUTATION, "Marks a note as done.", finish, .input = WS_MEMBERS({"id", WS_STRING})}
    ),
};
