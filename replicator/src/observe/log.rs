//! Log lines in the shapes of Litestream's, which people grep and parse.
//!
//! A layer for `tracing`: the fields of the surrounding spans come first, then those of the event. One line is one
//! write. A line that cannot be written is lost: logging never stops replication. Nor does a reader that was stopped: the
//! lines are written by [`Lines`], and those that find no room there are counted.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, filter};

use super::level::{LogFormat, LogLevel};
use super::time::rfc3339_millis;
use crate::host::Clock;
use crate::host::lines::Lines;

/// How long the end of the program waits for a reader of the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Where lines go.
pub type Output = Box<dyn Write + Send>;

/// When dropped, lets the last lines be written. Keep it until nothing more is logged.
#[must_use]
pub struct LastLines(Arc<Lines>);

impl Drop for LastLines {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Installs logging for the whole process. A second call does nothing.
pub fn install(level: LogLevel, format: LogFormat, clock: Arc<dyn Clock>, output: Output) -> LastLines {
    let (subscriber, last_lines) = subscriber(level, format, clock, output);
    // Fails only if a subscriber is set already, by an earlier call or by a test: that one stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    last_lines
}

/// A subscriber that writes lines to `output`. Of other crates only warnings and errors are shown: their details
/// can contain request headers.
pub fn subscriber(
    level: LogLevel,
    format: LogFormat,
    clock: Arc<dyn Clock>,
    output: Output,
) -> (impl Subscriber + Send + Sync, LastLines) {
    let others = level.filter().min(tracing::level_filters::LevelFilter::WARN);
    let targets = filter::Targets::new().with_default(others).with_target("replicator", level.filter());
    let shape = Shape { format, clock };
    let about_lost = {
        let shape = shape.clone();
        move |lost| shape.line(Level::WARN, &lines_lost(lost))
    };
    let lines = Arc::new(Lines::to(output, about_lost));
    let layer = Log { shape, lines: Arc::clone(&lines) };
    (Registry::default().with(layer.with_filter(targets)), LastLines(lines))
}

struct Log {
    shape: Shape,
    lines: Arc<Lines>,
}

/// What lines look like.
#[derive(Clone)]
struct Shape {
    format: LogFormat,
    clock: Arc<dyn Clock>,
}

impl Shape {
    fn line(&self, level: Level, fields: &Fields) -> String {
        let time = rfc3339_millis(self.clock.now());
        match self.format {
            LogFormat::Text => text_line(&time, level, fields),
            LogFormat::Json => json_line(&time, level, fields),
            LogFormat::Pretty => pretty_line(&time, level, fields),
        }
    }
}

fn lines_lost(count: u64) -> Fields {
    let message = "lines of this log were lost, because its reader did not read them in time".to_owned();
    Fields { message, pairs: vec![Pair { name: "count", value: count.into() }] }
}

/// A field with its value; numbers and booleans stay what they are in JSON.
#[derive(Clone)]
struct Pair {
    name: &'static str,
    value: serde_json::Value,
}

/// Fields in the order they were recorded, and the message.
#[derive(Default, Clone)]
struct Fields {
    message: String,
    pairs: Vec<Pair>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: serde_json::Value) {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        if name == "message" {
            self.message = text_of(&value);
        } else {
            self.pairs.push(Pair { name, value });
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value.into());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.pairs.extend(fields.pairs.iter().cloned());
            }
        }
        event.record(&mut all);
        self.lines.push(self.shape.line(*event.metadata().level(), &all));
    }
}

fn text_line(time: &str, level: Level, fields: &Fields) -> String {
    let mut line = format!("time={time} level={level} msg={}", quoted(&fields.message));
    append_pairs(&mut line, fields);
    line
}

fn pretty_line(time: &str, level: Level, fields: &Fields) -> String {
    let clock = time.get(11..19).unwrap_or(time);
    let short = match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    };
    let mut line = format!("{clock} {short} {}", fields.message);
    append_pairs(&mut line, fields);
    line
}

fn append_pairs(line: &mut String, fields: &Fields) {
    for pair in &fields.pairs {
        let _ = write!(line, " {}={}", pair.name, quoted(&text_of(&pair.value)));
    }
    line.push('\n');
}

fn json_line(time: &str, level: Level, fields: &Fields) -> String {
    let mut line = format!(
        "{{\"time\":{},\"level\":\"{level}\",\"msg\":{}",
        serde_json::Value::from(time),
        serde_json::Value::from(fields.message.as_str())
    );
    for pair in &fields.pairs {
        let _ = write!(line, ",{}:{}", serde_json::Value::from(pair.name), pair.value);
    }
    line.push_str("}\n");
    line
}

fn text_of(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Quotes what Go's `slog` quotes: nothing, spaces, quotes, `=`, and what does not print.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '"' && c != '=' && c != '\\');
    if plain { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;
    use crate::host::UnixMillis;

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> UnixMillis {
            UnixMillis(1_700_000_000_123)
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(level: LogLevel, format: LogFormat) -> String {
        let written = Shared::default();
        let (subscriber, last_lines) = subscriber(level, format, Arc::new(Fixed), Box::new(written.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(path = "/data/a b.db", "initialized db");
            let span = tracing::info_span!("db", db = "app.db");
            span.in_scope(|| {
                tracing::info!(txid.min = 1, txid.max = 2, ok = true, size = %"1 kB", "compaction complete");
                tracing::error!(error = "disk \"full\"\nnow", empty = "", "sync error");
            });
            tracing::debug!("details");
            tracing::info!(target: "hyper::client", authorization = "secret", "request");
            tracing::warn!(target: "aws_config", "no region");
        });
        drop(last_lines);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_that_of_slog() {
        insta::assert_snapshot!(lines(LogLevel::Info, LogFormat::Text));
    }

    #[test]
    fn json_keeps_types_and_is_one_object_per_line() {
        let all = lines(LogLevel::Info, LogFormat::Json);
        for line in all.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        insta::assert_snapshot!(all);
    }

    #[test]
    fn pretty_is_short() {
        insta::assert_snapshot!(lines(LogLevel::Info, LogFormat::Pretty));
    }

    #[test]
    fn levels_hide_lines_and_other_crates_never_tell_details() {
        let errors = lines(LogLevel::Error, LogFormat::Text);
        assert_eq!(errors.lines().count(), 1, "{errors}");
        let all = lines(LogLevel::Trace, LogFormat::Text);
        assert!(all.contains("details") && all.contains("no region") && !all.contains("secret"), "{all}");
    }

    /// A pipe whose reader was stopped.
    struct Full(mpsc::Receiver<()>);

    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            // Ends when the other side is gone.
            let _ = self.0.recv();
            Ok(data.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Both workers of the runtime used to wait for it, and no signal was heard.
    #[test]
    fn a_reader_that_was_stopped_stops_nobody() {
        let (release, hang) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let logging = std::thread::Builder::new().spawn(move || {
            let (subscriber, last_lines) =
                subscriber(LogLevel::Info, LogFormat::Text, Arc::new(Fixed), Box::new(Full(hang)));
            tracing::subscriber::with_default(subscriber, || {
                for number in 0..10_000 {
                    tracing::info!(number, "a line that nobody reads");
                }
            });
            done.send("logged").unwrap();
            drop(last_lines);
            done.send("ended").unwrap();
        });
        let logged = is_done.recv_timeout(Duration::from_secs(5));
        let ended = is_done.recv_timeout(2 * LAST_LINES);
        drop(release);
        logging.unwrap().join().unwrap();
        assert_eq!((logged, ended), (Ok("logged"), Ok("ended")));
        let told =
            Shape { format: LogFormat::Text, clock: Arc::new(Fixed) }.line(Level::WARN, &lines_lost(7));
        assert!(told.contains("level=WARN") && told.contains(" count=7"), "{told}");
    }
}
