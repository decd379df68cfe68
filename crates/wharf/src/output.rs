//! Data goes to stdout, everything else to stderr. Colours only where a terminal reads.

use std::io::Write as _;

use serde::Serialize;

use crate::failure::Failure;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

/// One line of data. A reader that went away ends nothing: there is nobody left to tell.
pub fn line(text: impl AsRef<str>) {
    let _ = writeln!(anstream::stdout().lock(), "{}", text.as_ref());
}

/// One line for the person who watches.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(anstream::stderr().lock(), "{}", text.as_ref());
}

pub fn failure(failure: &Failure) {
    note(format!("{RED}error:{RESET} {failure}"));
    if let Some(hint) = failure.hint_text() {
        note(format!("{CYAN}hint:{RESET} {hint}"));
    }
}

/// A value as JSON, indented.
pub fn json(value: &impl Serialize) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A value as JSON on one line, for a program that reads lines.
pub fn json_line(value: &impl Serialize) {
    line(serde_json::to_string(value).unwrap_or_default());
}

/// Columns as wide as their widest cell; the last one is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].len()]).max().unwrap_or_default()
        })
        .collect();
    let format = |cells: &[String]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.trim_end().to_owned()
    };
    let titles: Vec<String> = header.iter().map(|&title| title.to_owned()).collect();
    line(format!("{BOLD}{}{RESET}", format(&titles)));
    for row in rows {
        line(format(row));
    }
}

/// `1.5 MB`, in decimal units.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(2_000_000), "2.0 MB");
        assert_eq!(bytes(999_999_999), "1.0 GB");
    }
}
