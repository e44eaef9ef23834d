//! The tables of the next snapshot, while changes are taken in.
//!
//! Rows are set one after the other, and only then held against the rules about several rows: whether
//! one is broken depends on what else came with the same update. See `rules`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use super::{RECENT, Row, Table};
use crate::definition::{Definition, Issue, TableDefinition};
use crate::rules::{Rule, Rules, dangling, reference_to, taken, target};

type Tables = HashMap<String, Arc<Table>>;

pub(super) struct Draft<'a> {
    definition: &'a Definition,
    rules: &'a Rules,
    before: &'a Tables,
    /// Those that change.
    tables: HashMap<String, Table>,
    /// Rows that may begin or cease to break a rule, by table and id.
    again: BTreeSet<(Arc<str>, Arc<str>)>,
}

impl<'a> Draft<'a> {
    pub fn new(definition: &'a Definition, rules: &'a Rules, before: &'a Tables) -> Self {
        let (tables, again) = Default::default();
        Self { definition, rules, before, tables, again }
    }

    /// Sets rows of a table, or removes them. `array` is the version of the table's array with them.
    /// Returns the rows that were there and are gone.
    pub fn set(
        &mut self,
        name: &str,
        array: u64,
        rows: Vec<(Arc<str>, Option<Row>)>,
    ) -> Vec<Arc<Row>> {
        let Some(definition) = self.definition.table(name) else { return Vec::new() };
        let Some(table) = table(&mut self.tables, self.before, name) else { return Vec::new() };
        table.array = array;
        let mut gone = Vec::new();
        // Rows that came or went, on which others may hang.
        let mut flipped = Vec::new();
        let referred = !self.rules.referrers(name).is_empty();
        let ruled = !definition.unique.is_empty() || !definition.references.is_empty();
        let name: Arc<str> = name.into();
        for (id, row) in rows {
            if ruled {
                let changed = table.hold(definition, &id, row.as_ref());
                self.again.extend(changed.into_iter().map(|id| (name.clone(), id)));
            }
            let there = row.is_some();
            let old = table.replace(&id, row);
            if referred && there != old.is_some() {
                flipped.push(id);
            }
            gone.extend(old.filter(|_| !there));
        }
        for id in flipped {
            let value = reference_to(&id);
            for referrer in self.rules.referrers(&name) {
                let Some(table) = look(&self.tables, self.before, &referrer.table) else {
                    continue;
                };
                let rows = table.holders.of(referrer.rule, &value);
                self.again.extend(rows.map(|row| (referrer.table.clone(), row.clone())));
            }
        }
        gone
    }

    /// Holds the rows against the rules, and gives the tables.
    pub fn finish(mut self) -> Tables {
        for (name, id) in std::mem::take(&mut self.again) {
            let Some(definition) = self.definition.table(&name) else { continue };
            let Some(row) = look(&self.tables, self.before, &name).and_then(|t| t.rows.get(&id))
            else {
                continue;
            };
            let issues = self.issues(definition, &id, row);
            let known = match &row.parsed {
                Err(known) if row.broken.is_some() => &**known,
                _ => &[],
            };
            if *issues == *known {
                continue;
            }
            let judged = row.judged(issues);
            if let Some(table) = table(&mut self.tables, self.before, &name) {
                table.replace(&id, Some(judged));
            }
        }
        let mut tables = self.before.clone();
        tables.extend(self.tables.into_iter().map(|(name, table)| (name, Arc::new(table))));
        tables
    }

    /// Which rules a row breaks.
    fn issues(&self, definition: &TableDefinition, id: &str, row: &Row) -> Vec<Issue> {
        let there = |name: &str| look(&self.tables, self.before, name);
        let broken = |(rule, value): (Rule, Arc<str>)| match rule {
            Rule::Unique(at) => {
                let first = there(&definition.name)?.holders.of(rule, &value).next()?;
                (**first != *id).then(|| taken(definition, at, first))
            }
            Rule::Reference(at) => {
                let table = there(&definition.references.get(usize::from(at))?.table)?;
                let found = target(&value).is_some_and(|id| table.rows.contains_key(id));
                (!found).then(|| dangling(definition, at, &value))
            }
        };
        row.held(definition).into_iter().filter_map(broken).collect()
    }
}

/// A table as it is so far.
fn look<'a>(
    changed: &'a HashMap<String, Table>,
    before: &'a Tables,
    name: &str,
) -> Option<&'a Table> {
    changed.get(name).or_else(|| before.get(name).map(|table| &**table))
}

/// A table that changes.
fn table<'a>(
    changed: &'a mut HashMap<String, Table>,
    before: &Tables,
    name: &str,
) -> Option<&'a mut Table> {
    if !changed.contains_key(name) {
        changed.insert(name.to_owned(), before.get(name)?.next());
    }
    changed.get_mut(name)
}

impl Table {
    /// The version that follows, without a change so far.
    fn next(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            version: self.version + 1,
            array: self.array,
            invalid: self.invalid,
            holders: self.holders.clone(),
            recent: self.recent.clone(),
            forgotten: self.forgotten,
            list: OnceLock::new(),
        }
    }

    /// Notes what a row will hold of the rules, in place of what it held. Returns the rows for which
    /// that may change something: itself, and who came first with one of the values.
    fn hold(
        &mut self,
        definition: &TableDefinition,
        id: &Arc<str>,
        row: Option<&Row>,
    ) -> Vec<Arc<str>> {
        let held = |row: &Row| (row.time, row.held(definition));
        let old = self.rows.get(id).map(|row| held(row));
        let new = row.map(held);
        let mut changed = vec![id.clone()];
        for (row, holds) in [(old, false), (new, true)] {
            let Some((time, values)) = row else { continue };
            for (rule, value) in values {
                if let Rule::Unique(_) = rule {
                    changed.extend(self.holders.of(rule, &value).next().cloned());
                }
                self.holders.set(rule, value.clone(), time, id, holds);
                if let Rule::Unique(_) = rule {
                    changed.extend(self.holders.of(rule, &value).next().cloned());
                }
            }
        }
        changed
    }

    /// Puts a row in the place of what was there, and remembers that it changed.
    fn replace(&mut self, id: &Arc<str>, row: Option<Row>) -> Option<Arc<Row>> {
        self.recent.push_back((self.version, id.clone()));
        if self.recent.len() > RECENT {
            let oldest = self.recent.pop_front();
            self.forgotten = oldest.map_or(self.version, |(version, _)| version);
        }
        let old = match row {
            Some(row) => {
                self.invalid += usize::from(row.parsed.is_err());
                self.rows.insert(id.clone(), Arc::new(row))
            }
            None => self.rows.remove(id),
        };
        self.invalid -= usize::from(old.as_ref().is_some_and(|old| old.parsed.is_err()));
        old
    }
}
