//! The text of the `exec` command → its words. Pure.

use crate::error::{Error, ErrorKind, Result};

/// Stands for `#`, which begins a comment to the splitter and no comment to Litestream's. No argument can hold it.
const HASH: &str = "\0";

/// Splits a command as a shell would, without running one.
///
/// # Errors
/// `Usage`, without the text: it may hold secrets.
pub(super) fn words(command: &str) -> Result<Vec<String>> {
    let words = shell_words::split(&command.replace('#', HASH)).map_err(|error| {
        Error::with_source(ErrorKind::Usage, "cannot parse the exec command (exec: or -exec)", error)
    })?;
    if words.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the exec command is empty"));
    }
    Ok(words.iter().map(|word| word.replace(HASH, "#")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell_without_comments() {
        for (command, expected) in [
            ("app -p 80", &["app", "-p", "80"][..]),
            ("bot --channel #ops --port 80", &["bot", "--channel", "#ops", "--port", "80"]),
            ("#x a#b '#c d' \"#e\" \\#f", &["#x", "a#b", "#c d", "#e", "#f"]),
            ("a '' 'b \"c' d\\ e", &["a", "", "b \"c", "d e"]),
        ] {
            assert_eq!(words(command).unwrap(), expected, "{command}");
        }
    }

    #[test]
    fn what_cannot_be_split_is_not_shown() {
        for command in ["app --token hunter2 'x", "app \"hunter2"] {
            let error = words(command).unwrap_err().to_string();
            assert!(
                error.contains("exec") && error.contains("quote") && !error.contains("hunter2"),
                "{error}"
            );
        }
        assert!(words(" ").is_err());
    }
}
