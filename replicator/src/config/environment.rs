//! What the process was started with: environment variables, home and working directory, process id.
//!
//! Captured once, so that everything after it is a function of its arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The surroundings a configuration is read in.
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// Directory that relative paths start from.
    pub working_dir: PathBuf,
    /// What `~` stands for.
    pub home_dir: Option<PathBuf>,
    /// What `$PID` stands for.
    pub pid: u32,
}

impl Environment {
    /// The real surroundings of this process. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            home_dir: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            pid: std::process::id(),
            variables,
        }
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Replaces `$NAME` and `${NAME}` in `text` by the rules of Go's `os.Expand`, as Litestream does: an unset
    /// variable becomes nothing, `$PID` is the process id, there are no `:-defaults`, and a lone `$` before
    /// anything that is not a name stays.
    #[must_use]
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            let (name, consumed) = shell_name(&rest[dollar + 1..]);
            match name {
                Some("PID") => out.push_str(&self.pid.to_string()),
                Some(name) => out.push_str(self.variables.get(name).map_or("", String::as_str)),
                // `$` before a non-name: kept. Bad syntax such as `${}`: eaten.
                None if consumed == 0 => out.push('$'),
                None => {}
            }
            rest = &rest[dollar + 1 + consumed..];
        }
        out.push_str(rest);
        out
    }

    /// An absolute path for what the user wrote: `sqlite://` and `sqlite3://` prefixes stripped, `~` replaced,
    /// `.` and `..` folded away.
    ///
    /// # Errors
    /// `Usage` if `~` is used and no home directory is known.
    pub fn absolute(&self, text: &str) -> Result<PathBuf> {
        let text = text.strip_prefix("sqlite3://").or_else(|| text.strip_prefix("sqlite://")).unwrap_or(text);
        let home = || {
            self.home_dir.clone().ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!(
                        "cannot expand {text:?}: no home directory is known, set HOME or write the full path"
                    ),
                )
            })
        };
        let path = if text == "~" {
            home()?
        } else if let Some(below) = text.strip_prefix("~/") {
            home()?.join(below)
        } else {
            self.working_dir.join(text)
        };
        Ok(fold_dots(&path))
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// Removes `.` and resolves `..` by text, as Go's `filepath.Clean` does.
fn fold_dots(path: &Path) -> PathBuf {
    let mut folded = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                folded.pop();
            }
            other => folded.push(other),
        }
    }
    folded
}

/// The variable name that starts right after a `$`, and how many bytes of `text` it takes, braces included.
fn shell_name(text: &str) -> (Option<&str>, usize) {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => (None, 0),
        Some(b'{') => {
            if bytes.len() > 2 && is_special(bytes[1]) && bytes[2] == b'}' {
                return (Some(&text[1..2]), 3);
            }
            match text.find('}') {
                Some(1) => (None, 2),
                Some(end) => (Some(&text[1..end]), end + 1),
                None => (None, 1),
            }
        }
        Some(&byte) if is_special(byte) => (Some(&text[..1]), 1),
        Some(_) => {
            let len = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            if len == 0 { (None, 0) } else { (Some(&text[..len]), len) }
        }
    }
}

/// Shell variables of one character; none of them is ever set in the environment.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            variables: [("NAME", "value"), ("EMPTY", ""), ("A_1", "x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            working_dir: "/srv/dir".into(),
            home_dir: Some("/home/me".into()),
            pid: 42,
        }
    }

    #[test]
    fn variables_expand_as_in_go() {
        for (text, expected) in [
            ("", ""),
            ("no dollar", "no dollar"),
            ("$NAME", "value"),
            ("${NAME}", "value"),
            ("a${NAME}b$NAME", "avaluebvalue"),
            ("$NAME.db", "value.db"),
            ("$A_1-", "x-"),
            ("[$UNSET][${UNSET}]", "[][]"),
            ("$EMPTY|", "|"),
            ("$PID ${PID}", "42 42"),
            // No shell defaults: the whole text in braces is the name.
            ("${NAME:-other}", ""),
            ("${UNSET:-other}", ""),
            // Special names are one character long, and never set.
            ("$$NAME", "NAME"),
            ("$1st", "st"),
            ("${1}", ""),
            ("$*", ""),
            // Not a name: kept. Bad syntax: eaten.
            ("cost: 5$", "cost: 5$"),
            ("$ x", "$ x"),
            ("$.x", "$.x"),
            ("${}", ""),
            ("${NAME", "NAME"),
            ("# comment $NAME\n", "# comment value\n"),
            ("é$NAME ü", "évalue ü"),
            ("$é", "$é"),
        ] {
            assert_eq!(environment().expand(text), expected, "{text:?}");
        }
    }

    #[test]
    fn paths_become_absolute() {
        let environment = environment();
        for (text, expected) in [
            ("a.db", "/srv/dir/a.db"),
            ("./a/../b.db", "/srv/dir/b.db"),
            ("/abs/a.db", "/abs/a.db"),
            ("~/a.db", "/home/me/a.db"),
            ("~", "/home/me"),
            ("~other/a.db", "/srv/dir/~other/a.db"),
            ("sqlite:///abs/a.db", "/abs/a.db"),
            ("sqlite3://rel.db", "/srv/dir/rel.db"),
            ("sqlite://~/a.db", "/home/me/a.db"),
        ] {
            assert_eq!(environment.absolute(text).unwrap(), Path::new(expected), "{text:?}");
        }
        let homeless = Environment { home_dir: None, ..environment };
        assert_eq!(homeless.absolute("~/a.db").unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn debug_output_shows_no_values() {
        assert!(!format!("{:?}", environment()).contains("value"));
    }
}
