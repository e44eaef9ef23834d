//! Every limit of a plugin, with its default, its unit and the reason for the value.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use host_workspace::MAX_ROW;
use serde::Deserialize;

/// Address space reserved for each memory of a component, and so the maximum of [`Limits::memory`]:
/// what the largest toolchains ask for.
pub(crate) const MEMORY_MAX: usize = 256 << 20;

/// Elements reserved for each table of a component, and so the maximum of
/// [`Limits::table_elements`].
pub(crate) const ELEMENTS_MAX: usize = 60_000;

/// The limits of one plugin. Its manifest can change each of them, under its name with dashes:
/// times as `"300ms"`, `"5s"` or `"2m"`, sizes in bytes or as `"64KiB"`, `"200MiB"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Wall clock of `run-action`, time in host calls included. Default 5 s: a person waits for it.
    pub action: Duration,
    /// Wall clock of `check-change`. Default 1 s: it is a part of an action and of each REST write.
    pub check: Duration,
    /// Wall clock of one call of `parse-rows` or `parse-kv`. Default 1 s, or 4 ms for each row of a
    /// full batch, which is a hundred times what the slowest toolchain needs.
    pub parse: Duration,
    /// Wall clock of `define`. Default 5 s: an interpreter may load its libraries in its first call.
    pub define: Duration,

    /// Rows in one call of `parse-rows`. Default 256, as the contract says.
    pub batch_rows: usize,
    /// Bytes of rows in one call of `parse-rows`. Default 4 MiB: the guest holds them at least twice.
    pub batch_bytes: usize,

    /// Linear memory of one instance, all its memories together, in bytes. Default 128 MiB:
    /// StarlingMonkey needs 42 MiB, and a list of 8 MiB has to fit several times beside it.
    /// 256 MiB is the most, because that is set aside for each memory.
    pub memory: usize,
    /// Linear memory of all instances of one plugin, in bytes. Default 1 GiB: eight full instances,
    /// so that one plugin cannot take the machine by being called often.
    pub plugin_memory: usize,
    /// Elements of one table (function references). Default 60,000: the largest of the known
    /// toolchains has 7,690, and the pool sets aside 8 bytes for each.
    pub table_elements: usize,

    /// Actions of one plugin at once. Default 16: enough to hide waiting, and each holds memory.
    pub actions: usize,
    /// `check-change` calls of one plugin at once. Default 8. They have places of their own,
    /// because an action that waits for its check must not hold the place that the check needs.
    pub checks: usize,
    /// `parse-rows` and `parse-kv` calls of one plugin at once. Default 8, for the same reason.
    pub parses: usize,
    /// Callers that wait for a place, of each of the three kinds. Default 1,000: what arrives while
    /// the plugin is slow for a moment; more than that is overload and gets an answer at once.
    pub waiting: usize,

    /// Instances kept ready between calls. Default 4: a warm one is made in 10 to 600 µs.
    pub warm: usize,
    /// An instance whose memory grew beyond so many bytes is not kept. Default 64 MiB: one large
    /// request must not cost memory for ever.
    pub warm_memory: usize,
    /// Calls that one instance serves. Default 10,000: what a guest leaks stays small, and making
    /// a new one costs nothing when divided by so many.
    pub reuses: u64,
    /// How long an unused instance is kept. Default 60 s, as long as an unused room stays loaded.
    pub idle: Duration,

    /// One row or kv value as JSON, in bytes. Default 1 MiB, as the contract says.
    pub row_bytes: usize,
    /// The result of an action as JSON, in bytes. Default 8 MiB, as the contract says.
    pub result_bytes: usize,
    /// What a guest may hand over in one call or one answer, in bytes of host memory. Default
    /// 32 MiB: a full batch or the largest result with room to spare.
    pub transfer_bytes: usize,
    /// Issues kept for one value. Default 64: more help nobody.
    pub issues: usize,

    /// Lines logged in one call. Default 1,000, as the contract says; the rest is counted.
    pub log_lines: usize,
    /// One log line in bytes. Default 8 KiB, as the contract says; the rest is cut.
    pub log_bytes: usize,
    /// Calls of the guest to the host in one call of the host, but for those that only ask for the time or
    /// for random numbers. Default 100,000: a second's worth of work.
    pub host_calls: usize,
    /// WASI resources (streams, pollables) alive in one instance. Default 1,000: stdio needs three.
    pub resources: usize,

    /// Steps that a script takes in one call (an operator, a call, a turn of a loop). Default
    /// 10,000,000: about a second of work.
    pub script_steps: u64,
    /// Calls of functions that a script nests. Default 32: a tree of rows is not deeper, and each
    /// takes stack.
    pub script_depth: usize,
    /// What a script's values take together, in bytes. Default 64 MiB, half of what an instance may
    /// have: a script that needs more is due to become a component.
    pub script_memory: usize,
    /// The strings of one value of a script, in bytes. Default 8 MiB, like a result.
    pub script_string: usize,
    /// Elements of one array or map of a script, with all that is nested in them. Default 200,000:
    /// the largest page of rows with twenty members each.
    pub script_items: usize,
    /// Requests of one plugin on their way at once. Default 8: each holds a socket.
    pub http_requests: usize,
    /// Making a connection for a request. Default 5 s, as long as an action.
    pub http_connect: Duration,
    /// From sending a request to the end of its answer. Default 30 s; the time of the call that
    /// sent it ends it earlier.
    pub http_time: Duration,
    /// What a request carries, in bytes. Default 8 MiB, like a result.
    pub http_request_bytes: usize,
    /// What an answer carries, in bytes. Default 8 MiB, for the same reason.
    pub http_response_bytes: usize,

    /// Answers of models that are under way at once, of one plugin. Default 8, as requests.
    pub ai_requests: usize,
    /// What a model is asked, in bytes. Default 8 MiB, like a request.
    pub ai_request_bytes: usize,
    /// What a model says, in bytes. Default 8 MiB, for the same reason.
    pub ai_answer_bytes: usize,

    /// One file of a script, of a schema or of a manifest, in bytes. Default 256 KiB.
    pub script_bytes: u64,

    /// A plugin's file in bytes. Default 64 MiB: three times the largest known toolchain's output.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        Self {
            action: Duration::from_secs(5),
            check: Duration::from_secs(1),
            parse: Duration::from_secs(1),
            define: Duration::from_secs(5),
            batch_rows: 256,
            batch_bytes: 4 * MIB,
            memory: 128 * MIB,
            plugin_memory: 1024 * MIB,
            table_elements: 60_000,
            actions: 16,
            checks: 8,
            parses: 8,
            waiting: 1_000,
            warm: 4,
            warm_memory: 64 * MIB,
            reuses: 10_000,
            idle: Duration::from_secs(60),
            row_bytes: MIB,
            result_bytes: 8 * MIB,
            transfer_bytes: 32 * MIB,
            issues: 64,
            log_lines: 1_000,
            log_bytes: 8 * KIB,
            host_calls: 100_000,
            resources: 1_000,
            script_steps: 10_000_000,
            script_depth: 32,
            script_memory: 64 * MIB,
            script_string: 8 * MIB,
            script_items: 200_000,
            http_requests: 8,
            http_connect: Duration::from_secs(5),
            http_time: Duration::from_secs(30),
            http_request_bytes: 8 * MIB,
            http_response_bytes: 8 * MIB,
            ai_requests: 8,
            ai_request_bytes: 8 * MIB,
            ai_answer_bytes: 8 * MIB,
            script_bytes: 256 * KIB as u64,
            file_bytes: 64 * MIB as u64,
        }
    }
}

/// Declares the limits that a manifest may change, with their names and kinds.
macro_rules! overrides {
    ($($name:ident: $kind:ty,)*) => {
        /// The limits in a manifest; `None` keeps the host's.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub(crate) struct Overrides {
            $($name: Option<$kind>,)*
        }

        impl Overrides {
            /// Applies these to `limits`. The error names one that cannot be granted.
            pub(crate) fn apply(&self, limits: &Limits) -> Result<Limits, String> {
                let mut limits = limits.clone();
                $(if let Some(value) = &self.$name {
                    limits.$name = value.get().map_err(|reason| {
                        format!("{} {reason}", stringify!($name).replace('_', "-"))
                    })?;
                })*
                limits.check()?;
                Ok(limits)
            }
        }

        impl Limits {
            /// The limits that a manifest may change, with their values in its notation.
            pub fn named(&self) -> BTreeMap<String, String> {
                BTreeMap::from([
                    $((stringify!($name).replace('_', "-"), <$kind>::show(self.$name)),)*
                ])
            }
        }
    };
}

overrides! {
    action: Time,
    check: Time,
    parse: Time,
    define: Time,
    batch_rows: Count,
    batch_bytes: Count,
    memory: Count,
    plugin_memory: Count,
    table_elements: Count,
    actions: Count,
    checks: Count,
    parses: Count,
    waiting: Count,
    warm: Count,
    warm_memory: Count,
    reuses: Number,
    idle: Time,
    row_bytes: Count,
    result_bytes: Count,
    transfer_bytes: Count,
    issues: Count,
    log_lines: Count,
    log_bytes: Count,
    host_calls: Count,
    resources: Count,
    script_steps: Number,
    script_depth: Count,
    script_memory: Count,
    script_string: Count,
    script_items: Count,
    http_requests: Count,
    http_connect: Time,
    http_time: Time,
    http_request_bytes: Count,
    http_response_bytes: Count,
    ai_requests: Count,
    ai_request_bytes: Count,
    ai_answer_bytes: Count,
    script_bytes: Number,
    file_bytes: Number,
}

impl Limits {
    /// Checks the limits against what the engine has reserved, and rejects values that make no
    /// sense.
    fn check(&self) -> Result<(), String> {
        let most = [
            ("memory", self.memory, MEMORY_MAX),
            ("table-elements", self.table_elements, ELEMENTS_MAX),
            // Deeper nesting would overflow the stack of a thread.
            ("script-depth", self.script_depth, 64),
            // The contract allows no larger batch.
            ("batch-rows", self.batch_rows, 256),
            // Nor does it allow larger rows.
            ("row-bytes", self.row_bytes, MAX_ROW),
        ];
        let least = [
            ("actions", self.actions as u64, 1),
            ("checks", self.checks as u64, 1),
            ("parses", self.parses as u64, 1),
            ("batch-rows", self.batch_rows as u64, 1),
            // One page; no guest has less.
            ("memory", self.memory as u64, 1 << 16),
            ("plugin-memory", self.plugin_memory as u64, 1 << 16),
            // The interpreter takes 0 to mean no limit.
            ("script-steps", self.script_steps, 1),
            ("script-depth", self.script_depth as u64, 1),
            ("script-string", self.script_string as u64, 1),
            ("script-items", self.script_items as u64, 1),
        ];
        let times = [
            ("action", self.action),
            ("check", self.check),
            ("parse", self.parse),
            ("define", self.define),
        ];
        for (name, value, most) in most {
            if value > most {
                return Err(format!("{name} is {value}; {most} is the most"));
            }
        }
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(format!("{name} is 0s; 1ms is the least"));
        }
        match least.iter().find(|(_, value, least)| value < least) {
            Some((name, value, least)) => Err(format!("{name} is {value}; {least} is the least")),
            None => Ok(()),
        }
    }
}

/// Parses `"300ms"`, `"5s"`, `"2m"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Time(Duration);

impl Time {
    fn show(time: Duration) -> String {
        match time.as_millis() {
            ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
            ms => format!("{ms}ms"),
        }
    }

    fn get(&self) -> Result<Duration, String> {
        Ok(self.0)
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // More than an hour is no limit any more; an hour is far from overflowing the clock.
        let parsed = humantime::parse_duration(&text).ok();
        let parsed = parsed.filter(|time| *time <= Duration::from_secs(3600));
        parsed.map(Self).ok_or_else(|| {
            format!(
                "{text:?} is not a duration of at most an hour, such as \"300ms\", \"5s\" or \"2m\""
            )
        })
    }
}

/// Parses a number, or bytes with a unit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "toml::Value")]
struct Number(u64);

impl Number {
    fn show(number: u64) -> String {
        match number {
            0 => "0".into(),
            bytes if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
            number => number.to_string(),
        }
    }

    fn get(&self) -> Result<u64, String> {
        Ok(self.0)
    }
}

impl TryFrom<toml::Value> for Number {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let number = match &value {
            toml::Value::Integer(number) => u64::try_from(*number).ok(),
            toml::Value::String(text) => text.parse::<ByteSize>().ok().map(|size| size.0),
            _ => None,
        };
        number.map(Self).ok_or_else(|| {
            format!("{value} is not a number, or a size such as \"64KiB\", \"200MiB\" or \"1MB\"")
        })
    }
}

/// The same, as the machine counts memory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
struct Count(Number);

impl Count {
    fn show(count: usize) -> String {
        Number::show(count as u64)
    }

    fn get(&self) -> Result<usize, String> {
        usize::try_from(self.0.0)
            .map_err(|_| format!("is {}, more than this machine has", self.0.0))
    }
}
