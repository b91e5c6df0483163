//! From settings to a running driver.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::driver::{Driver, Parts};
use super::identity::Identity;
use super::sealed::{SealedSocket, Sealer};
use super::snapshot::{self, Snapshot, Writer};
use super::{Gossip, Member, Settings, Shared, StartError, Status, codec, sync};
use crate::env::{Datagrams, Env, Listener, write_atomic};

/// Commands that may wait for the driver: it answers within microseconds, so a longer queue would only hide a fault.
const QUEUE: usize = 256;
/// Tries to find a port that is free for both TCP and UDP, when any port will do.
const BIND_TRIES: u32 = 16;

/// Binds the sockets, reads the snapshot, makes the new generation durable, and starts the tasks on the current
/// runtime. The node is alone until [`Gossip::join`] or [`Gossip::rejoin`].
///
/// # Errors
/// Nothing runs after an error.
pub async fn start(env: Env, mut settings: Settings) -> Result<Gossip, StartError> {
    check_settings(&settings)?;
    let path = settings.snapshot.clone();
    let in_snapshot = |source| StartError::Snapshot {
        path: path.clone(),
        source,
    };
    let sealer = match &settings.encryption {
        None => None,
        Some(encryption) => {
            let opened = Sealer::open(&env, &settings.pool, encryption);
            opened.map_err(StartError::Keyring)?.map(Arc::new)
        }
    };
    let (listener, socket, bound) = bind(&env, settings.bind).await?;
    settings.bind = bound;
    if settings.advertise.port() == 0 {
        settings.advertise.set_port(bound.port());
    }
    let (snapshot, may_rejoin) = open_snapshot(&env, &settings).map_err(in_snapshot)?;
    let settings = Arc::new(settings);
    let identity = Identity {
        id: settings.id,
        name: settings.name.as_str().into(),
        addr: settings.advertise,
        generation: snapshot.generation,
    };
    let local = Member {
        name: settings.name.clone(),
        id: settings.id,
        addr: settings.advertise,
        generation: identity.generation,
        status: Status::Alive,
        tags: settings.tags.clone(),
    };
    let shared = Arc::new(Shared::new(local, settings.events, sealer.clone()));
    let socket = match sealer {
        None => socket,
        Some(sealer) => {
            let shared = Arc::clone(&shared);
            let told = Box::new(move |from, error| shared.note_unopened(from, error));
            Arc::new(SealedSocket {
                socket,
                sealer,
                told,
            })
        }
    };
    let (commands, commands_out) = mpsc::channel(QUEUE);
    let (requests_in, requests) = mpsc::channel(QUEUE);
    let served = sync::serve(listener, requests_in.clone(), Arc::clone(&shared));
    let driver = Driver::new(Parts {
        writer: Writer::new(Arc::clone(&env.disk), &path),
        env: env.clone(),
        settings: Arc::clone(&settings),
        shared: Arc::clone(&shared),
        identity,
        socket,
        snapshot,
        commands: commands_out,
        requests,
        requests_in,
        served: Box::pin(served),
    });
    tokio::spawn(driver.run());
    Ok(Gossip {
        commands,
        shared,
        env,
        settings,
        may_rejoin,
    })
}

fn check_settings(settings: &Settings) -> Result<(), StartError> {
    if settings.name.is_empty() || settings.name.len() > codec::NAME_MAX {
        return Err(StartError::Settings(
            "the node name must have 1 to 255 bytes",
        ));
    }
    if settings.pool.len() > codec::NAME_MAX {
        return Err(StartError::Settings(
            "the datacenter's name must have at most 255 bytes",
        ));
    }
    if settings.probe_timeout.is_zero() || settings.probe_timeout >= settings.probe_interval {
        return Err(StartError::Settings(
            "probe_timeout must be more than zero and less than probe_interval",
        ));
    }
    if settings.gossip_interval.is_zero() {
        return Err(StartError::Settings(
            "gossip_interval must be more than zero",
        ));
    }
    if !codec::tags_fit(&settings.tags) {
        return Err(StartError::Settings("the tags are too large"));
    }
    Ok(())
}

/// Binds TCP and UDP to the same port.
async fn bind(
    env: &Env,
    address: SocketAddr,
) -> Result<(Box<dyn Listener>, Arc<dyn Datagrams>, SocketAddr), StartError> {
    let failed = |source| StartError::Bind { address, source };
    let mut tries = 0;
    loop {
        let listener = env.net.listen(address).await.map_err(failed)?;
        let mut bound = listener.local_addr().map_err(failed)?;
        bound.set_ip(address.ip());
        match env.net.bind_udp(bound).await {
            Ok(socket) => return Ok((listener, socket, bound)),
            Err(_) if address.port() == 0 && tries < BIND_TRIES => tries += 1,
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Reads the snapshot and writes the one of this run, with a generation that was never used. Whether the members in
/// it are to be contacted.
fn open_snapshot(env: &Env, settings: &Settings) -> io::Result<(Snapshot, bool)> {
    let path = &settings.snapshot;
    env.disk
        .create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut snapshot = snapshot::load(env, path)?;
    let now = env.clock.unix_ms();
    let may_rejoin = !snapshot.left || settings.rejoin_after_leave;
    if !may_rejoin {
        snapshot.members.clear();
    }
    let kept = u64::try_from(settings.reconnect_timeout.as_millis()).unwrap_or(u64::MAX);
    snapshot
        .members
        .retain(|_, member| now.saturating_sub(member.seen) < kept);
    snapshot.generation = now.max(snapshot.generation.saturating_add(1));
    snapshot.left = false;
    write_atomic(&*env.disk, path, &snapshot.encode())?;
    Ok((snapshot, may_rejoin))
}
