//! Names of links, files and tables. A link's name has at most 15 bytes (`IFNAMSIZ`).

use std::sync::atomic::{AtomicU32, Ordering};

use crate::plane::hash;

/// A Wharf on this machine: 8 lower-case hexadecimal digits, the same in every life of one data
/// directory, different for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceId(String);

impl InstanceId {
    /// `None` unless the text is 8 lower-case hexadecimal digits.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 8 && text.bytes().all(digit)).then_some(Self(text))
    }
}

pub struct Names {
    instance: InstanceId,
    /// Different in each life, so that a name is never waiting to be cleaned up.
    life: u32,
    counter: AtomicU32,
}

impl Names {
    pub fn new(instance: InstanceId, life: u64) -> Self {
        Self { instance, life: life as u32 & 0xf_ffff, counter: AtomicU32::new(0) }
    }

    pub fn table(&self) -> String {
        format!("wharf-{}", self.instance.0)
    }

    /// How the names of this instance's links on the machine begin.
    pub fn transit_prefix(&self) -> String {
        format!("wh{}", &self.instance.0)
    }

    pub fn is_transit(&self, name: &str) -> bool {
        name.starts_with(&self.transit_prefix())
    }

    /// The name of the machine's end of a VPC's link: 10 bytes of prefix, 5 digits.
    pub fn transit(&self, vpc_id: &str, taken: impl Fn(&str) -> bool) -> String {
        let mut sum = hash(vpc_id);
        loop {
            let name = format!("{}{:05x}", self.transit_prefix(), sum & 0xf_ffff);
            if !taken(&name) {
                return name;
            }
            sum = sum.wrapping_add(1);
        }
    }

    /// A name for a namespace and for its port on the bridge: 1 + 5 + at most 8 digits.
    pub fn slot(&self) -> String {
        format!("p{:05x}{:x}", self.life, self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub fn is_port(&self, name: &str) -> bool {
        name.starts_with('p')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_link_and_differ() {
        let names = Names::new(InstanceId::new("0badcafe").unwrap(), u64::MAX);
        let first = names.transit("vpc-1", |_| false);
        let second = names.transit("vpc-1", |name| name == first);
        assert!(first.len() <= 15 && second.len() <= 15 && first != second && names.is_transit(&second));
        names.counter.store(u32::MAX, Ordering::Relaxed);
        assert!(names.slot().len() <= 15);
        assert_ne!(names.slot(), names.slot());
    }

    #[test]
    fn an_instance_id_is_eight_hexadecimal_digits() {
        assert!(
            ["", "0badcaf", "0BADCAFE", "0badcafe0", "../../.."]
                .iter()
                .all(|bad| InstanceId::new(*bad).is_none())
        );
    }
}
