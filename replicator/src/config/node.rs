//! YAML text → a tree in which every key and value knows its line and every scalar keeps its spelling.
//!
//! Scalars stay text because Litestream's parser follows YAML 1.1 (`0600` is octal, `yes` is true) and because a
//! secret that looks like a number must not be rewritten. Must not know any key.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use crate::error::{Error, ErrorKind, Result};

/// The key that merges other mappings into the one where it stands (YAML 1.1).
const MERGE: &str = "<<";

/// A value and the line (from 1) it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Line of its first character.
    pub line: u64,
    /// What stands there.
    pub value: Value,
}

/// What can stand in a YAML document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text as typed, quotes removed.
    Scalar(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in order; a repeated key is there repeatedly.
    Mapping(Vec<Entry>),
}

/// One `key: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line of the key.
    pub line: u64,
    /// The key.
    pub key: String,
    /// Its value.
    pub node: Node,
}

impl Value {
    /// The name of the shape, for messages.
    #[must_use]
    pub fn shape(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a single value",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// Parses one YAML document. An empty text is [`Value::Null`].
///
/// # Errors
/// `Usage` with the line; the text itself, which may hold secrets, is not quoted.
pub fn parse(text: &str) -> Result<Node> {
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Node { line: 1, value: Value::Null });
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        // Nobody reads comments, and the parser keeps only a few while it looks ahead.
        emit_comments: false,
        // The parser lets what stands in the mapping win; see `merged`.
        merge_keys: MergeKeyPolicy::AsOrdinary,
        // One anchor may serve every entry; what it expands to is limited all the same.
        budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false },
    };
    let tree: Spanned<Typed> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax_error(&error))?;
    Ok(node(tree, text))
}

fn syntax_error(error: &serde_saphyr::Error) -> Error {
    let line = error.location().map_or_else(String::new, |at| format!("line {}: ", at.line()));
    if matches!(error.without_snippet(), serde_saphyr::Error::MultipleDocuments { .. }) {
        let what = "a second YAML document begins: remove the line `---` and what is below it";
        return Error::new(ErrorKind::Usage, format!("{line}{what}"));
    }
    Error::new(ErrorKind::Usage, format!("{line}not valid YAML: {}", error.without_snippet()))
}

/// A tree as the parser infers it; plain scalars that looked like another type have lost their spelling.
enum Typed {
    Null,
    /// A string of any style.
    Text(String),
    /// A plain scalar that looks like a number or a boolean: its spelling is in the source.
    Inferred,
    Sequence(Vec<Spanned<Typed>>),
    Mapping(Vec<(Spanned<String>, Spanned<Typed>)>),
}

fn node(tree: Spanned<Typed>, source: &str) -> Node {
    let line = tree.referenced.line();
    let value = match tree.value {
        Typed::Null => Value::Null,
        Typed::Text(text) => Value::Scalar(text),
        Typed::Inferred => {
            let span = tree.defined.span();
            let range = span.byte_offset().zip(span.byte_len()).and_then(|(offset, len)| {
                let start = usize::try_from(offset).ok()?;
                source.get(start..start + usize::try_from(len).ok()?)
            });
            Value::Scalar(range.expect("a string source has byte offsets").trim().to_owned())
        }
        Typed::Sequence(items) => Value::Sequence(items.into_iter().map(|item| node(item, source)).collect()),
        Typed::Mapping(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Typed>)| Entry {
                line: key.referenced.line(),
                key: key.value,
                node: node(value, source),
            };
            Value::Mapping(merged(entries.into_iter().map(entry).collect()))
        }
    };
    Node { line, value }
}

/// A mapping with its merge keys (`<<`) resolved. They count where they stand, as for Litestream (yaml.v3): of the same key
/// there and here, the later one wins; of several mappings merged at once, the first.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.key != MERGE) {
        return entries;
    }
    let mut result: Vec<(Entry, bool)> = Vec::new();
    for entry in entries {
        match (entry.key == MERGE).then(|| mappings(&entry.node)).flatten() {
            Some(mappings) => {
                for other in mappings.into_iter().rev().flatten() {
                    result.retain(|(known, _)| known.key != other.key);
                    result.push((other, true));
                }
            }
            // What stands here twice stays, and is objected to by name.
            None => {
                result.retain(|(known, is_merged)| !is_merged || known.key != entry.key);
                result.push((entry, false));
            }
        }
    }
    result.into_iter().map(|(entry, _)| entry).collect()
}

/// What a merge key can hold: a mapping, or a list of them.
fn mappings(node: &Node) -> Option<Vec<Vec<Entry>>> {
    match &node.value {
        Value::Mapping(entries) => Some(vec![entries.clone()]),
        Value::Sequence(items) => items
            .iter()
            .map(|item| match &item.value {
                Value::Mapping(entries) => Some(entries.clone()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TypedVisitor)
    }
}

struct TypedVisitor;

impl<'de> Visitor<'de> for TypedVisitor {
    type Value = Typed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Typed, E> {
        Ok(Typed::Null)
    }

    fn visit_none<E>(self) -> Result<Typed, E> {
        Ok(Typed::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Typed, E> {
        Ok(Typed::Inferred)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Typed, E> {
        Ok(Typed::Inferred)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Typed, E> {
        Ok(Typed::Inferred)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Typed, E> {
        Ok(Typed::Inferred)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Typed, E> {
        Ok(Typed::Inferred)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Typed, E> {
        Ok(Typed::Inferred)
    }

    fn visit_str<E>(self, text: &str) -> Result<Typed, E> {
        Ok(Typed::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Typed, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Typed::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Typed, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Typed::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(line: u64, text: &str) -> Node {
        Node { line, value: Value::Scalar(text.to_owned()) }
    }

    fn entries(text: &str) -> Vec<Entry> {
        match parse(text).unwrap().value {
            Value::Mapping(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_scalar_keeps_its_spelling_and_line() {
        let text = "# c\na: 0600\nb: 1_000\nc: yes\nd: 1.50\ne: \"012\"\nf: 12e4\ng: plain text # note\nh: é 5\ni:   00123\n\
                    j: 99999999999999999999999999\nk: 0x1F\nl: TRUE\nm: '$x'\n";
        let found: Vec<_> =
            entries(text).into_iter().map(|entry| (entry.line, entry.key, entry.node)).collect();
        let expected = [
            ("a", "0600"),
            ("b", "1_000"),
            ("c", "yes"),
            ("d", "1.50"),
            ("e", "012"),
            ("f", "12e4"),
            ("g", "plain text"),
            ("h", "é 5"),
            ("i", "00123"),
            ("j", "99999999999999999999999999"),
            ("k", "0x1F"),
            ("l", "TRUE"),
            ("m", "$x"),
        ];
        for (index, (key, text)) in expected.iter().enumerate() {
            let line = index as u64 + 2;
            assert_eq!(found[index], (line, (*key).to_owned(), scalar(line, text)));
        }
    }

    #[test]
    fn nothing_lists_and_nested_mappings() {
        let found = entries("empty:\ntilde: ~\nlist:\n  - 1\n  - x: 2\n");
        assert_eq!(found[0].node.value, Value::Null);
        assert_eq!(found[1].node.value, Value::Null);
        let Value::Sequence(items) = &found[2].node.value else { panic!("{found:?}") };
        assert_eq!(items[0], scalar(4, "1"));
        let Value::Mapping(inner) = &items[1].value else { panic!("{items:?}") };
        assert_eq!((inner[0].line, inner[0].key.as_str(), &inner[0].node), (5, "x", &scalar(5, "2")));
        assert_eq!(parse("").unwrap().value, Value::Null);
        assert_eq!(parse("# only a comment\n\n").unwrap().value, Value::Null);
    }

    #[test]
    fn anchors_merge_keys_and_repeated_keys() {
        let text = "base: &base\n  region: 012\nuse:\n  <<: *base\n  path: p\ncopy: *base\na: 1\na: 2\n";
        let found = entries(text);
        let Value::Mapping(merged) = &found[1].node.value else { panic!("{found:?}") };
        let region = merged.iter().find(|entry| entry.key == "region").unwrap();
        assert_eq!(region.node.value, Value::Scalar("012".to_owned()));
        let Value::Mapping(copied) = &found[2].node.value else { panic!("{found:?}") };
        assert_eq!(copied[0].node.value, Value::Scalar("012".to_owned()));
        assert_eq!((found[3].key.as_str(), found[4].key.as_str()), ("a", "a"));
    }

    /// Both orders as Litestream 0.5.17 was seen to read them.
    #[test]
    fn a_merge_key_counts_where_it_stands() {
        let base = "base: &base {path: base, region: r}\nother: &other {path: other, skew: s}\n";
        for (mapping, expected) in [
            ("  <<: *base\n  path: own\n", "region=r path=own"),
            ("  path: own\n  <<: *base\n", "path=base region=r"),
            ("  <<: [*base, *other]\n", "skew=s path=base region=r"),
            ("  <<: *base\n  path: a\n  path: b\n", "region=r path=a path=b"),
            ("  <<: text\n", "<<=text"),
        ] {
            let found = entries(&format!("{base}use:\n{mapping}"));
            let Value::Mapping(entries) = &found[2].node.value else { panic!("{found:?}") };
            let shown = entries.iter().map(|entry| match &entry.node.value {
                Value::Scalar(text) => format!("{}={text}", entry.key),
                other => panic!("{other:?}"),
            });
            assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{mapping}");
        }
    }

    #[test]
    fn one_anchor_may_be_used_by_every_entry() {
        let mut text = String::from("base: &base {region: x}\nall:\n");
        for _ in 0..1000 {
            text.push_str("- *base\n");
        }
        let Value::Sequence(items) = &entries(&text)[1].node.value else { panic!("{text}") };
        assert_eq!(items.len(), 1000);
        // But not without bound, neither in values nor in bytes.
        let wide = format!("base: &base [{}]\n", vec!["x"; 1000].join(","));
        let long = format!("base: &base {}\n", "x".repeat(1 << 20));
        for base in [wide, long] {
            assert!(parse(&format!("{base}all: [{}]\n", vec!["*base"; 5000].join(","))).is_err());
        }
    }

    #[test]
    fn any_number_of_lines_may_be_commented_out() {
        let text = format!("dbs:\n{}- path: a\n", "#- path: b\n".repeat(5000));
        let Value::Sequence(items) = &entries(&text)[0].node.value else { panic!() };
        assert_eq!((items.len(), items[0].line), (1, 5002));
    }

    #[test]
    fn bad_syntax_names_the_line_and_quotes_nothing() {
        let error = parse("a: 1\nsecret-access-key: \"hunter2\nb: [").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let text = error.to_string();
        assert!(text.contains("line ") && !text.contains("hunter2"), "{text}");
        // Nested too deep or expanded too far: an error, not a stack overflow or a full memory.
        assert!(parse(&"[".repeat(100_000)).is_err());
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![previous; 10].join(",")));
        }
        assert!(parse(&bomb).is_err());
    }
}
