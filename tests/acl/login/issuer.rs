//! Somebody who signs bearer tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// A public key of P-256 in DER, up to the point (RFC 5480).
const POINT_FOLLOWS: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

pub(crate) struct Issuer {
    id: &'static str,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock").as_secs()
}

impl Issuer {
    pub(crate) fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        let key = key.expect("the key");
        Self { id, key, random }
    }

    pub(crate) fn pem(&self) -> String {
        let der = [&POINT_FOLLOWS, self.key.public_key().as_ref()].concat();
        let text = STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    pub(crate) fn set(&self) -> String {
        let point = self.key.public_key().as_ref();
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id,
            "x": encode(&point[1..33]), "y": encode(&point[33..]),
        });
        json!({ "keys": [key] }).to_string()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let head = json!({ "alg": "ES256", "kid": self.id });
        let message = format!(
            "{}.{}",
            encode(head.to_string()),
            encode(claims.to_string())
        );
        let signed = self.key.sign(&self.random, message.as_bytes());
        format!("{message}.{}", encode(signed.expect("a signature")))
    }

    /// A bearer token of the team, for an hour, with other claims in place of its own.
    pub(crate) fn bearer(&self, team: &str, more: &Value) -> String {
        let mut claims = json!({
            "iss": "corp", "aud": ["consul"], "iat": now(), "exp": now() + 3600,
            "team": team, "groups": ["dev", team],
        });
        let fields = claims.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        self.sign(&claims)
    }
}
