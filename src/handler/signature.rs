//! Signs and checks webhooks in the way of Standard Webhooks, so that receivers can use its libraries.
//!
//! Signed is `id.timestamp.body` with HMAC-SHA256; the header carries one `v1,BASE64` for each secret, which is
//! how a secret is changed without losing calls. Source: <https://www.standardwebhooks.com>, `spec/standard-webhooks.md`.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Names the call; the same on every retry, so that a receiver can drop what it has seen.
pub const ID_HEADER: &str = "webhook-id";
/// When the call was made, in seconds since 1970; new on every retry.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far a call's timestamp may be from now, either way. Less refuses honest clocks and slow networks,
/// more lets a recorded call be replayed for longer.
pub const TOLERANCE_DEFAULT: Duration = Duration::from_mins(5);

const SECRET_PREFIX: &str = "whsec_";
const VERSION_PREFIX: &str = "v1,";

/// A secret, ready to sign with.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// The three headers of a call, as received.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// The value of [`ID_HEADER`].
    pub id: &'a str,
    /// The value of [`TIMESTAMP_HEADER`].
    pub timestamp: &'a str,
    /// The value of [`SIGNATURE_HEADER`].
    pub signature: &'a str,
}

/// Why a call is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The timestamp is not a number of seconds.
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    /// The call was made too long ago, or is a replay.
    #[error("webhook-timestamp is too old")]
    TooOld,
    /// The call comes from the future: one of the two clocks is wrong.
    #[error("webhook-timestamp is in the future")]
    TooNew,
    /// No signature fits any of the secrets.
    #[error("no signature in webhook-signature fits")]
    Signature,
}

impl Key {
    /// Reads a secret: `whsec_` and base64, or else its bytes as they are. Line ends after it are dropped, because
    /// secrets come from files.
    pub fn parse(secret: &SecretString) -> Result<Self, String> {
        let text = secret.expose_secret().trim_end_matches(['\r', '\n']);
        let bytes = match text.strip_prefix(SECRET_PREFIX) {
            Some(encoded) => BASE64_STANDARD
                .decode(encoded)
                .map_err(|_| "a secret starts with whsec_, but what follows is not base64".to_owned())?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.is_empty() {
            return Err("a secret is empty".to_owned());
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|fault| fault.to_string())
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The value of [`SIGNATURE_HEADER`]: one signature for each key.
pub fn sign(keys: &[Key], id: &str, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let signatures: Vec<_> = keys
        .iter()
        .map(|key| key.mac(id, &timestamp, body).finalize().into_bytes())
        .map(|bytes| format!("{VERSION_PREFIX}{}", BASE64_STANDARD.encode(bytes)))
        .collect();
    signatures.join(" ")
}

/// Checks a call against any of several keys, in a time that does not tell how close a wrong signature is.
///
/// `body` must be the bytes received, before any parsing; `now` is in seconds since 1970.
pub fn verify(
    keys: &[Key],
    headers: &Headers<'_>,
    body: &[u8],
    now: i64,
    tolerance: Duration,
) -> Result<(), Rejected> {
    let made_at: i64 = headers.timestamp.parse().map_err(|_| Rejected::Timestamp)?;
    let tolerance = i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX);
    if made_at < now.saturating_sub(tolerance) {
        return Err(Rejected::TooOld);
    }
    if made_at > now.saturating_add(tolerance) {
        return Err(Rejected::TooNew);
    }
    let mut fits = false;
    for signature in headers.signature.split(' ').filter_map(|word| word.strip_prefix(VERSION_PREFIX)) {
        let Ok(bytes) = BASE64_STANDARD.decode(signature) else { continue };
        for key in keys {
            fits |= key.mac(headers.id, headers.timestamp, body).verify_slice(&bytes).is_ok();
        }
    }
    if fits { Ok(()) } else { Err(Rejected::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vector that the specification's reference libraries test with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const MADE_AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn key(secret: &str) -> Key {
        Key::parse(&SecretString::from(secret)).expect("a good secret")
    }

    fn check(keys: &[Key], signature: &str, body: &[u8], now: i64) -> Result<(), Rejected> {
        let headers = Headers { id: ID, timestamp: &MADE_AT.to_string(), signature };
        verify(keys, &headers, body, now, TOLERANCE_DEFAULT)
    }

    #[test]
    fn the_published_vector_is_signed_and_verified() {
        assert_eq!(sign(&[key(SECRET)], ID, MADE_AT, BODY), SIGNATURE);
        assert_eq!(check(&[key(SECRET)], SIGNATURE, BODY, MADE_AT), Ok(()));
    }

    #[test]
    fn the_example_of_the_specification_is_signed_as_other_programs_sign_it() {
        // The specification prints this content and no secret for it. The signatures are those of Python's hmac
        // with the secret above, once for the body on one line and once for the body on several.
        const ID: &str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W";
        let line = r#"{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}"#;
        let lines = "{\n  \"type\": \"contact.created\",\n  \"timestamp\": \"2022-11-03T20:26:10.344522Z\",\n  \"data\": \
                     {\n    \"id\": \"1f81eb52-5198-4599-803e-771906343485\"\n  }\n}";
        for (body, signature) in [
            (line, "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ="),
            (lines, "v1,4HuEea/oaF3+OtFX8BvqJIZzpuCJaLMrICSrGHc6fhg="),
        ] {
            assert_eq!(sign(&[key(SECRET)], ID, 1_674_087_231, body.as_bytes()), signature);
        }
    }

    #[test]
    fn a_secret_is_changed_without_losing_calls() {
        let (old, new) = (key(SECRET), key("a raw secret\n"));
        let both = sign(&[old.clone(), new.clone()], ID, MADE_AT, BODY);
        assert_eq!(both.split(' ').count(), 2);
        for receiver in [old, new] {
            assert_eq!(check(&[key("another"), receiver], &both, BODY, MADE_AT), Ok(()));
        }
    }

    #[test]
    fn a_call_is_believed_for_five_minutes_either_way() {
        let at = |now| check(&[key(SECRET)], SIGNATURE, BODY, now);
        assert_eq!(at(MADE_AT + 300), Ok(()));
        assert_eq!(at(MADE_AT - 300), Ok(()));
        assert_eq!(at(MADE_AT + 301), Err(Rejected::TooOld));
        assert_eq!(at(MADE_AT - 301), Err(Rejected::TooNew));
        assert_eq!(at(i64::MAX), Err(Rejected::TooOld));
        assert_eq!(at(i64::MIN), Err(Rejected::TooNew));
    }

    #[test]
    fn what_was_changed_on_the_way_is_rejected() {
        let keys = [key(SECRET)];
        assert_eq!(check(&keys, SIGNATURE, br#"{"test":2432232314}"#, MADE_AT), Err(Rejected::Signature));
        for bad in ["", "v1,", "v1,AAAA", "v1,%%%", &SIGNATURE[3..], &SIGNATURE.replace("v1", "v2")] {
            assert_eq!(check(&keys, bad, BODY, MADE_AT), Err(Rejected::Signature), "{bad}");
        }
        assert_eq!(check(&[], SIGNATURE, BODY, MADE_AT), Err(Rejected::Signature));
        let headers = Headers { id: ID, timestamp: "noon", signature: SIGNATURE };
        assert_eq!(verify(&keys, &headers, BODY, MADE_AT, TOLERANCE_DEFAULT), Err(Rejected::Timestamp));
    }

    #[test]
    fn a_bad_secret_is_named_but_not_shown() {
        for bad in ["", "\n", "whsec_", "whsec_not base64"] {
            let fault = Key::parse(&SecretString::from(bad)).expect_err(bad);
            assert!(fault.contains("secret") && !fault.contains("not base64!"), "{fault}");
        }
        assert_eq!(format!("{:?}", key(SECRET)), "Key(..)");
    }
}
