//! ring, as the library for bearer tokens wants it: it verifies, and signs nothing.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    // Only the makers of key sets need them.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the library verify by ring. There is one backend a process; a second call changes nothing.
pub(super) fn install() {
    let _ = RING.install_default();
}

enum Verify {
    Rsa(&'static RsaParameters),
    Point(&'static dyn VerificationAlgorithm),
}

/// How an algorithm is verified; `None` for those whose key would have to be secret.
fn verify(algorithm: Algorithm) -> Option<Verify> {
    Some(match algorithm {
        Algorithm::RS256 => Verify::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Verify::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Verify::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Verify::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Verify::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Verify::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Verify::Point(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Verify::Point(&signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Verify::Point(&signature::ED25519),
        _ => return None,
    })
}

/// Whether bearer tokens may be signed so.
pub(super) fn is_known(algorithm: Algorithm) -> bool {
    verify(algorithm).is_some()
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let verify = verify(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
    Ok(Box::new(ByRing {
        algorithm: *algorithm,
        verify,
        key: key.clone(),
    }))
}

struct ByRing {
    algorithm: Algorithm,
    verify: Verify,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match (&self.verify, self.key.kind()) {
            (Verify::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let (n, e) = (without_zeros(n), without_zeros(e));
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signed)
            }
            (Verify::Point(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                signature::UnparsedPublicKey::new(*algorithm, point).verify(message, signed)
            }
            _ => return Err(Error::new()),
        };
        verified.map_err(|_| Error::new())
    }
}

/// A number as ring wants it: DER puts a zero in front of one that would look negative.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
