//! Who a container's process is: `user[:group]` looked up in the image's own `/etc/passwd` and
//! `/etc/group` (passwd(5), group(5)), by the rules of Docker's `USER`.
//!
//! The files are hostile: they are read bounded, and a line that does not parse is skipped.

/// A file longer than this is read to here.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// The kernel takes 65,536 supplementary groups; an image that lists more is up to something.
const SUPPLEMENTARY_GROUPS_MAX: usize = 1024;
/// Ids above are special to the kernel: -1 means "leave as it is".
const ID_MAX: u32 = u32::MAX - 2;

/// What `execve` is to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// From the passwd entry; `/` where there is none.
    pub home: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("uids and gids must be in range 0-{ID_MAX}")]
    Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `user`, `uid`, `user:group`, `uid:gid` in any mix; empty is root. A number needs no entry; a
/// name does. Supplementary groups are those that list the user's name, and only where no group
/// was named; `more` come beside them in any case.
pub fn resolve(spec: &str, more: &[String], passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = parse_id(user)?;

    let entry = passwd_entries(passwd)
        .find(|entry| entry.name == user || (number.is_some() && Some(entry.uid) == number));
    let mut identity = match (entry, number) {
        (Some(entry), _) => Identity {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            home: if entry.home.is_empty() { "/".into() } else { entry.home.into() },
        },
        (None, Some(uid)) => Identity { uid, gid: 0, groups: Vec::new(), home: "/".into() },
        (None, None) => return Err(UserError::NoUser(user.into())),
    };

    match wanted_group {
        Some(wanted) => {
            identity.gid = find_group(wanted, group)?;
        }
        None => {
            if let Some(entry) = entry {
                identity.groups = group_entries(group)
                    .filter(|group| group.members.split(',').any(|member| member == entry.name))
                    .map(|group| group.gid)
                    .take(SUPPLEMENTARY_GROUPS_MAX)
                    .collect();
            }
        }
    }
    for wanted in more.iter().take(SUPPLEMENTARY_GROUPS_MAX) {
        let gid = find_group(wanted, group)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(identity)
}

/// A number needs no entry; a name does.
fn find_group(wanted: &str, group: &[u8]) -> Result<u32, UserError> {
    let number = parse_id(wanted)?;
    let found = group_entries(group)
        .find(|entry| entry.name == wanted || (number.is_some() && Some(entry.gid) == number));
    found.map(|entry| entry.gid).or(number).ok_or_else(|| UserError::NoGroup(wanted.into()))
}

/// `None`: a name. A number that is no id is an error, not a name.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        _ => Err(UserError::Range),
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file[..file.len().min(FILE_BYTES_MAX)]
        .split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
}

fn entry_id(text: &str) -> Option<u32> {
    parse_id(text).ok().flatten()
}

fn passwd_entries(file: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).unwrap_or_default();
        if name.is_empty() {
            return None;
        }
        Some(PasswdEntry { name, uid: entry_id(uid)?, gid: entry_id(gid)?, home })
    })
}

fn group_entries(file: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        if name.is_empty() {
            return None;
        }
        Some(GroupEntry { name, gid: entry_id(gid)?, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nbroken line\napp:x:1000:1001:App:/home/app:/bin/sh\n\
        :x:5:5::/:\nbad:x:notanumber:1::/:/x\nnohome:x:7:7\nhuge:x:4294967295:1::/:/x\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\nvideo:x:44:app\nstaff:x:50:someone\n";

    fn resolved(spec: &str) -> Result<Identity, UserError> {
        resolve(spec, &[], PASSWD, GROUP)
    }

    #[test]
    fn a_user_is_found_by_name_and_number() {
        let app = Identity { uid: 1000, gid: 1001, groups: vec![10, 44], home: "/home/app".into() };
        assert_eq!(resolved("app"), Ok(app.clone()));
        assert_eq!(resolved("1000"), Ok(app));
        assert_eq!(resolved("").unwrap(), resolved("root").unwrap());
        assert_eq!(resolved("root").unwrap().home, "/root");
        assert_eq!(resolved("nohome").unwrap().home, "/");
    }

    #[test]
    fn a_named_group_replaces_the_users_own() {
        let identity = resolved("app:staff").unwrap();
        assert_eq!((identity.uid, identity.gid, identity.groups), (1000, 50, vec![]));
        assert_eq!(
            resolved("4242:4343").unwrap(),
            Identity { uid: 4242, gid: 4343, groups: vec![], home: "/".into() }
        );
        assert_eq!(resolved("4242").unwrap().gid, 0);
    }

    #[test]
    fn more_groups_come_beside_the_users_own() {
        let more = ["staff", "44", "777"].map(str::to_owned);
        assert_eq!(resolve("app", &more, PASSWD, GROUP).unwrap().groups, [10, 44, 50, 777]);
        assert_eq!(resolve("app:staff", &more[..2], PASSWD, GROUP).unwrap().groups, [50, 44]);
        let ghost = ["ghosts".to_owned()];
        assert_eq!(resolve("app", &ghost, PASSWD, GROUP), Err(UserError::NoGroup("ghosts".into())));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert_eq!(resolved("ghost"), Err(UserError::NoUser("ghost".into())));
        assert_eq!(resolved("app:ghosts"), Err(UserError::NoGroup("ghosts".into())));
        assert_eq!(resolved("bad"), Err(UserError::NoUser("bad".into())));
        // -1 would mean "unchanged" to setresuid: root.
        assert_eq!(resolved("4294967295"), Err(UserError::Range));
        assert_eq!(resolved("huge"), Err(UserError::NoUser("huge".into())));
        assert_eq!(resolved("99999999999999"), Err(UserError::Range));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(spec in ".{0,40}", passwd in any::<Vec<u8>>(), group in any::<Vec<u8>>()) {
            let _ = resolve(&spec, std::slice::from_ref(&spec), &passwd, &group);
        }

        #[test]
        fn a_lookup_never_yields_the_id_that_means_unchanged(
            line in "[a-z]{1,3}:x:[0-9]{1,12}:[0-9]{1,12}:g:/h:/s", spec in "[a-z]{1,3}|[0-9]{1,12}",
        ) {
            if let Ok(identity) = resolve(&spec, &[], line.as_bytes(), b"") {
                assert!(identity.uid <= ID_MAX && identity.gid <= ID_MAX);
            }
        }
    }
}
