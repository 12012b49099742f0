//! Text and JSON in Litestream's shapes.

use serde::Serialize;

/// Columns padded by two spaces, the first row being the header; the last column is not padded.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let padding = widths[column] + 2 - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
    }
    text
}

/// A row of a table.
#[must_use]
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// JSON indented by two spaces, with a line feed at the end.
///
/// # Panics
/// Never: the types printed here have only text keys.
#[must_use]
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("plain structs are valid JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_by_two_spaces() {
        let rows = [row(["path", "replica"]), row(["/data/å.db", "s3"]), row(["", "file"])];
        assert_eq!(table(&rows), "path        replica\n/data/å.db  s3\n            file\n");
        assert_eq!(table(&[]), "");
    }
}
