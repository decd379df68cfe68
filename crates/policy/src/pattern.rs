//! Texts with wildcards and policy variables, compiled once and matched in linear time.
//!
//! `*` is any number of characters and `?` one character. Each literal run between stars is searched
//! for once, from left to right; what that cannot do (`?`, stars that stop at a colon) is done by an
//! automaton whose states are bits. Neither goes back, so no pattern is slow.
//!
//! IAM User Guide, "IAM policy elements: Variables and tags", "IAM JSON policy elements: Resource":
//! in a resource, a `*` that is the last character of one of the first five segments may expand
//! beyond its colon, any other may not; in the ARN operators none may.

use memchr::memmem::Finder;

use crate::context::{Context, Values};

/// What a pattern with variables may grow to. Longer ones match nothing: no ARN, name or tag that
/// AWS knows is as long.
const EXPANDED_BYTES_MAX: usize = 8192;
/// Colons at which a run is tried before it is searched for: more than an ARN mostly has.
const COLONS_LOOKED_AT: usize = 8;
/// Segments of an ARN that end at a colon.
const COLONS: usize = 5;

#[derive(Clone, Debug)]
pub struct Pattern {
    tokens: Vec<Token>,
    form: Form,
    /// Of each token that is a text behind a star, what finds it; made once.
    finders: Vec<Option<Finder<'static>>>,
    /// Of a pattern that needs one; made once.
    automaton: Option<Box<Automaton>>,
    /// With variables, and for an automaton: what matches whatever it does, and more. It turns down
    /// most texts before any variable is looked at and any step is taken.
    outline: Option<Box<Pattern>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    One(Across),
    Many(Across),
    Variable(Variable),
}

/// Whether a wildcard may stand for a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Across {
    Anything,
    NoColon,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    /// As it is written.
    key: String,
    /// In lower case, as contexts are asked.
    lower: String,
    default: Option<String>,
}

/// The cheapest way to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `*`
    Any,
    /// No wildcard.
    Exact,
    /// Runs of text between stars that stand for anything.
    Runs,
    Automaton,
    /// Known only when the variables are.
    Variable,
}

/// What `*` and `?` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wildcards {
    /// Themselves.
    Literal,
    /// Anything.
    Free,
    /// By the rules of the `Resource` element.
    Resource,
    /// By the rules of the ARN operators.
    Arn,
}

/// What `${…}` means: nothing special before version 2012-10-17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variables {
    Literal,
    Expand,
}

impl Pattern {
    /// Where `*` and `?` stand for anything and `${…}` for itself.
    pub fn free(text: &str) -> Self {
        Self::compile(text, Wildcards::Free, Variables::Literal)
    }

    pub(crate) fn compile(text: &str, wildcards: Wildcards, variables: Variables) -> Self {
        let tokens = if text == "*" && wildcards != Wildcards::Literal {
            vec![Token::Many(Across::Anything)]
        } else {
            tokens(text, wildcards, variables)
        };
        let mut pattern = Self::of(tokens);
        if pattern.form == Form::Runs {
            pattern.finders = finders(&pattern.tokens);
        }
        if pattern.form == Form::Automaton {
            pattern.automaton = Some(Box::new(Automaton::new(&pattern.tokens)));
        }
        if matches!(pattern.form, Form::Automaton | Form::Variable) {
            let mut outline = Self::of(outline(&pattern.tokens));
            outline.finders = finders(&outline.tokens);
            pattern.outline = Some(Box::new(outline));
        }
        pattern
    }

    fn of(tokens: Vec<Token>) -> Self {
        let form = form(&tokens);
        Self { tokens, form, finders: Vec::new(), automaton: None, outline: None }
    }

    pub fn matches(&self, text: &str, context: &dyn Context) -> bool {
        if self.outline.as_ref().is_some_and(|outline| !outline.matches(text, context)) {
            return false;
        }
        match self.form {
            Form::Any => true,
            Form::Exact => self.literal() == text,
            Form::Runs => runs(&self.tokens, &self.finders, text),
            Form::Automaton => match &self.automaton {
                Some(automaton) => automaton.matches(text),
                // Its variables have just been put in.
                None => Automaton::new(&self.tokens).matches(text),
            },
            Form::Variable => self.expanded(context).is_some_and(|pattern| pattern.matches(text, context)),
        }
    }

    /// As [`Self::matches`], for a pattern without wildcards, whatever the case of ASCII letters.
    pub(crate) fn equals_ignoring_case(&self, text: &str, context: &dyn Context) -> bool {
        let equal = |literal: &str| {
            // AWS folds more than ASCII; so do we.
            literal.eq_ignore_ascii_case(text) || literal.to_lowercase() == text.to_lowercase()
        };
        match self.form {
            Form::Variable => self.expanded(context).is_some_and(|pattern| equal(pattern.literal())),
            _ => equal(self.literal()),
        }
    }

    /// The keys of its variables, as written.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().filter_map(|token| match token {
            Token::Variable(variable) => Some(variable.key.as_str()),
            _ => None,
        })
    }

    fn literal(&self) -> &str {
        match self.tokens.first() {
            Some(Token::Text(text)) => text,
            _ => "",
        }
    }

    /// Without its variables. `None` when one has no value: what it stands in then matches nothing.
    fn expanded(&self, context: &dyn Context) -> Option<Self> {
        let mut tokens = Vec::with_capacity(self.tokens.len());
        let mut bytes = 0;
        for token in &self.tokens {
            match token {
                Token::Text(text) => push_text(&mut tokens, text),
                Token::One(_) => tokens.push(token.clone()),
                Token::Many(across) => push_many(&mut tokens, *across),
                Token::Variable(variable) => {
                    let value = match context.get(&variable.lower) {
                        Some(Values::One(value)) => value,
                        // A multivalued key is no variable.
                        Some(Values::Many(_)) => return None,
                        None => variable.default.as_deref()?.into(),
                    };
                    bytes += value.len();
                    if bytes > EXPANDED_BYTES_MAX {
                        return None;
                    }
                    push_text(&mut tokens, &value);
                }
            }
        }
        Some(Self::of(tokens))
    }
}

fn form(tokens: &[Token]) -> Form {
    if tokens.iter().any(|token| matches!(token, Token::Variable(_))) {
        return Form::Variable;
    }
    match tokens {
        [] | [Token::Text(_)] => Form::Exact,
        [Token::Many(Across::Anything)] => Form::Any,
        _ if tokens.iter().all(|token| matches!(token, Token::Text(_) | Token::Many(Across::Anything))) => {
            Form::Runs
        }
        _ => Form::Automaton,
    }
}

fn push_text(tokens: &mut Vec<Token>, text: &str) {
    if text.is_empty() {
        return;
    }
    if let Some(Token::Text(last)) = tokens.last_mut() {
        last.push_str(text);
    } else {
        tokens.push(Token::Text(text.to_owned()));
    }
}

/// What each text behind a star is found with.
fn finders(tokens: &[Token]) -> Vec<Option<Finder<'static>>> {
    let mut after_star = false;
    tokens
        .iter()
        .map(|token| {
            let Token::Text(run) = token else {
                after_star = true;
                return None;
            };
            std::mem::take(&mut after_star).then(|| Finder::new(run).into_owned())
        })
        .collect()
}

/// The tokens with stars in the place of all that is not plain text.
fn outline(tokens: &[Token]) -> Vec<Token> {
    let mut outline = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Text(text) => push_text(&mut outline, text),
            Token::One(_) | Token::Many(_) | Token::Variable(_) => push_many(&mut outline, Across::Anything),
        }
    }
    outline
}

/// Several stars in a row are one.
fn push_many(tokens: &mut Vec<Token>, across: Across) {
    if let Some(Token::Many(last)) = tokens.last_mut() {
        if across == Across::Anything {
            *last = across;
        }
    } else {
        tokens.push(Token::Many(across));
    }
}

fn tokens(text: &str, wildcards: Wildcards, variables: Variables) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut colons = 0;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if variables == Variables::Expand
            && let Some((inner, behind)) = rest.strip_prefix("${").and_then(|of| of.split_once('}'))
        {
            match variable(inner) {
                // ${*}, ${?} and ${$} are these characters themselves.
                Ok(variable) => tokens.push(Token::Variable(variable)),
                Err(literal) => push_text(&mut tokens, literal),
            }
            rest = behind;
            continue;
        }
        let behind = &rest[character.len_utf8()..];
        let last_of_segment = behind.is_empty() || behind.starts_with(':');
        let many = match wildcards {
            Wildcards::Resource if colons < COLONS && !last_of_segment => Across::NoColon,
            Wildcards::Arn if colons < COLONS => Across::NoColon,
            _ => Across::Anything,
        };
        let one = match wildcards {
            Wildcards::Resource | Wildcards::Arn if colons < COLONS => Across::NoColon,
            _ => Across::Anything,
        };
        match character {
            '*' if wildcards != Wildcards::Literal => push_many(&mut tokens, many),
            '?' if wildcards != Wildcards::Literal => tokens.push(Token::One(one)),
            _ => {
                if character == ':' {
                    colons += 1;
                }
                push_text(&mut tokens, &rest[..character.len_utf8()]);
            }
        }
        rest = behind;
    }
    tokens
}

/// What stands in `${…}`: a key, perhaps with a default, or else a literal character.
fn variable(inner: &str) -> Result<Variable, &str> {
    if matches!(inner, "*" | "?" | "$") {
        return Err(inner);
    }
    let (key, default) = match inner.split_once(',') {
        Some((key, default)) => {
            let default = default.trim();
            let quoted = default.strip_prefix('\'').and_then(|of| of.strip_suffix('\''));
            (key.trim(), Some(quoted.unwrap_or(default).to_owned()))
        }
        None => (inner.trim(), None),
    };
    Ok(Variable { key: key.to_owned(), lower: key.to_ascii_lowercase(), default })
}

/// Texts between stars: each is looked for behind the one before. The first that fits is as good as
/// any later one, since only a star follows it.
fn runs(tokens: &[Token], finders: &[Option<Finder<'static>>], text: &str) -> bool {
    let mut rest = text;
    let mut after_star = false;
    for (index, token) in tokens.iter().enumerate() {
        let last = index + 1 == tokens.len();
        let Token::Text(run) = token else {
            after_star = true;
            continue;
        };
        rest = match (after_star, last) {
            (true, true) => return rest.ends_with(run.as_str()),
            (false, true) => return rest == run,
            (false, false) => match rest.strip_prefix(run.as_str()) {
                Some(behind) => behind,
                None => return false,
            },
            (true, false) => {
                let found = match finders.get(index) {
                    Some(Some(finder)) => find(finder, run, rest),
                    _ => rest.find(run.as_str()),
                };
                match found {
                    Some(at) => &rest[at + run.len()..],
                    None => return false,
                }
            }
        };
        after_star = false;
    }
    after_star || rest.is_empty()
}

/// Where the run is found first. What comes behind a segment of an ARN begins with a colon, of which
/// there are few: to look at these is several times faster than to search. Most of them are told
/// apart by the character that follows.
fn find(finder: &Finder<'_>, run: &str, text: &str) -> Option<usize> {
    let (run, text) = (run.as_bytes(), text.as_bytes());
    // Where it could begin.
    let starts = (text.len() + 1).checked_sub(run.len())?;
    let mut from = 0;
    if run.first() == Some(&b':') {
        for _ in 0..COLONS_LOOKED_AT {
            from += memchr::memchr(b':', &text[from..starts])?;
            let here = &text[from..];
            if run.get(1).is_none_or(|second| here[1] == *second) && here.starts_with(run) {
                return Some(from);
            }
            from += 1;
        }
    }
    finder.find(&text[from..]).map(|at| from + at)
}

/// One step of the automaton takes the word count of its states for each character of the text.
#[derive(Clone, Debug)]
struct Automaton {
    /// How many steps the pattern has; state `n` says that the first `n` are done.
    steps: usize,
    /// Where each character stands, by character.
    places: Vec<(char, usize)>,
    /// Characters that stand in many places, as bits.
    dense: Vec<(char, Vec<u64>)>,
    one: Vec<u64>,
    one_no_colon: Vec<u64>,
    many: Vec<u64>,
    many_no_colon: Vec<u64>,
}

impl Automaton {
    fn new(tokens: &[Token]) -> Self {
        let length = |token: &Token| match token {
            Token::Text(text) => text.chars().count(),
            _ => 1,
        };
        let steps = tokens.iter().map(length).sum::<usize>();
        let empty = || vec![0_u64; steps / 64 + 1];
        let mut automaton = Self {
            steps,
            places: Vec::new(),
            dense: Vec::new(),
            one: empty(),
            one_no_colon: empty(),
            many: empty(),
            many_no_colon: empty(),
        };
        let mut at = 0;
        for token in tokens {
            let mask = match token {
                Token::Text(text) => {
                    automaton.places.extend(text.chars().enumerate().map(|(of, char)| (char, at + of)));
                    at += text.chars().count();
                    continue;
                }
                Token::One(Across::Anything) => &mut automaton.one,
                Token::One(Across::NoColon) => &mut automaton.one_no_colon,
                Token::Many(Across::Anything) => &mut automaton.many,
                Token::Many(Across::NoColon) | Token::Variable(_) => &mut automaton.many_no_colon,
            };
            mask[at / 64] |= 1 << (at % 64);
            at += 1;
        }
        automaton.places.sort_unstable();
        automaton.make_dense();
        automaton
    }

    fn matches(&self, text: &str) -> bool {
        let mut state = vec![0; self.words()];
        state[0] = 1;
        self.skip_stars(&mut state);
        let mut next = vec![0; self.words()];
        for character in text.chars() {
            self.step(character, &state, &mut next);
            std::mem::swap(&mut state, &mut next);
            if state.iter().all(|word| *word == 0) {
                return false;
            }
        }
        state[self.steps / 64] >> (self.steps % 64) & 1 == 1
    }

    fn words(&self) -> usize {
        self.steps / 64 + 1
    }

    /// What stands in more places than there are words is cheaper as bits.
    fn make_dense(&mut self) {
        let words = self.words();
        let mut start = 0;
        while start < self.places.len() {
            let character = self.places[start].0;
            let count = self.places[start..].partition_point(|(other, _)| *other == character);
            if count > words {
                let mut mask = vec![0_u64; words];
                for (_, place) in &self.places[start..start + count] {
                    mask[place / 64] |= 1 << (place % 64);
                }
                self.dense.push((character, mask));
            }
            start += count;
        }
    }

    fn step(&self, character: char, state: &[u64], next: &mut [u64]) {
        let colon = character == ':';
        let dense = self.dense.iter().find(|(of, _)| *of == character).map(|(_, mask)| mask);
        let mut carry = 0;
        for word in 0..state.len() {
            let mut takes = self.one[word] | dense.map_or(0, |mask| mask[word]);
            let mut stays = self.many[word];
            if !colon {
                takes |= self.one_no_colon[word];
                stays |= self.many_no_colon[word];
            }
            let taken = state[word] & takes;
            next[word] = (state[word] & stays) | (taken << 1) | carry;
            carry = taken >> 63;
        }
        if dense.is_none() {
            let start = self.places.partition_point(|(of, _)| *of < character);
            for (_, place) in self.places[start..].iter().take_while(|(of, _)| *of == character) {
                if state[place / 64] >> (place % 64) & 1 == 1 {
                    let to = place + 1;
                    next[to / 64] |= 1 << (to % 64);
                }
            }
        }
        self.skip_stars(next);
    }

    /// A star may stand for nothing. No two stars follow each other.
    fn skip_stars(&self, state: &mut [u64]) {
        let mut carry = 0;
        for (word, bits) in state.iter_mut().enumerate() {
            let at_star = *bits & (self.many[word] | self.many_no_colon[word]);
            *bits |= (at_star << 1) | carry;
            carry = at_star >> 63;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Keys;

    fn resource(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern, Wildcards::Resource, Variables::Expand).matches(text, &Keys::new())
    }

    #[test]
    fn wildcards_of_the_user_guide() {
        let object = "arn:aws:s3:::amzn-s3-demo-bucket/*/test/*";
        for yes in ["1/test/object.jpg", "1/2/test/3/object.jpg", "1///test///object.jpg", "/test/"] {
            assert!(resource(object, &format!("arn:aws:s3:::amzn-s3-demo-bucket/{yes}")), "{yes}");
        }
        for no in ["1-test/object.jpg", "test/object.jpg", "1/2/test.jpg"] {
            assert!(!resource(object, &format!("arn:aws:s3:::amzn-s3-demo-bucket/{no}")), "{no}");
        }
        assert!(resource("arn:aws:iam::123456789012:user/?ob", "arn:aws:iam::123456789012:user/bob"));
        assert!(!resource("arn:aws:iam::123456789012:user/?ob", "arn:aws:iam::123456789012:user/ob"));
    }

    #[test]
    fn a_star_crosses_colons_at_the_end_of_its_segment_alone() {
        let task = "arn:aws:ecs:us-east-1:123456789012:task/default/1";
        assert!(resource("arn:aws:ecs:*", task));
        assert!(resource("arn:aws:ecs:*:*:task/*", task));
        assert!(resource("arn:aws:ecs:us-*-1:*:task/*", task));
        assert!(!resource("arn:aws:ecs:us-*-1:task/*", task));
        assert!(!resource("arn:aws:ecs:us*2:task/default/1", task));
        assert!(!resource("arn:aws:ecs:us-east-1?123456789012:task/*", task));
        let stream = "arn:aws:logs:us-east-1:123456789012:log-group:/ecs/web:log-stream:a";
        assert!(resource("arn:aws:logs:*:*:log-group:/ecs/*:log-stream:?", stream));
    }

    #[test]
    fn variables_stand_for_their_values_and_never_for_wildcards() {
        let context = Keys::new().with("aws:username", "b*b").with_many("aws:TagKeys", ["x"]);
        let matches = |pattern: &str, text: &str| {
            Pattern::compile(pattern, Wildcards::Free, Variables::Expand).matches(text, &context)
        };
        assert!(matches("home/${AWS:UserName}/*", "home/b*b/x"));
        assert!(!matches("home/${aws:username}/*", "home/bob/x"));
        assert!(matches("${aws:PrincipalTag/team, 'company-wide'}-x", "company-wide-x"));
        assert!(!matches("${aws:PrincipalTag/team}", ""));
        assert!(!matches("${aws:TagKeys}", "x"));
        assert!(matches("a${*}b${?}c${$}", "a*b?c$"));
        assert!(!matches("a${*}b", "aXb"));
        assert!(matches("${open", "${open"));
        let old = Pattern::compile("${aws:username}", Wildcards::Free, Variables::Literal);
        assert!(old.matches("${aws:username}", &context));
    }

    #[test]
    fn what_grows_without_bound_matches_nothing() {
        let context = Keys::new().with("aws:useragent", "a".repeat(5000));
        let pattern =
            Pattern::compile("*${aws:UserAgent}${aws:UserAgent}*", Wildcards::Free, Variables::Expand);
        assert!(!pattern.matches(&"a".repeat(20_000), &context));
    }
}
