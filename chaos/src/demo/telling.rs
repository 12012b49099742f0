//! What the audience sees: one line per event, or one JSON object at the end. Decides nothing.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Result;

/// Tells what happens, as it happens.
pub struct Teller {
    started: Instant,
    json: bool,
    colour: bool,
    events: Vec<Value>,
    facts: Map<String, Value>,
}

impl Teller {
    /// Lines, or JSON.
    pub fn new(json: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), json, colour, events: Vec::new(), facts: Map::new() }
    }

    /// Something happened.
    pub fn say(&mut self, who: &str, what: String) {
        let seconds = self.started.elapsed().as_secs_f64();
        if !self.json {
            println!("{seconds:6.1} s  {}  {what}", self.paint("1;36", &format!("{who:<11}")));
        }
        let millis = self.started.elapsed().as_millis() as u64;
        self.events.push(json!({ "at_millis": millis, "who": who, "what": what }));
    }

    /// A figure for machines.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// The end, and the exit code.
    pub fn end(mut self, played: Result<()>) -> ExitCode {
        let error = played.err().map(|error| error.to_string());
        if self.json {
            self.facts.insert("passed".to_owned(), error.is_none().into());
            self.facts.insert("error".to_owned(), error.clone().into());
            self.facts.insert("events".to_owned(), std::mem::take(&mut self.events).into());
            println!("{:#}", Value::Object(std::mem::take(&mut self.facts)));
        } else {
            let seconds = self.started.elapsed().as_secs_f64();
            match &error {
                None => println!("\n{} in {seconds:.1} s", self.paint("1;32", "PASSED")),
                Some(error) => println!("\n{} after {seconds:.1} s: {error}", self.paint("1;31", "FAILED")),
            }
        }
        if error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
