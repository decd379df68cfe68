//! Where a value stands in an input, in the form of AWS's messages:
//! `containerDefinitions.1.member.name`.

use std::fmt;

/// A path from an input's root, grown and shrunk while a value is walked.
#[derive(Clone, Debug, Default)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug)]
pub enum Step {
    Member(&'static str),
    /// An item of a list, counted from zero; AWS's messages count from one.
    Item(usize),
    /// The value of an entry of a map.
    Entry(String),
}

impl Path {
    pub fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// The path of a member of the place where the path ends.
    pub fn with_member(&self, member: &'static str) -> String {
        let mut path = self.to_string();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&uncapitalized(member));
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(".")?;
            }
            match step {
                Step::Member(name) => formatter.write_str(&uncapitalized(name))?,
                Step::Item(item) => write!(formatter, "{}.member", item + 1)?,
                Step::Entry(key) => write!(formatter, "{key}.member")?,
            }
        }
        Ok(())
    }
}

/// AWS's messages have `roleArn` for the member `RoleArn`.
fn uncapitalized(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_form_of_aws_messages() {
        let mut path = Path::default();
        assert_eq!(path.with_member("RoleArn"), "roleArn");
        path.push(Step::Member("containerDefinitions"));
        path.push(Step::Item(0));
        assert_eq!(path.to_string(), "containerDefinitions.1.member");
        assert_eq!(path.with_member("name"), "containerDefinitions.1.member.name");
        path.pop();
        path.push(Step::Entry("k".into()));
        assert_eq!(path.to_string(), "containerDefinitions.k.member");
    }
}
