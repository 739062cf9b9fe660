//! Temporary credentials: a certificate says who issued them, what they may do and until when, and is signed with the issuer's token.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::scope::is_scope;
use crate::seam::{Random, slugid};

/// Certificates are never valid for longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(31 * 24);
/// How far the start may lie in the future, because clocks differ.
const DRIFT: SignedDuration = SignedDuration::from_mins(5);
/// Two slugids.
const SEED_LENGTH: usize = 44;

/// A certificate, version 1.
#[derive(Deserialize, Serialize)]
pub(crate) struct Certificate {
    version: u32,
    scopes: Vec<String>,
    start: i64,
    expiry: i64,
    seed: String,
    signature: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
}

/// Credentials as they are given out. Not `Debug`: they are secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TemporaryCredentials {
    pub(crate) client_id: String,
    pub(crate) access_token: String,
    pub(crate) certificate: String,
}

/// What a valid certificate allows.
pub(crate) struct Granted {
    pub(crate) access_token: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires: Timestamp,
}

impl Certificate {
    /// Who signed it, if that is not the client itself.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Makes credentials of the name `client_id`, signed by `issuer`.
    pub(crate) fn issue(
        issuer: (&str, &str),
        client_id: String,
        scopes: Vec<String>,
        (start, expiry): (Timestamp, Timestamp),
        random: &dyn Random,
    ) -> TemporaryCredentials {
        let (issuer, token) = issuer;
        let seed = slugid(random) + &slugid(random);
        let mut certificate = Self {
            version: 1,
            scopes,
            start: start.as_millisecond(),
            expiry: expiry.as_millisecond(),
            seed,
            signature: String::new(),
            issuer: Some(issuer.to_owned()),
        };
        certificate.signature = certificate.sign(&client_id, token);
        let access_token = temporary_token(token, &certificate.seed);
        // A certificate consists of strings and numbers only, which serialize always.
        let certificate = serde_json::to_string(&certificate).unwrap_or_default();
        TemporaryCredentials { client_id, access_token, certificate }
    }

    /// Checks everything but the issuer's own scopes.
    pub(crate) fn verify(self, client_id: &str, issuer_token: &str, now: Timestamp) -> Result<Granted, String> {
        let now = now.as_millisecond();
        let wrong = |what: &str| Err(format!("certificate {what}"));
        if self.version != 1 {
            return wrong("has a version other than 1");
        }
        if self.seed.len() != SEED_LENGTH {
            return wrong("has a seed that is not 44 characters long");
        }
        if !self.scopes.iter().all(|scope| is_scope(scope)) {
            return wrong("has scopes that are no scopes");
        }
        if i128::from(self.start) > i128::from(now) + DRIFT.as_millis() {
            return wrong("is not valid yet");
        }
        if self.expiry < now {
            return wrong("has expired");
        }
        if self.expiry < self.start {
            return wrong("ends before it begins");
        }
        if i128::from(self.expiry) - i128::from(self.start) > LONGEST.as_millis() {
            return wrong("is valid for longer than 31 days");
        }
        let expected = self.sign(client_id, issuer_token);
        if verify_slices_are_equal(expected.as_bytes(), self.signature.as_bytes()).is_err() {
            return wrong("has a signature that does not belong to it, to its issuer and to this client id");
        }
        let expires = Timestamp::from_millisecond(self.expiry).unwrap_or(Timestamp::MAX);
        Ok(Granted { access_token: temporary_token(issuer_token, &self.seed), scopes: self.scopes, expires })
    }

    fn sign(&self, client_id: &str, issuer_token: &str) -> String {
        let mut lines = vec!["version:1".to_owned()];
        if let Some(issuer) = &self.issuer {
            lines.push(format!("clientId:{client_id}"));
            lines.push(format!("issuer:{issuer}"));
        }
        lines.extend([
            format!("seed:{}", self.seed),
            format!("start:{}", self.start),
            format!("expiry:{}", self.expiry),
            "scopes:".to_owned(),
        ]);
        lines.extend(self.scopes.iter().cloned());
        BASE64_STANDARD.encode(hmac_sha256(issuer_token, lines.join("\n").as_bytes()))
    }
}

fn temporary_token(issuer_token: &str, seed: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac_sha256(issuer_token, seed.as_bytes()))
}

fn hmac_sha256(key: &str, data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::SeededRandom;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a date")
    }

    fn issued() -> (TemporaryCredentials, Certificate) {
        let made = Certificate::issue(
            ("root", "secret"),
            "me".into(),
            vec!["a:*".into()],
            (at(1000), at(2000)),
            &SeededRandom::new(3),
        );
        let certificate = serde_json::from_str(&made.certificate).expect("a certificate");
        (made, certificate)
    }

    #[test]
    fn what_was_issued_is_accepted_and_grants_the_same_token() {
        let (made, certificate) = issued();
        let granted = certificate.verify("me", "secret", at(2000)).map_err(drop).expect("valid");
        assert_eq!(granted.access_token, made.access_token);
        assert_eq!(granted.scopes, ["a:*"]);
    }

    #[test]
    fn every_change_is_noticed() {
        let message = |certificate: Certificate, id: &str, token: &str, now: i64| certificate.verify(id, token, at(now)).err();
        assert!(message(issued().1, "me", "secret", 2001).is_some_and(|m| m.contains("expired")));
        assert!(message(issued().1, "me", "secret", 600).is_some_and(|m| m.contains("not valid yet")));
        assert!(message(issued().1, "you", "secret", 1500).is_some_and(|m| m.contains("signature")));
        assert!(message(issued().1, "me", "other", 1500).is_some_and(|m| m.contains("signature")));
        // Right after it has ended, and before the other rule would notice, it may claim to begin later.
        let backwards = Certificate { start: 2_010_000, expiry: 2_000_000, ..issued().1 };
        assert!(message(backwards, "me", "secret", 1990).is_some_and(|m| m.contains("ends before it begins")));
        let long = Certificate { expiry: 1_000_000 + 32 * 24 * 3_600_000, ..issued().1 };
        assert!(message(long, "me", "secret", 1500).is_some_and(|m| m.contains("longer than 31 days")));
        let changes: [fn(&mut Certificate); 6] = [
            |c| c.scopes.push("more".into()),
            |c| c.expiry += 1,
            |c| c.start -= 1,
            |c| c.issuer = None,
            |c| c.version = 2,
            |c| c.seed.replace_range(0..1, "_"),
        ];
        for change in changes {
            let mut certificate = issued().1;
            change(&mut certificate);
            assert!(message(certificate, "me", "secret", 1500).is_some());
        }
    }
}
