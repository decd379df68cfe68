//! `--name=value` between an instruction and its arguments, and what `--mount=` holds.

use crate::error::Problem;
use crate::instruction::{Mount, MountKind, Sharing};

/// The flags of one instruction, taken from the start of its arguments.
pub struct Flags {
    instruction: &'static str,
    flags: Vec<(String, Option<String>)>,
}

/// The flags of one instruction, at most.
const FLAGS_MAX: usize = 256;

impl Flags {
    /// Takes the flags off the start of `arguments`; what is left follows them.
    pub fn take<'t>(
        instruction: &'static str,
        arguments: &'t str,
        escape: char,
    ) -> Result<(Self, &'t str), Problem> {
        let mut flags = Vec::new();
        let mut rest = arguments.trim_start();
        while let Some(behind) = rest.strip_prefix("--") {
            let (flag, after) = behind.split_at(crate::expand::word_end(behind, escape));
            rest = after.trim_start();
            // `--` alone ends the flags.
            if flag.is_empty() {
                break;
            }
            if flags.len() == FLAGS_MAX {
                return Err(Problem::TooMany { what: "flags on one line", max: FLAGS_MAX });
            }
            flags.push(match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), None),
            });
        }
        Ok((Self { instruction, flags }, rest))
    }

    fn problem(&self, flag: &str, problem: impl Into<String>) -> Problem {
        Problem::Flag { instruction: self.instruction, flag: flag.to_owned(), problem: problem.into() }
    }

    /// The flag's only value.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.values(name)?;
        match values.len() {
            0 => Ok(None),
            1 => Ok(values.pop()),
            _ => Err(self.problem(name, "is given twice")),
        }
    }

    /// The values of a flag that may stand more than once.
    pub fn values(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flags).into_iter().partition(|(known, _)| known == name);
        self.flags = left;
        taken
            .into_iter()
            .map(|(_, value)| {
                value.filter(|value| !value.is_empty()).ok_or_else(|| self.problem(name, "needs a value"))
            })
            .collect()
    }

    /// `--link`, `--link=true`, `--link=false`.
    pub fn switch(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        let Some(index) = self.flags.iter().position(|(known, _)| known == name) else { return Ok(None) };
        let (_, value) = self.flags.remove(index);
        if self.flags.iter().any(|(known, _)| known == name) {
            return Err(self.problem(name, "is given twice"));
        }
        match value.as_deref() {
            None | Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(self.problem(name, format!("is true or false, not {other:?}"))),
        }
    }

    /// A time as `1m30s`.
    pub fn duration(&mut self, name: &str) -> Result<Option<std::time::Duration>, Problem> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        let duration =
            duration(&text).ok_or_else(|| self.problem(name, format!("is a time as 1m30s, not {text:?}")))?;
        if !duration.is_zero() && duration < std::time::Duration::from_millis(1) {
            return Err(self.problem(name, "cannot be less than 1ms"));
        }
        Ok(Some(duration))
    }

    /// What nobody has taken is unknown.
    pub fn end(self) -> Result<(), Problem> {
        match self.flags.into_iter().next() {
            None => Ok(()),
            Some((flag, _)) => Err(Problem::UnknownFlag { instruction: self.instruction, flag }),
        }
    }
}

/// Go's `time.ParseDuration`, positive: `300ms`, `1.5h`, `1m30s`, `0`.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    if text == "0" {
        return Some(std::time::Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanoseconds: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, behind) = rest.split_at(number_end);
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, after) = behind.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanoseconds = nanoseconds.checked_add(whole.checked_mul(unit)?)?;
        if !fraction.is_empty() {
            let digits: u128 = fraction.parse().ok()?;
            let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
            nanoseconds = nanoseconds.checked_add(digits * unit / scale)?;
        }
        rest = after;
    }
    u64::try_from(nanoseconds).ok().map(std::time::Duration::from_nanos)
}

/// The value of `--mount=`: `type=cache,target=/x,…`.
pub fn mount(text: &str) -> Result<Mount, Problem> {
    let bad = |problem: String| Problem::Mount { mount: text.to_owned(), problem };
    let fields = fields(text).ok_or_else(|| bad("a quote is not closed".into()))?;
    let mut mount_type = "bind".to_owned();
    let mut given = Given::default();
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        let text_value = || value.map(str::to_owned).ok_or_else(|| bad(format!("{key} needs a value")));
        let number = |radix| {
            let value = text_value()?;
            u32::from_str_radix(&value, radix).map_err(|_| bad(format!("invalid value {value:?} for {key}")))
        };
        let switch = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(bad(format!("invalid value {other:?} for {key}"))),
        };
        match key.as_str() {
            "type" => mount_type = text_value()?,
            "from" => given.from = Some(text_value()?),
            "source" | "src" => given.source = Some(text_value()?),
            "target" | "dst" | "destination" => given.target = Some(text_value()?),
            "readonly" | "ro" => given.readonly = Some(switch()?),
            "readwrite" | "rw" => given.readonly = Some(!switch()?),
            "required" => given.required = Some(switch()?),
            "id" => given.id = Some(text_value()?),
            "env" => given.env = Some(text_value()?),
            "mode" => given.mode = Some(number(8)?),
            "uid" => given.uid = Some(number(10)?),
            "gid" => given.gid = Some(number(10)?),
            "sharing" => {
                given.sharing = Some(match text_value()?.as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => return Err(bad(format!("unsupported sharing value {other:?}"))),
                });
            }
            "size" => {
                let value = text_value()?;
                given.size_bytes =
                    Some(bytes(&value).ok_or_else(|| bad(format!("invalid value {value:?} for size")))?);
            }
            _ => return Err(bad(format!("unexpected key {key:?}"))),
        }
    }
    given.into_mount(&mount_type).map_err(bad)
}

/// Comma-separated fields; a field in double quotes may hold commas (RFC 4180).
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut()?.push(other),
        }
    }
    (!quoted).then_some(fields)
}

/// `64m`, `1g`, `1024`.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match lower.char_indices().last()? {
        (at, 'k') => (&lower[..at], 10),
        (at, 'm') => (&lower[..at], 20),
        (at, 'g') => (&lower[..at], 30),
        (at, 't') => (&lower[..at], 40),
        _ => (lower, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[derive(Default)]
struct Given {
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    readonly: Option<bool>,
    required: Option<bool>,
    id: Option<String>,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    sharing: Option<Sharing>,
    size_bytes: Option<u64>,
}

impl Given {
    fn into_mount(mut self, mount_type: &str) -> Result<Mount, String> {
        let target = self.target.take();
        let readonly = self.readonly.take();
        let needed = || target.clone().filter(|target| !target.is_empty()).ok_or("target is required");
        let (kind, target, readonly) = match mount_type {
            "bind" => {
                let kind = MountKind::Bind {
                    from: self.from.take(),
                    source: self.source.take().unwrap_or_default(),
                };
                (kind, needed()?, readonly.unwrap_or(true))
            }
            "cache" => {
                let kind = MountKind::Cache {
                    id: self.id.take().unwrap_or_default(),
                    from: self.from.take(),
                    source: self.source.take().unwrap_or_default(),
                    sharing: self.sharing.take().unwrap_or_default(),
                    mode: self.mode.take().unwrap_or(0o755),
                    uid: self.uid.take().unwrap_or(0),
                    gid: self.gid.take().unwrap_or(0),
                };
                (kind, needed()?, readonly.unwrap_or(false))
            }
            "tmpfs" => (
                MountKind::Tmpfs { size_bytes: self.size_bytes.take() },
                needed()?,
                readonly.unwrap_or(false),
            ),
            "secret" => {
                let id = self.id.take().or_else(|| self.source.take()).unwrap_or_default();
                if id.is_empty() && target.is_none() {
                    return Err("id or target is required".into());
                }
                let kind = MountKind::Secret {
                    id,
                    required: self.required.take().unwrap_or(false),
                    env: self.env.take(),
                    mode: self.mode.take().unwrap_or(0o400),
                    uid: self.uid.take().unwrap_or(0),
                    gid: self.gid.take().unwrap_or(0),
                };
                (kind, target.clone().unwrap_or_default(), true)
            }
            "ssh" => {
                let kind = MountKind::Ssh {
                    id: self.id.take().unwrap_or_else(|| "default".into()),
                    required: self.required.take().unwrap_or(false),
                    mode: self.mode.take().unwrap_or(0o600),
                    uid: self.uid.take().unwrap_or(0),
                    gid: self.gid.take().unwrap_or(0),
                };
                (kind, target.clone().unwrap_or_default(), true)
            }
            other => return Err(format!("unsupported mount type {other:?}")),
        };
        match self.left() {
            Some(key) => Err(format!("unexpected key {key:?} for mount type {mount_type:?}")),
            None => Ok(Mount { kind, target, readonly }),
        }
    }

    /// What the mount's type had no use for.
    fn left(&self) -> Option<&'static str> {
        [
            (self.from.is_some(), "from"),
            (self.source.is_some(), "source"),
            (self.required.is_some(), "required"),
            (self.id.is_some(), "id"),
            (self.env.is_some(), "env"),
            (self.mode.is_some(), "mode"),
            (self.uid.is_some(), "uid"),
            (self.gid.is_some(), "gid"),
            (self.sharing.is_some(), "sharing"),
            (self.size_bytes.is_some(), "size"),
        ]
        .into_iter()
        .find_map(|(left, key)| left.then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let ms = |text: &str| duration(text).map(|duration| duration.as_millis());
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("1.5s"), Some(1_500));
        assert_eq!(ms(".5s"), Some(500));
        assert_eq!(ms("0"), Some(0));
        for bad in ["", "1", "s", "1x", "-1s", "1s ", ".s", "999999999999h"] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn mounts_have_the_defaults_of_their_type() {
        let cache = mount("type=cache,target=/cache,sharing=locked").unwrap();
        assert!(!cache.readonly);
        assert!(matches!(cache.kind, MountKind::Cache { mode: 0o755, sharing: Sharing::Locked, .. }));
        let bind = mount("target=/src,from=build,source=/out").unwrap();
        assert!(bind.readonly && matches!(bind.kind, MountKind::Bind { from: Some(_), .. }));
        assert!(!mount("type=bind,dst=/src,rw").unwrap().readonly);
        let secret = mount("type=secret,id=token,env=TOKEN,required").unwrap();
        assert!(matches!(secret.kind, MountKind::Secret { required: true, env: Some(_), mode: 0o400, .. }));
        let tmpfs = mount("\"type=tmpfs\",target=/t,size=64m").unwrap();
        assert_eq!(tmpfs.kind, MountKind::Tmpfs { size_bytes: Some(64 << 20) });
    }

    #[test]
    fn what_a_type_has_no_use_for_is_refused() {
        for (text, expected) in [
            ("type=tmpfs,target=/t,from=x", "unexpected key \"from\""),
            ("type=cache", "target is required"),
            ("type=secret", "id or target"),
            ("type=ftp,target=/x", "unsupported mount type"),
            ("target=/x,wat=1", "unexpected key \"wat\""),
            ("type=cache,target=/x,mode=9", "invalid value"),
            ("type=cache,target=/x,sharing=both", "unsupported sharing"),
        ] {
            let message = mount(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
