//! Columns for people.

use std::io::{self, Write as _};

/// Prints rows under a heading, each column as wide as its widest cell.
pub(super) fn print<const N: usize>(heading: [&str; N], rows: &[[String; N]]) {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&widths, heading.iter().copied());
    for row in rows {
        text.push_str(&line(&widths, row.iter().map(String::as_str)));
    }
    say(&text);
}

fn line<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells
        .zip(widths)
        .map(|(cell, &width)| format!("{cell:width$}"))
        .collect();
    format!("{}\n", cells.join("  ").trim_end())
}

/// Writes text to standard output. A reader that has gone away, like `head`, is no error.
pub(crate) fn say(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_has_no_blanks_at_its_end() {
        assert_eq!(line(&[4, 3], ["ab", "c"].into_iter()), "ab    c\n");
    }
}
