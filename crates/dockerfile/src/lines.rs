//! From physical lines to logical ones.
//!
//! A line that is a comment goes, wherever it stands, between the parts of a continued line too. A
//! line that ends in the escape character is joined with the next. Behind `RUN`, `COPY` and `ADD`
//! (and behind `ONBUILD` of these), each `<<NAME` takes the lines up to one that is `NAME` alone.

use crate::error::{Error, Problem};
use crate::instruction::HereDocument;

/// An instruction's text in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The physical lines, from 1, both included, here-documents too.
    pub first: usize,
    pub last: usize,
    pub text: String,
    pub here_documents: Vec<HereDocument>,
}

/// Here-documents of one instruction, at most.
const HERE_DOCUMENTS_MAX: usize = 64;

/// The logical lines of a file.
pub fn logical(text: &str, escape: char) -> Result<Vec<Line>, Error> {
    let mut physical = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut lines = Vec::new();
    while let Some((first, line)) = physical.next() {
        if is_comment(line) || line.trim().is_empty() {
            continue;
        }
        let (part, mut open) = continued(line.trim_start(), escape);
        let mut joined = part.to_owned();
        let mut last = first;
        while open {
            let Some((number, next)) = physical.next() else { break };
            last = number;
            // An empty line between the parts has been deprecated since 2017 and still goes.
            if is_comment(next) || next.trim().is_empty() {
                continue;
            }
            let (part, goes_on) = continued(next, escape);
            joined.push_str(part);
            open = goes_on;
        }
        let mut here_documents = Vec::new();
        for opening in openings(&joined, escape) {
            if here_documents.len() == HERE_DOCUMENTS_MAX {
                let problem = Problem::TooMany { what: "heredocs on one line", max: HERE_DOCUMENTS_MAX };
                return Err(problem.at(first));
            }
            let (document, end) = read_document(&opening, &mut physical)
                .ok_or_else(|| Problem::HereDocument { name: opening.name.clone() }.at(first))?;
            last = end;
            here_documents.push(document);
        }
        lines.push(Line { first, last, text: joined.trim_end().to_owned(), here_documents });
    }
    Ok(lines)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The line without its continuation, and whether it had one. Two escape characters at the end are
/// one that is meant.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

/// `<<NAME`, `<<-NAME`, `<<"NAME"`.
struct Opening {
    name: String,
    /// Tabs at the start of each line go.
    chomp: bool,
    /// Without quotes around the name, variables in the text are expanded (by `COPY` and `ADD`; a
    /// `RUN` leaves that to its shell).
    expand: bool,
}

fn openings(text: &str, escape: char) -> Vec<Opening> {
    if !takes_here_documents(text) {
        return Vec::new();
    }
    words_outside_quotes(text, escape).filter_map(opening).collect()
}

fn takes_here_documents(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let Some(mut word) = words.next() else { return false };
    if word.eq_ignore_ascii_case("ONBUILD") {
        let Some(next) = words.next() else { return false };
        word = next;
    }
    ["RUN", "COPY", "ADD"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The words of a command line, quotes kept, as far as a shell would see words.
fn words_outside_quotes(text: &str, escape: char) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let end = crate::expand::word_end(rest, escape);
        let (word, behind) = rest.split_at(end);
        rest = behind;
        Some(word)
    })
}

fn opening(word: &str) -> Option<Opening> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let name = word[digits..].strip_prefix("<<")?;
    let (name, chomp) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
    let unquoted: String = name.chars().filter(|character| !matches!(character, '"' | '\'')).collect();
    let plain = !unquoted.is_empty()
        && unquoted
            .chars()
            .all(|character| character.is_alphanumeric() || matches!(character, '_' | '-' | '.'));
    plain.then_some(Opening { expand: unquoted.len() == name.len(), name: unquoted, chomp })
}

fn read_document<'t>(
    opening: &Opening,
    physical: &mut impl Iterator<Item = (usize, &'t str)>,
) -> Option<(HereDocument, usize)> {
    let mut content = String::new();
    for (number, line) in physical {
        let line = if opening.chomp { line.trim_start_matches('\t') } else { line };
        if line == opening.name {
            let document = HereDocument { name: opening.name.clone(), content, expand: opening.expand };
            return Some((document, number));
        }
        content.push_str(line);
        content.push('\n');
    }
    None
}
