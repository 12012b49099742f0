//! Litestream's flags, which are Go's, → what clap reads.
//!
//! `-word`, `--word`, `-word=value` and `-word value` are the same; a boolean takes a value only after `=`. Pure.
//! Unlike Go, flags may also follow positional arguments.
//!
//! An empty text is what Litestream's flags hold if they are not given, so start scripts pass `-timestamp "$TIME"`.

use std::ffi::{OsStr, OsString};

use clap::{ArgAction, Command};

/// Flags whose empty value means that they are not given; those of the others are refused, as by Litestream.
const EMPTY_IS_NONE: [&str; 7] =
    ["--config", "--exec", "--generation", "--log-level", "--replica", "--timestamp", "-o"];

/// Rewrites the arguments after the program's name. The first of them is the command. What is not known is left for
/// clap to complain about.
///
/// # Errors
/// A sentence, if a boolean flag has a value that is none.
pub fn normalise(arguments: Vec<OsString>, root: &Command) -> Result<Vec<OsString>, String> {
    let mut rest = arguments.into_iter();
    let Some(first) = rest.next() else { return Ok(Vec::new()) };
    let command = first.to_str().and_then(|name| root.find_subcommand(name));
    let first = match first.to_str() {
        Some("-help") => "--help".into(),
        Some("-version") => "--version".into(),
        _ => first,
    };
    let mut normal = vec![first];
    let Some(command) = command else {
        normal.extend(rest);
        return Ok(normal);
    };
    while let Some(argument) = rest.next() {
        let Some((name, inline)) = argument.to_str().and_then(flag) else {
            let is_end = argument == "--";
            normal.push(argument);
            if is_end {
                normal.extend(rest);
                break;
            }
            continue;
        };
        let dashed = if name.chars().count() == 1 { format!("-{name}") } else { format!("--{name}") };
        let known = command.get_arguments().find(|arg| {
            arg.get_long() == Some(name) || arg.get_short().is_some_and(|c| name == c.to_string())
        });
        match (known.map(|arg| arg.get_action().takes_values()), inline) {
            (Some(true), Some(value)) => push_value(&mut normal, &dashed, value.as_ref()),
            (Some(true), None) => match rest.next() {
                Some(value) => push_value(&mut normal, &dashed, &value),
                None => normal.push(dashed.into()),
            },
            (Some(false), Some(value)) if is_switch(known) => match go_bool(value) {
                Some(true) => normal.push(dashed.into()),
                Some(false) => {}
                None => return Err(format!("invalid boolean value {value:?} for -{name}")),
            },
            (_, Some(value)) => normal.push(format!("{dashed}={value}").into()),
            (_, None) => normal.push(dashed.into()),
        }
    }
    Ok(normal)
}

/// Adds a flag with its value. An empty one takes back what was given before.
fn push_value(normal: &mut Vec<OsString>, dashed: &str, value: &OsStr) {
    // Joined, so that clap does not take a value such as `-1` for a flag.
    let mut joined = OsString::from(format!("{dashed}="));
    if value.is_empty() && EMPTY_IS_NONE.contains(&dashed) {
        normal.retain(|argument| !argument.as_encoded_bytes().starts_with(joined.as_encoded_bytes()));
    } else {
        joined.push(value);
        normal.push(joined);
    }
}

fn is_switch(arg: Option<&clap::Arg>) -> bool {
    arg.is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue))
}

/// Name and inline value of a flag; `None` for `-`, `--` and positional arguments.
fn flag(argument: &str) -> Option<(&str, Option<&str>)> {
    let body = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    if body.is_empty() || body.starts_with(['-', '=']) {
        return None;
    }
    Some(body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value))))
}

/// What Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    fn normal(line: &[&str]) -> Result<String, String> {
        let arguments = line.iter().map(OsString::from).collect();
        let normal = normalise(arguments, &Cli::command())?;
        let texts: Vec<String> = normal.into_iter().map(|text| text.into_string().unwrap()).collect();
        Ok(texts.join(" "))
    }

    #[test]
    fn all_spellings_of_a_flag_are_one() {
        for (line, expected) in [
            (&["restore", "-o", "x", "db"][..], "restore -o=x db"),
            (&["restore", "--o=x", "db"], "restore -o=x db"),
            (&["restore", "-if-db-not-exists", "db"], "restore --if-db-not-exists db"),
            (&["restore", "-if-db-not-exists=true", "db"], "restore --if-db-not-exists db"),
            (&["restore", "-if-db-not-exists=false", "db"], "restore db"),
            (&["restore", "db", "-json"], "restore db --json"),
            (&["replicate", "-exec", "app -p 80"], "replicate --exec=app -p 80"),
            (&["replicate", "-exec", "-odd"], "replicate --exec=-odd"),
            (&["replicate", "-exec=app -x=1"], "replicate --exec=app -x=1"),
            (&["replicate", "-config"], "replicate --config"),
            (&["replicate", "--", "-config"], "replicate -- -config"),
            (&["wal", "-level", "all", "-"], "wal --level=all -"),
            (&["restore", "-unknown=1", "x"], "restore --unknown=1 x"),
            (&["restore", "-config", "a", "-config", "", "-timestamp=", "-o", "", "db"], "restore db"),
            (&["replicate", "-exec", "", "-log-level", ""], "replicate"),
            (&["restore", "-replica", "", "--generation=", "-txid", "", "db"], "restore --txid= db"),
            (&["restore", "-help"], "restore --help"),
            (&["-help"], "--help"),
            (&["nonsense", "-x"], "nonsense -x"),
            (&[], ""),
        ] {
            assert_eq!(normal(line).as_deref(), Ok(expected), "{line:?}");
        }
        assert!(normal(&["restore", "-json=maybe"]).unwrap_err().contains("-json"));
    }
}
