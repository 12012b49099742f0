//! Reading typed values out of a mapping, so that no key is ever dropped silently.
//!
//! Whoever reads a mapping asks for each key it knows; what is left at [`Section::finish`] is unknown and is warned
//! about by name and line. Values of the wrong type become errors in the [`Report`], and reading goes on, so that one
//! run shows every problem.

use std::cell::RefCell;
use std::time::Duration;

use super::node::{Entry, Node, Value};
use super::values;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The program goes on, but the user should know.
    Warning,
    /// The configuration cannot be used.
    Error,
}

/// Something wrong, or surprising, in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops us.
    pub severity: Severity,
    /// Line in the file; `None` if it is about something that is absent.
    pub line: Option<u64>,
    /// The key with everything around it, such as `dbs[0].replica.retention`; empty for the whole file.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    /// `line 7: dbs[0].replica.retension: unknown key …`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Collects problems in the order of their discovery.
#[derive(Debug, Default)]
pub struct Report(RefCell<Vec<Problem>>);

impl Report {
    /// Notes a problem.
    pub fn add(&self, severity: Severity, line: Option<u64>, key: &str, message: impl Into<String>) {
        let problem = Problem { severity, line, key: key.to_owned(), message: message.into() };
        self.0.borrow_mut().push(problem);
    }

    /// Notes an error.
    pub fn error(&self, line: Option<u64>, key: &str, message: impl Into<String>) {
        self.add(Severity::Error, line, key, message);
    }

    /// Notes a warning.
    pub fn warn(&self, line: Option<u64>, key: &str, message: impl Into<String>) {
        self.add(Severity::Warning, line, key, message);
    }

    /// All problems, by line, each once.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems.dedup();
        problems
    }
}

/// A value the user typed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Line of the key.
    pub line: u64,
    /// The key with everything around it.
    pub key: String,
}

/// One mapping being read.
pub struct Section<'a> {
    report: &'a Report,
    key: String,
    entries: Vec<&'a Entry>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Starts reading `node` as the mapping named `key` (empty for the whole file). Anything but a mapping or
    /// nothing is an error, and reads as empty. Of a repeated key the last one counts, as in Litestream.
    #[must_use]
    pub fn new(node: &'a Node, key: &str, report: &'a Report) -> Self {
        let mut entries: Vec<&Entry> = Vec::new();
        let dotted = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        match &node.value {
            Value::Null => {}
            Value::Mapping(found) => {
                for entry in found {
                    if let Some(earlier) = entries.iter_mut().find(|earlier| earlier.key == entry.key) {
                        report.warn(
                            Some(entry.line),
                            &dotted(&entry.key),
                            format!("repeats line {}, and replaces it", earlier.line),
                        );
                        *earlier = entry;
                    } else {
                        entries.push(entry);
                    }
                }
            }
            other => {
                let message = format!("expected keys and values, found {}", other.shape());
                report.error(Some(node.line), key, message);
            }
        }
        Self { report, key: key.to_owned(), entries, asked: Vec::new() }
    }

    fn dotted(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    /// Takes a key; one without a value counts as absent.
    fn take(&mut self, name: &'static str) -> Option<&'a Entry> {
        self.asked.push(name);
        let index = self.entries.iter().position(|entry| entry.key == name)?;
        let entry = self.entries.remove(index);
        (entry.node.value != Value::Null).then_some(entry)
    }

    fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let entry = self.take(name)?;
        let key = self.dotted(name);
        let Value::Scalar(text) = &entry.node.value else {
            let message = format!("expected a single value, found {}", entry.node.value.shape());
            self.report.error(Some(entry.line), &key, message);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(At { value, line: entry.line, key }),
            Err(message) => {
                self.report.error(Some(entry.line), &key, message);
                None
            }
        }
    }

    /// Text; empty text counts as absent.
    pub fn text(&mut self, name: &'static str) -> Option<At<String>> {
        self.parsed(name, |text| Ok(text.to_owned())).filter(|at| !at.value.is_empty())
    }

    /// A duration that is not negative. A bare integer is nanoseconds, and warned about.
    pub fn duration(&mut self, name: &'static str) -> Option<At<Duration>> {
        let at = self.parsed(name, |text| {
            let read = values::duration(text)?;
            let value = read.non_negative().ok_or_else(|| format!("{text} is negative"))?;
            Ok((value, read.bare_integer))
        })?;
        let (value, bare_integer) = at.value;
        if bare_integer {
            self.report.warn(
                Some(at.line),
                &at.key,
                format!(
                    "a number without a unit is nanoseconds: this is {}; write 10s or 500ms",
                    values::format_duration(value)
                ),
            );
        }
        Some(At { value, line: at.line, key: at.key })
    }

    /// A duration above zero.
    pub fn positive_duration(&mut self, name: &'static str) -> Option<At<Duration>> {
        let at = self.duration(name)?;
        if at.value.is_zero() {
            self.report.error(Some(at.line), &at.key, "must be greater than 0");
            return None;
        }
        Some(at)
    }

    /// A boolean.
    pub fn boolean(&mut self, name: &'static str) -> Option<At<bool>> {
        self.parsed(name, values::boolean)
    }

    /// A whole number from `min` to `u32::MAX`.
    pub fn number(&mut self, name: &'static str, min: u32) -> Option<At<u32>> {
        self.parsed(name, |text| {
            let number = values::integer(text)?;
            u32::try_from(number)
                .ok()
                .filter(|number| *number >= min)
                .ok_or_else(|| format!("{text} is out of range, it must be from {min} to {}", u32::MAX))
        })
    }

    /// A number of bytes above zero.
    pub fn size(&mut self, name: &'static str) -> Option<At<u64>> {
        self.parsed(name, |text| match values::size(text)? {
            0 => Err("must be greater than 0".to_owned()),
            size => Ok(size),
        })
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &'static str) -> Vec<At<String>> {
        let mut texts = Vec::new();
        for (key, node) in self.list(name) {
            match &node.value {
                Value::Scalar(text) => {
                    texts.push(At { value: text.clone(), line: node.line, key });
                }
                other => {
                    let message = format!("expected a single value, found {}", other.shape());
                    self.report.error(Some(node.line), &key, message);
                }
            }
        }
        texts
    }

    /// The mapping below a key, if there is one. Also tells the line of the key.
    pub fn section(&mut self, name: &'static str) -> Option<(u64, Section<'a>)> {
        let entry = self.take(name)?;
        Some((entry.line, Section::new(&entry.node, &self.dotted(name), self.report)))
    }

    /// The items of a list below a key, each with its own full key.
    pub fn list(&mut self, name: &'static str) -> Vec<(String, &'a Node)> {
        let Some(entry) = self.take(name) else { return Vec::new() };
        let key = self.dotted(name);
        match &entry.node.value {
            Value::Sequence(items) => {
                items.iter().enumerate().map(|(index, node)| (format!("{key}[{index}]"), node)).collect()
            }
            other => {
                self.report.error(
                    Some(entry.line),
                    &key,
                    format!("expected a list (lines starting with \"- \"), found {}", other.shape()),
                );
                Vec::new()
            }
        }
    }

    /// Line of a key, whether or not it has a value.
    #[must_use]
    pub fn line_of(&self, name: &str) -> Option<u64> {
        self.entries.iter().find(|entry| entry.key == name).map(|entry| entry.line)
    }

    /// Whether a key is there with a value. It still has to be read.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == name && entry.node.value != Value::Null)
    }

    /// A known key that does nothing here: warned about with the reason.
    pub fn without_effect(&mut self, name: &'static str, reason: &str) {
        if let Some(entry) = self.take(name) {
            self.report.warn(Some(entry.line), &self.dotted(name), format!("has no effect: {reason}"));
        }
    }

    /// Warns about every key that nobody asked for. Unknown keys that look as if they were about encryption are
    /// errors: a misspelt one must not end in plaintext.
    pub fn finish(self) {
        for entry in &self.entries {
            let key = self.dotted(&entry.key);
            let hint = closest(&entry.key, &self.asked)
                .map_or_else(String::new, |known| format!("; did you mean {known:?}?"));
            if about_encryption(&entry.key) {
                let message = format!(
                    "unknown key that seems to ask for encryption; data would be stored without it{hint}"
                );
                self.report.error(Some(entry.line), &key, message);
            } else {
                self.report.warn(Some(entry.line), &key, format!("unknown key, ignored{hint}"));
            }
        }
    }
}

fn about_encryption(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["recipient", "identit", "encrypt", "cipher", "passphrase", "sse", "kms"];
    words.iter().any(|word| key.contains(word)) || key == "ages" || key == "agee"
}

/// The known key that `typed` was probably meant to be.
fn closest(typed: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&plain(typed), &plain(candidate)), *candidate))
        .filter(|(similarity, _)| *similarity > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node;

    fn problems(text: &str, read: impl FnOnce(&mut Section<'_>)) -> String {
        let tree = node::parse(text).unwrap();
        let report = Report::default();
        let mut section = Section::new(&tree, "", &report);
        read(&mut section);
        section.finish();
        let lines: Vec<String> = report
            .into_problems()
            .iter()
            .map(|problem| format!("{:?}: {problem}", problem.severity))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn values_of_the_right_type_are_taken_without_a_word() {
        let text =
            "name: x\nwait: 1m\non: yes\ncount: 5\nsize: 1MiB\nitems: [a, b]\ninner:\n  a: 1\nempty:\n";
        let found = problems(text, |section| {
            assert_eq!(section.text("name").unwrap().value, "x");
            assert_eq!(section.duration("wait").unwrap().value, Duration::from_secs(60));
            assert!(section.boolean("on").unwrap().value);
            assert_eq!(section.number("count", 1).unwrap().value, 5);
            assert_eq!(section.size("size").unwrap().value, 1 << 20);
            assert_eq!(section.texts("items").len(), 2);
            let (line, mut inner) = section.section("inner").unwrap();
            assert_eq!((line, inner.text("a").unwrap().key.as_str()), (7, "inner.a"));
            inner.finish();
            assert_eq!(section.text("empty"), None);
            assert_eq!(section.text("absent"), None);
        });
        assert_eq!(found, "");
    }

    #[test]
    fn every_problem_names_its_key_and_line() {
        let text = "wait: 1d\nsoon: -1s\nzero: 0\nbare: 10\ncount: 0\nname: [a]\nitems: x\ninner: 5\non: maybe\nold: 1\n\
                    name2: a\nname2: b\nunknwon: 1\nsync_intervall: 3\nrecipient: [k]\n";
        let found = problems(text, |section| {
            section.duration("wait");
            section.duration("soon");
            section.positive_duration("zero");
            section.duration("bare");
            section.number("count", 1);
            section.text("name");
            section.texts("items");
            section.section("inner");
            section.boolean("on");
            section.without_effect("old", "it is old");
            assert_eq!(section.text("name2").unwrap().value, "b");
            section.text("unknown");
            section.text("sync-interval");
            section.texts("recipients");
        });
        insta::assert_snapshot!(found);
    }
}
