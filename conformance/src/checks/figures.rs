//! How fast it is. Figures for people; there is no failing but an error.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::Need::Figure;
use super::probe::pattern;
use super::{Check, Complaint, Probe, check};

pub(super) const CHECKS: &[Check] = &[
    check!(
        "figure.put-latency",
        Figure,
        20,
        100,
        "time of a 4 KiB PUT",
        "the delay between commit and durability",
        put_latency
    ),
    check!(
        "figure.get-latency",
        Figure,
        21,
        100,
        "time of a 4 KiB GET",
        "restores read many small files",
        get_latency
    ),
    check!(
        "figure.list-latency",
        Figure,
        20,
        100,
        "time of a short listing",
        "following a replica",
        list_latency
    ),
    check!(
        "figure.throughput",
        Figure,
        2,
        17000,
        "rates of an 8 MiB PUT and GET on one connection",
        "snapshots and restores",
        throughput
    ),
];

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("median {:.1} ms, slowest {:.1} ms", millis(at(50)), millis(at(100)))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn put_latency(probe: &Probe) -> Result<(), Complaint> {
    let mut times = Vec::new();
    for n in 0..20 {
        let start = Instant::now();
        probe.put(&format!("object-{n}"), pattern(4096, n)).await?;
        times.push(start.elapsed());
    }
    probe.note(summary(times));
    Ok(())
}

async fn get_latency(probe: &Probe) -> Result<(), Complaint> {
    probe.put("object", pattern(4096, 1)).await?;
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        probe.get("object").await?;
        times.push(start.elapsed());
    }
    probe.note(summary(times));
    Ok(())
}

async fn list_latency(probe: &Probe) -> Result<(), Complaint> {
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        probe.page("", &[]).await?;
        times.push(start.elapsed());
    }
    probe.note(summary(times));
    Ok(())
}

async fn throughput(probe: &Probe) -> Result<(), Complaint> {
    let body = pattern(8 << 20, 1);
    let start = Instant::now();
    probe.put("object", body.clone()).await?;
    let up = start.elapsed();
    let start = Instant::now();
    probe.expect(&probe.call(Method::GET, "object"), 200).await?;
    let down = start.elapsed();
    let rate = |time: Duration| 8.0 / time.as_secs_f64();
    probe.note(format!("{:.0} MiB/s up, {:.0} MiB/s down", rate(up), rate(down)));
    Ok(())
}
