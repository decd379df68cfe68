//! Image names, in the grammar of `github.com/distribution/reference` with Docker's familiar forms:
//! `hello` is `docker.io/library/hello:latest`.

use std::fmt;
use std::str::FromStr;

use wharf_core::limits::{IMAGE_REFERENCE_BYTES_MAX, IMAGE_REPOSITORY_BYTES_MAX};

use crate::digest::Digest;
use crate::error::Error;

const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const TAG_BYTES_MAX: usize = 128;

/// A name that is valid and complete: domain, path, and a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// # Errors
    /// [`Error::InvalidReference`] when the text is outside the grammar.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::InvalidReference {
            reference: text.chars().take(IMAGE_REFERENCE_BYTES_MAX).collect(),
        })
    }

    /// Domain and path, such as `docker.io/library/hello`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `None` only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The shortest form that means the same, as `docker images` prints it: `hello:latest`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(short) = full.strip_prefix("docker.io/") else {
            return full;
        };
        match short.strip_prefix(DEFAULT_NAMESPACE) {
            Some(shortest) if !shortest.contains('/') => shortest.to_owned(),
            _ => short.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn parse(text: &str) -> Option<Reference> {
    if text.is_empty() || text.len() > IMAGE_REFERENCE_BYTES_MAX || !text.is_ascii() {
        return None;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().ok()?)),
        None => (text, None),
    };
    // A colon behind the last slash begins a tag; one before it belongs to the domain's port.
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].split_once(':') {
        Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return None;
    }
    let repository = repository(name)?;
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TAG.to_owned()),
    };
    Some(Reference { repository, tag, digest })
}

fn repository(name: &str) -> Option<String> {
    let (domain, path) = match name.split_once('/') {
        Some((first, path))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, path)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    // 64 hexadecimal digits are an image id, and cannot be a name.
    if domain == DEFAULT_DOMAIN && Digest::from_hex(path).is_ok() {
        return None;
    }
    if !is_domain(domain) || !path.split('/').all(is_path_component) {
        return None;
    }
    let namespace = if domain == DEFAULT_DOMAIN && !path.contains('/') { DEFAULT_NAMESPACE } else { "" };
    let repository = format!("{domain}/{namespace}{path}");
    (repository.len() <= IMAGE_REPOSITORY_BYTES_MAX).then_some(repository)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
                return false;
            }
            match port.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if port.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    let is_port =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.is_none_or(|host| host.split('.').all(is_label)) && port.is_none_or(is_port)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_alphanumeric(*first)
        && is_alphanumeric(*last)
        && component
            .split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit())
            .all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
            })
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn familiar_names_are_completed_as_docker_does() {
        for (text, full) in [
            ("hello", "docker.io/library/hello:latest"),
            ("hello:v1", "docker.io/library/hello:v1"),
            ("me/hello", "docker.io/me/hello:latest"),
            ("docker.io/hello", "docker.io/library/hello:latest"),
            ("index.docker.io/me/hello:1", "docker.io/me/hello:1"),
            ("localhost/hello", "localhost/hello:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("registry.example:5000/hello", "registry.example:5000/hello:latest"),
            ("[::1]:5000/hello", "[::1]:5000/hello:latest"),
            ("Host/hello", "Host/hello:latest"),
            ("public.ecr.aws/docker/library/nginx:1.27", "public.ecr.aws/docker/library/nginx:1.27"),
            (
                "000000000000.dkr.ecr.us-east-1.amazonaws.com/web/api:Release_1",
                "000000000000.dkr.ecr.us-east-1.amazonaws.com/web/api:Release_1",
            ),
            ("a__b-c--d.e", "docker.io/library/a__b-c--d.e:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_the_tag() {
        let reference = Reference::parse(&format!("hello@sha256:{HEX}")).unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.to_string(), format!("docker.io/library/hello@sha256:{HEX}"));
        let both = Reference::parse(&format!("hello:v1@sha256:{HEX}")).unwrap();
        assert_eq!(both.tag(), Some("v1"));
        assert_eq!(both.digest().unwrap().hex(), HEX);
    }

    #[test]
    fn familiar_forms_are_short() {
        for (text, short) in [
            ("docker.io/library/hello:latest", "hello:latest"),
            ("me/hello", "me/hello:latest"),
            ("quay.io/me/hello", "quay.io/me/hello:latest"),
            ("docker.io/library/a/b", "library/a/b:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().familiar(), short);
        }
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        let long_path = "a/".repeat(200) + "a";
        let long_tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            " ",
            "Hello",
            "hello world",
            "hello:",
            ":tag",
            "/hello",
            "hello/",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "hello:.tag",
            "hello:-tag",
            "hello@",
            "hello@sha256:abc",
            "hello@md5:d41d8cd98f00b204e9800998ecf8427e",
            "héllo",
            "a\nb",
            "a\0b",
            "../etc",
            "a/../b",
            "host:port/hello",
            "host:123456/hello",
            "-host.com/hello",
            "[::1/a",
            "[]/a",
            "https://hello",
            HEX,
            &long_path,
            &long_tag,
            "a:b:c",
            "a@b@c",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in "\\PC{0,80}") {
            let _ = Reference::parse(&text);
        }

        #[test]
        fn the_full_form_means_the_same(text in "([a-z]{1,4}(\\.[a-z]{1,3})?(:[0-9]{1,4})?/)?[a-z0-9]{1,5}(/[a-z0-9]{1,5})?(:[a-z0-9.]{1,4})?") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
                prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            }
        }
    }
}
