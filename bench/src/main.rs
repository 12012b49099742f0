//! The `bench` command: the same workloads on our replicator and on Litestream, in turn.

use std::path::PathBuf;
use std::process::ExitCode;

use bench::Result;
use bench::contender::Contender;
use bench::figures::{Comparison, Figures};
use bench::stage::Place;
use bench::workloads::{ALL, Scale, Workload};
use clap::{Parser, Subcommand};

/// Measures the replicator beside Litestream.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compare(Compare),
    Chart(Chart),
}

/// Plays each workload with ours and with Litestream 0.5.17, in turn, and prints ratios.
#[derive(clap::Args)]
struct Compare {
    /// Small sizes, one round.
    #[arg(long)]
    quick: bool,
    /// Only these workloads: bulk, updates, after-idle, first-copy, restore, idle.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of A B; the mean counts [default: 2, quick: 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Our binary.
    #[arg(long, default_value = "target/release/replicator")]
    binary: PathBuf,
    /// Also write all figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Draws what `compare --json` has written.
#[derive(clap::Args)]
struct Chart {
    /// The figures.
    json: PathBuf,
    /// The picture to write.
    #[arg(default_value = "bench/figures.svg")]
    svg: PathBuf,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compare(arguments) => compare(&arguments),
        Command::Chart(arguments) => draw(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Compare) -> Result<()> {
    let contenders = Contender::both(&arguments.binary)?;
    let scale = if arguments.quick { Scale::QUICK } else { Scale::FULL };
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 2 }).max(1);
    if let Some(unknown) = arguments.only.iter().find(|name| ALL.iter().all(|known| known.name != **name)) {
        return Err(format!("there is no workload {unknown}").into());
    }
    let wanted = |workload: &&Workload| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == workload.name)
    };
    let mut all = Vec::new();
    println!(
        "| workload | replica | figure | ours | Litestream | ratio |\n| --- | --- | --- | ---: | ---: | ---: |"
    );
    for workload in ALL.iter().filter(wanted) {
        for place in [Place::Directory, Place::S3] {
            let comparison = in_turn(workload, place, scale, rounds, &contenders)?;
            print(&comparison);
            all.push(comparison);
        }
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

fn draw(arguments: &Chart) -> Result<()> {
    let comparisons: Vec<Comparison> = serde_json::from_str(&std::fs::read_to_string(&arguments.json)?)?;
    std::fs::write(&arguments.svg, bench::chart::svg(&comparisons))?;
    Ok(())
}

fn in_turn(
    workload: &Workload,
    place: Place,
    scale: Scale,
    rounds: usize,
    contenders: &[Contender; 2],
) -> Result<Comparison> {
    let mut figures: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (contender, figures) in contenders.iter().zip(&mut figures) {
            let played = (workload.play)(contender, place, scale);
            figures.push(played.map_err(|error| {
                format!("{} with {} on {}: {error}", workload.name, contender.name, place.name())
            })?);
        }
    }
    let [ours, litestream] = figures.map(|rounds| Figures::mean(&rounds));
    Ok(Comparison { workload: workload.name.to_owned(), place: place.name().to_owned(), ours, litestream })
}

fn print(comparison: &Comparison) {
    let Comparison { workload, place, .. } = comparison;
    for (name, ours, theirs, ratio) in comparison.ratios() {
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
        println!("| {workload} | {place} | {name} | {ours:.3} | {theirs:.3} | {ratio} |");
    }
}
