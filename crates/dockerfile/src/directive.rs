//! Parser directives: `# key=value` comments at the very top of a file.
//!
//! They end at the first line that is anything else: an instruction, an empty line, another comment.
//! A directive that nobody knows is a comment, and ends them too.

use crate::error::{Error, Problem};

/// What the directives of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// A frontend image, such as `docker/dockerfile:1`. It is read and not fetched: this parser is
    /// the frontend.
    pub syntax: Option<String>,
    /// `\` or `` ` ``: continues lines and takes the meaning from the character behind it.
    pub escape: char,
    /// What `# check=` asks of the build checks, verbatim.
    pub check: Option<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

impl Directives {
    /// Reads the directives of `text`.
    ///
    /// # Errors
    /// A directive that stands twice, an escape that is neither `\` nor `` ` ``.
    pub fn read(text: &str) -> Result<Self, Error> {
        let mut directives = Self::default();
        let mut escape_seen = false;
        for (index, line) in text.lines().enumerate() {
            let Some((name, value)) = directive(line) else { break };
            let line = index + 1;
            let twice = || {
                Problem::Directive { name: name.clone(), problem: "only one of it can be used".into() }
                    .at(line)
            };
            match name.as_str() {
                "syntax" if directives.syntax.is_some() => return Err(twice()),
                "syntax" => directives.syntax = Some(value.to_owned()),
                "check" if directives.check.is_some() => return Err(twice()),
                "check" => directives.check = Some(value.to_owned()),
                "escape" if escape_seen => return Err(twice()),
                "escape" => {
                    escape_seen = true;
                    directives.escape = match value {
                        "\\" => '\\',
                        "`" => '`',
                        other => {
                            let problem = format!("invalid ESCAPE {other:?}: it must be ` or \\");
                            return Err(Problem::Directive { name, problem }.at(line));
                        }
                    };
                }
                _ => break,
            }
        }
        Ok(directives)
    }
}

/// `# name = value`, the name in lower case.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let name = name.trim();
    let word = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|character| character.is_ascii_alphanumeric());
    word.then(|| (name.to_ascii_lowercase(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_stand_at_the_top_alone() {
        let read = |text: &str| Directives::read(text).unwrap();
        let both = read("# syntax=docker/dockerfile:1\n# Escape = `\nFROM x\n");
        assert_eq!(both.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(both.escape, '`');
        assert_eq!(read("FROM x\n# escape=`\n").escape, '\\');
        assert_eq!(read("\n# escape=`\n").escape, '\\', "an empty line ends them");
        assert_eq!(read("# a comment\n# escape=`\n").escape, '\\', "a comment ends them");
        assert_eq!(read("# unknown=1\n# escape=`\n").escape, '\\', "an unknown one is a comment");
        assert_eq!(read("#check=skip=all").check.as_deref(), Some("skip=all"));
    }

    #[test]
    fn a_directive_stands_once_and_escape_is_one_of_two() {
        assert_eq!(Directives::read("# escape=x\n").unwrap_err().line, 1);
        assert_eq!(Directives::read("# escape=\\\n# escape=`\n").unwrap_err().line, 2);
        assert_eq!(Directives::read("# syntax=a\n# syntax=b\n").unwrap_err().line, 2);
    }
}
