//! How many requests a second: `limits.request_limits`, `limits.rpc_rate` and `limits.rpc_max_burst`. Pure.

use super::Error;
use super::build::invalid;
use super::layer::{LimitsLayer, Number, Rate};

/// How many requests a second this agent takes on, and makes. Both apply live.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Of a server: requests of other agents and of its own clients.
    pub requests: RequestLimits,
    /// Requests to servers, of this agent's clients and of its own.
    pub calls: CallLimit,
}

/// A server's limit on what it answers. Block `limits.request_limits`. Clients have none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestLimits {
    /// What becomes of a request that is over the limit. Key `mode`. Default disabled.
    pub mode: RequestMode,
    /// Reads a second, with bursts of ten seconds' worth. Key `read_rate`. 0 lets none through; below 0 is no limit. Default
    /// -1: `None`.
    pub read_rate: Option<f64>,
    /// The same for writes. Key `write_rate`.
    pub write_rate: Option<f64>,
}

/// What becomes of a request that is over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestMode {
    /// Nothing is counted.
    #[default]
    Disabled,
    /// It is counted and logged, and answered.
    Permissive,
    /// It is refused.
    Enforcing,
}

impl RequestMode {
    /// As it is written in a file, and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            RequestMode::Disabled => "disabled",
            RequestMode::Permissive => "permissive",
            RequestMode::Enforcing => "enforcing",
        }
    }
}

/// An agent's limit on what it asks of servers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallLimit {
    /// Requests a second. Key `limits.rpc_rate`. 0 or less is no limit. Default -1: `None`.
    pub rate: Option<f64>,
    /// Requests at once after a pause. Key `limits.rpc_max_burst`. 0 or less is the default. Default 1000.
    pub max_burst: u32,
}

/// Consul's.
const MAX_BURST: u32 = 1000;

/// # Errors
/// A mode that there is not, or a burst that is too large.
pub(super) fn check(layer: &LimitsLayer) -> Result<Rates, Error> {
    let given = &layer.request_limits;
    let mode = match given.mode.as_deref().unwrap_or("") {
        "" | "disabled" => RequestMode::Disabled,
        "permissive" => RequestMode::Permissive,
        "enforcing" => RequestMode::Enforcing,
        other => {
            return invalid(format!(
                "limits.request_limits.mode: invalid mode: {other:?}: must be \"disabled\", \"permissive\" or \"enforcing\""
            ));
        }
    };
    let positive_or_zero = |rate: Option<Rate>| rate.map(|Rate(rate)| rate).filter(|r| *r >= 0.0);
    Ok(Rates {
        requests: RequestLimits {
            mode,
            read_rate: positive_or_zero(given.read_rate),
            write_rate: positive_or_zero(given.write_rate),
        },
        calls: CallLimit {
            rate: positive_or_zero(layer.rpc_rate).filter(|rate| *rate > 0.0),
            max_burst: max_burst(layer.rpc_max_burst)?,
        },
    })
}

fn max_burst(given: Option<Number>) -> Result<u32, Error> {
    match given {
        None => Ok(MAX_BURST),
        Some(Number(number)) if number <= 0 => Ok(MAX_BURST),
        number => super::build::within(
            "limits.rpc_max_burst",
            number,
            MAX_BURST,
            1,
            i64::from(u32::MAX),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FlagSettings, Format, Machine, SourceFile, load};
    use super::*;

    fn rates(block: &str) -> Result<Rates, String> {
        let file = SourceFile {
            name: "a.hcl".into(),
            format: Format::Hcl,
            text: format!("data_dir = \"/d\"\nbind_addr = \"127.0.0.1\"\nlimits {{ {block} }}"),
        };
        let machine = Machine {
            hostname: "host".into(),
            private_ipv4: vec![],
            public_ipv6: vec![],
            temporary_dir: "/tmp/x".into(),
        };
        let loaded = load(&[file], &FlagSettings::default(), &machine);
        let loaded = loaded.map_err(|error| error.to_string())?;
        assert_eq!(loaded.warnings, [""; 0]);
        Ok(loaded.config.rates)
    }

    #[test]
    fn nothing_is_limited_by_default() {
        let rates = rates("").unwrap();
        assert_eq!(rates.requests.mode, RequestMode::Disabled);
        assert_eq!(
            (rates.requests.read_rate, rates.requests.write_rate),
            (None, None)
        );
        assert_eq!((rates.calls.rate, rates.calls.max_burst), (None, 1000));
    }

    #[test]
    fn numbers_mean_what_they_mean_in_consul() {
        let found = rates(
            r#"request_limits { mode = "enforcing" read_rate = 500.5 write_rate = 0 }
               rpc_rate = 7
               rpc_max_burst = 3"#,
        );
        let found = found.unwrap();
        assert_eq!(found.requests.mode, RequestMode::Enforcing);
        assert_eq!(found.requests.read_rate, Some(500.5));
        assert_eq!(found.requests.write_rate, Some(0.0), "lets none through");
        assert_eq!((found.calls.rate, found.calls.max_burst), (Some(7.0), 3));
        let found = rates(
            r#"request_limits = { mode = "permissive", read_rate = -1, write_rate = -0.5 }
               rpc_rate = 0
               rpc_max_burst = 0"#,
        );
        let found = found.unwrap();
        assert_eq!(found.requests.mode, RequestMode::Permissive);
        assert_eq!(
            (found.requests.read_rate, found.requests.write_rate),
            (None, None)
        );
        assert_eq!((found.calls.rate, found.calls.max_burst), (None, 1000));
    }

    #[test]
    fn what_cannot_be_is_said_in_one_sentence() {
        for (block, wanted) in [
            (
                r#"request_limits { mode = "strict" }"#,
                "limits.request_limits.mode: invalid mode: \"strict\"",
            ),
            (
                r#"request_limits { read_rate = "many" }"#,
                "expected a number",
            ),
            (r#"rpc_rate = true"#, "expected a number"),
            (r#"rpc_max_burst = 5000000000"#, "limits.rpc_max_burst"),
            (r#"rpc_max_burst = 1.5"#, "expected a whole number"),
            (r#"request_limits { rate = 5 }"#, "invalid config key"),
        ] {
            let text = rates(block).unwrap_err();
            assert!(text.contains(wanted), "{block}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}
