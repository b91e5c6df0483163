//! Where saved states are, as an agent's command line and a person's eye have it. Pure.

use crate::crd::{BucketPlace, ClaimPlace, Destination};

/// Where the claim is mounted in the pod of a job.
pub const MOUNT: &str = "/backup";

/// A file in a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What it is in.
    pub destination: Destination,
    /// Its name.
    pub file: String,
}

fn joined(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).collect();
    parts
        .iter()
        .map(|part| **part)
        .collect::<Vec<_>>()
        .join("/")
}

impl Place {
    /// For people: `pvc://CLAIM/PATH/FILE` or `s3://BUCKET/PREFIX/FILE`.
    pub fn location(&self) -> String {
        match (&self.destination.pvc, &self.destination.s3) {
            (Some(ClaimPlace { claim_name, path }), _) => {
                format!("pvc://{}", joined(&[claim_name, path, &self.file]))
            }
            (None, Some(s3)) => self.object(s3),
            (None, None) => self.file.clone(),
        }
    }

    /// For the agent, in the pod of a job.
    pub fn argument(&self) -> String {
        match (&self.destination.pvc, &self.destination.s3) {
            (Some(claim), _) => joined(&[MOUNT, &claim.path, &self.file]),
            (None, Some(s3)) => self.object(s3),
            (None, None) => self.file.clone(),
        }
    }

    fn object(&self, s3: &BucketPlace) -> String {
        format!("s3://{}", joined(&[&s3.bucket, &s3.prefix, &self.file]))
    }
}

/// Flags of the agent's for that destination.
pub fn flags(destination: &Destination) -> Vec<String> {
    let Some(s3) = &destination.s3 else {
        return Vec::new();
    };
    let mut flags = Vec::new();
    if let Some(endpoint) = &s3.endpoint {
        flags.push(format!("-aws-s3-endpoint={endpoint}"));
    }
    if let Some(region) = &s3.region {
        flags.push(format!("-aws-s3-region={region}"));
    }
    if let Some(style) = s3.path_style {
        flags.push(format!("-aws-s3-path-style={style}"));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_said_for_people_and_for_the_agent() {
        let claim = |path: &str| Place {
            destination: Destination {
                pvc: Some(ClaimPlace {
                    claim_name: "keep".into(),
                    path: path.into(),
                }),
                s3: None,
            },
            file: "a.snap".into(),
        };
        assert_eq!(claim("").location(), "pvc://keep/a.snap");
        assert_eq!(claim("x/y").location(), "pvc://keep/x/y/a.snap");
        assert_eq!(claim("").argument(), "/backup/a.snap");
        assert_eq!(claim("x/y").argument(), "/backup/x/y/a.snap");
        let bucket = |prefix: &str| Place {
            destination: Destination {
                pvc: None,
                s3: Some(BucketPlace {
                    bucket: "b".into(),
                    prefix: prefix.into(),
                    endpoint: Some("http://minio:9000".into()),
                    path_style: Some(true),
                    ..BucketPlace::default()
                }),
            },
            file: "a.snap".into(),
        };
        assert_eq!(bucket("").location(), "s3://b/a.snap");
        assert_eq!(bucket("p/q").argument(), "s3://b/p/q/a.snap");
        assert_eq!(
            flags(&bucket("").destination),
            [
                "-aws-s3-endpoint=http://minio:9000",
                "-aws-s3-path-style=true"
            ]
        );
    }
}
