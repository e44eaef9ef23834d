/// A library, which uses of the SDK what the blog does not.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "epicenter.h"

/// What a book was before it could have several authors.
static const ws_field book_v1[] = {{"id", WS_STRING}, {"author", WS_STRING}, {0}};

static const ws_field author[] = {{"name", WS_STRING}, {"born", WS_INTEGER, .nullable = true, .optional = true}, {0}};

static const ws_field book[] = {
    {"id", WS_STRING},
    {"authors", WS_ARRAY, .items = WS_VALUE(.type = WS_OBJECT, .members = author)},
    {"state", WS_STRING, .choices = WS_CHOICES("in", "lent"), .fallback = "\"in\""},
    {"price", WS_NUMBER, .minimum = WS_BOUND(0), .maximum = WS_BOUND(99.5), .optional = true},
    {"more", WS_ANY, .optional = true},
    {"text", WS_STRING, .fallback = "\"\""},
    {"edited", WS_INTEGER, .fallback = "0"},
    {0},
};

static json *from_v1(json *old) {
    json *first = json_object({"name", json_get(old, "author")});
    return json_set(json_remove(old, "author"), "authors", json_append(json_array(), first));
}

static void has_authors(json *book) {
    if (json_size(json_get(book, "authors")) == 0) ws_invalid("authors", "must not be empty");
    json_each(author, json_get(book, "authors")) {
        if (!*json_get_string(author, "name")) ws_invalid("authors/0/name", "must not be empty");
    }
}

static void stays(const ws_change *change) {
    if (strcmp(change->id, "guarded") == 0) ws_denied("%s is nobody's", change->id);
    if (change->operation == WS_DELETE && strcmp(json_get_string(change->before, "state"), "lent") == 0)
        ws_denied("%s is lent to somebody", change->id);
}

static const ws_table books = {
    .name = "books",
    .versions = WS_VERSIONS({book_v1, from_v1}, {book}),
    .rule = has_authors,
    .check = stays,
    .documents = (const ws_document[]){{"text", .guid = "text", .updated_at = "edited"}, {0}},
};

static void is_even(json *value) {
    if (yyjson_mut_get_sint(value) % 2) ws_invalid("", "must be even");
}

static const ws_key seats = {"seats", WS_VALUE(.type = WS_INTEGER), .rule = is_even};

static json *count(json *input) {
    const ws_filter *where = WS_WHERE({"state", WS_EQ, json_get(input, "state")});
    int64_t count = ws_count(&books, where);
    return count < 0 ? NULL : json_integer(count);
}

/// All ids, by pages of two.
static json *ids(json *input) {
    (void)input;
    json *ids = json_array();
    const char *cursor = NULL;
    do {
        json *page = ws_list(&books, (ws_query){.sort = "state,-id", .limit = 2, .cursor = cursor, .next = &cursor});
        if (!page) return NULL;
        json_each(book, page) json_append(ids, json_get(book, "id"));
    } while (cursor);
    return ids;
}

static json *find(json *input) {
    return ws_find(&books, json_get_string(input, "id"));
}

static json *get(json *input) {
    return ws_get(&books, json_get_string(input, "id"));
}

static json *erase(json *input) {
    int deleted = ws_delete(&books, json_get_string(input, "id"));
    return deleted < 0 ? NULL : json_boolean(deleted);
}

static json *type_in(json *input) {
    const char *id = json_get_string(input, "id");
    if (!ws_set_text(&books, id, "text", json_get_string(input, "text"))) return NULL;
    const char *text = ws_text(&books, id, "text");
    return text ? json_string(text) : NULL;
}

static json *furnish(json *input) {
    json *before = ws_key_get(&seats);
    if (!before || !ws_key_set(&seats, json_get(input, "seats"))) return NULL;
    return json_append(json_append(json_array(), before), ws_key_get(&seats));
}

static json *clear(json *input) {
    (void)input;
    int deleted = ws_key_delete(&seats);
    return deleted < 0 ? NULL : json_boolean(deleted);
}

/// Reads a text, changes a copy of a part of it, and gives both back.
static json *twice(json *input) {
    json *value = json_parse(json_get_string(input, "json"));
    json *both = json_object({"first", value}, {"second", value});
    return json_set(json_get(both, "first"), "new", json_number(0.5)) ? both : NULL;
}

static json *context(json *input) {
    (void)input;
    ws_log(WS_WARN, "cut: %.1s", "é");
    const ws_account *caller = ws_caller();
    return json_object(
        {"caller", caller ? json_string(caller->name) : json_null()},
        {"now", json_integer((int64_t)ws_now())},
        {"id", json_string(ws_random_id())},
        {"differs", json_boolean(ws_random_u64() != ws_random_u64())},
        {"request", json_string(ws_request_id())}
    );
}

static json *sum(json *input) {
    (void)input;
    int64_t count = ws_count(&books, NULL);
    return count < 0 ? NULL : json_integer(count);
}

/// Writes, and then fails where a book is lent.
static json *withdraw(json *input) {
    json *book = ws_update(&books, json_get_string(input, "id"), json_object({"price", json_number(0)}));
    if (book && strcmp(json_get_string(book, "state"), "lent") == 0) return ws_failed("it is lent");
    return book;
}

static const ws_tool tools[] = {
    {"sum", "Sums up the counters.", sum},
    {"find", "Finds a book.", get, .input = WS_MEMBERS({"id", WS_STRING})},
    {"withdraw", "Takes a book out.", withdraw, .input = WS_MEMBERS({"id", WS_STRING})},
    {"nothing", "Has no handler."},
    {0},
};

/// A conversation as it is asked for: `model` is `provider:model`.
static ws_chat chat_of(json *input) {
    const char *model = json_get_string(input, "model");
    size_t provider = strcspn(model, ":");
    return (ws_chat){
        ws_format("%.*s", (int)provider, model), model + provider + 1, json_get_string(input, "question"),
        .system = "Be brief.", .tools = tools,
    };
}

/// What each language's plugin does by itself that tests models.
static json *ask(json *input) {
    ws_chat chat = chat_of(input);
    json *called = json_array();
    for (;;) {
        const ws_answer *answer = ws_chat_send(&chat);
        if (!answer) return NULL;
        if (!answer->calls->id) {
            json *tokens = json_integer((int64_t)answer->total_tokens);
            return json_object({"text", json_string(answer->text)}, {"called", called}, {"tokens", tokens});
        }
        for (const ws_tool_call *call = answer->calls; call->id; call++) {
            json_append(called, json_string(call->name));
            ws_chat_result(&chat, call, ws_chat_call(&chat, call));
        }
    }
}

static json *ask_in_pieces(json *input) {
    ws_chat chat = chat_of(input);
    ws_stream *stream = ws_chat_stream(&chat);
    json *pieces = json_array();
    for (const ws_event *event; (event = ws_stream_next(stream));) {
        if (event->text) json_append(pieces, json_string(event->text));
        if (event->answer) return json_object({"pieces", pieces}, {"text", json_string(event->answer->text)});
    }
    return NULL;
}

static json *ask_and_add(json *input) {
    json *authors = json_append(json_array(), json_object({"name", json_string("Ada")}));
    if (!ws_put(&books, json_object({"id", json_string("asked")}, {"authors", authors}))) return NULL;
    ws_chat chat = chat_of(input);
    const ws_answer *answer = ws_chat_send(&chat);
    return answer ? json_string(answer->text) : NULL;
}

/// The shortest there is.
static json *ask_at_once(json *input) {
    return json_string(ws_ask("anthropic", json_get_string(input, "model"), json_get_string(input, "question"),
                              .tools = tools, .options = json_object({"temperature", json_number(0.5)})));
}

static json *run_tools(json *input) {
    ws_chat chat = chat_of(input);
    const ws_answer *answer = ws_chat_run(&chat);
    if (!answer) return NULL;
    return json_object(
        {"text", json_string(answer->text)},
        {"model", json_string(answer->model)},
        {"reason", json_integer(answer->reason)},
        {"input", json_integer((int64_t)answer->input_tokens)},
        {"output", json_integer((int64_t)answer->output_tokens)},
        {"total", json_integer((int64_t)answer->total_tokens)}
    );
}

/// All that happens, by its kind.
static json *listen(json *input) {
    ws_chat chat = chat_of(input);
    chat.options = json_parse(json_get_string(input, "options"));
    ws_stream *stream = ws_chat_stream(&chat);
    json *heard = json_object(
        {"thinking", json_string("")}, {"text", json_string("")}, {"calls", json_array()}, {"signature", json_null()}
    );
    for (const ws_event *event; (event = ws_stream_next(stream));) {
        const char *name = event->thinking ? "thinking" : "text", *piece = event->thinking ?: event->text;
        if (piece) json_set(heard, name, json_string(ws_format("%s%s", json_get_string(heard, name), piece)));
        if (event->call) json_append(json_get(heard, "calls"), json_string(event->call->arguments));
        if (!event->answer) continue;
        const ws_thought *thoughts = event->answer->thoughts;
        if (thoughts->text) json_set(heard, "signature", json_string(thoughts->signature));
        // Whoever asks on does it with all of that, and nothing comes after the end.
        if (ws_stream_next(stream)) return ws_failed("something came after the end");
        if (!event->answer->calls->id && !ws_chat_send(ws_chat_user(&chat, "Go on"))) return NULL;
        return heard;
    }
    return NULL;
}

/// Hears the first word of many answers, more than there may be at a time, and is content with it. What is
/// left to the end of the action is ended by it.
static json *listen_briefly(json *input) {
    ws_chat chat = chat_of(input);
    for (int number = 0; number < 20; number++) {
        ws_stream *stream = ws_chat_stream(&chat);
        if (!ws_stream_next(stream)) return NULL;
        ws_stream_end(stream);
        if (ws_stream_next(stream)) return ws_failed("something came after the end");
    }
    return json_boolean(ws_stream_next(ws_chat_stream(&chat)));
}

/// Two conversations with one beginning, part of which another model has said.
static json *fork(json *input) {
    ws_chat one = chat_of(input);
    one.options = json_parse(json_get_string(input, "options"));
    const ws_thought thoughts[] = {{"Hm.", "anthropic:PROOF"}, {0}};
    ws_chat_user(ws_chat_assistant(&one, &(ws_answer){"Two", .thoughts = thoughts}), "Three");
    ws_chat other = one;
    if (!ws_chat_send(ws_chat_user(&one, "Four")) || !ws_chat_send(ws_chat_user(&other, "Five"))) return NULL;
    return json_null();
}

/// Asks about what cannot be had, and learns only at the end why.
static json *ask_about_nothing(json *input) {
    ws_chat chat = chat_of(input);
    const ws_tool_call call = {"1", "find", "{}"};
    ws_chat_result(&chat, &call, ws_get(&books, "none"));
    ws_chat_user(&chat, ws_random_id());
    ws_find(&books, "none");
    const ws_answer *answer = ws_chat_run(&chat);
    return answer ? json_string(answer->text) : NULL;
}

/// Sends a request, with a text as JSON where there is one, as each language's plugin does that tests requests.
static json *fetch(json *input) {
    const char *url = json_get_string(input, "url");
    json *text = json_get(input, "text");
    const ws_response *answer = text ? ws_http_send_json("POST", url, json_object({"text", text})) : ws_http_get(url);
    if (!answer) return NULL;
    const char *seen = ws_http_header(answer, "x-seen");
    return json_object(
        {"status", json_integer(answer->status)},
        {"seen", seen ? json_string(seen) : json_null()},
        {"body", json_string(ws_http_text(answer))}
    );
}

/// Sends a part of some bytes, and gives back the bytes of the answer.
static json *part(json *input) {
    static const char bytes[] = {0, 1, (char)128, (char)254, (char)255};
    const ws_response *answer = ws_http_send_bytes("POST", json_get_string(input, "url"), bytes + 1, 3);
    json *given = json_array();
    for (size_t index = 0; answer && index < answer->length; index++)
        json_append(given, json_integer((unsigned char)answer->body[index]));
    return answer ? given : NULL;
}

static json *variable(json *input) {
    const char *value = ws_environment(json_get_string(input, "name"));
    return value ? (*value ? json_string(value) : json_null()) : NULL;
}

/// Sends in one of the ways there are.
static json *send(json *input) {
    const char *how = json_get_string(input, "how"), *url = json_get_string(input, "url");
    if (strcmp(how, "text") == 0)
        return json_string(ws_http_text(ws_http_send("PUT", url, "Tee, 茶", {"content-type", "text/x"}, {"x-a", "b"})));
    if (strcmp(how, "query") == 0)
        return ws_http_json(ws_http_get(ws_format("%s?%s", url, ws_url_encode("a b/c&d=é~.-_"))));
    if (strcmp(how, "no-url") == 0) return json_string(ws_http_text(ws_http_get(json_get_string(input, "none"))));
    if (strcmp(how, "no-value") == 0) return ws_http_json(ws_http_send_json("POST", url, ws_get(&books, "none")));
    if (strcmp(how, "no-header") == 0)
        return ws_http_json(ws_http_get(url, {"authorization", ws_environment("NOT_GRANTED")}));
    return ws_http_json(ws_http_get(how));
}

/// Prints two lines and the beginning of a third, and complains.
static json *print(json *input) {
    const char *text = json_get_string(input, "text");
    printf("printed: %s\nand ", text);
    printf("%d more\nunfinished", 2);
    fflush(stdout);
    fprintf(stderr, "complained: %s\n", text);
    return json_null();
}

/// Waits in the host for longer than it may.
static json *nap(json *input) {
    (void)input;
    sleep(30);
    return json_null();
}

/// Never comes back, which the compiler does not see.
static int descend(const volatile char *above) {
    volatile char here[1024];
    here[0] = 1;
    return *above ? descend(here) + here[0] : 0;
}

/// Fails in one of the ways there are.
static json *fail(json *input) {
    const char *how = json_get_string(input, "how");
    if (strcmp(how, "denied") == 0) return ws_denied("%s may not", "nobody");
    if (strcmp(how, "failed") == 0) return ws_failed("the printer is out of %s", "paper");
    if (strcmp(how, "two") == 0) {
        ws_invalid("one", "is wrong");
        return ws_invalid("a/b", "is wrong, too");
    }
    if (strcmp(how, "infinite") == 0) return json_number(1e308 * 10);
    if (strcmp(how, "nothing") == 0) return NULL;
    if (strcmp(how, "missing") == 0) return ws_put(&books, json_get(input, "none"));
    if (strcmp(how, "abort") == 0) abort();
    if (strcmp(how, "recursion") == 0) return json_integer(descend(how));
    for (size_t size = 1 << 20;; size *= 2) memset(ws_alloc(size), 1, size);
}

static const ws_field question[] = {
    {"model", WS_STRING}, {"question", WS_STRING}, {"options", WS_STRING, .fallback = "\"{}\""}, {0},
};

const ws_workspace workspace = {
    .id = "library-c",
    .tables = WS_TABLES(&books),
    .keys = WS_KEYS(&seats),
    .awareness = WS_MEMBERS({"reading", WS_STRING}),
    .actions = WS_ACTIONS(
        {"books/count", WS_QUERY, "", count, .input = WS_MEMBERS({"state", WS_STRING, .fallback = "\"in\""})},
        {"books/ids", WS_QUERY, "", ids},
        {"books/find", WS_QUERY, "", find, .input = WS_MEMBERS({"id", WS_STRING})},
        {"books/get", WS_QUERY, "", get, .input = WS_MEMBERS({"id", WS_STRING})},
        {"books/erase", WS_MUTATION, "", erase, .input = WS_MEMBERS({"id", WS_STRING})},
        {"books/type", WS_MUTATION, "", type_in, .input = WS_MEMBERS({"id", WS_STRING}, {"text", WS_STRING})},
        {"furnish", WS_MUTATION, "", furnish, .input = WS_MEMBERS({"seats", WS_ANY})},
        {"clear", WS_MUTATION, "", clear},
        {"twice", WS_MUTATION, "", twice, .input = WS_MEMBERS({"json", WS_STRING})},
        {"context", WS_QUERY, "", context},
        {"ask", WS_QUERY, "", ask, .input = question},
        {"ask-in-pieces", WS_QUERY, "", ask_in_pieces, .input = question},
        {"ask-and-add", WS_MUTATION, "", ask_and_add, .input = question},
        {"ask-at-once", WS_QUERY, "", ask_at_once, .input = question},
        {"ask-about-nothing", WS_QUERY, "", ask_about_nothing, .input = question},
        {"run-tools", WS_MUTATION, "", run_tools, .input = question},
        {"listen", WS_QUERY, "", listen, .input = question},
        {"listen-briefly", WS_QUERY, "", listen_briefly, .input = question},
        {"fork", WS_QUERY, "", fork, .input = question},
        {"fetch", WS_QUERY, "", fetch, .input = WS_MEMBERS({"url", WS_STRING}, {"text", WS_STRING, .optional = true})},
        {"part", WS_QUERY, "", part, .input = WS_MEMBERS({"url", WS_STRING})},
        {"variable", WS_QUERY, "", variable, .input = WS_MEMBERS({"name", WS_STRING})},
        {"send", WS_QUERY, "", send, .input = WS_MEMBERS({"how", WS_STRING}, {"url", WS_STRING})},
        {"print", WS_QUERY, "", print, .input = WS_MEMBERS({"text", WS_STRING})},
        {"nap", WS_QUERY, "", nap},
        {"fail", WS_MUTATION, "", fail, .input = WS_MEMBERS({"how", WS_STRING})}
    ),
};
