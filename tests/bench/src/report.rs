//! What was measured, for people and for programs: a table, JSON and a plot.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::Result;
use serde_json::{Value, json};

use crate::scenarios::{ALL, Bound, Scenario, Target};
use crate::server::{Role, Server};

/// The figures of one measurement, by name.
pub type Sample = BTreeMap<&'static str, f64>;

/// One server under one load, once.
pub struct Measurement {
    scenario: &'static str,
    server: &'static str,
    role: Role,
    round: usize,
    result: Result<Sample, String>,
}

/// All measurements of a run.
#[derive(Default)]
pub struct Report {
    measurements: Vec<Measurement>,
}

/// How a target was met.
struct Verdict<'a> {
    target: &'a Target,
    ours: f64,
    /// The best peer and its figure, where there is one.
    best: Option<(&'static str, f64)>,
    /// The most that ours may be, where that is known.
    limit: Option<f64>,
}

/// The columns of the table: metric, heading, digits.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("cpu_ms_per_1000", "CPU ms/1000", 2),
    ("kib_each", "KiB each", 1),
    ("cpu_ms_per_connect", "CPU ms/connect", 3),
    ("cpu_ms_per_join", "CPU ms/join", 2),
    ("p50_ms", "p50 ms", 2),
    ("p99_ms", "p99 ms", 2),
    ("deliveries_per_s", "deliveries/s", 0),
    ("deliveries_per_message", "per message", 1),
    ("mib_per_join", "MiB/join", 2),
    ("base_mib", "base MiB", 1),
    ("rss_mib", "RSS MiB", 1),
    ("server_cpu_percent", "server CPU %", 0),
    ("generator_cpu_percent", "generator CPU %", 0),
    ("generator_cpu_ms_per_connect", "generator CPU ms", 3),
    ("generator_cpu_ms_per_join", "generator CPU ms", 2),
];

impl Measurement {
    /// Keeps what a measurement gave. A failure is a result, too: of the server, most often.
    pub fn new(scenario: &Scenario, server: &Server, round: usize, result: Result<Sample>) -> Self {
        Self {
            scenario: scenario.name,
            server: server.name,
            role: server.role,
            round,
            result: result.map_err(|error| format!("{error:#}")),
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} round {} {}:", self.scenario, self.round + 1, self.server)?;
        match &self.result {
            Ok(sample) => {
                for (metric, heading, digits) in COLUMNS {
                    if let Some(value) = sample.get(metric) {
                        write!(f, " {heading} {value:.digits$};")?;
                    }
                }
                Ok(())
            }
            Err(error) => write!(f, " failed: {error}"),
        }
    }
}

impl Report {
    /// Adds a measurement.
    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    fn scenarios(&self) -> impl Iterator<Item = &'static Scenario> {
        ALL.iter().filter(|s| self.measurements.iter().any(|m| m.scenario == s.name))
    }

    /// The servers measured, in order.
    fn servers(&self) -> Vec<(&'static str, Role)> {
        let mut servers = Vec::new();
        for measurement in &self.measurements {
            let server = (measurement.server, measurement.role);
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }

    fn of<'a>(
        &'a self,
        scenario: &'a Scenario,
        server: &'a str,
    ) -> impl Iterator<Item = &'a Measurement> {
        self.measurements.iter().filter(move |m| m.scenario == scenario.name && m.server == server)
    }

    /// The median of the rounds.
    fn median(&self, scenario: &Scenario, server: &str, metric: &str) -> Option<f64> {
        let samples = self.of(scenario, server).filter_map(|m| m.result.as_ref().ok());
        let mut values: Vec<f64> = samples.filter_map(|s| s.get(metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len().checked_sub(1)? / 2;
        Some((values[middle] + values[values.len() / 2]) / 2.0)
    }

    fn verdicts<'a>(&self, scenario: &'a Scenario) -> Vec<Verdict<'a>> {
        let servers = self.servers();
        let Some((ours, _)) = servers.iter().find(|(_, role)| *role == Role::Ours) else {
            return Vec::new();
        };
        let peers = servers.iter().filter(|(_, role)| *role == Role::Peer);
        let verdict = |target: &'a Target| {
            let best = peers
                .clone()
                .filter_map(|(peer, _)| Some((*peer, self.median(scenario, peer, target.metric)?)))
                .min_by(|a, b| a.1.total_cmp(&b.1));
            let limit = match target.bound {
                Bound::TimesBest(factor) => best.map(|(_, best)| factor * best),
                Bound::Absolute(limit) => Some(limit),
            };
            Some(Verdict { target, ours: self.median(scenario, ours, target.metric)?, best, limit })
        };
        scenario.targets.iter().filter_map(verdict).collect()
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for scenario in self.scenarios() {
            let _ = writeln!(out, "\n{} ({})", scenario.title, scenario.name);
            let columns: Vec<_> = COLUMNS
                .iter()
                .filter(|(metric, ..)| {
                    self.servers().iter().any(|(s, _)| self.median(scenario, s, metric).is_some())
                })
                .collect();
            let _ = write!(out, "  {:<12}", "");
            for (_, heading, _) in &columns {
                let _ = write!(out, "  {heading:>11}");
            }
            let _ = writeln!(out);
            for (server, _) in self.servers() {
                let _ = write!(out, "  {server:<12}");
                for (metric, heading, digits) in &columns {
                    let value = self.median(scenario, server, metric);
                    let value = value.map_or("–".into(), |value| format!("{value:.digits$}"));
                    let _ = write!(out, "  {value:>width$}", width = heading.len().max(11));
                }
                let _ = writeln!(out);
                let failed = self.of(scenario, server).filter_map(|m| m.result.as_ref().err());
                for error in failed {
                    let _ = writeln!(out, "    a round failed: {error}");
                }
            }
            for verdict in self.verdicts(scenario) {
                let _ = writeln!(out, "  → {verdict}");
            }
            let _ = writeln!(out, "    recorded before, on another day: {}", scenario.recorded);
        }
        out
    }

    /// Everything, for programs.
    pub fn json(&self) -> Result<String> {
        let scenarios = self.scenarios().map(|scenario| {
            let servers = self.servers().into_iter().map(|(server, role)| {
                let rounds = self.of(scenario, server).map(|m| match &m.result {
                    Ok(sample) => json!(sample),
                    Err(error) => json!({ "error": error }),
                });
                json!({ "name": server, "ours": role != Role::Peer, "rounds": rounds.collect::<Vec<_>>() })
            });
            let verdicts = self.verdicts(scenario).into_iter().map(|verdict| {
                json!({
                    "metric": verdict.target.metric,
                    "ours": verdict.ours,
                    "best": verdict.best.map(|(peer, value)| json!({ "peer": peer, "value": value })),
                    "limit": verdict.limit,
                    "met": verdict.met(),
                })
            });
            json!({
                "name": scenario.name,
                "title": scenario.title,
                "servers": servers.collect::<Vec<Value>>(),
                "targets": verdicts.collect::<Vec<Value>>(),
            })
        });
        Ok(serde_json::to_string_pretty(&json!({ "scenarios": scenarios.collect::<Vec<_>>() }))?)
    }

    /// Bars for each figure that has a target, with the target as a line, as SVG.
    pub fn plot(&self) -> String {
        const WIDTH: f64 = 720.0;
        const LEFT: f64 = 110.0;
        const BARS: f64 = 500.0;
        const BAR: f64 = 20.0;
        let mut body = String::new();
        let mut y = 24.0;
        for scenario in self.scenarios() {
            for verdict in self.verdicts(scenario) {
                let metric = verdict.target.metric;
                let values: Vec<_> = self
                    .servers()
                    .into_iter()
                    .filter_map(|(s, role)| Some((s, role, self.median(scenario, s, metric)?)))
                    .collect();
                let highest = values.iter().map(|(.., value)| *value).chain(verdict.limit);
                let scale = BARS / highest.fold(f64::MIN_POSITIVE, f64::max);
                let _ = writeln!(
                    body,
                    r#"<text x="8" y="{y}" class="title">{}: {}</text>"#,
                    scenario.title, verdict.target.label
                );
                let top = y + 10.0;
                y = top;
                for (server, role, value) in &values {
                    let class = if *role == Role::Peer { "peer" } else { "ours" };
                    let (width, middle) = (value * scale, y + BAR * 0.7);
                    let _ = writeln!(
                        body,
                        r#"<text x="{}" y="{middle}" class="name">{server}</text><rect x="{LEFT}" y="{y}" width="{width:.1}" height="{}" class="{class}"/><text x="{:.1}" y="{middle}">{}</text>"#,
                        LEFT - 8.0,
                        BAR - 4.0,
                        LEFT + width + 6.0,
                        figure(*value),
                    );
                    y += BAR;
                }
                if let Some(limit) = verdict.limit {
                    let x = LEFT + limit * scale;
                    let _ = writeln!(
                        body,
                        r#"<line x1="{x:.1}" x2="{x:.1}" y1="{}" y2="{}"/>"#,
                        top - 4.0,
                        y
                    );
                }
                y += 32.0;
            }
        }
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">
<style>
text {{ font: 12px sans-serif; fill: #222 }}
.title {{ font-weight: bold }}
.name {{ text-anchor: end }}
.ours {{ fill: #2a7de1 }}
.peer {{ fill: #b8c0cc }}
line {{ stroke: #d33; stroke-width: 2; stroke-dasharray: 4 3 }}
</style>
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
        )
    }
}

impl Verdict<'_> {
    /// Nothing can be said without a peer.
    fn met(&self) -> Option<bool> {
        self.limit.map(|limit| self.ours <= limit)
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: ours {}", self.target.label, figure(self.ours))?;
        if let Some((peer, best)) = self.best {
            write!(f, ", best peer {peer} {}, ratio {:.2}", figure(best), self.ours / best)?;
        }
        match self.target.bound {
            Bound::TimesBest(factor) => write!(f, ", target at most {factor} × the best peer")?,
            Bound::Absolute(limit) => write!(f, ", target at most {limit}")?,
        }
        f.write_str(match self.met() {
            Some(true) => ": met",
            Some(false) => ": NOT MET",
            None => ": no peer to compare with",
        })
    }
}

/// Three significant digits, roughly.
fn figure(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}
