//! What must hold of plugins, shown with guests that behave and guests that do not.

mod ai;
mod compiler;
mod folder;
mod guest;
mod http;
mod logged;
mod scripts;
mod served;

use std::sync::Arc;
use std::time::{Duration, Instant};

use host_workspace::{ActionError, Fault, Logic};

use self::guest::Guest;
use crate::wasm::contract::CONTRACT;
use crate::{Allocation, Compile, Engine, Limits, LoadError, Metered, Plugin};

#[global_allocator]
static ALLOCATOR: Metered = Metered(std::alloc::System);

/// Lets this program compile for the tests: it is started again, with arguments that lead to the one test
/// below.
pub(crate) fn can_compile() {
    const TEST: &str = "tests::this_program_compiles_when_it_is_asked_to";
    let arguments = &["--exact", TEST, "--nocapture", "--test-threads=1"];
    host_wasm::child::run_if_asked_by(arguments, &CONTRACT);
}

#[test]
fn this_program_compiles_when_it_is_asked_to() {
    can_compile();
}

fn engine() -> Engine {
    Engine::new(Allocation::OnDemand, Compile::Once).unwrap()
}

/// Short limits, so that the tests of limits are short.
fn limits() -> Limits {
    Limits {
        action: Duration::from_millis(300),
        parse: Duration::from_millis(300),
        define: Duration::from_millis(300),
        memory: 24 << 20,
        ..Limits::default()
    }
}

async fn load(guest: Guest) -> Plugin {
    load_with(&guest.module(), limits()).await.unwrap()
}

async fn load_with(bytes: &[u8], limits: Limits) -> Result<Plugin, LoadError> {
    Plugin::from_bytes(&engine(), "a.wasm", bytes.to_vec(), limits).await
}

async fn refused(bytes: &[u8]) -> String {
    match load_with(bytes, limits()).await {
        Ok(_) => panic!("loaded what it should have refused"),
        Err(error) => error.to_string(),
    }
}

async fn act(plugin: &Plugin, action: &str) -> Result<Result<String, ActionError>, Fault> {
    plugin.action(action, r#"{"a":1}"#.into(), None).await
}

/// Runs an action that must end in a trap, and shows that the next call works.
async fn trapped(plugin: &Plugin, action: &str) -> String {
    let reason = match act(plugin, action).await {
        Err(Fault::Trapped { reason, .. }) => reason,
        other => panic!("{action}: {other:?}"),
    };
    assert_eq!(act(plugin, "echo").await, Ok(Ok(r#"{"a":1}"#.into())), "after {action}");
    reason
}

#[tokio::test]
async fn a_core_module_and_a_component_are_loaded_alike() {
    let guest = Guest::default();
    for bytes in [guest.bare_module(), guest.module(), guest.component()] {
        let plugin = load_with(&bytes, limits()).await.unwrap();
        let definition = plugin.definition();
        assert_eq!((&*definition.id, &*definition.version), ("notes", "1.2.3"));
        assert_eq!(definition.title, "notes");
        assert_eq!(definition.tables[0].name, "notes");
        assert_eq!(act(&plugin, "echo").await, Ok(Ok(r#"{"a":1}"#.into())));
        assert_eq!(act(&plugin, "unknown").await, Ok(Err(ActionError::NotFound)));
    }
}

#[tokio::test]
async fn a_file_that_is_no_plugin_gets_an_error_that_says_what_it_is() {
    let module = Guest::default().module();
    let mut flipped = module.clone();
    flipped.iter_mut().skip(8).step_by(7).for_each(|byte| *byte ^= 0x55);
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("empty", vec![], "a.wasm: the file is empty"),
        ("text", b"hello".to_vec(), "not a WebAssembly file"),
        ("wat", b"(module)".to_vec(), "WebAssembly text"),
        ("half a header", b"\0asm\x01".to_vec(), "cut short"),
        ("cut in the middle", module[..module.len() / 2].to_vec(), "cut short"),
        ("random bytes", flipped, "not a valid WebAssembly file"),
        ("empty module", wat::parse_str("(module)").unwrap(), "does not say which interfaces"),
        (
            "half a guest",
            wat::parse_str(r#"(module (func (export "epicenter:workspace/guest@0.1.0#define")))"#)
                .unwrap(),
            "cannot be turned into a component",
        ),
        (
            "two versions",
            wat::parse_str(
                r#"(module (func (export "epicenter:workspace/guest@0.1.0#define"))
                           (func (export "epicenter:workspace/guest@0.2.0#define")))"#,
            )
            .unwrap(),
            "mixes the versions 0.1.0 and 0.2.0",
        ),
        (
            "empty component",
            wat::parse_str("(component)").unwrap(),
            "exports no epicenter:workspace/guest",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = refused(&bytes).await;
        assert!(error.starts_with("a.wasm: "), "{name}: {error}");
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_guest_that_exits_is_not_said_to_have_given_a_code_that_it_did_not_give() {
    let import = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    let cases = [
        (
            "(call $exit (i32.const 3))",
            "define crashed: it called exit, with a code that means failure",
        ),
        ("(call $exit (i32.const 0))", "define crashed: it called exit(0)"),
    ];
    for (on_define, expected) in cases {
        let error = refused(&Guest { import, on_define, ..Guest::default() }.module()).await;
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn another_version_of_the_contract_is_named_beside_the_one_that_is_spoken() {
    for bytes in [
        Guest { contract: "9.9.0", ..Guest::default() }.bare_module(),
        Guest { contract: "9.9.0", ..Guest::default() }.module(),
        Guest { contract: "9.9.0", ..Guest::default() }.component(),
    ] {
        let error = refused(&bytes).await;
        assert!(error.contains("built for epicenter:workspace@9.9.0"), "{error}");
        assert!(error.contains("speaks 0.1.0, 0.2.0"), "{error}");
    }
}

#[tokio::test]
async fn a_component_without_the_guest_export_or_with_a_foreign_import_is_refused() {
    let only_imports = r#"(component (import "epicenter:workspace/kv@0.1.0" (instance)))"#;
    let error = refused(&wat::parse_str(only_imports).unwrap()).await;
    assert!(error.contains("does not export epicenter:workspace/guest@0.1.0"), "{error}");

    let foreign = Guest {
        world: "import secrets: interface { read: func() -> u32; }",
        import: r#"(import "secrets" "read" (func $secrets (result i32)))"#,
        on_define: "(drop (call $secrets))",
        ..Guest::default()
    };
    let error = refused(&foreign.module()).await;
    assert!(error.contains("imports secrets, which this host does not provide"), "{error}");
}

#[tokio::test]
async fn a_definition_that_is_nonsense_is_refused_with_the_item_at_fault() {
    let cases = [
        (Guest { id: "no spaces", ..Guest::default() }, r#"workspace id: bad name "no spaces""#),
        (Guest { tables: &["a", "a"], ..Guest::default() }, r#"table "a" is declared twice"#),
        (Guest { schema: r#"{"type":5}"#, ..Guest::default() }, "not a JSON Schema"),
        (Guest { schema: "{", ..Guest::default() }, "the schema is not JSON"),
    ];
    for (guest, expected) in cases {
        let error = refused(&guest.module()).await;
        assert!(
            error.contains("the definition is not valid") && error.contains(expected),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_define_that_panics_spins_or_changes_its_mind_is_refused() {
    let panics = "(call $log (i32.const 3) (i32.const 256) (i32.const 4)) (unreachable)";
    let error = refused(&Guest { on_define: panics, ..Guest::default() }.module()).await;
    assert!(
        error.contains("define crashed: it panicked (unreachable); its last words: boom"),
        "{error}"
    );

    let spins = "(loop $for_ever (br $for_ever))";
    let error = refused(&Guest { on_define: spins, ..Guest::default() }.module()).await;
    assert!(error.contains("define took longer than 300 ms"), "{error}");

    // Writes a random letter over the first of the workspace's id.
    let random = Guest {
        import: r#"(import "epicenter:workspace/context@0.1.0" "random-u64" (func $random (result i64)))"#,
        on_define: "(i32.store (i32.const 4096) (i32.or (i32.const 0x61616161) \
                    (i32.and (i32.wrap_i64 (call $random)) (i32.const 0x0f0f0f0f))))",
        ..Guest::default()
    };
    let error = refused(&random.module()).await;
    assert!(error.contains("answered differently"), "{error}");
}

#[tokio::test]
async fn a_guest_that_spins_is_stopped_in_time_and_the_next_call_works() {
    let plugin = load(Guest::default()).await;
    let started = Instant::now();
    let fault = act(&plugin, "spin").await.unwrap_err();
    assert_eq!(fault.to_string(), "plugin a.wasm: action spin took longer than 300 ms");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(act(&plugin, "echo").await.unwrap().is_ok());
}

#[tokio::test]
async fn a_trap_is_one_error_and_the_next_call_works() {
    let plugin = load(Guest::default()).await;
    assert_eq!(trapped(&plugin, "trap").await, "it panicked (unreachable); its last words: boom");
    assert_eq!(
        trapped(&plugin, "memory").await,
        "out of memory, an instance may use 24 MiB of memory"
    );
    assert!(trapped(&plugin, "recurse").await.starts_with("it recursed too deeply"));
    assert!(trapped(&plugin, "beyond").await.contains("out of bounds"));
    let limited = Limits { host_calls: 100, ..limits() };
    let plugin = load_with(&Guest::default().module(), limited).await.unwrap();
    assert_eq!(
        trapped(&plugin, "host").await,
        "it called the host more than 100 times in one call"
    );
}

#[tokio::test]
async fn what_holds_of_code_that_was_made_in_haste_holds_of_optimised_code() {
    let engine = Engine::new(Allocation::OnDemand, Compile::Twice).unwrap();
    let module = Guest::default().module();
    let plugin = Plugin::from_bytes(&engine, "a.wasm", module, limits()).await.unwrap();
    for optimised in [false, true] {
        assert_eq!(plugin.is_optimised(), Some(optimised));
        for (action, reason) in [
            ("trap", "it panicked (unreachable); its last words: boom"),
            ("memory", "out of memory, an instance may use 24 MiB of memory"),
            ("recurse", "it recursed too deeply"),
            ("beyond", "out of bounds"),
        ] {
            let found = trapped(&plugin, action).await;
            assert!(found.contains(reason), "{action}: {found}");
        }
        let fault = act(&plugin, "spin").await.unwrap_err();
        assert_eq!(fault.to_string(), "plugin a.wasm: action spin took longer than 300 ms");
        // The counter counts the calls of one instance: the new code begins with a new one.
        assert_eq!(act(&plugin, "c").await, Ok(Ok("1".into())));
        assert_eq!(act(&plugin, "c").await, Ok(Ok("2".into())));
        assert_eq!(plugin.optimise().await.unwrap(), !optimised);
    }
}

#[tokio::test]
async fn a_result_that_is_too_large_or_no_json_is_a_breach_of_the_contract() {
    let plugin = load(Guest::default()).await;
    for (action, expected) in [("giant", "9437184 bytes"), ("nonsense", "not JSON")] {
        match act(&plugin, action).await {
            Err(Fault::Contract { reason, .. }) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{action}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_call_without_data_is_denied_the_tables() {
    let plugin = load(Guest::default()).await;
    assert_eq!(act(&plugin, "denied").await, Ok(Ok(r#""denied""#.into())));
}

#[tokio::test]
async fn a_flood_of_log_lines_ends_with_the_call() {
    let plugin = load(Guest::default()).await;
    assert_eq!(act(&plugin, "log").await, Ok(Ok("true".into())));
}

#[tokio::test]
async fn instances_are_reused_until_they_fail_or_are_worn() {
    let plugin =
        load_with(&Guest::default().module(), Limits { reuses: 3, ..limits() }).await.unwrap();
    let mut served = Vec::new();
    for action in ["c", "c", "trap", "c", "c", "c", "c"] {
        served.push(act(&plugin, action).await.map_or("-".into(), Result::unwrap));
    }
    assert_eq!(served, ["1", "2", "-", "1", "2", "3", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_beyond_the_places_wait_and_beyond_the_queue_are_busy() {
    let limits = Limits { actions: 2, waiting: 1, ..limits() };
    let plugin = Arc::new(load_with(&Guest::default().module(), limits).await.unwrap());
    let calls = (0..6).map(|_| {
        let plugin = plugin.clone();
        tokio::spawn(async move { act(&plugin, "spin").await })
    });
    let calls: Vec<_> = calls.collect();
    let (mut busy, mut late) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Err(Fault::Busy { plugin, .. }) => {
                assert_eq!(plugin, "a.wasm");
                busy += 1;
            }
            Err(Fault::TimedOut { .. }) => late += 1,
            other => panic!("{other:?}"),
        }
    }
    // Two run, one waits (and gets a place or loses patience, they end together), three are refused.
    assert!(busy >= 3 && late >= 2, "{busy} busy, {late} late");
    // Parsing has places of its own.
    assert!(plugin.parse_rows("notes", vec!["{}".into()], "").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_calls_pass_while_others_spin() {
    let engine = engine();
    let load =
        |limits: Limits| Plugin::from_bytes(&engine, "a.wasm", Guest::default().module(), limits);
    let slow = Arc::new(load(Limits { action: Duration::from_secs(2), ..limits() }).await.unwrap());
    let quick = load(limits()).await.unwrap();
    for _ in 0..8 {
        let slow = slow.clone();
        tokio::spawn(async move { act(&slow, "spin").await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut took = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        act(&quick, "echo").await.unwrap().unwrap();
        tokio::task::yield_now().await;
        took.push(started.elapsed());
    }
    took.sort();
    assert!(took[10] < Duration::from_millis(25), "{took:?}");
}

#[tokio::test]
async fn rows_are_parsed_in_batches_and_in_order() {
    let plugin = load(Guest::default()).await;
    let rows: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let parsed = plugin.parse_rows("notes", rows.clone(), "").await.unwrap();
    let parsed: Vec<String> = parsed.into_iter().map(Result::unwrap).collect();
    assert_eq!(parsed, rows);
    assert_eq!(plugin.counters().calls, 4);
}

#[tokio::test]
async fn a_row_that_crashes_the_guest_is_a_fault_and_one_without_a_reason_is_invalid() {
    let plugin = load(Guest::default()).await;
    let rows = |row: &str| vec!["{}".into(), row.into()];
    let fault = plugin.parse_rows("notes", rows("!"), "").await.unwrap_err();
    assert!(fault.to_string().contains("parse-rows of notes crashed"), "{fault}");
    let fault = plugin.parse_rows("notes", rows("~"), "").await.unwrap_err();
    assert!(fault.to_string().contains("parse-rows of notes took longer than 300 ms"), "{fault}");
    let parsed = plugin.parse_rows("notes", rows("?"), "").await.unwrap();
    assert_eq!(parsed[0], Ok("{}".into()));
    assert!(parsed[1].as_ref().unwrap_err()[0].message.contains("gave no reason"));
    assert_eq!((plugin.counters().calls, plugin.counters().errors), (3, 2));
    assert!(plugin.counters().last_error.unwrap().message.contains("took longer"));
}

#[tokio::test]
async fn fewer_results_than_rows_are_a_breach_of_the_contract() {
    let plugin = load(Guest::default()).await;
    match plugin.parse_rows("notes", vec!["-".into()], "").await {
        Err(Fault::Contract { reason, .. }) => {
            assert_eq!(reason, "it answered 0 results for 1 rows; one for each is due");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_row_beyond_the_limit_never_reaches_the_guest() {
    let plugin = load(Guest::default()).await;
    let parsed =
        plugin.parse_rows("notes", vec!["x".repeat(2 << 20), "{}".into()], "").await.unwrap();
    assert!(parsed[0].as_ref().unwrap_err()[0].message.contains("1048576 is the most"));
    assert_eq!(parsed[1], Ok("{}".into()));
}

#[tokio::test]
async fn the_pool_serves_as_well_as_memory_on_demand() {
    let engine = Engine::new(Allocation::Auto, Compile::Once).unwrap();
    let plugin = Plugin::from_bytes(&engine, "a.wasm", Guest::default().module(), limits()).await;
    let plugin = plugin.unwrap();
    trapped(&plugin, "memory").await;
    trapped(&plugin, "trap").await;
}
