//! The source tree keeps its own promises: import directions, sizes, module docs.

use std::path::{Path, PathBuf};

/// Lines a file may have.
const MAX_FILE_LINES: usize = 700;
/// Lines a function may have, from its signature to its closing brace.
const MAX_FUNCTION_LINES: usize = 90;

/// What a module must not name. `wal` and `ltx` are pure, only `bucket` speaks to the store, only `replica` and `restore`
/// (for the 0.3 format) spell keys, and so on.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("wal", &["host::", "bucket::", "sync::", "restore::", "rusqlite", "tokio"]),
    ("ltx", &["host::Disk", "bucket::", "sync::", "restore::", "rusqlite", "tokio"]),
    ("sqlite", &["bucket::", "sync::", "restore::", "config::", "cli::"]),
    ("replica", &["sqlite::", "sync::", "restore::", "config::", "cli::"]),
    ("compact", &["sqlite::", "sync::", "restore::", "config::", "cli::", "rusqlite"]),
    ("sync", &["restore::", "config::", "cli::", "daemon::", "aws_", "hyper", "rusqlite"]),
    (
        "doctor",
        &["sqlite::", "sync::", "restore::", "config::", "cli::", "daemon::", "aws_", "hyper", "rusqlite"],
    ),
    ("restore", &["sync::", "config::", "cli::", "daemon::", "aws_", "hyper"]),
    ("bucket", &["sqlite::", "sync::", "restore::", "config::", "cli::", "daemon::", "rusqlite"]),
    ("config", &["sqlite::", "daemon::", "cli::", "rusqlite", "aws_", "hyper"]),
    ("host", &["bucket::", "sync::", "restore::", "config::", "rusqlite", "aws_"]),
];

#[expect(clippy::disallowed_methods, reason = "reads the source tree")]
fn sources(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

fn product() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found
}

/// The code without its unit tests and without comments.
fn code(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name.to_string_lossy().contains("tests"))
}

#[test]
fn every_file_says_what_it_owns() {
    for (path, text) in product() {
        assert!(text.starts_with("//!"), "{} has no module documentation", path.display());
    }
}

#[test]
fn files_and_functions_stay_readable() {
    for (path, text) in product() {
        let lines = text.lines().count();
        assert!(lines <= MAX_FILE_LINES, "{} has {lines} lines", path.display());
        if is_test(&path) {
            continue;
        }
        for (name, len) in functions(&text) {
            assert!(len <= MAX_FUNCTION_LINES, "{}: fn {name} has {len} lines", path.display());
        }
    }
}

/// Names and lengths of functions, relying on rustfmt's indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some(at) = trimmed.find("fn ") else { continue };
        let before = &trimmed[..at];
        let is_item = before.split_whitespace().all(|word| {
            word.starts_with("pub")
                || ["async", "const", "unsafe", "extern", "in", "crate)", "super)"].contains(&word)
        });
        if !is_item || trimmed.starts_with("//") {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let close = format!("{indent}}}");
        let Some(len) = lines[start..].iter().position(|line| *line == close) else { continue };
        let name = trimmed[at + 3..].split(['(', '<']).next().unwrap_or_default();
        found.push((name.to_owned(), len + 1));
    }
    found
}

#[test]
fn imports_go_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (path, text) in product().into_iter().filter(|(path, _)| !is_test(path)) {
        let module = path.strip_prefix(&root).unwrap().components().next().unwrap();
        let module = module.as_os_str().to_string_lossy().into_owned();
        let Some((_, forbidden)) = FORBIDDEN.iter().find(|(name, _)| *name == module) else { continue };
        let code = code(&text);
        for word in *forbidden {
            let named = code.lines().find(|line| {
                line.contains(&format!("crate::{word}"))
                    || (line.trim_start().starts_with("use ") && line.contains(&format!("use {word}")))
            });
            assert!(named.is_none(), "{} must not use {word}: {}", path.display(), named.unwrap_or_default());
        }
    }
}

/// Names of bugs: every first string literal behind `before`.
fn names(text: &str, before: &str) -> Vec<String> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').nth(1)).map(str::to_owned).collect()
}

/// A bug that is listed but not planted, or the other way round, would make the scoreboard lie.
#[test]
fn listed_bugs_are_planted() {
    let (mut listed, mut planted) = (Vec::new(), Vec::new());
    for (path, text) in product() {
        if path.ends_with("planted/list.rs") {
            listed = names(&text, "    bug(");
        } else if !path.ends_with("planted/mod.rs") {
            planted.extend(names(&text, "planted!("));
        }
    }
    listed.sort();
    planted.sort();
    planted.dedup();
    assert!(listed.len() >= 30, "{listed:?}");
    assert_eq!(listed, planted);
}

#[test]
fn the_checks_can_fail() {
    assert_eq!(functions("fn a() {\n    x\n}\n"), [("a".to_owned(), 3)]);
    assert_eq!(functions("    pub(super) async fn b<T>(\n    ) {\n    }\n"), [("b".to_owned(), 3)]);
    assert!(code("use crate::host::Disk;\n#[cfg(test)]\nuse crate::bucket::X;").contains("host"));
    assert_eq!(names("if planted!(\n  \"a-b\", 1, 2)", "planted!("), ["a-b"]);
    assert!(!code("x\n#[cfg(test)]\nuse crate::bucket::X;").contains("bucket"));
}
