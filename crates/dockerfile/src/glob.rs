//! Wildcards in paths: `*` and `?` within one name, `[a-z]`, `[^a-z]`, `\x`, and `**` for any number
//! of directories (moby/patternmatcher and Go's `path/filepath.Match`).

/// A pattern, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// One entry for each name between slashes.
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`
    Directories,
    Name(Vec<Atom>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Is(char),
    One,
    Any,
    Of { ranges: Vec<(char, char)>, negated: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {0:?}")]
pub struct BadPattern(pub String);

/// Whether a pattern matches a path, or a directory above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    No,
    Path,
    Parent,
}

impl Glob {
    /// Compiles a pattern. Leading, trailing and doubled slashes and `.` count for nothing.
    ///
    /// # Errors
    /// [`BadPattern`]: a `[` that is not closed, an empty class, a `\` at the end.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        let bad = || BadPattern(pattern.to_owned());
        let mut segments = Vec::new();
        for name in split_path(pattern) {
            let segment =
                if name == "**" { Segment::Directories } else { Segment::Name(atoms(name).ok_or_else(bad)?) };
            // Two in a row say no more than one, and would cost more.
            if segments.last() != Some(&Segment::Directories) || segment != Segment::Directories {
                segments.push(segment);
            }
        }
        Ok(Self { segments })
    }

    /// Whether there is a wildcard in the pattern at all.
    pub fn is_literal(pattern: &str) -> bool {
        !pattern.contains(['*', '?', '[', '\\'])
    }

    pub fn matches(&self, path: &str) -> bool {
        self.matched(path) == Matched::Path
    }

    pub fn matched(&self, path: &str) -> Matched {
        let count = self.segments.len();
        let mut parent = false;
        // What is matched already, with a name still to come, is a directory above.
        let states = self.walk(path, |states| parent |= states[count]);
        if states[count] {
            Matched::Path
        } else if parent {
            Matched::Parent
        } else {
            Matched::No
        }
    }

    /// Whether something below the directory `path` could match: a walk need not enter otherwise.
    pub fn may_match_below(&self, path: &str) -> bool {
        self.walk(path, |_| {})[..self.segments.len()].contains(&true)
    }

    /// How many of the pattern's segments the path's names can have used up; `before` sees that
    /// before each name. The product of both, never more.
    fn walk(&self, path: &str, mut before: impl FnMut(&[bool])) -> Vec<bool> {
        let mut states = vec![false; self.segments.len() + 1];
        states[0] = true;
        self.close(&mut states);
        for name in split_path(path) {
            before(&states);
            let mut next = vec![false; states.len()];
            for (index, segment) in self.segments.iter().enumerate().filter(|(index, _)| states[*index]) {
                match segment {
                    Segment::Directories => next[index] = true,
                    Segment::Name(atoms) if name_matches(atoms, name) => next[index + 1] = true,
                    Segment::Name(_) => {}
                }
            }
            self.close(&mut next);
            states = next;
        }
        states
    }

    fn close(&self, states: &mut [bool]) {
        for (index, segment) in self.segments.iter().enumerate() {
            if states[index] && *segment == Segment::Directories {
                states[index + 1] = true;
            }
        }
    }
}

fn split_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

fn atoms(name: &str) -> Option<Vec<Atom>> {
    let mut atoms = Vec::new();
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        atoms.push(match character {
            '*' => {
                while characters.next_if_eq(&'*').is_some() {}
                Atom::Any
            }
            '?' => Atom::One,
            '\\' => Atom::Is(characters.next()?),
            '[' => {
                let negated = characters.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    if !ranges.is_empty() && characters.next_if_eq(&']').is_some() {
                        break;
                    }
                    let low = class_character(&mut characters)?;
                    let high = if characters.next_if_eq(&'-').is_some() {
                        class_character(&mut characters)?
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                Atom::Of { ranges, negated }
            }
            other => Atom::Is(other),
        });
    }
    Some(atoms)
}

fn class_character(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match characters.next()? {
        '\\' => characters.next(),
        '-' | ']' => None,
        other => Some(other),
    }
}

/// One name against one segment: the last `*` is the only place to come back to.
fn name_matches(atoms: &[Atom], name: &str) -> bool {
    let characters: Vec<char> = name.chars().collect();
    let (mut atom, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < characters.len() {
        let here = characters[position];
        let fits = match atoms.get(atom) {
            Some(Atom::Any) => {
                star = Some((atom, position));
                atom += 1;
                continue;
            }
            Some(Atom::One) => true,
            Some(Atom::Is(wanted)) => *wanted == here,
            Some(Atom::Of { ranges, negated }) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&here)) != *negated
            }
            None => false,
        };
        if fits {
            atom += 1;
            position += 1;
        } else if let Some((star_atom, star_position)) = star {
            star = Some((star_atom, star_position + 1));
            atom = star_atom + 1;
            position = star_position + 1;
        } else {
            return false;
        }
    }
    atoms[atom.min(atoms.len())..].iter().all(|atom| *atom == Atom::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::new(pattern).unwrap().matches(path)
    }

    #[test]
    fn a_star_stays_within_a_name_and_two_do_not() {
        assert!(matches("*.txt", "a.txt") && !matches("*.txt", "d/a.txt"));
        assert!(matches("d/*", "d/a.txt") && !matches("d/*", "d/e/a.txt"));
        assert!(matches("**/*.go", "a.go") && matches("**/*.go", "x/y/a.go"));
        assert!(matches("x/**", "x/y/z") && matches("x/**/z", "x/z") && matches("x/**/z", "x/a/b/z"));
        assert!(!matches("x/**/z", "x/a/b"));
    }

    #[test]
    fn classes_and_escapes_are_those_of_go() {
        assert!(matches("hom?.txt", "home.txt") && !matches("hom?.txt", "hom.txt"));
        assert!(matches("[a-c]x", "bx") && !matches("[^a-c]x", "bx") && matches("[^a-c]x", "dx"));
        assert!(matches(r"a\*b", "a*b") && !matches(r"a\*b", "axb"));
        assert!(matches("arr[[]0].txt", "arr[0].txt"), "the example of the reference");
        for bad in ["[", "[]", "[a", "a\\", "[-]", "[a-]"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_above_is_told_apart() {
        let glob = Glob::new("node_modules").unwrap();
        assert_eq!(glob.matched("node_modules"), Matched::Path);
        assert_eq!(glob.matched("node_modules/a/b"), Matched::Parent);
        assert_eq!(glob.matched("src/node_modules"), Matched::No);
    }

    #[test]
    fn a_walk_enters_only_where_something_can_match() {
        let below = |pattern: &str, path: &str| Glob::new(pattern).unwrap().may_match_below(path);
        assert!(below("src/*.rs", "src") && !below("src/*.rs", "doc") && !below("src/*.rs", "src/a"));
        assert!(below("**/x", "any/where"));
    }

    #[test]
    fn many_stars_cost_no_more_than_the_product() {
        let pattern = "a*".repeat(2_000);
        assert!(!matches(&pattern, &"a".repeat(1_999)));
        let deep = "**/a/".repeat(500);
        assert!(!matches(&deep, &"a/".repeat(499)));
    }
}
