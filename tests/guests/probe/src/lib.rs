//! Counters, and actions that do what a plugin should not: they fail, panic, spin and devour memory
//! after they have written.

use epicenter_workspace::__bindings::epicenter::workspace::tables;
use epicenter_workspace::*;

const COUNTERS: Table<Counter> = Table::new("counters");
const NOTES: Table<Note> = Table::new("notes");

/// A row with a document.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Note {
    id: String,
    body: String,
    edited: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Append {
    id: String,
    text: String,
}

/// Writes behind what a note says, and fails afterwards where the text says so.
fn append(tx: &Transaction, Append { id, text }: Append) -> Result<String> {
    let before = NOTES.text(tx, &id, "body")?;
    NOTES.set_text(tx, &id, "body", &format!("{before}{text}"))?;
    if text.contains("fail") {
        return Err(Error::failed("it was told to"));
    }
    NOTES.text(tx, &id, "body")
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Counter {
    id: String,
    value: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Add {
    id: String,
    by: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Move {
    from: String,
    to: String,
    by: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Misbehave {
    id: String,
    how: How,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum How {
    Fail,
    Refuse,
    Deny,
    Panic,
    Spin,
    Devour,
    Recurse,
    /// Asks the host for ever.
    Ask,
    /// Writes ten million lines into the log.
    Chatter,
    /// Writes into a table of another workspace.
    Trespass,
    /// Answers with a gigabyte.
    Boast,
}

/// One member of each type that a query string has to be coerced to.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Echo {
    text: String,
    count: i32,
    draft: bool,
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    numbers: Vec<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct Size {
    bytes: usize,
}

fn echo(_: &Context, echo: Echo) -> Result<Echo> {
    Ok(echo)
}

fn large(_: &Context, Size { bytes }: Size) -> Result<String> {
    Ok("x".repeat(bytes))
}

fn sum(ctx: &Context, (): ()) -> Result<i64> {
    Ok(COUNTERS.select().list(ctx)?.iter().map(|counter| counter.value).sum())
}

/// Goes past the types of the SDK, which do not let a query write.
fn write_in_query(_: &Context, Id { id }: Id) -> Result<()> {
    let row = serde_json::json!({ "id": id, "value": 1 }).to_string();
    match tables::put("counters", &row) {
        Err(tables::Error::Denied(reason)) => Err(Error::denied(reason)),
        other => Err(Error::failed(format!("a query wrote: {other:?}"))),
    }
}

fn add(tx: &Transaction, Add { id, by }: Add) -> Result<Counter> {
    let value = COUNTERS.find(tx, &id)?.map_or(0, |counter| counter.value);
    COUNTERS.put(tx, &Counter { id, value: value + by })
}

/// Fails after its first write when there is not enough to move.
fn move_between(tx: &Transaction, Move { from, to, by }: Move) -> Result<i64> {
    add(tx, Add { id: to, by })?;
    let left = add(tx, Add { id: from, by: -by })?.value;
    if left < 0 {
        return Err(Error::failed(format!("{} is missing", -left)));
    }
    Ok(left)
}

fn misbehave(tx: &Transaction, Misbehave { id, how }: Misbehave) -> Result<String> {
    add(tx, Add { id, by: 1 })?;
    match how {
        How::Recurse => Ok(nest(1).to_string()),
        How::Ask => loop {
            std::hint::black_box(tables::count("counters", &[])).ok();
        },
        How::Chatter => {
            for line in 0..10_000_000 {
                log::info!("line {line}");
            }
            Err(Error::failed("it has said everything"))
        }
        How::Trespass => match tables::put("posts", r#"{"id":"x","title":"x"}"#) {
            Ok(row) => Ok(row),
            Err(error) => Err(Error::failed(format!("{error:?}"))),
        },
        How::Boast => Ok("x".repeat(1 << 30)),
        How::Fail => Err(Error::failed("it failed on purpose")),
        How::Refuse => Err(Error::invalid("id", "refused on purpose")),
        How::Deny => Err(Error::denied("denied on purpose")),
        How::Panic => panic!("it panicked on purpose"),
        How::Spin => loop {
            std::hint::spin_loop();
        },
        How::Devour => {
            let mut devoured = Vec::new();
            loop {
                devoured.push(vec![1u8; 1 << 20]);
                std::hint::black_box(&devoured);
            }
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct Ask {
    model: String,
    question: String,
}

/// Of one of the providers, with a tool that gives the sum of all counters.
fn ask(ctx: &Context, Ask { model, question }: Ask) -> Result<Value> {
    let mut request = ask_for(model, question);
    let mut called = Vec::new();
    loop {
        let answer = request.send(ctx)?;
        if answer.calls().is_empty() {
            let tokens = answer.usage.total;
            return Ok(json!({ "text": answer.text(), "called": called, "tokens": tokens }));
        }
        request = request.assistant(answer.message.clone());
        for call in answer.calls() {
            called.push(call.name.clone());
            request = request.tool_result(call, sum(ctx, ())?.to_string());
        }
    }
}

/// Tells in which pieces the answer came.
fn ask_in_pieces(ctx: &Context, Ask { model, question }: Ask) -> Result<Value> {
    let mut pieces = Vec::new();
    for event in ask_for(model, question).stream(ctx)? {
        match event? {
            ai::Event::Thinking(_) | ai::Event::ToolCall(_) => {}
            ai::Event::Text(piece) => pieces.push(piece),
            ai::Event::End(answer) => {
                return Ok(json!({ "pieces": pieces, "text": answer.text() }));
            }
        }
    }
    Err(Error::failed("the answer had no end"))
}

/// Writes first, so that what a failure leaves behind can be seen.
fn ask_and_add(tx: &Transaction, Ask { model, question }: Ask) -> Result<String> {
    add(tx, Add { id: "asked".into(), by: 1 })?;
    Ok(ask_for(model, question).send(tx)?.text().to_owned())
}

/// `provider:model`
fn ask_for(model: String, question: String) -> ai::Request {
    let (provider, model) = model.split_once(':').unwrap_or(("", &model));
    let parameters = json!({ "type": "object", "properties": {} });
    ai::Request::new(provider, model)
        .system("Be brief.")
        .tool("sum", "Sums up the counters.", parameters)
        .user(question)
}

/// Calls itself until the stack ends.
#[expect(unconditional_recursion)]
fn nest(depth: u64) -> u64 {
    std::hint::black_box(depth) + nest(std::hint::black_box(depth + 1))
}

#[derive(Deserialize, JsonSchema)]
struct Fetch {
    url: String,
    #[serde(default)]
    text: Option<String>,
}

/// Sends a request, with a text as JSON where there is one.
fn fetch(ctx: &Context, Fetch { url, text }: Fetch) -> Result<Value> {
    let request = match text {
        None => http::get(url),
        Some(text) => http::post(url).json(&json!({ "text": text }))?,
    };
    let answer = request.send(ctx)?;
    let body = String::from_utf8_lossy(answer.body());
    Ok(json!({ "status": answer.status(), "seen": answer.header("X-Seen"), "body": body }))
}

#[derive(Deserialize, JsonSchema)]
struct Part {
    url: String,
}

/// Sends a part of some bytes, and gives back the bytes of the answer.
fn part(ctx: &Context, Part { url }: Part) -> Result<Vec<u8>> {
    let bytes = [0, 1, 128, 254, 255];
    Ok(http::post(url).body(&bytes[1..4]).send(ctx)?.body().to_vec())
}

#[derive(Deserialize, JsonSchema)]
struct Variable {
    name: String,
}

fn variable(ctx: &Context, Variable { name }: Variable) -> Result<Option<String>> {
    ctx.environment(&name)
}

fn check(_: &Context, change: Change<Counter>) -> Result<()> {
    match change {
        Change::Create { new } if new.id == "guarded" => {
            Err(Error::denied(format!("{} is nobody's", new.id)))
        }
        Change::Delete { old: Some(old), .. } if old.value > 0 => {
            Err(Error::invalid("value", "it still counts"))
        }
        _ => Ok(()),
    }
}

fn workspace() -> Workspace {
    Workspace::new("probe")
        .table(COUNTERS.define().check(check))
        .table(NOTES.define().document("body", field!(Note.body), field!(Note.edited)))
        .mutation("append", "To what a note says.", append)
        .query("echo", "Gives back its input.", echo)
        .query("large", "So many bytes.", large)
        .query("sum", "Of all counters.", sum)
        .query("write-in-query", "Tries to write.", write_in_query)
        .query("ask", "Asks a model.", ask)
        .query("ask-in-pieces", "Asks a model, and counts.", ask_in_pieces)
        .query("fetch", "Sends a request.", fetch)
        .query("part", "Sends some bytes.", part)
        .query("variable", "Reads a variable.", variable)
        .mutation("ask-and-add", "After it has written.", ask_and_add)
        .mutation("add", "To a counter, which begins with 0.", add)
        .mutation("move", "From one counter to another.", move_between)
        .mutation("misbehave", "After it has written.", misbehave)
}

export!(workspace);
