//! `doctor`: is the place of a replica good enough?

use std::fmt::Write as _;

use serde::Serialize;

use super::super::Outcome;
use super::super::args::Doctor as Args;
use super::super::table::{json, row, table};
use super::{Context, Source, warning_lines};
use crate::bucket::Environment;
use crate::bucket::settings::Settings;
use crate::doctor::{Doctor, Need, Outcome as Checked, Report, Verdict, ceiling};
use crate::error::Result;

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) async fn run(context: &Context<'_>, args: &Args) -> Result<Outcome> {
    let (places, warnings) = places(context, args)?;
    let mut outcome = Outcome { stderr: warning_lines(&warnings), ..Outcome::default() };
    let mut reports = Vec::new();
    for settings in &places {
        let doctor = Doctor::new(context.host.clone(), Environment::process(), settings);
        announce(&doctor.location().await?);
        reports.push(doctor.run().await?);
    }
    outcome.code = reports.iter().map(|report| report.verdict().exit_code()).max().unwrap_or(0);
    outcome.stdout = if args.json {
        let answers: Vec<_> =
            reports.iter().map(|report| Answer { verdict: report.verdict(), report }).collect();
        json(&answers)
    } else {
        reports.iter().map(text).collect::<Vec<_>>().join("\n")
    };
    Ok(outcome)
}

/// Said before anything is done, since requests can cost money.
fn announce(location: &str) {
    let limit = ceiling();
    eprintln!(
        "{location}: at most {} requests and {} MiB, removed afterwards",
        limit.requests,
        limit.bytes >> 20
    );
}

/// One place per bucket and way of reaching it: hundreds of databases need no hundred examinations.
fn places(context: &Context<'_>, args: &Args) -> Result<(Vec<Settings>, Vec<String>)> {
    if !args.source.is_empty() {
        let Source { replica, warnings, .. } =
            context.source(&args.source, &args.config, "replicator doctor s3://bucket/path")?;
        return Ok((vec![replica.settings], warnings));
    }
    let config = context.config(&args.config)?;
    let mut places: Vec<Settings> = Vec::new();
    for database in context.databases(&config)? {
        let settings = database.replica.settings;
        if !places.iter().any(|known| without_path(known) == without_path(&settings)) {
            places.push(settings);
        }
    }
    Ok((places, config.warnings.iter().map(ToString::to_string).collect()))
}

fn without_path(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    if let Settings::S3(s3) = &mut settings {
        s3.path.clear();
    }
    settings
}

fn text(report: &Report) -> String {
    let mut text = format!("{}\n\n", report.location);
    let mut rows = vec![row(["check", "need", "result", "time", "what to change"])];
    for found in &report.findings {
        let need = match found.need {
            Need::Required => "required",
            Need::Setting => "setting",
            Need::Optional => "optional",
        };
        let result = match found.outcome {
            Checked::Pass => "pass",
            Checked::Changed => "changed",
            Checked::Fail => "FAIL",
            Checked::Skipped => "-",
        };
        let advice = found.advice.as_deref().unwrap_or("");
        rows.push(row([found.check, need, result, &format!("{} ms", found.millis), advice]));
    }
    text.push_str(&table(&rows));
    for found in &report.findings {
        if let (Checked::Fail | Checked::Changed | Checked::Skipped, Some(detail)) =
            (found.outcome, &found.detail)
        {
            let _ = write!(text, "\n{}: {}\n  {detail}\n", found.check, found.requirement);
        }
    }
    if let Some(why) = &report.left_behind {
        let _ = write!(text, "\ncould not clean up: {why}\n");
    }
    let verdict = match report.verdict() {
        Verdict::Usable => "usable".to_owned(),
        Verdict::UsableWith(settings) => format!("usable with:\n  - {}", settings.join("\n  - ")),
        Verdict::NotUsable(checks) => format!("NOT usable, because of: {}", checks.join(", ")),
    };
    let _ = write!(text, "\n{} requests; {} is {verdict}\n", report.requests, report.location);
    text
}
