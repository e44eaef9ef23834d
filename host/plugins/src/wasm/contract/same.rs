// What is the same in all versions of the contract. It is part of each version's module (`include!`), so that the names
// stand for that version's bindings. The version itself has `definition_of`, `caller_to`, `error_of` and `error_to`.

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Workspace::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

// Calls from the host to the guest.

pub(super) async fn define(
    guest: &Workspace,
    store: &mut Store<State>,
) -> wasmtime::Result<Result<host::Definition, String>> {
    let definition = guest.epicenter_workspace_guest().call_define(store).await?;
    Ok(definition_of(definition))
}

pub(super) async fn parse_rows(
    guest: &Workspace,
    store: &mut Store<State>,
    table: &str,
    rows: &[String],
) -> wasmtime::Result<Vec<Parsed>> {
    let parsed = guest.epicenter_workspace_guest().call_parse_rows(store, table, rows).await?;
    Ok(parsed.into_iter().map(|row| row.map_err(issues_of)).collect())
}

pub(super) async fn parse_kv(
    guest: &Workspace,
    store: &mut Store<State>,
    key: &str,
    value: String,
) -> wasmtime::Result<Parsed> {
    let parsed = guest.epicenter_workspace_guest().call_parse_kv(store, key, &value).await?;
    Ok(parsed.map_err(issues_of))
}

pub(super) async fn run_action(
    guest: &Workspace,
    store: &mut Store<State>,
    path: &str,
    input: String,
) -> wasmtime::Result<Result<String, ActionError>> {
    let result = guest.epicenter_workspace_guest().call_run_action(store, path, &input).await?;
    Ok(result.map_err(error_of))
}

fn schemas(item: &str, versions: Vec<String>) -> Result<Vec<Value>, String> {
    let schema =
        |(index, text): (usize, String)| json(&format!("{item}, version {}", index + 1), &text);
    versions.into_iter().enumerate().map(schema).collect()
}

fn json(item: &str, text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{item}: the schema is not JSON: {error}"))
}

// Calls from the guest to the host.

/// Converts the host's result to the contract's, and passes a trap through.
type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

fn answer<T>(result: wasmtime::Result<Result<T, ActionError>>) -> Answer<T> {
    result.map(|answer| answer.map_err(error_to))
}

impl types::Host for State {}

impl tables::Host for State {
    fn get(&mut self, table: String, id: String) -> Answer<Option<String>> {
        answer(self.table_get(&table, &id))
    }

    fn list(&mut self, table: String, query: tables::Query) -> Answer<tables::Page> {
        let query = match query_of(query) {
            Ok(query) => query,
            Err(error) => return Ok(Err(error_to(error))),
        };
        answer(self.table_list(&table, &query))
            .map(|page| page.map(|page| tables::Page { rows: page.rows, next: page.next }))
    }

    fn count(&mut self, table: String, filters: Vec<tables::Filter>) -> Answer<u64> {
        let filters = match filters.into_iter().map(filter_of).collect::<Result<Vec<_>, _>>() {
            Ok(filters) => filters,
            Err(error) => return Ok(Err(error_to(error))),
        };
        answer(self.table_count(&table, &filters))
    }

    async fn put(&mut self, table: String, row: String) -> Answer<String> {
        answer(self.table_put(&table, &row).await)
    }

    async fn update(&mut self, table: String, id: String, fields: String) -> Answer<String> {
        answer(self.table_update(&table, &id, &fields).await)
    }

    async fn delete(&mut self, table: String, id: String) -> Answer<bool> {
        answer(self.table_delete(&table, &id).await)
    }
}

impl kv::Host for State {
    fn get(&mut self, key: String) -> Answer<Option<String>> {
        answer(self.kv_get(&key))
    }

    async fn set(&mut self, key: String, value: String) -> Answer<()> {
        answer(self.kv_set(&key, &value).await)
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        answer(self.kv_delete(&key).await)
    }
}

impl documents::Host for State {
    async fn get_text(&mut self, table: String, id: String, document: String) -> Answer<String> {
        answer(self.text(&table, &id, &document).await)
    }

    async fn set_text(
        &mut self,
        table: String,
        id: String,
        document: String,
        text: String,
    ) -> Answer<()> {
        answer(self.set_text(&table, &id, &document, &text).await)
    }
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log(level, &message)
    }
}

impl context::Host for State {
    fn caller(&mut self) -> wasmtime::Result<Option<types::Caller>> {
        let call = self.call()?;
        let right = call.right();
        Ok(call.caller().cloned().map(|account| caller_to(account, right)))
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.call()?.now)
    }

    fn random_id(&mut self) -> wasmtime::Result<String> {
        Ok(random_id())
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(random_u64())
    }

    fn request_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.call()?.request_id.to_string())
    }
}

impl http::Host for State {
    async fn send(&mut self, request: http::Request) -> Answer<http::Response> {
        let headers = request.headers.into_iter().map(|header| (header.name, header.value));
        let request = fetch::Request {
            method: request.method,
            url: request.url,
            headers: headers.collect(),
            body: request.body.into(),
        };
        answer(self.fetch(request).await).map(|response| {
            response.map(|response| http::Response {
                status: response.status,
                headers: response
                    .headers
                    .into_iter()
                    .map(|(name, value)| http::Header { name, value })
                    .collect(),
                body: response.body.into(),
            })
        })
    }
}

impl environment::Host for State {
    fn get(&mut self, name: String) -> Answer<Option<String>> {
        answer(self.variable(&name))
    }
}

impl ai::Host for State {
    async fn chat(&mut self, request: ai::Request) -> Answer<ai::Answer> {
        match request_of(request) {
            Ok(request) => answer(self.chat(request).await).map(|said| said.map(answer_to)),
            Err(error) => Ok(Err(error_to(error))),
        }
    }

    async fn chat_stream(&mut self, request: ai::Request) -> Answer<Resource<Handle>> {
        match request_of(request) {
            Ok(request) => answer(self.chat_stream(request).await),
            Err(error) => Ok(Err(error_to(error))),
        }
    }
}

impl ai::HostAnswerStream for State {
    async fn next(&mut self, stream: Resource<Handle>) -> Answer<Option<ai::Event>> {
        answer(self.chat_next(&stream).await).map(|next| next.map(|event| event.map(event_to)))
    }

    fn drop(&mut self, stream: Resource<Handle>) -> wasmtime::Result<()> {
        self.chat_end(stream)
    }
}

fn request_of(request: ai::Request) -> Result<asked::Request, ActionError> {
    let tool = |(index, tool): (usize, ai::Tool)| {
        let path = ["tools", &index.to_string(), "parameters"];
        Ok(asked::Tool {
            parameters: asked::json(&tool.parameters, &path)?.into(),
            name: tool.name,
            description: tool.description,
        })
    };
    let message = |message| match message {
        ai::Message::User(text) => asked::Message::User(text),
        ai::Message::Assistant(said) => asked::Message::Assistant(asked::Assistant {
            thinking: said
                .thinking
                .into_iter()
                .map(|it| asked::Thought { text: it.text, signature: it.signature })
                .collect(),
            text: said.text,
            calls: said.calls.into_iter().map(tool_call_of).collect(),
        }),
        ai::Message::ToolResult(result) => asked::Message::ToolResult(asked::ToolResult {
            id: result.id,
            name: result.name,
            content: result.content,
        }),
    };
    let options = request.options.as_deref().map(|options| asked::json(options, &["options"]));
    Ok(asked::Request {
        tools: request.tools.into_iter().enumerate().map(tool).collect::<Result<_, _>>()?,
        options: options.transpose()?.unwrap_or_default(),
        messages: request.messages.into_iter().map(message).collect(),
        provider: request.provider,
        model: request.model,
        system: request.system,
    })
}

fn tool_call_of(call: ai::ToolCall) -> asked::ToolCall {
    let ai::ToolCall { id, name, arguments, signature } = call;
    asked::ToolCall { id, name, arguments, signature }
}

fn tool_call_to(call: asked::ToolCall) -> ai::ToolCall {
    let asked::ToolCall { id, name, arguments, signature } = call;
    ai::ToolCall { id, name, arguments, signature }
}

fn event_to(event: asked::Event) -> ai::Event {
    match event {
        asked::Event::Thinking(piece) => ai::Event::Thinking(piece),
        asked::Event::Text(piece) => ai::Event::Text(piece),
        asked::Event::ToolCall(call) => ai::Event::ToolCall(tool_call_to(call)),
        asked::Event::End(answer) => ai::Event::End(answer_to(answer)),
    }
}

fn answer_to(answer: asked::Answer) -> ai::Answer {
    let asked::Assistant { thinking, text, calls } = answer.message;
    let thought = |it: asked::Thought| ai::Thought { text: it.text, signature: it.signature };
    let asked::Usage { input, output, total } = answer.usage;
    ai::Answer {
        model: answer.model,
        message: ai::Assistant {
            thinking: thinking.into_iter().map(thought).collect(),
            text,
            calls: calls.into_iter().map(tool_call_to).collect(),
        },
        reason: match answer.reason {
            asked::FinishReason::Stop => ai::FinishReason::Stop,
            asked::FinishReason::ToolCalls => ai::FinishReason::ToolCalls,
            asked::FinishReason::Length => ai::FinishReason::Length,
            asked::FinishReason::ContentFilter => ai::FinishReason::ContentFilter,
        },
        usage: ai::Usage { input, output, total },
    }
}

fn query_of(query: tables::Query) -> Result<Query, ActionError> {
    let order = |order: tables::Order| Order::new(order.field, order.descending);
    Ok(Query {
        filters: query.filters.into_iter().map(filter_of).collect::<Result<_, _>>()?,
        sort: query.sort.into_iter().map(order).collect(),
        limit: query.limit,
        cursor: query.cursor,
    })
}

fn filter_of(filter: tables::Filter) -> Result<Filter, ActionError> {
    let value = serde_json::from_str(&filter.value).map_err(|error| {
        let message = format!("the value of a filter on {:?} is not JSON: {error}", filter.field);
        ActionError::Invalid(vec![Issue::at(&filter.field, message)])
    })?;
    let operator = match filter.operator {
        tables::Operator::Eq => Operator::Eq,
        tables::Operator::Ne => Operator::Ne,
        tables::Operator::Gt => Operator::Gt,
        tables::Operator::Gte => Operator::Gte,
        tables::Operator::Lt => Operator::Lt,
        tables::Operator::Lte => Operator::Lte,
        tables::Operator::In => Operator::In,
        tables::Operator::Contains => Operator::Contains,
        tables::Operator::Prefix => Operator::Prefix,
        tables::Operator::Exists => Operator::Exists,
    };
    Ok(Filter::new(filter.field, operator, value))
}

fn issues_of(issues: Vec<types::Issue>) -> Vec<Issue> {
    issues.into_iter().map(|issue| Issue { path: issue.path, message: issue.message }).collect()
}


fn issues_to(issues: Vec<Issue>) -> Vec<types::Issue> {
    let issue = |issue: Issue| types::Issue { path: issue.path, message: issue.message };
    issues.into_iter().map(issue).collect()
}
