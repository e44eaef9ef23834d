/// A blog: posts that are drafts until they are published, and a theme.

#include "epicenter.h"

/// What a post was before it had content. Old rows are migrated as they are read: what is new has its
/// fallback.
static const ws_field post_v1[] = {
    {"id", WS_STRING},
    {"title", WS_STRING},
    {0},
};

static const ws_field post[] = {
    {"id", WS_STRING},
    {"title", WS_STRING},
    {"content", WS_STRING, .fallback = "\"\""},
    {"views", WS_INTEGER, .fallback = "0", .minimum = WS_BOUND(0)},
    {"published", WS_BOOLEAN, .fallback = "false"},
    {0},
};

static void has_title(json *post) {
    if (!*json_get_string(post, "title")) ws_invalid("title", "must not be empty");
}

static const ws_table posts = {"posts", WS_VERSIONS({post_v1}, {post}), .rule = has_title};

static const ws_key theme = {"theme", WS_VALUE(.type = WS_STRING)};

static json *publish(json *input) {
    const char *id = json_get_string(input, "id");
    ws_log(WS_INFO, "publishing %s", id);
    return ws_update(&posts, id, json_object({"published", json_boolean(true)}));
}

static json *import(json *input) {
    json *imported = json_parse(json_get_string(input, "json"));
    if (!imported) return NULL;
    if (!json_is_array(imported)) return ws_invalid("json", "must be a list of posts");
    json_each(post, imported) {
        if (!ws_put(&posts, post)) return NULL;
    }
    return json_integer((int64_t)json_size(imported));
}

static json *popular(json *input) {
    return ws_list(&posts, (ws_query){
        .where = WS_WHERE({"published", WS_EQ, json_boolean(true)}, {"views", WS_GTE, json_get(input, "min")}),
        .sort = "-views",
    });
}

const ws_workspace workspace = {
    .id = "blog-c",
    .title = "Blog in C",
    .version = "0.1.0",
    .tables = WS_TABLES(&posts),
    .keys = WS_KEYS(&theme),
    .actions = WS_ACTIONS(
        {"posts/publish", WS_MUTATION, "Publishes a post.", publish,
         .input = WS_MEMBERS({"id", WS_STRING}),
         .output = WS_VALUE(.type = WS_OBJECT, .members = post)},
        {"posts/import", WS_MUTATION, "Adds posts from a JSON text, all or none.", import,
         .input = WS_MEMBERS({"json", WS_STRING}),
         .output = WS_VALUE(.type = WS_INTEGER)},
        {"posts/popular", WS_QUERY, "The most viewed first.", popular,
         .input = WS_MEMBERS({"min", WS_INTEGER, .minimum = WS_BOUND(0)}),
         .output = WS_VALUE(.type = WS_ARRAY, .items = WS_VALUE(.type = WS_OBJECT, .members = post))}
    ),
};
