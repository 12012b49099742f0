//! Log lines in the shapes of Litestream's, which people grep and parse.
//!
//! A layer for `tracing`: the fields of the surrounding spans come first, then those of the event. One line is one
//! write. A line that cannot be written is lost: logging never stops replication.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, filter};

use super::level::{LogFormat, LogLevel};
use super::time::rfc3339_millis;
use crate::host::Clock;

/// Where lines go.
pub type Output = Box<dyn Write + Send>;

/// Installs logging for the whole process. A second call does nothing.
pub fn install(level: LogLevel, format: LogFormat, clock: Arc<dyn Clock>, output: Output) {
    // Fails only if a subscriber is set already, by an earlier call or by a test: that one stays.
    let _ = tracing::subscriber::set_global_default(subscriber(level, format, clock, output));
}

/// A subscriber that writes lines to `output`. Of other crates only warnings and errors are shown: their details
/// can contain request headers.
pub fn subscriber(
    level: LogLevel,
    format: LogFormat,
    clock: Arc<dyn Clock>,
    output: Output,
) -> impl Subscriber + Send + Sync {
    let others = level.filter().min(tracing::level_filters::LevelFilter::WARN);
    let targets = filter::Targets::new().with_default(others).with_target("replicator", level.filter());
    Registry::default().with(Lines { format, clock, output: Mutex::new(output) }.with_filter(targets))
}

struct Lines {
    format: LogFormat,
    clock: Arc<dyn Clock>,
    output: Mutex<Output>,
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

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
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
        let time = rfc3339_millis(self.clock.now());
        let level = *event.metadata().level();
        let line = match self.format {
            LogFormat::Text => text_line(&time, level, &all),
            LogFormat::Json => json_line(&time, level, &all),
            LogFormat::Pretty => pretty_line(&time, level, &all),
        };
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
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
        let subscriber = subscriber(level, format, Arc::new(Fixed), Box::new(written.clone()));
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
}
