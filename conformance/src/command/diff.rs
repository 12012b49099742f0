//! `conformance diff`: do two endpoints answer alike?

use std::path::PathBuf;
use std::process::ExitCode;

use conformance::difference::{self, Difference, Extent};
use conformance::targets::{self, Entry};

/// Sends the same random requests to two targets and shows where the answers differ.
///
/// Exit code 0: only where declared in the first target's data. 30: elsewhere, too. 1: it could not be run, or nothing
/// was asked.
#[derive(clap::Args)]
pub struct Arguments {
    /// A name from `conformance targets`.
    left: String,
    /// Another [default: the dialect that stands for the first in simulation].
    right: Option<String>,
    /// First seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    from: u64,
    /// Number of sequences.
    #[arg(long, value_name = "N", default_value_t = 40)]
    seeds: u64,
    /// Steps in each; a sequence ends early once the two hold different objects.
    #[arg(long, value_name = "N", default_value_t = 60)]
    steps: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Folder with the scripts that start servers.
    #[arg(long, value_name = "FOLDER", default_value = "scripts")]
    scripts: PathBuf,
}

/// Runs.
pub fn run(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(compare(arguments)))
    {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(1)
        }
    }
}

async fn compare(arguments: &Arguments) -> Result<ExitCode, String> {
    let left = named(&arguments.left)?;
    let right = match (&arguments.right, &left.model) {
        (Some(name), _) => named(name)?,
        (None, Some(model)) => named(&format!("dialect-{model}"))?,
        (None, None) => return Err(format!("{} has no model: name the other target", left.name)),
    };
    let one = targets::start(&left, &arguments.scripts).await?;
    let other = targets::start(&right, &arguments.scripts).await?;
    let extent = Extent { from: arguments.from, seeds: arguments.seeds, steps: arguments.steps };
    let found = difference::compare(one.target.clone(), other.target.clone(), extent).await;
    one.stop().await;
    other.stop().await;
    let found = found?;
    if found.steps == 0 {
        return Err("not a single step was asked for: see --seeds and --steps".to_owned());
    }
    let differences = &found.differences;
    let undeclared =
        differences.iter().filter(|found| !left.differences.contains_key(&found.signature)).count();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?);
    } else {
        for difference in differences {
            print(&left, difference);
        }
        println!(
            "{} and {}: {} of {} steps, {} differences, {undeclared} not declared",
            left.name,
            right.name,
            found.steps,
            extent.total(),
            differences.len(),
        );
    }
    Ok(if undeclared == 0 { ExitCode::SUCCESS } else { ExitCode::from(30) })
}

fn print(left: &Entry, difference: &Difference) {
    let declared = left.differences.get(&difference.signature);
    println!("{}  ({} times)", difference.signature, difference.count);
    match declared {
        Some(reason) => println!("    known: {reason}"),
        None => println!(
            "    NOT DECLARED; seed {} step {}: {}\n    left:  {}\n    right: {}",
            difference.at.0, difference.at.1, difference.step, difference.left, difference.right
        ),
    }
}

fn named(name: &str) -> Result<Entry, String> {
    let all = targets::catalogue().map_err(|error| error.to_string())?;
    all.into_iter().find(|entry| entry.name == name).ok_or_else(|| format!("no target is named {name:?}"))
}
