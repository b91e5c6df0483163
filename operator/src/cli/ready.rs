//! `operator ready`: asks a running operator whether it is ready. What `helm test` runs: the image holds no other
//! program that could ask.

use agent::client::Client;
use clap::Args as ClapArgs;

/// Asks an operator's /readyz; fails unless it is ready.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Where it listens: host:port, or a URL.
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let answer = async {
        let client = Client::new(&args.address)?;
        client.get("/readyz").await?.success()
    };
    answer
        .await
        .map_err(|e| anyhow::anyhow!("the operator at {} is not ready: {e}", args.address))?;
    super::print("ready\n")
}
