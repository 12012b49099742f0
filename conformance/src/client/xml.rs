//! Just enough XML to read S3's flat answers: the text of elements by name, in order.

/// Text of the first element with this name.
#[must_use]
pub fn first(text: &str, element: &str) -> Option<String> {
    all(text, element).into_iter().next()
}

/// Text of every element with this name; an element with children gives their markup.
#[must_use]
pub fn all(text: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&open) {
        rest = &rest[start + open.len()..];
        // `<Key` is also the start of `<KeyCount>`.
        let Some(end_of_tag) = rest.find('>') else { break };
        let attributes = &rest[..end_of_tag];
        let same_name = attributes.is_empty() || attributes.starts_with([' ', '/']);
        rest = &rest[end_of_tag + 1..];
        if !same_name {
            continue;
        }
        if attributes.ends_with('/') {
            found.push(String::new());
            continue;
        }
        let Some(end) = rest.find(&close) else { break };
        found.push(unescape(&rest[..end]));
        rest = &rest[end + close.len()..];
    }
    found
}

/// Replaces character references.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';') else { break };
        let name = &rest[1..end];
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let character = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => match name.strip_prefix("#x").or_else(|| name.strip_prefix("#X")) {
                Some(hex) => number(hex, 16),
                None => name.strip_prefix('#').and_then(|digits| number(digits, 10)),
            },
        };
        match character {
            Some(character) => out.push(character),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

/// Makes text safe inside an element.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole() {
        let text = "<R><KeyCount>2</KeyCount><Key>a&amp;b</Key><Key x='1'>c</Key><Key/></R>";
        assert_eq!(all(text, "Key"), ["a&b", "c", ""]);
        assert_eq!(first(text, "KeyCount").as_deref(), Some("2"));
        assert_eq!(first(text, "Prefix"), None);
    }

    #[test]
    fn references() {
        assert_eq!(unescape("&lt;&#65;&#x42;&nope;&"), "<AB&nope;&");
        assert_eq!(unescape(&escape("<a&b>")), "<a&b>");
    }
}
