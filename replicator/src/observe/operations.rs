//! Counts requests to the store, for `litestream_replica_operation_…`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::bucket::observer::{RequestObserver, RequestReport, Verb};

/// Upper bounds of the duration histogram in seconds, as text and as a number.
const BUCKETS: [(&str, f64); 9] = [
    ("0.01", 0.01),
    ("0.05", 0.05),
    ("0.1", 0.1),
    ("0.5", 0.5),
    ("1", 1.0),
    ("5", 5.0),
    ("10", 10.0),
    ("30", 30.0),
    ("60", 60.0),
];

/// Most error codes told apart per operation; a store's imagination must not fill our memory.
const MOST_CODES: usize = 32;

/// Counters of all requests of this process. (Only S3 makes any.)
#[derive(Default)]
pub struct Operations(Mutex<BTreeMap<Verb, Counters>>);

#[derive(Default)]
struct Counters {
    requests: u64,
    bytes: u64,
    seconds: f64,
    /// Requests per bucket, not cumulated; the slower ones are in none.
    durations: [u64; BUCKETS.len()],
    errors: BTreeMap<String, u64>,
}

impl Counters {
    fn count(&mut self, duration: Duration, sent_bytes: u64, error_code: Option<&str>) {
        self.requests += 1;
        self.bytes += sent_bytes;
        let seconds = duration.as_secs_f64();
        self.seconds += seconds;
        if let Some(index) = BUCKETS.iter().position(|(_, bound)| seconds <= *bound) {
            self.durations[index] += 1;
        }
        if let Some(code) = error_code {
            let known = self.errors.contains_key(code) || self.errors.len() < MOST_CODES;
            *self.errors.entry(if known { code } else { "other" }.to_owned()).or_default() += 1;
        }
    }
}

impl RequestObserver for Operations {
    fn finished(&self, report: &RequestReport<'_>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = all.entry(report.verb).or_default();
        counters.count(report.duration, report.sent_bytes, report.error_code);
    }

    fn received(&self, verb: Verb, bytes: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(verb).or_default().bytes += bytes;
    }
}

impl Operations {
    /// Their part of `/metrics`.
    #[must_use]
    pub fn render(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let labels = |verb: &Verb| format!("replica_type=\"s3\",operation=\"{}\"", verb.as_str());

        head(&mut text, "total", "counter", "Requests to the store, repetitions included");
        for (verb, counters) in &*all {
            sample(&mut text, "total", &labels(verb), &counters.requests.to_string());
        }
        head(&mut text, "bytes", "counter", "Bytes of objects sent and received");
        for (verb, counters) in &*all {
            sample(&mut text, "bytes", &labels(verb), &counters.bytes.to_string());
        }
        head(&mut text, "errors_total", "counter", "Failed requests to the store, by code");
        for (verb, counters) in &*all {
            for (code, count) in &counters.errors {
                let code: String =
                    code.chars().filter(|c| !c.is_control() && !['"', '\\'].contains(c)).collect();
                let labels = format!("{},code=\"{code}\"", labels(verb));
                sample(&mut text, "errors_total", &labels, &count.to_string());
            }
        }
        head(&mut text, "duration_seconds", "histogram", "Time from a request to the head of its answer");
        for (verb, counters) in &*all {
            let mut below = 0;
            for ((bound, _), count) in BUCKETS.iter().zip(counters.durations) {
                below += count;
                let labels = format!("{},le=\"{bound}\"", labels(verb));
                sample(&mut text, "duration_seconds_bucket", &labels, &below.to_string());
            }
            let infinite = format!("{},le=\"+Inf\"", labels(verb));
            sample(&mut text, "duration_seconds_bucket", &infinite, &counters.requests.to_string());
            sample(&mut text, "duration_seconds_sum", &labels(verb), &format!("{:.6}", counters.seconds));
            sample(&mut text, "duration_seconds_count", &labels(verb), &counters.requests.to_string());
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let name = format!("litestream_replica_operation_{name}");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &str, value: &str) {
    let _ = writeln!(text, "litestream_replica_operation_{name}{{{labels}}} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verb: Verb, millis: u64, sent_bytes: u64, error_code: Option<&str>) -> RequestReport<'_> {
        RequestReport {
            replica_type: "s3",
            verb,
            duration: Duration::from_millis(millis),
            sent_bytes,
            error_code,
        }
    }

    #[test]
    fn names_and_labels_are_litestreams() {
        let operations = Operations::default();
        operations.finished(&report(Verb::Put, 7, 500, None));
        operations.finished(&report(Verb::Put, 700, 500, Some("SlowDown")));
        operations.finished(&report(Verb::Get, 90_000, 0, None));
        operations.received(Verb::Get, 1234);
        insta::assert_snapshot!(operations.render());
    }

    #[test]
    fn codes_are_bounded() {
        let operations = Operations::default();
        for index in 0..1000 {
            operations.finished(&report(Verb::List, 1, 0, Some(&format!("Odd\"{index}\n"))));
        }
        let text = operations.render();
        let codes: Vec<&str> = text.lines().filter(|line| line.contains("errors_total{")).collect();
        assert_eq!(codes.len(), MOST_CODES + 1, "{text}");
        assert!(text.contains("code=\"other\"} 968"), "{text}");
    }
}
