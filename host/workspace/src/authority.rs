//! Rules that hold for sync as well.
//!
//! Whoever asks the server is refused what breaks a rule. A client that syncs does not ask: it has changed its
//! own copy of the document, perhaps days ago and offline, and what arrives is a fact. A table that *enforces* its
//! rules therefore tells two things apart: what the document *holds*, which clients decide, and what *counts*, which
//! the server does. This module is the server's side, and works like this.
//!
//! **What counts.** A change of a row that came by sync waits (`pending`). Until it is judged, REST,
//! actions, live lists and checks see the row that counted before. What the server writes itself was
//! judged before it was written, and counts at once. What is in the document when a table begins to
//! enforce its rules counts unseen.
//!
//! **Judging** is what any writer does. The changes that wait are taken up in the order in which they
//! came, as one [`Transaction`] on behalf of the account that delivered them: each row is parsed, held
//! against the rules about several rows, and put to `check-change`, with the changes that were accepted
//! before it laid over the snapshot. It is the *net* change, from what counts to what clients see now,
//! however many writes led there. At the commit, on the room's task, what was read must still hold, and
//! nothing may have come to the places that were judged; otherwise it is done again. So of two who want
//! one unique value the first to be accepted has it, whether it came by REST or by sync, and `ts`, which
//! clients choose, gives nobody an advantage.
//!
//! A change that is refused because of another row is looked at again after the rest of its batch: a
//! client may have deleted a row and those that refer to it at once, in any order.
//!
//! **Undoing** what was refused is an update like any other: the entry is deleted by its id, and where
//! nothing else is left of the row, the value that counts is pushed again *with its own `ts`*, so that
//! an honest write which was made meanwhile, and arrives later, still wins. A refused creation leaves
//! nothing. A refused deletion brings the row back. Of several entries of one row the losers stay until
//! one of them is accepted: a winner that is refused gives way to the next, which is judged in turn, as
//! whoever brought it.
//!
//! **References by sync.** A row may come before the one that it refers to. It is accepted, and invalid until that
//! comes (`rules`). A deletion that is restricted is refused; what cascades is deleted by the server in the same
//! update; a field that is set to null keeps its row's `ts`.
//!
//! **A check that breaks** (a trap, a timeout) says nothing about the change. It goes on waiting, and is asked again,
//! less and less often up to [`AGAIN_MOST`]. A write by REST may then replace it.
//!
//! **Nothing that was refused is lost.** It is on disk, with the reason, the account and the time,
//! before the update that undoes it is made. Who wrote it and the owner can read it, try it again, or
//! discard it. The socket that brought it is told at once, if it said that it wants to know (message
//! 103).
//!
//! **Crashes.** That a change waits, and what counts meanwhile, is a note of the room that is written in
//! one transaction with the update that brought the change. So at any moment the disk says what counts:
//! what the document holds, except where a note says otherwise. After a crash what waits is judged.
//! Compaction needs to know nothing of this. A refusal whose undo did not reach the disk is found again,
//! because the change still waits; its record has the same key, so there is one.
//!
//! **Before the plugin is there**, and when it cannot be loaded, nobody could judge. So the room of a
//! workspace that enforces rules takes no changes while it is not served; clients are told to come back
//! (1013, 503). Whoever removes the plugin while the server runs gives its rules up.
//!
//! **One authority.** Two servers that judged one document would undo each other's writes. So a server judges what
//! its own clients bring, and would have to take what a server above it hands down as it is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use host_caller::Right;
use host_sync::{Author, Edit, Id, Room};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use crate::context::Context;
use crate::definition::{Definition, Issue};
use crate::error::{ActionError, Error};
use crate::generation::{Generation, belongs, when_free};
use crate::ids::new_id;
use crate::index::{By, Entry, Index, NEVER, TABLE_PREFIX, Write};
use crate::logic::Source;
use crate::pending::{Case, Kept, Place, RefusedChange};
use crate::transaction::{Commit, Transaction, now};
use crate::written::{Sent, Written};

/// Changes that are judged in one transaction.
const BATCH: usize = 256;
/// How soon a check that broke is asked again, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_MOST: Duration = Duration::from_secs(60);

/// The arrays of the tables whose rules are enforced.
pub(crate) fn enforced(definition: &Definition) -> HashSet<Arc<str>> {
    let tables = definition.tables.iter().filter(|table| table.enforce);
    tables.map(|table| format!("{TABLE_PREFIX}{}", table.name).into()).collect()
}

/// How far judging has come.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Some changes were.
    Some,
    /// Somebody was faster; it has to be done again.
    Overtaken,
    /// Nothing can be judged before something comes, or before this moment.
    Nothing(Option<Instant>),
}

/// A change that is being judged.
struct Job {
    place: Place,
    case: Case,
    /// What wants to count; none for a deletion.
    entry: Option<Entry>,
    verdict: Option<Verdict>,
}

enum Verdict {
    /// With what it parses to.
    Accepted(Option<Arc<str>>),
    Refused(ActionError),
    /// The check broke.
    Open,
}

impl Job {
    fn table(&self) -> &str {
        self.place.0.strip_prefix(TABLE_PREFIX).unwrap_or_default()
    }
}

/// Judges some of what waits.
pub(crate) async fn judge(
    room: &Room,
    index: &Arc<Mutex<Index>>,
    generation: &Arc<Generation>,
) -> Result<Judged, Error> {
    let mut jobs = {
        let mut index = index.lock();
        match index.pending().batch(BATCH, Instant::now()) {
            Err(next) => return Ok(Judged::Nothing(next)),
            Ok(batch) => batch
                .into_iter()
                .map(|(place, case)| {
                    let entry =
                        index.winner(&place).filter(|entry| Some(entry.id) == case.candidate);
                    Job { place, case, entry, verdict: None }
                })
                .collect::<Vec<_>>(),
        }
    };
    generation.catch_up().await;
    let transaction = transaction(generation, &jobs);
    let mut parsed = match parse(generation, &mut jobs).await {
        Ok(parsed) => parsed,
        Err(error) => {
            // One of them broke the plugin. Alone, it is the one.
            jobs.truncate(1);
            match parse(generation, &mut jobs).await {
                Ok(parsed) => parsed,
                Err(_) => {
                    put_off(index, &jobs, &error.to_string());
                    return Ok(Judged::Some);
                }
            }
        }
    };
    decide(&transaction, &mut jobs, &mut parsed).await;
    let open: Vec<_> =
        jobs.extract_if(.., |job| matches!(job.verdict, Some(Verdict::Open))).collect();
    put_off(index, &open, "its check broke");
    if jobs.is_empty() {
        return Ok(Judged::Some);
    }
    let refused = keep_refused(room, index, &jobs).await?;
    let follower = generation.follower();
    let commit = transaction.commit();
    let shared = index.clone();
    // Not the server's own, which others make edits as, too.
    let author = Author::new(None, Right::Owner, "rules");
    let by = By { follower, author: author.clone() };
    let done = room.edit(author, move |first| {
        match carry_out(&mut shared.lock(), jobs, commit, by, first) {
            Some(edit) => (edit, true),
            None => (Edit::default(), false),
        }
    });
    let done = done.await?;
    if !done {
        forget(room, index, refused.into_iter().map(|(refused, _)| refused).collect()).await?;
        return Ok(Judged::Overtaken);
    }
    for (refused, author) in refused {
        room.tell_refusal(author, refused.told().to_string()).await?;
    }
    Ok(Judged::Some)
}

/// The transaction of the account that delivered the changes, which is one.
fn transaction(generation: &Arc<Generation>, jobs: &[Job]) -> Arc<Transaction> {
    let author = jobs.first().map(|job| job.case.author.clone()).unwrap_or_else(Author::server);
    let context = Context {
        caller: None,
        delivered_by: author.account.clone(),
        right: author.right,
        request_id: new_id(),
    };
    Transaction::new(generation.clone(), context, Source::Sync, true)
}

type ParsedRows = HashMap<Place, Result<String, Vec<Issue>>>;

/// Parses the rows that want to count.
async fn parse(generation: &Generation, jobs: &mut [Job]) -> Result<ParsedRows, Error> {
    let mut tables: HashMap<String, Vec<(Place, String)>> = HashMap::new();
    for job in jobs.iter() {
        if let Some(entry) = job.entry.as_ref().filter(|entry| entry.time != NEVER) {
            let rows = tables.entry(job.table().to_owned()).or_default();
            rows.push((job.place.clone(), entry.value.to_string()));
        }
    }
    let mut all = ParsedRows::new();
    for (table, rows) in tables {
        let texts: Vec<_> = rows.iter().map(|(_, text)| text.clone()).collect();
        let parsed = when_free(|| generation.logic.parse_rows(&table, texts.clone(), "")).await?;
        for ((place, _), parsed) in rows.into_iter().zip(parsed) {
            let parsed = belongs(&place.1, parsed);
            all.insert(place, parsed);
        }
    }
    Ok(all)
}

/// Finds out which of the changes are good. Those that do not go with another row are looked at again for as
/// long as others are accepted.
async fn decide(transaction: &Arc<Transaction>, jobs: &mut [Job], parsed: &mut ParsedRows) {
    loop {
        let mut accepted_any = false;
        let mut conflicts = false;
        for job in jobs.iter_mut() {
            let is_open = match &job.verdict {
                None => true,
                Some(Verdict::Refused(ActionError::Conflict(_))) => true,
                Some(_) => false,
            };
            if !is_open {
                continue;
            }
            let saved = transaction.save();
            let verdict = match verdict(transaction, job, parsed).await {
                Ok(text) => Verdict::Accepted(text),
                Err(Error::Action(error)) => Verdict::Refused(error),
                // What only says that it cannot be known now.
                Err(_) => Verdict::Open,
            };
            match &verdict {
                Verdict::Accepted(_) => accepted_any = true,
                _ => transaction.restore(saved),
            }
            conflicts |= matches!(verdict, Verdict::Refused(ActionError::Conflict(_)));
            job.verdict = Some(verdict);
        }
        if !accepted_any || !conflicts {
            return;
        }
    }
}

/// What an accepted row parses to; none for a deletion.
async fn verdict(
    transaction: &Arc<Transaction>,
    job: &Job,
    parsed: &ParsedRows,
) -> Result<Option<Arc<str>>, Error> {
    let (table, id) = (job.table(), &*job.place.1);
    let Some(entry) = &job.entry else {
        transaction.remove(table, id).await?;
        return Ok(None);
    };
    if entry.time == NEVER {
        let issue = Issue::at("ts", "must be a number, the time of the entry in ms");
        return Err(ActionError::invalid(issue).into());
    }
    match parsed.get(&job.place) {
        Some(Ok(text)) => {
            let before = transaction.read(table, id);
            let sent = Sent::unread(entry.value.to_string());
            transaction.take(table, id, &sent, text, before).await?;
            Ok(Some(text.as_str().into()))
        }
        Some(Err(issues)) => Err(ActionError::Invalid(issues.clone()).into()),
        None => Err(ActionError::Failed("the plugin gave no row".into()).into()),
    }
}

fn put_off(index: &Mutex<Index>, jobs: &[Job], why: &str) {
    let mut index = index.lock();
    for job in jobs {
        let table = job.table();
        if job.case.breaks == 0 {
            tracing::warn!(table, id = %job.place.1, why, "a change by sync cannot be judged; it waits, and is tried again");
        }
        index.pending().put_off(&job.place, job.case.candidate, |breaks| {
            let wait = AGAIN_FIRST.saturating_mul(1 << breaks.min(16));
            Instant::now() + wait.min(AGAIN_MOST)
        });
    }
}

/// Keeps the refused changes on disk. Returns them, each with who brought it.
async fn keep_refused(
    room: &Room,
    index: &Mutex<Index>,
    jobs: &[Job],
) -> Result<Vec<(RefusedChange, Arc<Author>)>, Error> {
    let at = now();
    let by = |job: &Job| Some((record(job, at)?, job.case.author.clone()));
    let told: Vec<_> = jobs.iter().filter_map(by).collect();
    if told.is_empty() {
        return Ok(told);
    }
    let new = told.iter().map(|(refused, _)| Kept::of(refused.clone()));
    let (new, values): (Vec<_>, Vec<_>) = new.unzip();
    let gone = index.lock().pending().giving_way(&new);
    if !gone.is_empty() {
        tracing::warn!(
            room = %room.id(), rows = gone.len(),
            "refused rows are forgotten, the oldest first: more are kept than an account or a room may have"
        );
    }
    let stays = |kept: &Kept| !gone.contains(&kept.key);
    let put = new.iter().zip(values).filter(|(kept, _)| stays(kept));
    let put = put.map(|(kept, value)| (kept.key.clone(), Some(value)));
    let forget = gone.iter().map(|key| (key.clone(), None));
    room.note(put.chain(forget).collect()).await?;
    let gone: Vec<_> = gone.iter().cloned().collect();
    let mut index = index.lock();
    index.pending().refuse(new);
    index.pending().forget(&gone);
    Ok(told)
}

/// What is kept of a change that was refused.
fn record(job: &Job, at: u64) -> Option<RefusedChange> {
    let Some(Verdict::Refused(error)) = &job.verdict else { return None };
    let entry = match (&job.entry, &job.case.accepted) {
        (Some(entry), _) => entry.id,
        (None, Some(accepted)) => accepted.id,
        (None, None) => return None,
    };
    let error = Error::Action(error.clone());
    Some(RefusedChange {
        array: job.place.0.clone(),
        id: job.place.1.clone(),
        row: job.entry.as_ref().map(|entry| serde_json::from_str(&entry.value).unwrap_or_default()),
        reason: error.describe(job.table()),
        issues: error.into_issues(),
        account: job.case.author.account_id().to_owned(),
        at,
        entry: (entry.client, entry.clock),
    })
}

/// Forgets refusals that came to nothing: the change is judged again.
async fn forget(
    room: &Room,
    index: &Mutex<Index>,
    refused: Vec<RefusedChange>,
) -> Result<(), Error> {
    if refused.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = refused.iter().map(RefusedChange::key).collect();
    index.lock().pending().forget(&keys);
    Ok(room.note(keys.into_iter().map(|key| (key, None)).collect()).await?)
}

/// Lets count what was accepted and undoes what was refused; none when it has to be judged again.
fn carry_out(index: &mut Index, jobs: Vec<Job>, commit: Commit, by: By, first: Id) -> Option<Edit> {
    let stands = |index: &mut Index, job: &Job| {
        let case = index.pending().case(&job.place);
        case.is_some_and(|case| case.candidate == job.case.candidate)
    };
    if !jobs.iter().all(|job| stands(index, job)) || !index.holds(&commit.reads) {
        return None;
    }
    let judged: HashSet<_> = jobs.iter().map(|job| job.place.clone()).collect();
    let mut writes = Vec::new();
    let (mut accepted, mut edit) = (Vec::new(), Edit::default());
    for Job { place, case, entry, verdict } in jobs {
        match verdict {
            Some(Verdict::Accepted(text)) => accepted.push((place, text)),
            Some(Verdict::Refused(_)) => match (entry, case.accepted) {
                (Some(entry), _) if index.has_others(&place) => edit.deletes.push((entry.id, 1)),
                (_, Some(accepted)) => {
                    let value: Value = serde_json::from_str(&accepted.value).unwrap_or_default();
                    let written = Written::stored(accepted.value, &value);
                    let time = Some(accepted.time);
                    writes.push(Write { place, written: Some(written), time });
                }
                (Some(entry), None) => edit.deletes.push((entry.id, 1)),
                (None, None) => {}
            },
            _ => {}
        }
    }
    let Commit { writes: all, claims, now, .. } = commit;
    // What follows from accepted deletions.
    let effects = all.into_iter().filter(|(place, _)| !judged.contains(place));
    writes.extend(effects.map(|(place, written)| {
        let time = written.as_ref().and_then(|_| Some(index.entry(&place)?.time));
        Write { place, written, time }
    }));
    index.claim(claims.clone());
    let won = index.accept(accepted, Some(&by.follower));
    edit.deletes.extend(won.deletes);
    if !writes.is_empty() {
        index.claim(claims);
        let written = index.write(writes, by, now, first);
        edit.deletes.extend(written.deletes);
        edit.pushes = written.pushes;
    }
    Some(edit)
}
