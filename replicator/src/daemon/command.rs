//! The text of the `exec` command → its words. Pure.

use crate::error::{Error, ErrorKind, Result};

/// Stands for `#`, which begins a comment to the splitter and no comment to Litestream's. No argument can hold it.
const HASH: &str = "\0";

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The shell's operator at which the text was cut: no shell runs it.
    pub cut_at: Option<char>,
}

/// Splits a command as a shell would, without running one; at the first operator of the shell it ends, as Litestream's
/// does (go-shellwords).
///
/// # Errors
/// `Usage`, without the text: it may hold secrets.
pub(super) fn split(command: &str) -> Result<Command> {
    let (command, cut_at) = up_to_operator(command);
    let words = shell_words::split(&command.replace('#', HASH)).map_err(|error| {
        Error::with_source(ErrorKind::Usage, "cannot parse the exec command (exec: or -exec)", error)
    })?;
    if words.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the exec command is empty"));
    }
    Ok(Command { words: words.iter().map(|word| word.replace(HASH, "#")).collect(), cut_at })
}

/// What stands before the first operator outside quotes; of `2>` the number belongs to the operator.
fn up_to_operator(command: &str) -> (&str, Option<char>) {
    let (mut quote, mut is_escaped, mut word) = (None, false, 0);
    for (at, letter) in command.char_indices() {
        match (quote, letter) {
            _ if std::mem::take(&mut is_escaped) => {}
            (Some('\''), '\\') => {}
            (_, '\\') => is_escaped = true,
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, ';' | '&' | '|' | '<') => return (&command[..at], Some(letter)),
            (None, '>') => {
                let is_number = command[word..at].starts_with(|first: char| first.is_ascii_digit());
                return (&command[..if is_number { word } else { at }], Some(letter));
            }
            (None, ' ' | '\t' | '\r' | '\n') => word = at + 1,
            (None, _) => {}
        }
    }
    (command, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_are_those_of_a_shell_without_comments() {
        for (command, expected) in [
            ("app -p 80", &["app", "-p", "80"][..]),
            ("bot --channel #ops --port 80", &["bot", "--channel", "#ops", "--port", "80"]),
            ("#x a#b '#c d' \"#e\" \\#f", &["#x", "a#b", "#c d", "#e", "#f"]),
            ("a '' 'b \"c' d\\ e", &["a", "", "b \"c", "d e"]),
            ("sh -c 'a > b; c && d' \"e|f\" g\\>h", &["sh", "-c", "a > b; c && d", "e|f", "g>h"]),
        ] {
            let found = split(command).unwrap();
            assert_eq!((&found.words[..], found.cut_at), (&owned(expected)[..], None), "{command}");
        }
    }

    /// As 0.5.17 was seen to.
    #[test]
    fn what_only_a_shell_understands_ends_the_command() {
        for (command, expected, operator) in [
            ("./show.sh a > out b", &["./show.sh", "a"][..], '>'),
            ("./show.sh a 2>&1", &["./show.sh", "a"], '>'),
            ("./show.sh a && echo hi", &["./show.sh", "a"], '&'),
            ("./show.sh a; echo b", &["./show.sh", "a"], ';'),
            ("./show.sh a<in", &["./show.sh", "a"], '<'),
            ("./show.sh 'x y'|tee", &["./show.sh", "x y"], '|'),
        ] {
            let found = split(command).unwrap();
            assert_eq!((&found.words[..], found.cut_at), (&owned(expected)[..], Some(operator)), "{command}");
        }
        assert!(split("> out").is_err(), "nothing is left");
    }

    #[test]
    fn what_cannot_be_split_is_not_shown() {
        for command in ["app --token hunter2 'x", "app \"hunter2"] {
            let error = split(command).unwrap_err().to_string();
            assert!(
                error.contains("exec") && error.contains("quote") && !error.contains("hunter2"),
                "{error}"
            );
        }
        assert!(split(" ").is_err());
    }
}
