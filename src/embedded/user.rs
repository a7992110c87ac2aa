//! Whose rights the server runs with: Postgres refuses to run as root, and containers are root.

use std::fs;
use std::process::Command;

use super::Error;

const PASSWD: &str = "/etc/passwd";

/// The user and group that root hands the server to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Whether this process has root's rights. Asks `id`, as std does not tell and the crate has no unsafe code.
pub(super) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The user to run the server as; `None` when it can run as the one who asks.
pub(super) fn for_server() -> Result<Option<User>, Error> {
    if !is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    ["postgres", "nobody"].iter().find_map(|name| entry(&passwd, name)).map(Some).ok_or(Error::NoUser)
}

/// Reads one line of passwd(5): `name:password:uid:gid:...`. macOS gives `nobody` the uid -2.
fn entry(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let mut numbers = fields.skip(1).map_while(|field| field.parse::<i64>().ok());
        let (uid, gid) = (numbers.next()?, numbers.next()?);
        (uid != 0).then_some(User { uid: uid as u32, gid: gid as u32 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_never_the_server() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgres:x:0:0::/:/bin/sh\nnobody:*:-2:-2::/:/bin/false\n";
        assert_eq!(entry(passwd, "postgres"), None);
        assert_eq!(entry(passwd, "nobody"), Some(User { uid: u32::MAX - 1, gid: u32::MAX - 1 }));
        assert_eq!(entry(passwd, "absent"), None);
    }
}
