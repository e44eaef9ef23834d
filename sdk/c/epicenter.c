// The layer between the author's workspace (epicenter.h) and the contract (bindings/workspace.h).
//
// Memory: while a call is served, everything is taken from one arena, which is emptied when it ends. What
// goes to the host as a result is from `malloc`, because the bindings free it once the host has read it;
// what comes from the host is copied into the arena and freed at once.

#include "epicenter.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/workspace.h"

typedef workspace_string_t host_text;
typedef epicenter_workspace_types_error_t host_error;
typedef exports_epicenter_workspace_guest_list_issue_t host_issues;

// The arena: chunks, of which the first is kept from call to call.

enum { CHUNK = 64 * 1024, ALIGNMENT = 16 };

typedef struct chunk {
    struct chunk *before;
    size_t size, used;
    _Alignas(ALIGNMENT) char bytes[];
} chunk;

static chunk *chunks;

/// What the call's values are made in.
static yyjson_mut_doc *document;

static _Noreturn void give_up(const char *why) {
    host_text line = {(uint8_t *)why, strlen(why)};
    epicenter_workspace_log_write(EPICENTER_WORKSPACE_LOG_LEVEL_ERROR, &line);
    abort();
}

/// Memory for the host to read, which the bindings free.
static void *own(size_t size) {
    if (size == 0) return NULL;
    void *memory = calloc(1, size);
    if (!memory) give_up("out of memory");
    return memory;
}

void *ws_alloc(size_t size) {
    if (size > SIZE_MAX - sizeof(chunk) - ALIGNMENT) give_up("out of memory");
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!chunks || chunks->size - chunks->used < size) {
        size_t room = size > CHUNK ? size : CHUNK;
        chunk *next = malloc(sizeof(chunk) + room);
        if (!next) give_up("out of memory");
        *next = (chunk){.before = chunks, .size = room};
        chunks = next;
    }
    void *memory = chunks->bytes + chunks->used;
    chunks->used += size;
    return memory;
}

static void *arena_malloc(void *arena, size_t size) {
    (void)arena;
    return ws_alloc(size);
}

static void *arena_realloc(void *arena, void *memory, size_t old_size, size_t size) {
    (void)arena;
    if (size <= old_size) return memory;
    void *larger = ws_alloc(size);
    memcpy(larger, memory, old_size);
    return larger;
}

static void arena_free(void *arena, void *memory) {
    (void)arena;
    (void)memory;
}

static const yyjson_alc arena = {arena_malloc, arena_realloc, arena_free, NULL};

// Texts.

static const char *copy_text(const void *bytes, size_t length) {
    char *copy = ws_alloc(length + 1);
    if (length > 0) memcpy(copy, bytes, length);
    copy[length] = '\0';
    return copy;
}

/// What the host gave, which is freed.
static const char *take_text(host_text *text) {
    const char *copy = copy_text(text->ptr, text->len);
    workspace_string_free(text);
    return copy;
}

/// What the host is to read during one call; empty where there is none.
static host_text lend_text(const char *text) {
    return (host_text){(uint8_t *)text, text ? strlen(text) : 0};
}

static host_text own_bytes(const char *bytes, size_t length) {
    host_text text = {own(length), length};
    if (length > 0) memcpy(text.ptr, bytes, length);
    return text;
}

static host_text own_text(const char *text) {
    return text ? own_bytes(text, strlen(text)) : (host_text){0};
}

/// How many bytes of well-formed UTF-8 begin here for one character; 0 when none does.
static size_t utf8_length(const unsigned char *at) {
    static const struct { unsigned char first, last, low, high; size_t length; } FORMS[] = {
        {0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t form = 0; form < sizeof FORMS / sizeof *FORMS; form++) {
        if (*at < FORMS[form].first || *at > FORMS[form].last) continue;
        for (size_t index = 1; index < FORMS[form].length; index++) {
            unsigned char low = index == 1 ? FORMS[form].low : 0x80, high = index == 1 ? FORMS[form].high : 0xbf;
            if (at[index] < low || at[index] > high) return 0;
        }
        return FORMS[form].length;
    }
    return 0;
}

/// Puts `?` in place of what is not UTF-8, which the host refuses.
static void mend(char *text) {
    for (unsigned char *at = (unsigned char *)text; *at;) {
        size_t valid = utf8_length(at);
        if (valid == 0) *at = '?';
        at += valid ? valid : 1;
    }
}

/// A precision (`%.20s`) easily makes text that is not UTF-8.
static const char *format_text(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0) length = 0;
    char *text = ws_alloc((size_t)length + 1);
    *text = '\0';
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    mend(text);
    return text;
}

const char *ws_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const char *text = format_text(format, arguments);
    va_end(arguments);
    return text;
}

void ws_log(ws_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    host_text line = lend_text(format_text(format, arguments));
    va_end(arguments);
    epicenter_workspace_log_write((epicenter_workspace_log_level_t)level, &line);
}

// What is wrong.

/// The way to a value, from the inside.
typedef struct step {
    const struct step *before;
    const char *name;
} step;

typedef struct issue {
    struct issue *next;
    const char **path;
    size_t length;
    const char *message;
} issue;

typedef struct issues {
    issue *first, **last;
    size_t count;
} issues;

typedef struct note {
    enum { NOTHING, NOT_FOUND, INVALID, DENIED, FAILED } kind;
    issues issues;
    const char *text;
    /// Where it was found out; absent when the host said it.
    const char *file;
    int line;
} note;

static note noted;

static void forget(void) {
    memset(&noted, 0, sizeof noted);
}

static void add_issue(issues *list, const char **path, size_t length, const char *message) {
    issue *added = ws_alloc(sizeof *added);
    *added = (issue){NULL, path, length, message};
    *(list->count++ ? list->last : &list->first) = added;
    list->last = &added->next;
}

/// Adds an issue at a value. Gives `NULL`, for the value that is not there.
static json *wrong(issues *list, const step *at, const char *message) {
    size_t length = 0;
    for (const step *each = at; each; each = each->before) length++;
    const char **path = ws_alloc(length * sizeof *path);
    size_t index = length;
    for (const step *each = at; each; each = each->before) path[--index] = each->name;
    add_issue(list, path, length, message);
    return NULL;
}

void *ws_not_found(void) {
    forget();
    noted.kind = NOT_FOUND;
    return NULL;
}

void *ws_invalid(const char *path, const char *format, ...) {
    if (noted.kind != INVALID) forget();
    noted.kind = INVALID;
    va_list arguments;
    va_start(arguments, format);
    const char *message = format_text(format, arguments);
    va_end(arguments);
    size_t length = *path != '\0';
    for (const char *at = path; *at; at++) length += *at == '/';
    const char **segments = ws_alloc(length * sizeof *segments);
    for (size_t index = 0; index < length; index++) {
        size_t size = strcspn(path, "/");
        segments[index] = copy_text(path, size);
        path += size + 1;
    }
    add_issue(&noted.issues, segments, length, message);
    return NULL;
}

void *ws_denied(const char *format, ...) {
    forget();
    noted.kind = DENIED;
    va_list arguments;
    va_start(arguments, format);
    noted.text = format_text(format, arguments);
    va_end(arguments);
    return NULL;
}

void *ws_failed_at(const char *file, int line, const char *format, ...) {
    forget();
    noted.kind = FAILED;
    noted.file = file;
    noted.line = line;
    va_list arguments;
    va_start(arguments, format);
    noted.text = format_text(format, arguments);
    va_end(arguments);
    return NULL;
}

/// Whether something is missing because what came before failed, or else notes that it is.
static bool missing(const void *value, const char *what) {
    if (!value && noted.kind == NOTHING) {
        noted.kind = FAILED;
        noted.text = ws_format("there is no %s", what);
    }
    return !value;
}

/// Notes what the host said. Gives `NULL`.
static void *note_host(host_error *error) {
    forget();
    switch (error->tag) {
    case EPICENTER_WORKSPACE_TYPES_ERROR_NOT_FOUND:
        noted.kind = NOT_FOUND;
        break;
    case EPICENTER_WORKSPACE_TYPES_ERROR_INVALID:
        noted.kind = INVALID;
        for (size_t index = 0; index < error->val.invalid.len; index++) {
            epicenter_workspace_types_issue_t *from = &error->val.invalid.ptr[index];
            const char **path = ws_alloc(from->path.len * sizeof *path);
            for (size_t at = 0; at < from->path.len; at++)
                path[at] = copy_text(from->path.ptr[at].ptr, from->path.ptr[at].len);
            add_issue(&noted.issues, path, from->path.len, copy_text(from->message.ptr, from->message.len));
        }
        break;
    case EPICENTER_WORKSPACE_TYPES_ERROR_DENIED:
        noted.kind = DENIED;
        noted.text = copy_text(error->val.denied.ptr, error->val.denied.len);
        break;
    default:
        noted.kind = FAILED;
        noted.text = copy_text(error->val.failed.ptr, error->val.failed.len);
    }
    epicenter_workspace_types_error_free(error);
    return NULL;
}

static host_issues own_issues(const issues *list) {
    host_issues result = {own(list->count * sizeof *result.ptr), list->count};
    size_t index = 0;
    for (const issue *each = list->first; each; each = each->next, index++) {
        workspace_list_string_t path = {own(each->length * sizeof *path.ptr), each->length};
        for (size_t at = 0; at < each->length; at++) path.ptr[at] = own_text(each->path[at]);
        result.ptr[index] = (epicenter_workspace_types_issue_t){path, own_text(each->message)};
    }
    return result;
}

/// What was noted, as issues, where the contract has room for nothing else.
static issues noted_issues(const char *otherwise) {
    if (noted.kind == INVALID) return noted.issues;
    issues list = {0};
    wrong(&list, NULL, noted.text ? noted.text : otherwise);
    return list;
}

// JSON.

/// What the contract nests at most. Copying, comparing and writing values descends by as much.
enum { DEEPEST = 64 };

/// Whether a text opens more brackets than it may, wherever they are closed.
static bool is_too_deep(const char *bytes, size_t length) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t index = 0; index < length; index++) {
        char byte = bytes[index];
        if (in_string && byte == '\\') index++;
        else if (byte == '"') in_string = !in_string;
        else if (!in_string && (byte == '[' || byte == '{') && ++depth > DEEPEST) return true;
        else if (!in_string && (byte == ']' || byte == '}') && depth > 0) depth--;
    }
    return false;
}

static json *parse(const char *bytes, size_t length, yyjson_read_err *error) {
    if (is_too_deep(bytes, length)) {
        if (error) *error = (yyjson_read_err){.msg = "more than 64 levels", .pos = length};
        return NULL;
    }
    yyjson_doc *read = yyjson_read_opts((char *)bytes, length, YYJSON_READ_NOFLAG, &arena, error);
    return read ? yyjson_val_mut_copy(document, yyjson_doc_get_root(read)) : NULL;
}

json *ws_json_parse(const char *file, int line, const char *text) {
    if (missing(text, "text to parse")) return NULL;
    yyjson_read_err error;
    json *value = parse(text, strlen(text), &error);
    return value ? value : ws_failed_at(file, line, "not JSON: %s at byte %zu", error.msg, error.pos);
}

/// What the host gave, which is valid, and is freed.
static json *take_json(host_text *text) {
    json *value = parse((const char *)text->ptr, text->len, NULL);
    workspace_string_free(text);
    return value ? value : ws_failed("the host gave a text that is not JSON");
}

/// The text is from the given allocator.
static char *write(json *value, const yyjson_alc *allocator, size_t *length) {
    yyjson_write_err error;
    char *text = yyjson_mut_val_write_opts(value, YYJSON_WRITE_NOFLAG, allocator, length, &error);
    if (!text) ws_failed_at(NULL, 0, "a value is no JSON: %s", error.msg);
    return text;
}

const char *ws_json_text(const char *file, int line, json *value) {
    if (missing(value, "value to write")) return NULL;
    const char *text = write(value, &arena, NULL);
    if (!text) noted.file = file, noted.line = line;
    return text;
}

json *json_null(void) { return yyjson_mut_null(document); }
json *json_boolean(bool value) { return yyjson_mut_bool(document, value); }
json *json_integer(int64_t value) { return yyjson_mut_sint(document, value); }
json *json_number(double value) { return yyjson_mut_real(document, value); }
json *json_array(void) { return yyjson_mut_arr(document); }

json *json_string(const char *text) {
    return missing(text, "text") ? NULL : yyjson_mut_strcpy(document, text);
}

/// A value can be part of one other only, so that what becomes part of another is copied.
static json *copy_json(json *value) {
    return yyjson_mut_val_mut_copy(document, value);
}

json *json_set(json *object, const char *name, json *value) {
    if (missing(object, "object") || missing(value, "value to set")) return NULL;
    if (!yyjson_mut_is_obj(object)) return ws_failed("%s is set on what is not an object", name);
    yyjson_mut_obj_put(object, yyjson_mut_strcpy(document, name), copy_json(value));
    return object;
}

json *json_object_of(const json_member *members) {
    json *object = yyjson_mut_obj(document);
    for (; object && members->name; members++) object = json_set(object, members->name, members->value);
    return object;
}

json *json_remove(json *object, const char *name) {
    if (missing(object, "object")) return NULL;
    yyjson_mut_obj_remove_key(object, name);
    return object;
}

json *json_append(json *array, json *value) {
    if (missing(array, "array") || missing(value, "value to append")) return NULL;
    if (!yyjson_mut_is_arr(array)) return ws_failed("a value is appended to what is not an array");
    yyjson_mut_arr_append(array, copy_json(value));
    return array;
}

json *json_get(json *object, const char *name) { return yyjson_mut_obj_get(object, name); }

static bool has_zero(json *string) {
    return memchr(yyjson_mut_get_str(string), '\0', yyjson_mut_get_len(string)) != NULL;
}

const char *json_get_string(json *object, const char *name) {
    json *member = json_get(object, name);
    return yyjson_mut_is_str(member) && !has_zero(member) ? yyjson_mut_get_str(member) : NULL;
}

double json_get_number(json *object, const char *name) {
    return yyjson_mut_get_num(json_get(object, name));
}

int64_t json_get_integer(json *object, const char *name) {
    json *member = json_get(object, name);
    if (yyjson_mut_is_uint(member) && yyjson_mut_get_uint(member) > INT64_MAX) return INT64_MAX;
    if (!yyjson_mut_is_real(member)) return yyjson_mut_get_sint(member);
    double number = yyjson_mut_get_real(member);
    return number >= 0x1p63 ? INT64_MAX : number < -0x1p63 ? INT64_MIN : (int64_t)number;
}

bool json_get_boolean(json *object, const char *name) { return yyjson_mut_is_true(json_get(object, name)); }

bool json_is_null(json *value) { return yyjson_mut_is_null(value); }
bool json_is_array(json *value) { return yyjson_mut_is_arr(value); }
bool json_is_object(json *value) { return yyjson_mut_is_obj(value); }

size_t json_size(json *value) {
    return yyjson_mut_is_ctn(value) ? unsafe_yyjson_get_len(value) : 0;
}

json *ws_json_first(json *array) { return yyjson_mut_arr_get_first(array); }

json *ws_json_next(json *array, json *item) {
    return item == yyjson_mut_arr_get_last(array) ? NULL : item->next;
}

// What values are like.

/// How a value is named to the person who wrote it.
static const char *name_of(json *value) {
    switch (yyjson_mut_get_type(value)) {
    case YYJSON_TYPE_ARR: return "a list";
    case YYJSON_TYPE_OBJ: return "an object";
    case YYJSON_TYPE_STR:
        if (yyjson_mut_get_len(value) > 40) return "a string";
        // Fallthrough: what is short stands for itself.
    default: return yyjson_mut_val_write_opts(value, YYJSON_WRITE_NOFLAG, &arena, NULL, NULL);
    }
}

/// The numbers that JSON has exactly end here.
#define LARGEST 0x1p53

static bool is_whole(json *value) {
    double number = yyjson_mut_get_num(value);
    return yyjson_mut_is_num(value) && fabs(number) < LARGEST && trunc(number) == number;
}

/// A number as JSON that shows no fraction where there is none.
static json *number_of(double number) {
    json *value = json_number(number);
    return is_whole(value) ? json_integer((int64_t)number) : value;
}

static json *mistyped(const ws_field *type, json *value, const step *at, issues *list) {
    static const char *const WANTED[] = {
        [WS_STRING] = "a string", [WS_INTEGER] = "a whole number", [WS_NUMBER] = "a number",
        [WS_BOOLEAN] = "true or false", [WS_OBJECT] = "an object", [WS_ARRAY] = "a list",
    };
    return wrong(list, at, ws_format("must be %s, not %s", WANTED[type->type], name_of(value)));
}

static json *fallback_of(const ws_field *member) {
    return member->fallback ? parse(member->fallback, strlen(member->fallback), NULL) : NULL;
}

static json *read_value(const ws_field *type, json *value, const step *at, issues *list);

static json *read_object(const ws_field *members, json *value, const step *at, issues *list) {
    json *object = yyjson_mut_obj(document);
    for (const ws_field *member = members; member->name; member++) {
        step inside = {at, member->name};
        json *given = json_get(value, member->name);
        json *result = given ? read_value(member, given, &inside, list) : fallback_of(member);
        if (result) yyjson_mut_obj_add(object, yyjson_mut_str(document, member->name), result);
        else if (!given && !member->optional) wrong(list, &inside, "is required");
    }
    return object;
}

/// A copy of the value, as the type says. What is wrong with it is added to the list.
static json *read_value(const ws_field *type, json *value, const step *at, issues *list) {
    if (type->nullable && json_is_null(value)) return json_null();
    double number = yyjson_mut_get_num(value);
    switch (type->type) {
    case WS_ANY:
        break;
    case WS_STRING:
        if (!yyjson_mut_is_str(value)) return mistyped(type, value, at, list);
        if (has_zero(value)) return wrong(list, at, "must not contain the character U+0000");
        if (type->choices) {
            const char *text = yyjson_mut_get_str(value), *known = "";
            for (const char *const *choice = type->choices; *choice; choice++) {
                if (strcmp(*choice, text) == 0) return copy_json(value);
                known = ws_format("%s%s%s", known, *known ? ", " : "", *choice);
            }
            return wrong(list, at, ws_format("must be one of %s", known));
        }
        break;
    case WS_INTEGER:
        if (!is_whole(value)) return mistyped(type, value, at, list);
        value = json_integer((int64_t)number);
        break;
    case WS_NUMBER:
        if (!yyjson_mut_is_num(value)) return mistyped(type, value, at, list);
        break;
    case WS_BOOLEAN:
        if (!yyjson_mut_is_bool(value)) return mistyped(type, value, at, list);
        break;
    case WS_OBJECT:
        if (!json_is_object(value)) return mistyped(type, value, at, list);
        if (type->members) return read_object(type->members, value, at, list);
        break;
    case WS_ARRAY:
        if (!json_is_array(value)) return mistyped(type, value, at, list);
        if (type->items) {
            json *array = json_array();
            json_each(item, value) {
                step inside = {at, ws_format("%zu", json_size(array))};
                json *result = read_value(type->items, item, &inside, list);
                yyjson_mut_arr_append(array, result ? result : json_null());
            }
            return array;
        }
        break;
    }
    if (type->minimum && number < *type->minimum)
        return wrong(list, at, ws_format("must be at least %s", name_of(number_of(*type->minimum))));
    if (type->maximum && number > *type->maximum)
        return wrong(list, at, ws_format("must be at most %s", name_of(number_of(*type->maximum))));
    return copy_json(value);
}

static json *schema_of(const ws_field *type);

static json *schema_of_members(const ws_field *members) {
    json *properties = json_object(), *required = json_array();
    for (const ws_field *member = members; member->name; member++) {
        json *schema = schema_of(member);
        if (member->fallback) {
            json *fallback = fallback_of(member);
            if (!fallback) give_up(ws_format("the fallback of %s is not JSON: %s", member->name, member->fallback));
            json_set(schema, "default", fallback);
        } else if (!member->optional) {
            json_append(required, json_string(member->name));
        }
        json_set(properties, member->name, schema);
    }
    return json_object({"type", json_string("object")}, {"properties", properties}, {"required", required});
}

/// JSON Schema of a type.
static json *schema_of(const ws_field *type) {
    static const char *const NAMES[] = {
        [WS_STRING] = "string", [WS_INTEGER] = "integer", [WS_NUMBER] = "number",
        [WS_BOOLEAN] = "boolean", [WS_OBJECT] = "object", [WS_ARRAY] = "array",
    };
    if (type->type == WS_ANY) return json_object();
    json *name = json_string(NAMES[type->type]);
    json *schema = type->type == WS_OBJECT && type->members ? schema_of_members(type->members) : json_object();
    json_set(schema, "type", type->nullable ? json_append(json_append(json_array(), name), json_string("null")) : name);
    if (type->items) json_set(schema, "items", schema_of(type->items));
    if (type->minimum) json_set(schema, "minimum", number_of(*type->minimum));
    if (type->maximum) json_set(schema, "maximum", number_of(*type->maximum));
    if (type->choices) {
        json *choices = json_array();
        for (const char *const *choice = type->choices; *choice; choice++) json_append(choices, json_string(*choice));
        json_set(schema, "enum", type->nullable ? json_append(choices, json_null()) : choices);
    }
    return schema;
}

// Versions of rows. A row of a table with several versions carries the member `_v`, the number of the
// version that wrote it, counted from 1. A row without it is read as the newest version that it fits and
// that has all of its members (members that a type lacks are passed over, so that a slip in a current row
// would otherwise turn it into an old one); when there is none, as the current one, whose issues are then
// reported. A row with a higher number than there are versions was written by a newer plugin: it is
// invalid rather than guessed at.

static size_t version_count(const ws_table *table) {
    size_t count = 0;
    while (table->versions[count].members) count++;
    return count;
}

/// The number that a row carries; 0 when it carries none, or a wrong one.
static size_t version_of(json *row, size_t count, issues *list) {
    json *version = json_get(row, "_v");
    if (!version) return 0;
    const step at = {NULL, "_v"};
    double number = yyjson_mut_get_num(version);
    if (!is_whole(version) || number < 1)
        wrong(list, &at, ws_format("must be a whole number from 1 to %zu, not %s", count, name_of(version)));
    else if (number > (double)count)
        wrong(list, &at, ws_format("was written by version %.0f, but the plugin knows versions up to %zu; load a "
                                   "newer plugin", number, count));
    else
        return (size_t)number;
    return 0;
}

static bool has_all_members(const ws_field *members, json *row) {
    yyjson_mut_obj_iter all = yyjson_mut_obj_iter_with(row);
    for (json *name; (name = yyjson_mut_obj_iter_next(&all));) {
        const ws_field *member = members;
        while (member->name && !yyjson_mut_equals_str(name, member->name)) member++;
        if (!member->name) return false;
    }
    return true;
}

/// A row of one version as one of the current version.
static json *read_as(const ws_table *table, size_t index, size_t count, json *row, issues *list) {
    const ws_version *version = &table->versions[index];
    json *result = read_object(version->members, row, NULL, list);
    if (list->count > 0) return NULL;
    if (version->migrate) {
        forget();
        result = version->migrate(result);
        if (!result) {
            *list = noted_issues("it cannot be migrated");
            return NULL;
        }
    }
    return index + 1 == count ? result : read_object(table->versions[count - 1].members, result, NULL, list);
}

/// The current row for a row of any version. What is wrong with it is added to the list.
static json *parse_row(const ws_table *table, json *row, issues *list) {
    if (!json_is_object(row)) return wrong(list, NULL, "a row must be an object");
    size_t count = version_count(table), number = version_of(row, count, list);
    json *result = NULL;
    if (list->count > 0) return NULL;
    if (!json_get(row, "_v")) {
        for (size_t index = count; !result && index-- > 0;) {
            issues attempt = {0};
            if (!has_all_members(table->versions[index].members, row)) continue;
            json *read = read_as(table, index, count, row, &attempt);
            if (attempt.count == 0) result = read;
        }
    }
    if (!result) result = read_as(table, (number ? number : count) - 1, count, row, list);
    if (list->count > 0) return NULL;
    const step at = {NULL, "id"};
    if (!yyjson_mut_equals(json_get(row, "id"), json_get(result, "id")))
        return wrong(list, &at, "the plugin must keep the id that it was given");
    forget();
    if (table->rule) table->rule(result);
    if (noted.kind != NOTHING) *list = noted_issues("is not valid");
    return count > 1 ? json_set(result, "_v", json_integer((int64_t)count)) : result;
}

// Reading and writing.

json *ws_find(const ws_table *table, const char *id) {
    if (missing(id, "id")) return NULL;
    forget();
    host_text name = lend_text(table->name), row = lend_text(id);
    epicenter_workspace_tables_option_json_t found;
    host_error error;
    if (!epicenter_workspace_tables_get(&name, &row, &found, &error)) return note_host(&error);
    return found.is_some ? take_json(&found.val) : json_null();
}

json *ws_get(const ws_table *table, const char *id) {
    json *row = ws_find(table, id);
    return json_is_null(row) ? ws_not_found() : row;
}

/// A value as text that the host is to read during one call.
static bool lend_json(json *value, host_text *text) {
    text->ptr = (uint8_t *)write(value, &arena, &text->len);
    return text->ptr;
}

json *ws_put(const ws_table *table, json *row) {
    if (missing(row, "row to put")) return NULL;
    forget();
    host_text name = lend_text(table->name), text, stored;
    host_error error;
    if (!lend_json(row, &text)) return NULL;
    if (!epicenter_workspace_tables_put(&name, &text, &stored, &error)) return note_host(&error);
    return take_json(&stored);
}

json *ws_update(const ws_table *table, const char *id, json *members) {
    if (missing(id, "id") || missing(members, "members to update")) return NULL;
    forget();
    host_text name = lend_text(table->name), row = lend_text(id), text, stored;
    host_error error;
    if (!lend_json(members, &text)) return NULL;
    if (!epicenter_workspace_tables_update(&name, &row, &text, &stored, &error)) return note_host(&error);
    return take_json(&stored);
}

int ws_delete(const ws_table *table, const char *id) {
    if (missing(id, "id")) return -1;
    forget();
    host_text name = lend_text(table->name), row = lend_text(id);
    bool there;
    host_error error;
    if (epicenter_workspace_tables_delete(&name, &row, &there, &error)) return there;
    note_host(&error);
    return -1;
}

static bool lend_filters(const ws_filter *where, epicenter_workspace_tables_list_filter_t *filters) {
    size_t count = 0;
    while (where && where[count].field) count++;
    *filters = (epicenter_workspace_tables_list_filter_t){ws_alloc(count * sizeof *filters->ptr), count};
    for (size_t index = 0; index < count; index++) {
        epicenter_workspace_tables_filter_t *filter = &filters->ptr[index];
        filter->field = lend_text(where[index].field);
        filter->operator_ = (epicenter_workspace_tables_operator_t)where[index].compare;
        if (missing(where[index].value, "value to compare with")) return false;
        if (!lend_json(where[index].value, &filter->value)) return false;
    }
    return true;
}

static epicenter_workspace_tables_list_order_t lend_orders(const char *sort) {
    epicenter_workspace_tables_list_order_t orders = {0};
    if (!sort || !*sort) return orders;
    size_t count = 1;
    for (const char *at = sort; *at; at++) count += *at == ',';
    orders.ptr = ws_alloc(count * sizeof *orders.ptr);
    for (; orders.len < count; orders.len++) {
        bool descending = *sort == '-';
        sort += descending;
        size_t length = strcspn(sort, ",");
        orders.ptr[orders.len] = (epicenter_workspace_tables_order_t){{(uint8_t *)sort, length}, descending};
        sort += length + 1;
    }
    return orders;
}

json *ws_list(const ws_table *table, ws_query query) {
    epicenter_workspace_tables_query_t asked = {
        .sort = lend_orders(query.sort),
        .limit = {query.limit > 0, query.limit},
        .cursor = {query.cursor != NULL, lend_text(query.cursor)},
    };
    if (!lend_filters(query.where, &asked.filters)) return NULL;
    forget();
    host_text name = lend_text(table->name);
    epicenter_workspace_tables_page_t page;
    host_error error;
    if (!epicenter_workspace_tables_list(&name, &asked, &page, &error)) return note_host(&error);
    json *rows = json_array();
    for (size_t index = 0; index < page.rows.len; index++)
        yyjson_mut_arr_append(rows, parse((const char *)page.rows.ptr[index].ptr, page.rows.ptr[index].len, NULL));
    if (query.next) *query.next = page.next.is_some ? copy_text(page.next.val.ptr, page.next.val.len) : NULL;
    epicenter_workspace_tables_page_free(&page);
    return rows;
}

int64_t ws_count(const ws_table *table, const ws_filter *where) {
    epicenter_workspace_tables_list_filter_t filters;
    if (!lend_filters(where, &filters)) return -1;
    forget();
    host_text name = lend_text(table->name);
    uint64_t count;
    host_error error;
    if (epicenter_workspace_tables_count(&name, &filters, &count, &error)) return (int64_t)count;
    note_host(&error);
    return -1;
}

const char *ws_text(const ws_table *table, const char *id, const char *document_name) {
    if (missing(id, "id")) return NULL;
    forget();
    host_text name = lend_text(table->name), row = lend_text(id), which = lend_text(document_name), text;
    host_error error;
    if (!epicenter_workspace_documents_get_text(&name, &row, &which, &text, &error)) return note_host(&error);
    return take_text(&text);
}

bool ws_set_text(const ws_table *table, const char *id, const char *document_name, const char *text) {
    if (missing(id, "id") || missing(text, "text to set")) return false;
    forget();
    host_text name = lend_text(table->name), row = lend_text(id), which = lend_text(document_name);
    host_text lent = lend_text(text);
    host_error error;
    if (epicenter_workspace_documents_set_text(&name, &row, &which, &lent, &error)) return true;
    note_host(&error);
    return false;
}

json *ws_key_get(const ws_key *key) {
    forget();
    host_text name = lend_text(key->name);
    epicenter_workspace_kv_option_json_t found;
    host_error error;
    if (!epicenter_workspace_kv_get(&name, &found, &error)) return note_host(&error);
    return found.is_some ? take_json(&found.val) : json_null();
}

bool ws_key_set(const ws_key *key, json *value) {
    if (missing(value, "value to set")) return false;
    forget();
    host_text name = lend_text(key->name), text;
    host_error error;
    if (!lend_json(value, &text)) return false;
    if (epicenter_workspace_kv_set(&name, &text, &error)) return true;
    note_host(&error);
    return false;
}

int ws_key_delete(const ws_key *key) {
    forget();
    host_text name = lend_text(key->name);
    bool there;
    host_error error;
    if (epicenter_workspace_kv_delete(&name, &there, &error)) return there;
    note_host(&error);
    return -1;
}

static const ws_account *copy_account(const epicenter_workspace_types_caller_t *from) {
    ws_account *account = ws_alloc(sizeof *account);
    *account = (ws_account){
        copy_text(from->id.ptr, from->id.len),
        copy_text(from->email.ptr, from->email.len),
        copy_text(from->name.ptr, from->name.len),
    };
    return account;
}

const ws_account *ws_caller(void) {
    epicenter_workspace_context_account_t caller;
    if (!epicenter_workspace_context_caller(&caller)) return NULL;
    const ws_account *account = copy_account(&caller);
    epicenter_workspace_context_account_free(&caller);
    return account;
}

uint64_t ws_now(void) { return epicenter_workspace_context_now(); }
uint64_t ws_random_u64(void) { return epicenter_workspace_context_random_u64(); }

const char *ws_random_id(void) {
    host_text id;
    epicenter_workspace_context_random_id(&id);
    return take_text(&id);
}

const char *ws_request_id(void) {
    host_text id;
    epicenter_workspace_context_request_id(&id);
    return take_text(&id);
}

const char *ws_environment(const char *name) {
    if (missing(name, "name of a variable")) return NULL;
    forget();
    host_text asked = lend_text(name);
    workspace_option_string_t value;
    host_error error;
    if (!epicenter_workspace_environment_get(&asked, &value, &error)) return note_host(&error);
    return value.is_some ? take_text(&value.val) : "";
}

// Requests.

const ws_response *ws_http_of(
    const char *method, const char *url, const char *bytes, size_t length, const ws_header *headers
) {
    if (missing(method, "method") || missing(url, "URL") || missing(bytes, "body to send")) return NULL;
    size_t count = 0;
    while (headers[count].name) count++;
    epicenter_workspace_http_request_t request = {
        .method = lend_text(method),
        .url = lend_text(url),
        .headers = {ws_alloc(count * sizeof *request.headers.ptr), count},
        .body = {(uint8_t *)bytes, length == SIZE_MAX ? strlen(bytes) : length},
    };
    while (count-- > 0) {
        if (missing(headers[count].value, ws_format("value of the header %s", headers[count].name))) return NULL;
        request.headers.ptr[count] =
            (epicenter_workspace_http_header_t){lend_text(headers[count].name), lend_text(headers[count].value)};
    }
    forget();
    epicenter_workspace_http_response_t given;
    host_error error;
    if (!epicenter_workspace_http_send(&request, &given, &error)) return note_host(&error);
    ws_header *fields = ws_alloc((given.headers.len + 1) * sizeof *fields);
    for (size_t index = 0; index < given.headers.len; index++) {
        const epicenter_workspace_http_header_t *from = &given.headers.ptr[index];
        fields[index] = (ws_header){
            copy_text(from->name.ptr, from->name.len), copy_text(from->value.ptr, from->value.len),
        };
    }
    fields[given.headers.len] = (ws_header){0};
    ws_response *response = ws_alloc(sizeof *response);
    *response = (ws_response){
        .status = given.status,
        .body = copy_text(given.body.ptr, given.body.len),
        .length = given.body.len,
        .headers = fields,
    };
    epicenter_workspace_http_response_free(&given);
    return response;
}

const char *ws_http_text(const ws_response *response) {
    if (missing(response, "response")) return NULL;
    char *text = (char *)copy_text(response->body, strlen(response->body));
    mend(text);
    return text;
}

json *ws_http_json_at(const char *file, int line, const ws_response *response) {
    if (missing(response, "response")) return NULL;
    yyjson_read_err error;
    json *value = parse(response->body, response->length, &error);
    if (value) return value;
    return ws_failed_at(file, line, "an answer (%d) that is not JSON: %s at byte %zu", response->status, error.msg,
                        error.pos);
}

const char *ws_http_header(const ws_response *response, const char *name) {
    if (missing(response, "response")) return NULL;
    const ws_header *header = response->headers;
    while (header->name && strcmp(header->name, name) != 0) header++;
    return header->value;
}

const char *ws_url_encode(const char *text) {
    static const char DIGITS[] = "0123456789ABCDEF";
    if (missing(text, "text to encode")) return NULL;
    char *encoded = ws_alloc(3 * strlen(text) + 1), *to = encoded;
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        bool is_plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9');
        if (is_plain || strchr("-_.~", *at)) {
            *to++ = (char)*at;
            continue;
        }
        *to++ = '%';
        *to++ = DIGITS[*at >> 4];
        *to++ = DIGITS[*at & 15];
    }
    *to = '\0';
    return encoded;
}

// Running the author's handlers.

/// The handler gets the input as it is declared, or is not called.
static json *run(json *(*handler)(json *input), const ws_field *members, json *input) {
    if (!input || !members) return input ? handler(input) : NULL;
    const ws_field type = {.type = WS_OBJECT, .members = members};
    issues list = {0};
    json *read = read_value(&type, input, NULL, &list);
    if (list.count == 0) return handler(read);
    forget();
    noted.kind = INVALID;
    noted.issues = list;
    return NULL;
}

/// What the author did not foresee is a line of the log.
static void log_note(void) {
    if (noted.kind == FAILED && noted.file) ws_log(WS_ERROR, "%s:%d: %s", noted.file, noted.line, noted.text);
}

// Language models. What was said is a list from its end, so that copies of a conversation share their
// beginning.

/// Rounds in which a model may call tools: as many as the host grants where it runs the calls.
enum { MOST_ROUNDS = 16 };

typedef struct ws_said {
    const struct ws_said *before;
    enum { BY_USER, BY_MODEL, BY_TOOL, BY_NOBODY } by;
    /// What the person said, or what came of the call.
    const char *text;
    const ws_answer *answer;
    ws_tool_call call;
    /// Why there is nothing that could be said. It may be forgotten elsewhere before anyone asks.
    note why;
} ws_said;

static ws_chat *say(ws_chat *chat, ws_said said) {
    ws_said *added = ws_alloc(sizeof *added);
    *added = said;
    added->before = chat->said;
    chat->said = added;
    return chat;
}

/// Lets whoever asks next fail with what was noted. Gives `NULL`.
static ws_chat *say_nothing(ws_chat *chat) {
    say(chat, (ws_said){.by = BY_NOBODY, .why = noted});
    return NULL;
}

ws_chat *ws_chat_user(ws_chat *chat, const char *text) {
    if (missing(chat, "conversation")) return NULL;
    if (missing(text, "text to say")) return say_nothing(chat);
    return say(chat, (ws_said){.by = BY_USER, .text = copy_text(text, strlen(text))});
}

ws_chat *ws_chat_assistant(ws_chat *chat, const ws_answer *said) {
    if (missing(chat, "conversation")) return NULL;
    if (missing(said, "answer") || missing(said->text, "text of an answer")) return say_nothing(chat);
    ws_answer *copy = ws_alloc(sizeof *copy);
    *copy = *said;
    return say(chat, (ws_said){.by = BY_MODEL, .answer = copy});
}

ws_chat *ws_chat_result(ws_chat *chat, const ws_tool_call *call, json *result) {
    if (missing(chat, "conversation")) return NULL;
    if (missing(call, "call") || missing(result, "result of a call")) return say_nothing(chat);
    const char *text = yyjson_mut_is_str(result) ? yyjson_mut_get_str(result) : write(result, &arena, NULL);
    if (!text) return say_nothing(chat);
    return say(chat, (ws_said){.by = BY_TOOL, .text = text, .call = *call});
}

static epicenter_workspace_ai_assistant_t lend_answer(const ws_answer *answer) {
    size_t thoughts = 0, calls = 0;
    while (answer->thoughts && answer->thoughts[thoughts].text) thoughts++;
    while (answer->calls && answer->calls[calls].id) calls++;
    epicenter_workspace_ai_assistant_t said = {
        .thinking = {ws_alloc(thoughts * sizeof *said.thinking.ptr), thoughts},
        .text = lend_text(answer->text),
        .calls = {ws_alloc(calls * sizeof *said.calls.ptr), calls},
    };
    while (thoughts-- > 0) {
        const ws_thought *from = &answer->thoughts[thoughts];
        said.thinking.ptr[thoughts] =
            (epicenter_workspace_ai_thought_t){lend_text(from->text), lend_text(from->signature)};
    }
    while (calls-- > 0) {
        const ws_tool_call *from = &answer->calls[calls];
        said.calls.ptr[calls] = (epicenter_workspace_ai_tool_call_t){
            lend_text(from->id), lend_text(from->name), lend_text(from->arguments), lend_text(from->signature),
        };
    }
    return said;
}

static epicenter_workspace_ai_message_t lend_user(const char *text) {
    return (epicenter_workspace_ai_message_t){
        .tag = EPICENTER_WORKSPACE_AI_MESSAGE_USER, .val.user = lend_text(text),
    };
}

static epicenter_workspace_ai_message_t lend_said(const ws_said *said) {
    switch (said->by) {
    case BY_MODEL:
        return (epicenter_workspace_ai_message_t){
            .tag = EPICENTER_WORKSPACE_AI_MESSAGE_ASSISTANT, .val.assistant = lend_answer(said->answer),
        };
    case BY_TOOL:
        return (epicenter_workspace_ai_message_t){
            .tag = EPICENTER_WORKSPACE_AI_MESSAGE_TOOL_RESULT,
            .val.tool_result = {lend_text(said->call.id), lend_text(said->call.name), lend_text(said->text)},
        };
    default:
        return lend_user(said->text);
    }
}

static bool lend_tools(const ws_tool *tools, epicenter_workspace_ai_list_tool_t *list) {
    size_t count = 0;
    while (tools && tools[count].name) count++;
    *list = (epicenter_workspace_ai_list_tool_t){ws_alloc(count * sizeof *list->ptr), count};
    for (size_t index = 0; index < count; index++) {
        const ws_field *members = tools[index].input ? tools[index].input : (const ws_field[]){{0}};
        epicenter_workspace_ai_tool_t *tool = &list->ptr[index];
        tool->name = lend_text(tools[index].name);
        tool->description = lend_text(tools[index].description);
        if (!lend_json(schema_of_members(members), &tool->parameters)) return false;
    }
    return true;
}

/// A conversation as the host is asked to go on with it.
static bool lend_chat(const ws_chat *chat, epicenter_workspace_ai_request_t *request) {
    if (missing(chat, "conversation")) return false;
    if (!chat->said && missing(chat->question, "question")) return false;
    if (missing(chat->provider, "provider") || missing(chat->model, "model")) return false;
    size_t count = chat->question != NULL;
    for (const ws_said *said = chat->said; said; said = said->before, count++) {
        if (said->by != BY_NOBODY) continue;
        noted = said->why;
        return false;
    }
    forget();
    *request = (epicenter_workspace_ai_request_t){
        .provider = lend_text(chat->provider),
        .model = lend_text(chat->model),
        .system = lend_text(chat->system),
        .messages = {ws_alloc(count * sizeof *request->messages.ptr), count},
        .options.is_some = chat->options != NULL,
    };
    for (const ws_said *said = chat->said; said; said = said->before)
        request->messages.ptr[--count] = lend_said(said);
    if (chat->question) *request->messages.ptr = lend_user(chat->question);
    if (chat->options && !lend_json(chat->options, &request->options.val)) return false;
    return lend_tools(chat->tools, &request->tools);
}

static ws_tool_call copy_call(const epicenter_workspace_ai_tool_call_t *from) {
    return (ws_tool_call){
        copy_text(from->id.ptr, from->id.len),
        copy_text(from->name.ptr, from->name.len),
        copy_text(from->arguments.ptr, from->arguments.len),
        copy_text(from->signature.ptr, from->signature.len),
    };
}

/// Makes what a model said a part of the conversation, for good.
static ws_answer *hear(ws_chat *chat, const epicenter_workspace_ai_answer_t *from) {
    const epicenter_workspace_ai_assistant_t *said = &from->message;
    ws_tool_call *calls = ws_alloc((said->calls.len + 1) * sizeof *calls);
    for (size_t index = 0; index < said->calls.len; index++) calls[index] = copy_call(&said->calls.ptr[index]);
    calls[said->calls.len] = (ws_tool_call){0};
    ws_thought *thoughts = ws_alloc((said->thinking.len + 1) * sizeof *thoughts);
    for (size_t index = 0; index < said->thinking.len; index++) {
        const epicenter_workspace_ai_thought_t *thought = &said->thinking.ptr[index];
        thoughts[index] = (ws_thought){
            copy_text(thought->text.ptr, thought->text.len),
            copy_text(thought->signature.ptr, thought->signature.len),
        };
    }
    thoughts[said->thinking.len] = (ws_thought){0};
    ws_answer *answer = ws_alloc(sizeof *answer);
    *answer = (ws_answer){
        .text = copy_text(said->text.ptr, said->text.len),
        .calls = calls,
        .thoughts = thoughts,
        .model = copy_text(from->model.ptr, from->model.len),
        .reason = (ws_reason)from->reason,
        .input_tokens = from->usage.input,
        .output_tokens = from->usage.output,
        .total_tokens = from->usage.total,
    };
    say(chat, (ws_said){.by = BY_MODEL, .answer = answer});
    return answer;
}

static ws_answer *ask(ws_chat *chat) {
    epicenter_workspace_ai_request_t request;
    if (!lend_chat(chat, &request)) return NULL;
    epicenter_workspace_ai_answer_t given;
    host_error error;
    if (!epicenter_workspace_ai_chat(&request, &given, &error)) return note_host(&error);
    ws_answer *answer = hear(chat, &given);
    epicenter_workspace_ai_answer_free(&given);
    return answer;
}

const ws_answer *ws_chat_send(ws_chat *chat) { return ask(chat); }

json *ws_chat_call(const ws_chat *chat, const ws_tool_call *call) {
    if (missing(chat, "conversation") || missing(call, "call")) return NULL;
    const ws_tool *tool = chat->tools;
    while (tool && tool->name && strcmp(tool->name, call->name) != 0) tool++;
    if (!tool || !tool->name) return ws_failed_at(NULL, 0, "there is no tool %s", call->name);
    if (!tool->handler) return ws_failed("the tool %s has no handler", call->name);
    forget();
    if (!tool->input) return run(tool->handler, NULL, json_null());
    // Models write nothing where they leave out all members.
    const char *arguments = call->arguments && *call->arguments ? call->arguments : "{}";
    yyjson_read_err error;
    json *input = parse(arguments, strlen(arguments), &error);
    if (!input) return ws_invalid("", "not JSON: %s at byte %zu", error.msg, error.pos);
    return run(tool->handler, tool->input, input);
}

/// What was noted, for a model to read.
static json *note_for_model(void) {
    static const char *const WHY[] = {
        [NOTHING] = "there was no result", [NOT_FOUND] = "not found", [INVALID] = "not valid",
        [DENIED] = "denied", [FAILED] = "failed",
    };
    log_note();
    json *result = json_object({"error", json_string(noted.text ? noted.text : WHY[noted.kind])});
    if (noted.kind != INVALID) return result;
    json *list = json_array();
    for (const issue *each = noted.issues.first; each; each = each->next) {
        json *path = json_array();
        for (size_t at = 0; at < each->length; at++) json_append(path, json_string(each->path[at]));
        json_append(list, json_object({"path", path}, {"message", json_string(each->message)}));
    }
    return json_set(result, "issues", list);
}

const ws_answer *ws_chat_run(ws_chat *chat) {
    uint64_t input = 0, output = 0, total = 0;
    for (int round = 0; round <= MOST_ROUNDS; round++) {
        ws_answer *answer = ask(chat);
        if (!answer) return NULL;
        answer->input_tokens = input += answer->input_tokens;
        answer->output_tokens = output += answer->output_tokens;
        answer->total_tokens = total += answer->total_tokens;
        // What was cut off may lack a part of its calls.
        bool is_complete = answer->reason == WS_STOP || answer->reason == WS_TOOL_CALLS;
        if (!answer->calls->id || !is_complete) return answer;
        if (round == MOST_ROUNDS) break;
        for (const ws_tool_call *call = answer->calls; call->id; call++) {
            json *result = ws_chat_call(chat, call);
            ws_chat_result(chat, call, result ? result : note_for_model());
        }
    }
    return ws_failed_at(NULL, 0, "the model called tools in %d rounds, without an end", MOST_ROUNDS + 1);
}

const char *ws_chat_text(ws_chat *chat) {
    const ws_answer *answer = ws_chat_run(chat);
    return answer ? answer->text : NULL;
}

struct ws_stream {
    struct ws_stream *before;
    ws_chat *chat;
    epicenter_workspace_ai_own_answer_stream_t handle;
    bool is_open;
};

/// Those that the call has begun.
static ws_stream *streams;

void ws_stream_end(ws_stream *stream) {
    if (!stream || !stream->is_open) return;
    stream->is_open = false;
    epicenter_workspace_ai_answer_stream_drop_own(stream->handle);
}

static void end_streams(void) {
    for (; streams; streams = streams->before) ws_stream_end(streams);
}

/// What the end of a call does with streams; set by the first, so that a plugin without any imports nothing
/// for it.
static void (*at_end)(void);

ws_stream *ws_chat_stream(ws_chat *chat) {
    epicenter_workspace_ai_request_t request;
    if (!lend_chat(chat, &request)) return NULL;
    epicenter_workspace_ai_own_answer_stream_t handle;
    host_error error;
    if (!epicenter_workspace_ai_chat_stream(&request, &handle, &error)) return note_host(&error);
    ws_stream *stream = ws_alloc(sizeof *stream);
    *stream = (ws_stream){streams, chat, handle, true};
    streams = stream;
    at_end = end_streams;
    return stream;
}

const ws_event *ws_stream_next(ws_stream *stream) {
    if (missing(stream, "stream") || !stream->is_open) return NULL;
    forget();
    epicenter_workspace_ai_option_event_t next;
    host_error error;
    bool heard = epicenter_workspace_ai_method_answer_stream_next(
        epicenter_workspace_ai_borrow_answer_stream(stream->handle), &next, &error
    );
    if (!heard) note_host(&error);
    if (!heard || !next.is_some) {
        ws_stream_end(stream);
        return NULL;
    }
    ws_event *event = ws_alloc(sizeof *event);
    *event = (ws_event){0};
    switch (next.val.tag) {
    case EPICENTER_WORKSPACE_AI_EVENT_THINKING:
        event->thinking = copy_text(next.val.val.thinking.ptr, next.val.val.thinking.len);
        break;
    case EPICENTER_WORKSPACE_AI_EVENT_TEXT:
        event->text = copy_text(next.val.val.text.ptr, next.val.val.text.len);
        break;
    case EPICENTER_WORKSPACE_AI_EVENT_TOOL_CALL:
        ws_tool_call *call = ws_alloc(sizeof *call);
        *call = copy_call(&next.val.val.tool_call);
        event->call = call;
        break;
    default:
        event->answer = hear(stream->chat, &next.val.val.end);
        ws_stream_end(stream);
    }
    epicenter_workspace_ai_event_free(&next.val);
    return event;
}

// What the host calls.

static void begin(void) {
    document = yyjson_mut_doc_new(&arena);
    forget();
}

static void end(void) {
    if (at_end) at_end();
    while (chunks && (chunks->before || chunks->size > CHUNK)) {
        chunk *before = chunks->before;
        free(chunks);
        chunks = before;
    }
    if (chunks) chunks->used = 0;
    document = NULL;
}

/// A value as text for the host to keep; false when it is no JSON.
static bool own_json(json *value, host_text *text) {
    size_t length;
    char *written = write(value, &arena, &length);
    if (written) *text = own_bytes(written, length);
    return written;
}

typedef exports_epicenter_workspace_guest_list_json_t host_jsons;

static host_text own_schema(json *schema) {
    host_text text;
    if (!own_json(schema, &text)) give_up(noted.text);
    return text;
}

static exports_epicenter_workspace_guest_table_definition_t define_table(const ws_table *table) {
    size_t count = version_count(table), documents = 0;
    if (count == 0) give_up(ws_format("the table %s has no versions", table->name));
    exports_epicenter_workspace_guest_table_definition_t result = {
        .name = own_text(table->name),
        .versions = {own(count * sizeof(host_text)), count},
        .checks_changes = table->check != NULL,
    };
    for (size_t index = 0; index < count; index++) {
        json *schema = schema_of_members(table->versions[index].members);
        if (!json_get(json_get(schema, "properties"), "id"))
            give_up(ws_format("rows of %s must have a member id, a string", table->name));
        if (count > 1)
            json_set(json_get(schema, "properties"), "_v", json_object({"const", json_integer((int64_t)index + 1)}));
        result.versions.ptr[index] = own_schema(schema);
    }
    while (table->documents && table->documents[documents].name) documents++;
    result.documents.len = documents;
    result.documents.ptr = own(documents * sizeof *result.documents.ptr);
    for (size_t index = 0; index < documents; index++) {
        const ws_document *from = &table->documents[index];
        result.documents.ptr[index] = (exports_epicenter_workspace_guest_document_definition_t){
            own_text(from->name), own_text(from->guid), own_text(from->updated_at),
        };
    }
    return result;
}

static exports_epicenter_workspace_guest_kv_definition_t define_key(const ws_key *key) {
    host_jsons versions = {own(sizeof(host_text)), 1};
    *versions.ptr = own_schema(schema_of(key->value));
    return (exports_epicenter_workspace_guest_kv_definition_t){own_text(key->name), versions};
}

static exports_epicenter_workspace_guest_action_definition_t define_action(const ws_action *action) {
    exports_epicenter_workspace_guest_action_definition_t result = {
        .path = own_text(action->path),
        .kind = (exports_epicenter_workspace_guest_action_kind_t)action->kind,
        .description = own_text(action->description),
        .input.is_some = action->input != NULL,
        .output.is_some = action->output != NULL,
    };
    if (!action->handler) give_up(ws_format("the action %s has no handler", action->path));
    if (action->input) result.input.val = own_schema(schema_of_members(action->input));
    if (action->output) result.output.val = own_schema(schema_of(action->output));
    return result;
}

void exports_epicenter_workspace_guest_define(exports_epicenter_workspace_guest_workspace_definition_t *ret) {
    begin();
    size_t tables = 0, keys = 0, fields = 0, actions = 0;
    while (workspace.tables && workspace.tables[tables]) tables++;
    while (workspace.keys && workspace.keys[keys]) keys++;
    while (workspace.awareness && workspace.awareness[fields].name) fields++;
    while (workspace.actions && workspace.actions[actions].path) actions++;
    *ret = (exports_epicenter_workspace_guest_workspace_definition_t){
        .id = own_text(workspace.id),
        .title = own_text(workspace.title),
        .version = own_text(workspace.version),
        .tables = {own(tables * sizeof *ret->tables.ptr), tables},
        .kv = {own(keys * sizeof *ret->kv.ptr), keys},
        .awareness = {own(fields * sizeof *ret->awareness.ptr), fields},
        .actions = {own(actions * sizeof *ret->actions.ptr), actions},
    };
    while (tables-- > 0) ret->tables.ptr[tables] = define_table(workspace.tables[tables]);
    while (keys-- > 0) ret->kv.ptr[keys] = define_key(workspace.keys[keys]);
    while (fields-- > 0)
        ret->awareness.ptr[fields] = (exports_epicenter_workspace_guest_awareness_field_t){
            own_text(workspace.awareness[fields].name), own_schema(schema_of(&workspace.awareness[fields])),
        };
    while (actions-- > 0) ret->actions.ptr[actions] = define_action(&workspace.actions[actions]);
    end();
}

static const ws_table *find_table(const host_text *name) {
    for (const ws_table *const *table = workspace.tables; table && *table; table++)
        if (strlen((*table)->name) == name->len && memcmp((*table)->name, name->ptr, name->len) == 0) return *table;
    return NULL;
}

void exports_epicenter_workspace_guest_parse_rows(
    host_text *table, exports_epicenter_workspace_guest_list_json_t *rows,
    exports_epicenter_workspace_guest_list_result_json_list_issue_t *ret
) {
    const ws_table *of = find_table(table);
    ret->len = rows->len;
    ret->ptr = own(rows->len * sizeof *ret->ptr);
    for (size_t index = 0; index < rows->len; index++) {
        // Each row is a call of its own here, so that as much memory is needed as for the largest.
        begin();
        issues list = {0};
        yyjson_read_err error;
        json *row = parse((const char *)rows->ptr[index].ptr, rows->ptr[index].len, &error);
        if (!of) wrong(&list, NULL, "the plugin has no such table");
        else if (!row) wrong(&list, NULL, ws_format("not JSON: %s at byte %zu", error.msg, error.pos));
        else row = parse_row(of, row, &list);
        if (list.count == 0 && !own_json(row, &ret->ptr[index].val.ok)) list = noted_issues("is not valid");
        ret->ptr[index].is_err = list.count > 0;
        if (list.count > 0) ret->ptr[index].val.err = own_issues(&list);
        end();
    }
    workspace_string_free(table);
    exports_epicenter_workspace_guest_list_json_free(rows);
}

bool exports_epicenter_workspace_guest_parse_kv(
    host_text *name, host_text *text, host_text *ret, exports_epicenter_workspace_guest_list_issue_t *err
) {
    begin();
    const char *wanted = take_text(name);
    const ws_key *const *key = workspace.keys;
    while (key && *key && strcmp((*key)->name, wanted) != 0) key++;
    issues list = {0};
    json *value = take_json(text);
    if (!key || !*key) wrong(&list, NULL, "the plugin has no such key");
    else if (!value) list = noted_issues("is not valid");
    else value = read_value((*key)->value, value, NULL, &list);
    if (list.count == 0 && (*key)->rule) {
        (*key)->rule(value);
        if (noted.kind != NOTHING) list = noted_issues("is not valid");
    }
    if (list.count == 0 && !own_json(value, ret)) list = noted_issues("is not valid");
    bool valid = list.count == 0;
    if (!valid) *err = own_issues(&list);
    end();
    return valid;
}

/// What was noted, for the host. What the author did not foresee goes to the log, too.
static void own_error(exports_epicenter_workspace_guest_error_t *error) {
    switch (noted.kind) {
    case NOT_FOUND:
        error->tag = EPICENTER_WORKSPACE_TYPES_ERROR_NOT_FOUND;
        break;
    case INVALID:
        error->tag = EPICENTER_WORKSPACE_TYPES_ERROR_INVALID;
        host_issues issues = own_issues(&noted.issues);
        error->val.invalid = (epicenter_workspace_types_list_issue_t){issues.ptr, issues.len};
        break;
    case DENIED:
        error->tag = EPICENTER_WORKSPACE_TYPES_ERROR_DENIED;
        error->val.denied = own_text(noted.text);
        break;
    case NOTHING:
        ws_failed_at(NULL, 0, "the action gave no result, and did not say why");
        __attribute__((fallthrough));
    case FAILED:
        log_note();
        error->tag = EPICENTER_WORKSPACE_TYPES_ERROR_FAILED;
        error->val.failed = own_text(noted.text);
    }
}

bool exports_epicenter_workspace_guest_check_change(
    exports_epicenter_workspace_guest_change_t *change, exports_epicenter_workspace_guest_error_t *err
) {
    begin();
    const ws_table *table = find_table(&change->table);
    ws_change asked = {
        .operation = (ws_operation)change->operation,
        .id = copy_text(change->id.ptr, change->id.len),
        .caller = change->caller.is_some ? copy_account(&change->caller.val) : NULL,
    };
    if (change->old.is_some) asked.before = parse((const char *)change->old.val.ptr, change->old.val.len, NULL);
    if (change->new_.is_some) asked.after = parse((const char *)change->new_.val.ptr, change->new_.val.len, NULL);
    exports_epicenter_workspace_guest_change_free(change);
    if (table && table->check) table->check(&asked);
    bool allowed = noted.kind == NOTHING;
    if (!allowed) own_error(err);
    end();
    return allowed;
}

bool exports_epicenter_workspace_guest_run_action(
    host_text *path, host_text *input, host_text *ret, exports_epicenter_workspace_guest_error_t *err
) {
    begin();
    const char *wanted = take_text(path);
    const ws_action *action = workspace.actions;
    while (action && action->path && strcmp(action->path, wanted) != 0) action++;
    json *given = take_json(input);
    json *result = action && action->path ? run(action->handler, action->input, given) : ws_not_found();
    bool done = result && own_json(result, ret);
    if (!done) own_error(err);
    end();
    return done;
}
