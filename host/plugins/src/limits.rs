//! Every bound on what a plugin may use, with its default, its unit and the reason for the value.

use std::time::Duration;

/// What one plugin may use. An operator can widen or narrow each for each plugin.
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
    /// [`Engine`](crate::Engine) sets aside 256 MiB for each memory, so that is the most.
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
    /// Calls of the guest to `tables` and `kv` in one call of the host. Default 100,000: a second's
    /// worth of work.
    pub host_calls: usize,
    /// WASI resources (streams, pollables) alive in one instance. Default 1,000: stdio needs three.
    pub resources: usize,

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
            file_bytes: 64 * MIB as u64,
        }
    }
}
