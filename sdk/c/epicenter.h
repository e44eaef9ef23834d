/// Workspaces in C: what a plugin defines, and what its actions may do.
///
/// A plugin is one constant, `workspace`, of tables, keys and actions. Values are `json *`, whether rows,
/// inputs or results, and a function that gives a pointer gives `NULL` when it fails. Why it failed is
/// noted beside it, and a handler that returns `NULL` answers with what was noted last:
///
///     json *post = ws_get(&posts, id);
///     if (!post) return NULL;                        // 404, or whatever it was
///     if (!ws_caller()) return ws_denied("sign in to do this");
///
/// `NULL` in place of a value is passed on by every function here, so that only the last of a chain has
/// to be looked at.
///
/// Nothing is freed by hand: what the functions here give is valid until the call of the host that is
/// being served ends. What is to outlive it belongs into a table or a key; a plugin's own variables may
/// be gone at the next call.
///
/// Texts are UTF-8 and end with a zero byte. Strings of JSON that hold U+0000 are therefore refused in
/// rows and inputs.

#ifndef EPICENTER_H
#define EPICENTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "yyjson/yyjson.h"

// JSON.

/// A value. What yyjson has to read a `yyjson_mut_val` works, too.
typedef yyjson_mut_val json;

/// The value of a text of at most 64 levels; `NULL` (and 500) when it is not JSON.
#define json_parse(text) ws_json_parse(__FILE_NAME__, __LINE__, text)
/// The value as text; `NULL` (and 500) when a number in it is infinite or none, or a string no UTF-8.
#define json_text(value) ws_json_text(__FILE_NAME__, __LINE__, value)

json *json_null(void);
json *json_boolean(bool value);
json *json_integer(int64_t value);
json *json_number(double value);
/// Copies the text.
json *json_string(const char *text);

typedef struct json_member {
    const char *name;
    json *value;
} json_member;

/// An object: `json_object({"id", json_string(id)}, {"done", json_boolean(true)})`.
#define json_object(...) json_object_of((const json_member[]){__VA_ARGS__ __VA_OPT__(,) {0}})
json *json_object_of(const json_member *members);
/// Sets a member to a copy of the value. Gives the object.
json *json_set(json *object, const char *name, json *value);
/// Takes a member out. Gives the object.
json *json_remove(json *object, const char *name);

/// An empty array.
json *json_array(void);
/// Adds a copy of the value. Gives the array.
json *json_append(json *array, json *value);

/// The member of an object; `NULL` when there is none.
json *json_get(json *object, const char *name);
/// The text of a member; `NULL` when there is none, or no string, or one that holds U+0000.
const char *json_get_string(json *object, const char *name);
/// The number of a member, cut to a whole one; 0 when there is none.
int64_t json_get_integer(json *object, const char *name);
/// The number of a member; 0 when there is none.
double json_get_number(json *object, const char *name);
/// Whether a member is true.
bool json_get_boolean(json *object, const char *name);

bool json_is_null(json *value);
bool json_is_array(json *value);
bool json_is_object(json *value);
/// How many items or members there are; 0 of anything else.
size_t json_size(json *value);

/// Runs what follows for each item of an array: `json_each(post, posts) { … }`. The array must not be
/// changed meanwhile.
#define json_each(item, array) \
    for (json *item##_of = (array), *item = ws_json_first(item##_of); item; item = ws_json_next(item##_of, item))

// What values are like.

typedef enum ws_type {
    WS_ANY,
    WS_STRING,
    /// Without a fraction, and of at most 53 bits, as JSON has them.
    WS_INTEGER,
    WS_NUMBER,
    WS_BOOLEAN,
    WS_OBJECT,
    WS_ARRAY,
} ws_type;

/// A member of an object, or without a name a value of its own. It may not contain itself. Members that
/// an object has and its type lacks are left out.
typedef struct ws_field {
    const char *name;
    ws_type type;
    /// The members of an object, ended by `{0}`; absent: any.
    const struct ws_field *members;
    /// What each item of an array is; absent: anything.
    const struct ws_field *items;
    /// JSON text of the value that the member has where it is absent.
    const char *fallback;
    /// Without a fallback: the member may be absent.
    bool optional;
    /// The value may be null, too.
    bool nullable;
    /// Bounds of a number: `.minimum = WS_BOUND(0)`.
    const double *minimum, *maximum;
    /// The strings that it may be: `.choices = WS_CHOICES("draft", "published")`.
    const char *const *choices;
} ws_field;

#define WS_BOUND(number) (&(const double){number})
#define WS_CHOICES(...) ((const char *const[]){__VA_ARGS__, NULL})
/// The members of an object in place: `.input = WS_MEMBERS({"id", WS_STRING})`.
#define WS_MEMBERS(...) ((const ws_field[]){__VA_ARGS__, {0}})
/// A value in place: `.output = WS_VALUE(.type = WS_ARRAY, .items = …)`.
#define WS_VALUE(...) (&(const ws_field){__VA_ARGS__})

// Errors. Each notes why the call fails, and gives `NULL` to be returned. Formats are those of printf.

/// The row, key or whatever was asked for does not exist. REST answers 404.
void *ws_not_found(void);
/// The value is wrong at `path`: a member's name, segments joined by `/`, or "" for the value itself.
/// REST answers 422. Several after one another are all told.
__attribute__((format(printf, 2, 3))) void *ws_invalid(const char *path, const char *format, ...);
/// The caller may not do this. REST answers 403.
__attribute__((format(printf, 1, 2))) void *ws_denied(const char *format, ...);
/// Anything else. REST answers 500 with the text, and the log names the line.
#define ws_failed(...) ws_failed_at(__FILE_NAME__, __LINE__, __VA_ARGS__)

// Tables.

/// A type that rows had once, or have now.
typedef struct ws_version {
    /// What a row is, ended by `{0}`; one member is `id`, a string.
    const ws_field *members;
    /// Makes a current row of one of this version. Without it the members of the same name are taken
    /// over, and the others take their fallbacks.
    json *(*migrate)(json *row);
} ws_version;

/// A Yjs document that is attached to each row.
typedef struct ws_document {
    const char *name;
    /// The column with the id of the document's room.
    const char *guid;
    /// The column that the host sets to the time (in ms) of the last local edit.
    const char *updated_at;
} ws_document;

/// The account on whose behalf the host calls.
typedef struct ws_account {
    const char *id;
    /// Empty when not known.
    const char *email;
    /// Empty when not known.
    const char *name;
} ws_account;

typedef enum ws_operation { WS_CREATE, WS_UPDATE, WS_DELETE } ws_operation;

/// One change to a table, about to happen.
typedef struct ws_change {
    ws_operation operation;
    const char *id;
    /// The row before; `NULL` when there was none, or an invalid one.
    json *before;
    /// The row to be; `NULL` when it is deleted.
    json *after;
    /// Who asks; `NULL` while the host runs without accounts.
    const ws_account *caller;
} ws_change;

typedef struct ws_table {
    const char *name;
    /// Oldest first, ended by `{0}`: `WS_VERSIONS({post_v1}, {post})`. Rows in the document stay as they
    /// are until they are rewritten; every read migrates them. Never take one out again: the numbers of
    /// those after it would change.
    const ws_version *versions;
    /// Notes what is wrong with a row of the current version. It must depend on nothing but the row.
    void (*rule)(json *row);
    /// Asked before each change that REST or an action makes, and notes an error to refuse it, with which
    /// the caller is answered: invalid for a row that is not good, denied for who may not. It may read other
    /// rows. Changes that arrive by sync have happened already and are not asked about.
    void (*check)(const ws_change *change);
    /// Ended by `{0}`.
    const ws_document *documents;
} ws_table;

#define WS_VERSIONS(...) ((const ws_version[]){__VA_ARGS__, {0}})

// Reading and writing rows, in actions and checks. Writing is for mutations.

/// The row; not found when there is none, invalid when it is.
json *ws_get(const ws_table *table, const char *id);
/// The row; null when there is none.
json *ws_find(const ws_table *table, const char *id);
/// Creates the row or replaces it whole. Gives it as it is stored.
json *ws_put(const ws_table *table, json *row);
/// Sets the given members of a row and leaves the others. Gives it as it is stored.
json *ws_update(const ws_table *table, const char *id, json *members);
/// Deletes a row: 1, 0 when there was none, -1 when that fails.
int ws_delete(const ws_table *table, const char *id);

/// How a field is compared. `WS_CONTAINS` and `WS_PREFIX` are for strings (the former also for members of
/// arrays), `WS_IN` takes an array, `WS_EXISTS` a boolean.
typedef enum ws_operator {
    WS_EQ, WS_NE, WS_GT, WS_GTE, WS_LT, WS_LTE, WS_IN, WS_CONTAINS, WS_PREFIX, WS_EXISTS,
} ws_operator;

typedef struct ws_filter {
    const char *field;
    ws_operator compare;
    json *value;
} ws_filter;

#define WS_WHERE(...) ((const ws_filter[]){__VA_ARGS__, {0}})

typedef struct ws_query {
    /// All must hold: `WS_WHERE({"published", WS_EQ, json_boolean(true)})`.
    const ws_filter *where;
    /// Fields joined by commas, the largest first with a minus: "-views,title". By id when absent.
    const char *sort;
    /// At most so many rows; 0 means 1,000, and 10,000 is the most.
    uint32_t limit;
    /// Where a page before this one said that it goes on.
    const char *cursor;
    /// Set to the cursor of the next page, or to `NULL` on the last.
    const char **next;
} ws_query;

/// The valid rows that the query selects, as an array: `ws_list(&posts, (ws_query){.sort = "-views"})`.
json *ws_list(const ws_table *table, ws_query query);
/// How many valid rows fulfil all filters; -1 when that fails.
int64_t ws_count(const ws_table *table, const ws_filter *where);

/// The text of a document that is attached to a row; empty when it was never written.
const char *ws_text(const ws_table *table, const char *id, const char *document);
/// Replaces it. Clients that edit it at the same time are not in the way. False when that fails.
bool ws_set_text(const ws_table *table, const char *id, const char *document, const char *text);

// Keys: single values of the workspace.

typedef struct ws_key {
    const char *name;
    const ws_field *value;
    /// Notes what is wrong with a value.
    void (*rule)(json *value);
} ws_key;

/// The value; null when it was never set.
json *ws_key_get(const ws_key *key);
bool ws_key_set(const ws_key *key, json *value);
/// Forgets the value: 1, 0 when there was none, -1 when that fails.
int ws_key_delete(const ws_key *key);

// The call that is being served.

/// Who called; `NULL` while the host runs without accounts.
const ws_account *ws_caller(void);
/// The time in ms since the Unix epoch; the same during one call.
uint64_t ws_now(void);
/// A new random id: 21 characters from `[A-Za-z0-9_-]`, 126 bits.
const char *ws_random_id(void);
/// 64 random bits, from the system's secure source.
uint64_t ws_random_u64(void);
/// Names the request that this call serves; the same as in the host's log.
const char *ws_request_id(void);
/// A value of the host's environment; empty when it has none. Denied unless the plugin's manifest names it
/// under `env`.
const char *ws_environment(const char *name);

typedef enum ws_level { WS_DEBUG, WS_INFO, WS_WARN, WS_ERROR } ws_level;

/// Writes a line to the host's log. At most 8 KiB.
__attribute__((format(printf, 2, 3))) void ws_log(ws_level level, const char *format, ...);
/// A text made as by printf.
__attribute__((format(printf, 1, 2))) const char *ws_format(const char *format, ...);
/// Memory until the call ends; a plugin that has no more is ended.
void *ws_alloc(size_t size);

// Requests to other servers, in actions, where the plugin's manifest names the host under `[http]`; denied
// where it does not.
//
// An action has five seconds, which the other server may take for itself: let the manifest say more, as
// `action = "30s"` under `[limits]`. A mutation may be run again, and then sends again.

/// One field of a head.
typedef struct ws_header {
    const char *name;
    const char *value;
} ws_header;

/// What came back, whatever its status says.
typedef struct ws_response {
    int status;
    /// What came. A zero byte that does not count follows it.
    const char *body;
    size_t length;
    /// Their names in lower case, ended by `{0}`.
    const ws_header *headers;
} ws_response;

/// Asks for what is at an absolute URL, and waits for the whole answer. Headers may follow:
/// `ws_http_get("https://example.com/tea", {"accept", "text/plain"})`. A redirect is an answer, and not
/// followed. Denied for a host that was not granted, invalid for what is no request, failed when there is no
/// answer.
#define ws_http_get(url, ...) ws_http_of("GET", url, "", 0, WS_HEADERS(__VA_ARGS__))
/// Sends a text, or "" for none: `ws_http_send("POST", url, text, {"content-type", "text/plain"})`.
#define ws_http_send(method, url, text, ...) ws_http_of(method, url, text, SIZE_MAX, WS_HEADERS(__VA_ARGS__))
/// Sends a value as JSON: `ws_http_send_json("POST", url, json_object({"id", json_string(id)}))`.
#define ws_http_send_json(method, url, value, ...) \
    ws_http_of(method, url, json_text(value), SIZE_MAX, \
               WS_HEADERS({"content-type", "application/json"} __VA_OPT__(,) __VA_ARGS__))
/// Sends bytes.
#define ws_http_send_bytes(method, url, bytes, length, ...) \
    ws_http_of(method, url, bytes, length, WS_HEADERS(__VA_ARGS__))

/// What came, as text that ends with its first zero byte. What is not UTF-8 becomes `?`.
const char *ws_http_text(const ws_response *response);
/// What came, read as JSON; `NULL` (and 500) when it is none: `ws_http_json(ws_http_get(url))`.
#define ws_http_json(response) ws_http_json_at(__FILE_NAME__, __LINE__, response)
/// The first header of that name, in lower case; `NULL` when there is none.
const char *ws_http_header(const ws_response *response, const char *name);
/// A text as a part of a URL: `ws_format("https://example.com/?q=%s", ws_url_encode(text))`.
const char *ws_url_encode(const char *text);

#define WS_HEADERS(...) ((const ws_header[]){__VA_ARGS__ __VA_OPT__(,) {0}})

// Language models, in actions, where the plugin's manifest says `ai = true`; denied where it does not.
//
// An action has five seconds, which a model may take for itself: let the manifest say more, as
// `action = "2m"` under `[limits]`. A mutation may be run again, and then asks again.

/// Something that a model may call.
typedef struct ws_tool {
    /// 1 to 64 characters from `[A-Za-z0-9_-]`.
    const char *name;
    /// When to call it, for the model to read.
    const char *description;
    /// Gets input as it was declared, with fallbacks; null when none was. Gives the result.
    json *(*handler)(json *input);
    /// The members of the input: `WS_MEMBERS({"term", WS_STRING})`; absent when it takes none.
    const ws_field *input;
} ws_tool;

#define WS_TOOLS(...) ((const ws_tool[]){__VA_ARGS__, {0}})

/// A conversation with a model: `ws_chat chat = {"openai", "gpt-5", question, .system = "Be brief."}`. A
/// copy of it is a conversation of its own, which goes on from there.
typedef struct ws_chat {
    /// `anthropic`, `gemini`, `grok`, `openai`, or what the operator has added.
    const char *provider;
    /// The model, as the provider calls it.
    const char *model;
    /// What the person says first; absent when it is added by `ws_chat_user`.
    const char *question;
    /// What the model is told before anyone speaks.
    const char *system;
    /// What the model may call: `WS_TOOLS({"look_up", "Looks a term up.", look_up, …})`.
    const ws_tool *tools;
    /// Options in the provider's own words: `json_object({"temperature", json_number(0)})`.
    json *options;
    /// What was said since, which the functions below add to.
    const struct ws_said *said;
} ws_chat;

/// Asks, and gives what the model says. It takes the members of a `ws_chat`, and answers calls of tools as
/// `ws_chat_run` does: `json_string(ws_ask("openai", "gpt-5", question, .system = "Be brief."))`.
#define ws_ask(...) ws_chat_text(&(ws_chat){__VA_ARGS__})

/// What a model thought, and the provider's proof that it did; empty when there is none.
typedef struct ws_thought {
    const char *text;
    const char *signature;
} ws_thought;

/// A call that a model made.
typedef struct ws_tool_call {
    /// By which its result is matched.
    const char *id;
    /// The tool.
    const char *name;
    /// JSON, as the model wrote it: it may break what the tool declares.
    const char *arguments;
    /// The provider's proof of the thought behind it; empty when there is none.
    const char *signature;
} ws_tool_call;

/// Why an answer is complete.
typedef enum ws_reason {
    /// The model has said all.
    WS_STOP,
    /// The model waits for what it called.
    WS_TOOL_CALLS,
    /// The answer is as long as it may be.
    WS_LENGTH,
    /// The provider did not like the rest.
    WS_CONTENT_FILTER,
} ws_reason;

/// All that a model said.
typedef struct ws_answer {
    /// Its words.
    const char *text;
    /// What it called, ended by `{0}`: `for (const ws_tool_call *call = answer->calls; call->id; call++)`.
    const ws_tool_call *calls;
    /// Its thoughts, as far as the provider tells them, ended by `{0}`.
    const ws_thought *thoughts;
    /// The model that answered, by its own name.
    const char *model;
    ws_reason reason;
    /// In tokens, as the provider counts. Some count more than both into the total.
    uint64_t input_tokens, output_tokens, total_tokens;
} ws_answer;

/// Asks, and waits for the whole answer, which is part of the conversation from then on. Denied without the
/// grant, invalid for a provider that is not there, failed with the provider's words. What it calls is the
/// caller's to run: every call wants a `ws_chat_result`, in their order, before this is called again.
const ws_answer *ws_chat_send(ws_chat *chat);
/// Asks, runs what the model calls and tells it the results, until it calls nothing more. What is wrong with
/// an input and what a handler fails with is told to the model, which may mend it; what the handler wrote
/// until then stays written, unless the whole action fails. Fails after 17 rounds. The tokens are those of
/// all rounds.
const ws_answer *ws_chat_run(ws_chat *chat);
/// Runs the handler of what the model called. Invalid when the input is not as the tool declares.
json *ws_chat_call(const ws_chat *chat, const ws_tool_call *call);

// These add to the conversation, and give it. When the value is `NULL`, whoever asks next fails with the
// reason.

/// What the person says.
ws_chat *ws_chat_user(ws_chat *chat, const char *text);
/// What a model has said before, in another call perhaps: `&(ws_answer){text}`. Its lists are not copied. What
/// `ws_chat_send` gave is part of the conversation already.
ws_chat *ws_chat_assistant(ws_chat *chat, const ws_answer *said);
/// What came of a call. A string is told as it is, anything else as JSON.
ws_chat *ws_chat_result(ws_chat *chat, const ws_tool_call *call, json *result);

/// An answer that is under way.
typedef struct ws_stream ws_stream;

/// What happens while a model answers: one of these, and the others are `NULL`.
typedef struct ws_event {
    /// A piece of its thoughts.
    const char *thinking;
    /// A piece of its words.
    const char *text;
    /// It has made a call.
    const ws_tool_call *call;
    /// It has said all, which is repeated here, and is part of the conversation.
    const ws_answer *answer;
} ws_event;

/// Asks. What the provider says against it is known with the first event.
ws_stream *ws_chat_stream(ws_chat *chat);
/// What happens next; `NULL` after the answer, and when it fails:
/// `for (const ws_event *event; (event = ws_stream_next(stream));) { … }`.
const ws_event *ws_stream_next(ws_stream *stream);
/// Ends the request early. What is under way when the action ends is ended, too.
void ws_stream_end(ws_stream *stream);

// The workspace.

typedef enum ws_kind {
    /// Reads; a write is denied. REST: GET, its input from the query string.
    WS_QUERY,
    /// Writes all, or when it fails nothing. REST: POST, its input from the body.
    WS_MUTATION,
} ws_kind;

typedef struct ws_action {
    /// Segments joined by `/`: "posts/publish".
    const char *path;
    ws_kind kind;
    /// For people.
    const char *description;
    /// Gets input as it was declared, with fallbacks; null when none was. Gives the result.
    json *(*handler)(json *input);
    /// The members of the input: `WS_MEMBERS({"id", WS_STRING})`; absent when it takes none.
    const ws_field *input;
    /// What the result is, for clients and OpenAPI.
    const ws_field *output;
} ws_action;

typedef struct ws_workspace {
    /// Names the workspace in URLs, and its room.
    const char *id;
    /// For people.
    const char *title;
    /// The plugin's own version.
    const char *version;
    /// `WS_TABLES(&posts, &authors)`
    const ws_table *const *tables;
    /// `WS_KEYS(&theme)`
    const ws_key *const *keys;
    /// The presence states that clients share.
    const ws_field *awareness;
    /// `WS_ACTIONS({"posts/publish", WS_MUTATION, …}, …)`
    const ws_action *actions;
} ws_workspace;

#define WS_TABLES(...) ((const ws_table *const[]){__VA_ARGS__, NULL})
#define WS_KEYS(...) ((const ws_key *const[]){__VA_ARGS__, NULL})
#define WS_ACTIONS(...) ((const ws_action[]){__VA_ARGS__, {0}})

/// What the plugin defines.
extern const ws_workspace workspace;

// What the macros above stand for.

json *ws_json_parse(const char *file, int line, const char *text);
const char *ws_json_text(const char *file, int line, json *value);
json *ws_json_first(json *array);
json *ws_json_next(json *array, json *item);
const char *ws_chat_text(ws_chat *chat);
const ws_response *ws_http_of(
    const char *method, const char *url, const char *bytes, size_t length, const ws_header *headers
);
json *ws_http_json_at(const char *file, int line, const ws_response *response);
__attribute__((format(printf, 3, 4))) void *ws_failed_at(const char *file, int line, const char *format, ...);

#endif
