//! Keeps passwords out of everything that is printed.
//!
//! Secrets are held as [`SecretString`]; the functions here are how they are serialised, which is how
//! `config show` sees them. When in doubt about where a password ends, more is hidden, never less.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;

const HIDDEN: &str = "***";

/// A connection string with its passwords replaced: `postgres://ann:***@host/db`.
///
/// Knows URLs (password before the host, or as a parameter) and `key=value` strings.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return redact_words(url, char::is_whitespace);
    };
    let rest = redact_words(rest, |c| c == '&');
    // The last `@`: an unescaped one inside the password must not end it.
    match rest.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:{HIDDEN}@{host}"),
        None => format!("{scheme}://{rest}"),
    }
}

/// Hides what follows each `password =`, up to the end of that value.
fn redact_words(text: &str, ends: fn(char) -> bool) -> String {
    const WORD: &str = "password";
    let lower = text.to_ascii_lowercase();
    let (mut shown, mut at) = (String::new(), 0);
    while let Some(found) = lower[at..].find(WORD) {
        let word_end = at + found + WORD.len();
        shown.push_str(&text[at..word_end]);
        at = word_end;
        if let Some(value) = text[at..].trim_start().strip_prefix('=').map(str::trim_start) {
            shown.push('=');
            shown.push_str(HIDDEN);
            at = text.len() - value.len() + value_len(value, ends);
        }
    }
    shown + &text[at..]
}

fn value_len(value: &str, ends: fn(char) -> bool) -> usize {
    let quoted = value.starts_with('\'');
    let mut escaped = false;
    for (at, letter) in value.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted && at > 0 => return at + 1,
            letter if !quoted && ends(letter) => return at,
            _ => {}
        }
    }
    value.len()
}

#[expect(clippy::ref_option, reason = "serde hands over the field itself")]
pub(super) fn url<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => to.serialize_some(&redact_url(secret.expose_secret())),
        None => to.serialize_none(),
    }
}

#[expect(clippy::ref_option, reason = "serde hands over the field itself")]
pub(super) fn one<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(_) => to.serialize_some(HIDDEN),
        None => to.serialize_none(),
    }
}

pub(super) fn map<S: Serializer>(secrets: &BTreeMap<String, SecretString>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(secrets.keys().map(|name| (name, HIDDEN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_shows_who_and_where_and_no_password() {
        for (url, shown) in [
            (
                "postgres://ann:pw@db:5432/app?sslmode=require",
                "postgres://ann:***@db:5432/app?sslmode=require",
            ),
            ("postgres://ann:p@w/x?y@db/app", "postgres://ann:***@db/app"),
            ("postgres://ann@db/app", "postgres://ann@db/app"),
            ("postgres://db:5432/app", "postgres://db:5432/app"),
            (
                "postgres:///app?user=ann&password=pw&host=/tmp",
                "postgres:///app?user=ann&password=***&host=/tmp",
            ),
            ("host=db password=p&w user=ann", "host=db password=*** user=ann"),
            (r"host=db Password = 'p \' w' user=ann", "host=db Password=*** user=ann"),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }

    proptest! {
        #[test]
        fn no_password_survives(password in "[A-Z@:/?#&= ]{0,8}SESAME[A-Z@:/?#&= ]{0,8}") {
            let url = format!("postgres://ann:{password}@db/app");
            prop_assert!(!redact_url(&url).contains("SESAME"), "{}", redact_url(&url));
        }
    }
}
