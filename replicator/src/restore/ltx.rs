//! Restoring from LTX files. What was applied before a file vanished is kept, if a new plan can continue from it;
//! a damaged file is done without, if others lead as far.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::apply::Applier;
use super::confirm::Means;
use super::fetch::{Fetched, Fetcher, Object};
use super::moment::{self, Moment};
use super::options::Target;
use super::output::TempFile;
use super::plan::{self, File, NoPlan, Want};
use super::report::{Format, Plan, PlannedFile, Report, Restored, Step};
use super::{Context, Failure, finish};
use crate::error::{Error, ErrorKind, Result};
use crate::ltx::{MIN_FILE_LEN, Txid};
use crate::replica::{Level, LtxName};

/// What survives a new plan.
#[derive(Default)]
pub(super) struct Progress {
    /// The file being built.
    pub applier: Option<Applier>,
    /// The files that are completely in it.
    applied: Vec<File>,
    /// The files being applied after those.
    chosen: Arc<[File]>,
    damage: Option<Damage>,
    /// Keys of files that are of other states than those which they would date.
    misdated: BTreeSet<String>,
    bytes_fetched: u64,
}

/// Objects found damaged, which others may stand for.
struct Damage {
    files: Vec<File>,
    /// The transaction that a plan without them must reach: less would be an old state, silently.
    end: Txid,
    /// What is wrong with the first of them.
    error: Error,
}

/// Restores or, in a dry run, plans. After a [`Failure::Vanished`] it can be called again with the same `progress`, and
/// with the objects as `ghosts` that the store lists, but does not have.
pub(super) async fn restore(
    context: Context<'_>,
    files: Vec<File>,
    ghosts: Vec<File>,
    progress: &mut Progress,
    started: Instant,
) -> Result<Report, Failure> {
    // Objects too small to be LTX files are no files; other levels may cover them.
    let (mut files, cut): (Vec<File>, Vec<File>) =
        files.into_iter().partition(|file| file.size >= MIN_FILE_LEN);
    let unusable: Vec<Unusable> =
        cut.into_iter().map(Unusable::cut).chain(ghosts.into_iter().map(Unusable::ghost)).collect();
    files.retain(|file| !progress.is_spoiled(file) && !progress.misdated.contains(&file.key));
    progress.chosen = Arc::default();
    let want = want(context, &mut files).await?;
    let mut is_newest = want == Want::Newest;
    let mut gap = None;
    if let (Target::Timestamp(time), Want::Exactly(txid)) = (context.options.target, want) {
        is_newest = plan::restorable(&files).last() == Some(&txid);
        if is_newest {
            gap = moment::gap_before(context.bucket.as_ref(), &mut files, txid, time).await?;
        }
        moment::leave_out_later(context.bucket.as_ref(), &mut files, txid, time).await?;
    }
    let chosen = match gap {
        Some(gap) => Err(no_plan_error(context, gap)),
        None => progress.continue_with(context, &files, want),
    };
    let end = progress.applied.last().map(|file| file.name.max);
    let chosen: Arc<[File]> = mind_the_unusable(context, is_newest, (chosen, end), &unusable)?.into();
    progress.check_end(&chosen)?;
    let plan = describe(progress.applied.iter().chain(chosen.iter()));
    if context.options.dry_run {
        // The times between which the state was found are not confirmed: that can take as long as a restore.
        return Ok(Report::Planned(plan));
    }
    let dated = match (context.options.target, want) {
        (Target::Timestamp(_), Want::Exactly(txid)) => Some(txid),
        _ => None,
    };
    if let Some(txid) = dated {
        context.means().too_late(&files, txid).await?;
    }
    context.progress.step(Step::Fetching);
    context.progress.planned(&describe(chosen.iter()));
    progress.chosen = chosen.clone();
    fetch_and_apply(context, &chosen, progress).await?;
    if let Some(file) = dated.and_then(|txid| moment::dating(&files, txid)) {
        progress.check_date(context, file).await?;
    }
    let applier = progress.applier.take().expect("a plan from nothing has at least one file");
    let finished = finish::finish(context, applier.temp).await?;
    Ok(Report::Restored(Restored {
        plan,
        bytes_fetched: progress.bytes_fetched,
        database_bytes: finished.bytes,
        duration: started.elapsed(),
        integrity_check: finished.check,
    }))
}

/// An object that is listed under the name of an LTX file, and is none.
struct Unusable {
    name: LtxName,
    /// What it is instead.
    what: String,
}

impl Unusable {
    fn cut(File { key, name, size, .. }: File) -> Self {
        Self { name, what: format!("{key} has {size} bytes, too few for an LTX file") }
    }

    fn ghost(File { key, name, .. }: File) -> Self {
        Self { name, what: format!("{key} is listed, but the store has no such object") }
    }
}

/// An error that names an unusable object, if that is why there is no plan, or why the newest state seems older than it
/// is. What time such an object is of nobody can tell, so it also spoils a point in time after every other file.
fn mind_the_unusable(
    context: Context<'_>,
    is_newest: bool,
    (chosen, applied): (Result<Vec<File>>, Option<Txid>),
    unusable: &[Unusable],
) -> Result<Vec<File>> {
    let end = chosen.as_ref().ok().and_then(|chosen| chosen.last()).map(|file| file.name.max).or(applied);
    let later = unusable.iter().filter(|object| Some(object.name.max) > end);
    let Some(Unusable { what, .. }) = later.min_by_key(|object| object.name.min) else {
        return chosen;
    };
    match chosen {
        Ok(chosen) if !is_newest => Ok(chosen),
        Ok(_) => {
            let end = end.unwrap_or_default();
            Err(context.replica_error(
                ErrorKind::Corrupt,
                format_args!("{what}; the newest state without it is -txid {end}"),
            ))
        }
        Err(error) => Err(Error::new(ErrorKind::Corrupt, format!("{}; {what}", error.message()))),
    }
}

async fn want(context: Context<'_>, files: &mut [File]) -> Result<Want, Failure> {
    let time = match context.options.target {
        Target::Latest => return Ok(Want::Newest),
        Target::Txid(txid) => return Ok(Want::Exactly(txid)),
        Target::Timestamp(time) => time,
    };
    match moment::state_before(context.bucket.as_ref(), files, time).await? {
        Moment::State(txid) => Ok(Want::Exactly(txid)),
        // The plan will fail and say why.
        Moment::Nothing => Ok(Want::Newest),
        Moment::TooEarly { oldest, captured } => {
            context.means().too_late(files, Txid(0)).await?;
            let captured = jiff::Timestamp::from_millisecond(captured.0)
                .map_or_else(|_| format!("{} ms", captured.0), |time| time.to_string());
            let message = format!("the oldest restorable state is transaction {oldest} of {captured}");
            Err(context.replica_error(ErrorKind::NotFound, message).into())
        }
    }
}

impl Context<'_> {
    fn means(&self) -> Means<'_> {
        Means { host: self.host, bucket: self.bucket, parallelism: self.options.parallelism }
    }
}

impl Progress {
    /// Judges the file that dates the state which was built, unless the state was built with it.
    async fn check_date(&mut self, context: Context<'_>, dating: &File) -> Result<(), Failure> {
        let is_in_it = self.applied.iter().any(|file| file.key == dating.key);
        if is_in_it || planted!("moment-on-trust") {
            return Ok(());
        }
        let is_same = context.means().is_of(dating, &mut self.applier).await?;
        if is_same || planted!("dated-by-its-name") {
            return Ok(());
        }
        Err(Failure::Misdated { key: dating.key.clone() })
    }

    /// Goes on without a file that is of another state than the one of its number.
    pub(super) fn disbelieve(&mut self, key: String) {
        tracing::warn!(
            key,
            "a file is of another state than the one that others give for its transaction: its time is not believed"
        );
        self.misdated.insert(key);
    }

    /// Goes on without a damaged object: the next plan leaves it out and begins from nothing.
    ///
    /// # Errors
    /// `error`, if it is not one that is being applied.
    pub(super) fn do_without(&mut self, key: &str, error: Error) -> Result<()> {
        let damaged = self.chosen.iter().find(|file| file.key == key).cloned();
        let (Some(file), Some(last)) = (damaged, self.chosen.last()) else { return Err(error) };
        tracing::warn!(key, %error, "an object is damaged: looking for others that lead to the same state");
        let end = last.name.max;
        self.damage.get_or_insert(Damage { files: Vec::new(), end, error }).files.push(file);
        self.restart();
        Ok(())
    }

    /// Whether a file is damaged, or one of level 0 that a damaged one was preferred to: it may be of a failed attempt,
    /// and of another state (see `plan`).
    fn is_spoiled(&self, file: &File) -> bool {
        let stood_for = |damaged: &File| {
            file.name.level == Level::L0
                && file.name.max == damaged.name.max
                && (damaged.name.level == Level::SNAPSHOT || damaged.name.min == file.name.min)
        };
        let mut damaged = self.damage.iter().flat_map(|damage| &damage.files);
        damaged.any(|damaged| damaged.key == file.key || stood_for(damaged))
    }

    /// Refuses a plan that reaches less than the one which a damaged object ended.
    fn check_end(&mut self, chosen: &[File]) -> Result<()> {
        let end = chosen.last().map(|file| file.name.max);
        match self.damage.take_if(|damage| end < Some(damage.end)) {
            Some(damage) => Err(damage.error),
            None => Ok(()),
        }
    }

    /// If there is no way around a damaged object, the damage is what matters.
    pub(super) fn first_cause(&mut self, error: Error) -> Error {
        match (self.damage.take(), error.kind()) {
            (Some(damage), ErrorKind::Corrupt | ErrorKind::NotFound) => damage.error,
            (_, _) => error,
        }
    }

    fn restart(&mut self) {
        if let Some(applier) = &mut self.applier {
            applier.restart();
        }
        self.applied.clear();
    }

    /// The files that lead from what is applied to `want`, or from nothing if that is impossible.
    fn continue_with(&mut self, context: Context<'_>, files: &[File], want: Want) -> Result<Vec<File>> {
        if let Some(applier) = &mut self.applier {
            applier.forget_file();
            let have = applier.complete.map(|state| state.txid);
            if let Some(have) = have
                && let Ok(chosen) = plan::plan(files, want, Some(have))
            {
                // Pages of a half-applied file are only right if the plan reaches at least as far.
                let end = chosen.last().map_or(have, |file| file.name.max);
                if applier.touched.is_none_or(|touched| end >= touched) {
                    return Ok(chosen);
                }
            }
        }
        self.restart();
        plan::plan(files, want, None).map_err(|no_plan| no_plan_error(context, no_plan))
    }
}

fn no_plan_error(context: Context<'_>, no_plan: NoPlan) -> Error {
    let kind = match no_plan {
        NoPlan::Empty | NoPlan::Unreachable { .. } => ErrorKind::NotFound,
        NoPlan::NoBase { .. } | NoPlan::Gap { .. } => ErrorKind::Corrupt,
    };
    context.replica_error(kind, no_plan)
}

async fn fetch_and_apply(
    context: Context<'_>,
    files: &Arc<[File]>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    if progress.applier.is_none() {
        let (disk, output) = (context.host.disk.clone(), context.options.output.clone());
        let temp = context.host.blocking(move || TempFile::create(disk, &output)).await?;
        progress.applier = Some(Applier::new(temp));
    }
    let objects = files.iter().map(|file| Object { key: file.key.clone(), size: file.size });
    let mut fetcher = Fetcher::new(context.bucket.clone(), objects.collect(), context.options.parallelism);
    while let Some(Fetched { object, last, chunks, len }) = fetcher.next().await? {
        let mut applier = progress.applier.take().expect("put back after each piece");
        let all = files.clone();
        let before = progress.applied.last().map(|file| file.name.max);
        let work = move || applier.push(&all[object], &chunks, last).map(|()| applier);
        // On an error the unfinished file is removed here, on the blocking thread.
        let pushed = context.host.blocking(work).await;
        let key = &files[object].key;
        let pushed = pushed.map_err(|error| damaged(context, key, error, before));
        progress.applier = Some(pushed?);
        progress.bytes_fetched += len;
        if last {
            progress.applied.push(files[object].clone());
        }
        context.progress.advanced(len);
    }
    Ok(())
}

/// Says where a damaged file lies, and what can be had without it.
fn damaged(context: Context<'_>, key: &str, error: Error, before: Option<Txid>) -> Failure {
    if error.kind() != ErrorKind::Corrupt {
        return error.into();
    }
    let advice = before.map(|txid| format!("; the newest state before this file is -txid {txid}"));
    let what = format!("{error}{}", advice.unwrap_or_default());
    Failure::of_object(key, context.replica_error(ErrorKind::Corrupt, what))
}

fn describe<'a>(files: impl Iterator<Item = &'a File>) -> Plan {
    let files: Vec<PlannedFile> = files.map(planned).collect();
    let txid: Option<Txid> = files.last().and_then(|file| file.max_txid);
    Plan { format: Format::Ltx, txid, files }
}

fn planned(file: &File) -> PlannedFile {
    PlannedFile {
        level: Some(file.name.level.number()),
        name: file.name.file_name(),
        min_txid: Some(file.name.min),
        max_txid: Some(file.name.max),
        size: file.size,
        created: file.created,
    }
}
