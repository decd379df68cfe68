//! Words: quotes, escapes and variables.
//!
//! The forms are BuildKit's: `$name`, `${name}`, `${name-word}`, `${name:-word}`, `${name+word}`,
//! `${name:+word}`, `${name?word}`, `${name:?word}`, `${name#pattern}`, `${name##pattern}`,
//! `${name%pattern}`, `${name%%pattern}`, `${name/pattern/replacement}`,
//! `${name//pattern/replacement}`. Text in single quotes is itself; in double quotes variables are
//! expanded and the escape character keeps its meaning before `"`, `$` and itself.

use std::collections::BTreeSet;

/// Expansions inside expansions, at most.
const DEPTH_MAX: usize = 32;
/// What one word may grow to (1 MiB).
const WORD_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    #[error("unexpected end of statement while looking for matching {0:?}")]
    Unterminated(char),
    #[error("unsupported modifier ({modifier}) in substitution of {name:?}")]
    Modifier { name: String, modifier: String },
    #[error("bad substitution: {0:?}")]
    BadSubstitution(String),
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("more than {DEPTH_MAX} expansions inside each other")]
    TooDeep,
    #[error("a word grows past {WORD_BYTES_MAX} bytes")]
    TooLong,
}

/// Expands words in the environment that `lookup` knows.
pub struct Expander<'e> {
    escape: char,
    lookup: &'e dyn Fn(&str) -> Option<String>,
}

/// A word with what it asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// The variables that were asked for and are not set: for warnings.
    pub unset: BTreeSet<String>,
}

impl<'e> Expander<'e> {
    pub fn new(escape: char, lookup: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { escape, lookup }
    }

    /// One word: quotes are taken away, variables put in.
    ///
    /// # Errors
    /// As [`ExpandError`] says.
    pub fn word(&self, word: &str) -> Result<String, ExpandError> {
        self.expand(word).map(|expanded| expanded.text)
    }

    /// As [`Expander::word`], with the variables that were not there.
    ///
    /// # Errors
    /// As [`ExpandError`] says.
    pub fn expand(&self, word: &str) -> Result<Expanded, ExpandError> {
        let mut reader = Reader::new(self, word);
        let text = reader.until(None, 0)?;
        Ok(Expanded { text, unset: reader.unset })
    }

    /// A word that may become several, as `EXPOSE $PORTS`: what an unquoted variable brings is split
    /// at white space.
    ///
    /// # Errors
    /// As [`ExpandError`] says.
    pub fn words(&self, text: &str) -> Result<Vec<String>, ExpandError> {
        let mut out = Vec::new();
        for word in split(text, self.escape) {
            let expanded = self.word(word)?;
            if word.contains(['"', '\'']) {
                out.push(expanded);
            } else {
                out.extend(expanded.split_whitespace().map(str::to_owned));
            }
        }
        Ok(out)
    }

    /// The text of a here-document: variables are put in, quotes mean themselves.
    ///
    /// # Errors
    /// As [`ExpandError`] says.
    pub fn document(&self, text: &str) -> Result<String, ExpandError> {
        let mut reader = Reader::new(self, text);
        reader.quotes = Quotes::AreText;
        reader.until(None, 0)
    }
}

/// The words of a text at its white space, quotes and escapes kept as they stand.
pub fn split(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, behind) = rest.split_at(word_end(rest, escape));
        words.push(word);
        rest = behind.trim_start();
    }
    words
}

/// Where the word at the start of `text` ends: white space inside quotes and behind an escape
/// belongs to it.
pub(crate) fn word_end(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return index,
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some('\'') if character != '\'' => {}
            _ if character == escape => {
                characters.next();
            }
            Some(open) if character == open => quote = None,
            _ => {}
        }
    }
    text.len()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Quote,
    AreText,
}

struct Reader<'r, 'e> {
    expander: &'r Expander<'e>,
    characters: std::iter::Peekable<std::str::Chars<'r>>,
    quotes: Quotes,
    unset: BTreeSet<String>,
}

impl<'r, 'e> Reader<'r, 'e> {
    fn new(expander: &'r Expander<'e>, text: &'r str) -> Self {
        Self { expander, characters: text.chars().peekable(), quotes: Quotes::Quote, unset: BTreeSet::new() }
    }

    /// Up to the unquoted character `end`, which is consumed, or up to the end of the text.
    fn until(&mut self, end: Option<char>, depth: usize) -> Result<String, ExpandError> {
        self.until_any(end.as_slice(), depth).map(|(text, _)| text)
    }

    fn until_any(&mut self, ends: &[char], depth: usize) -> Result<(String, Option<char>), ExpandError> {
        if depth > DEPTH_MAX {
            return Err(ExpandError::TooDeep);
        }
        let mut out = String::new();
        while let Some(character) = self.characters.next() {
            if ends.contains(&character) {
                return Ok((out, Some(character)));
            }
            match character {
                '\'' if self.quotes == Quotes::Quote => self.single_quoted(&mut out)?,
                '"' if self.quotes == Quotes::Quote => self.double_quoted(&mut out, depth)?,
                '$' => out.push_str(&self.dollar(depth)?),
                _ if character == self.expander.escape => self.escaped(&mut out),
                _ => out.push(character),
            }
            if out.len() > WORD_BYTES_MAX {
                return Err(ExpandError::TooLong);
            }
        }
        match ends.last() {
            Some(end) => Err(ExpandError::Unterminated(*end)),
            None => Ok((out, None)),
        }
    }

    /// Behind the escape character.
    fn escaped(&mut self, out: &mut String) {
        match self.characters.next() {
            // In a document only what would be expanded can be escaped.
            Some(next) if self.quotes == Quotes::AreText && next != '$' && next != self.expander.escape => {
                out.push(self.expander.escape);
                out.push(next);
            }
            Some(next) => out.push(next),
            None => out.push(self.expander.escape),
        }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), ExpandError> {
        for character in self.characters.by_ref() {
            if character == '\'' {
                return Ok(());
            }
            out.push(character);
        }
        Err(ExpandError::Unterminated('\''))
    }

    fn double_quoted(&mut self, out: &mut String, depth: usize) -> Result<(), ExpandError> {
        while let Some(character) = self.characters.next() {
            match character {
                '"' => return Ok(()),
                '$' => out.push_str(&self.dollar(depth)?),
                _ if character == self.expander.escape => match self.characters.peek() {
                    Some(&next) if next == '"' || next == '$' || next == self.expander.escape => {
                        out.push(next);
                        self.characters.next();
                    }
                    _ => out.push(character),
                },
                _ => out.push(character),
            }
        }
        Err(ExpandError::Unterminated('"'))
    }

    /// Behind a `$`.
    fn dollar(&mut self, depth: usize) -> Result<String, ExpandError> {
        if self.characters.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        let name = self.name();
        if name.is_empty() {
            return Err(ExpandError::BadSubstitution(self.characters.clone().take(32).collect()));
        }
        match self.characters.next() {
            None => Err(ExpandError::Unterminated('}')),
            Some('}') => Ok(self.value(&name).unwrap_or_default()),
            Some(':') => {
                let modifier = self.characters.next().ok_or(ExpandError::Unterminated('}'))?;
                self.modified(&name, modifier, Unset::OrEmpty, depth)
            }
            Some(modifier @ ('+' | '-' | '?')) => self.modified(&name, modifier, Unset::Alone, depth),
            Some(modifier @ ('#' | '%')) => {
                let greedy = self.characters.next_if_eq(&modifier).is_some();
                let pattern = self.pattern(&['}'], depth)?.0;
                let value = self.value(&name).unwrap_or_default();
                Ok(match (modifier, greedy) {
                    ('#', _) => strip_prefix(&value, &pattern, greedy),
                    _ => strip_suffix(&value, &pattern, greedy),
                })
            }
            Some('/') => {
                let all = self.characters.next_if_eq(&'/').is_some();
                let (pattern, end) = self.pattern(&['/', '}'], depth)?;
                let replacement = if end == '/' { self.until(Some('}'), depth + 1)? } else { String::new() };
                let value = self.value(&name).unwrap_or_default();
                replace(&value, &pattern, &replacement, all)
            }
            Some(other) => Err(ExpandError::Modifier { name, modifier: other.to_string() }),
        }
    }

    fn modified(
        &mut self,
        name: &str,
        modifier: char,
        unset: Unset,
        depth: usize,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), depth + 1)?;
        let value = (self.expander.lookup)(name).filter(|value| unset == Unset::Alone || !value.is_empty());
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map_or_else(String::new, |_| word)),
            ('?', Some(value)) => Ok(value),
            ('?', None) => {
                let message = if word.is_empty() { "is not allowed to be unset".to_owned() } else { word };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
            _ => Err(ExpandError::Modifier { name: name.to_owned(), modifier: format!(":{modifier}") }),
        }
    }

    /// A shell pattern; what the escape character hides stays hidden by `\`.
    fn pattern(&mut self, ends: &[char], depth: usize) -> Result<(Vec<Atom>, char), ExpandError> {
        let mut atoms = Vec::new();
        loop {
            match self.characters.next() {
                None => return Err(ExpandError::Unterminated('}')),
                Some(character) if ends.contains(&character) => return Ok((atoms, character)),
                Some('*') => atoms.push(Atom::Any),
                Some('?') => atoms.push(Atom::One),
                Some('$') => atoms.extend(self.dollar(depth + 1)?.chars().map(Atom::Is)),
                Some(character) if character == self.expander.escape => {
                    atoms.extend(self.characters.next().map(Atom::Is));
                }
                Some(character) => atoms.push(Atom::Is(character)),
            }
            if depth > DEPTH_MAX {
                return Err(ExpandError::TooDeep);
            }
        }
    }

    /// `HOME`, `_x1`, or one digit or special character as in a shell.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.characters.peek() {
            Some(&first) if first.is_ascii_alphabetic() || first == '_' => {
                while let Some(next) = self.characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(next);
                }
            }
            Some(&first) if first.is_ascii_digit() => {
                while let Some(next) = self.characters.next_if(char::is_ascii_digit) {
                    name.push(next);
                }
            }
            Some(&special) if matches!(special, '@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.push(special);
                self.characters.next();
            }
            _ => {}
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.expander.lookup)(name);
        if value.is_none() {
            self.unset.insert(name.to_owned());
        }
        value
    }
}

/// Whether an empty value counts as none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unset {
    Alone,
    OrEmpty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Atom {
    Is(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// The lengths, in characters, of the prefixes of `text` that `pattern` matches. Walks the pattern's
/// states over the text: the product of both, never more.
fn matched_prefixes(text: &[char], pattern: &[Atom]) -> Vec<usize> {
    let mut states = vec![false; pattern.len() + 1];
    states[0] = true;
    let close = |states: &mut Vec<bool>| {
        for (index, atom) in pattern.iter().enumerate() {
            if states[index] && *atom == Atom::Any {
                states[index + 1] = true;
            }
        }
    };
    close(&mut states);
    let mut lengths = Vec::new();
    if states[pattern.len()] {
        lengths.push(0);
    }
    for (position, character) in text.iter().enumerate() {
        let mut next = vec![false; pattern.len() + 1];
        for (index, atom) in pattern.iter().enumerate() {
            if !states[index] {
                continue;
            }
            match atom {
                Atom::Any => next[index] = true,
                Atom::One => next[index + 1] = true,
                Atom::Is(wanted) if wanted == character => next[index + 1] = true,
                Atom::Is(_) => {}
            }
        }
        states = next;
        close(&mut states);
        if states[pattern.len()] {
            lengths.push(position + 1);
        }
    }
    lengths
}

fn strip_prefix(value: &str, pattern: &[Atom], greedy: bool) -> String {
    let characters: Vec<char> = value.chars().collect();
    let lengths = matched_prefixes(&characters, pattern);
    let length = if greedy { lengths.last() } else { lengths.first() };
    characters[length.copied().unwrap_or(0)..].iter().collect()
}

fn strip_suffix(value: &str, pattern: &[Atom], greedy: bool) -> String {
    let reversed: Vec<char> = value.chars().rev().collect();
    let backwards: Vec<Atom> = pattern.iter().rev().copied().collect();
    let lengths = matched_prefixes(&reversed, &backwards);
    let length = if greedy { lengths.last() } else { lengths.first() };
    reversed[length.copied().unwrap_or(0)..].iter().rev().collect()
}

/// The values that a replacement walks over, at most: its time is their square.
const REPLACED_CHARACTERS_MAX: usize = 4_096;

fn replace(value: &str, pattern: &[Atom], replacement: &str, all: bool) -> Result<String, ExpandError> {
    let characters: Vec<char> = value.chars().collect();
    if characters.len() > REPLACED_CHARACTERS_MAX {
        return Err(ExpandError::TooLong);
    }
    let mut out = String::new();
    let mut position = 0;
    while position < characters.len() {
        let longest = matched_prefixes(&characters[position..], pattern).last().copied().unwrap_or(0);
        if longest == 0 {
            out.push(characters[position]);
            position += 1;
            continue;
        }
        out.push_str(replacement);
        if out.len() > WORD_BYTES_MAX {
            return Err(ExpandError::TooLong);
        }
        position += longest;
        if !all {
            break;
        }
    }
    out.extend(characters.get(position..).unwrap_or_default());
    Ok(out)
}
