//! [`agent::env::Net`]: what the software of a simulated host sees of the network.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agent::env::{BoxStream, Datagrams, Listener, Net};
use bytes::{Buf as _, Bytes};
use futures::future::{BoxFuture, FutureExt as _, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, End, Segment};
use super::{Listening, Mailbox, Network, World};

/// First of the ports that callers get.
const FIRST_PORT: u16 = 32768;

/// The network as one host has it.
pub(crate) struct SimNet {
    pub(crate) network: Network,
    pub(crate) host: IpAddr,
}

impl SimNet {
    fn bind(&self, addr: SocketAddr) -> io::Result<SocketAddr> {
        if addr.ip() != self.host && !addr.ip().is_unspecified() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(SocketAddr::new(self.host, addr.port()))
    }

    fn listen(&self, addr: SocketAddr) -> io::Result<SimListener> {
        let addr = self.bind(addr)?;
        let mut world = self.network.world();
        let machine = world.hosts.entry(self.host).or_default();
        if machine.listeners.contains_key(&addr.port()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        machine.listeners.insert(addr.port(), Listening::default());
        let life = machine.life;
        drop(world);
        Ok(SimListener {
            network: self.network.clone(),
            addr,
            life,
        })
    }

    fn open(&self, to: SocketAddr) -> SimStream {
        let mut world = self.network.world();
        let machine = world.hosts.entry(self.host).or_default();
        machine.next_port = machine.next_port.wrapping_add(1).max(FIRST_PORT);
        let from = SocketAddr::new(self.host, machine.next_port);
        let mut connection = Connection::new(from, machine.life, to);
        let id = world.serial();
        world.send(&mut connection, 0, Segment::Open);
        world.connections.insert(id, connection);
        drop(world);
        SimStream {
            network: self.network.clone(),
            id,
            end: 0,
        }
    }

    fn bind_datagrams(&self, addr: SocketAddr) -> io::Result<SimUdp> {
        let addr = self.bind(addr)?;
        let mut world = self.network.world();
        let machine = world.hosts.entry(self.host).or_default();
        if machine.udp.contains_key(&addr.port()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        machine.udp.insert(addr.port(), Mailbox::default());
        let life = machine.life;
        drop(world);
        Ok(SimUdp {
            network: self.network.clone(),
            addr,
            life,
        })
    }
}

impl Net for SimNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let listener = self.listen(addr);
        ready(listener.map(|listener| Box::new(listener) as Box<dyn Listener>)).boxed()
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        async move {
            let stream = self.open(addr);
            poll_fn(|cx| stream.poll_established(cx)).await?;
            Ok(Box::new(stream) as BoxStream)
        }
        .boxed()
    }

    fn bind_udp(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Datagrams>>> {
        let socket = self.bind_datagrams(addr);
        ready(socket.map(|socket| Arc::new(socket) as Arc<dyn Datagrams>)).boxed()
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        // Nothing in a simulation is known by name.
        let literal = host.parse::<IpAddr>();
        let found = literal.map_err(|e| io::Error::new(io::ErrorKind::NotFound, e));
        ready(found.map(|ip| vec![SocketAddr::new(ip, port)])).boxed()
    }
}

struct SimListener {
    network: Network,
    addr: SocketAddr,
    life: u64,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        poll_fn(|cx| {
            let mut world = self.network.world();
            let machine = world.hosts.entry(self.addr.ip()).or_default();
            let Some(listening) = machine.listeners.get_mut(&self.addr.port()) else {
                return Poll::Pending;
            };
            let Some(id) = listening.waiting.pop_front() else {
                listening.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let from = world
                .connections
                .get(&id)
                .map_or(self.addr, |connection| connection.ends[0].addr);
            let network = self.network.clone();
            let stream = SimStream {
                network,
                id,
                end: 1,
            };
            Poll::Ready(Ok((Box::new(stream) as BoxStream, from)))
        })
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut world = self.network.world();
        let machine = world.hosts.entry(self.addr.ip()).or_default();
        if machine.life != self.life {
            return;
        }
        if let Some(listening) = machine.listeners.remove(&self.addr.port()) {
            for id in listening.waiting {
                world.close(id, 1);
            }
        }
    }
}

struct SimStream {
    network: Network,
    id: u64,
    end: usize,
}

impl SimStream {
    fn poll_established(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.with(|_, end| {
            if end.established {
                return Poll::Ready(Ok(()));
            }
            if end.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
            }
            end.reader = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Looks at this end; `other` is the one that sends to it.
    fn with<T>(
        &self,
        look: impl FnOnce(&mut End, &mut End) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut world = self.network.world();
        let Some(connection) = world.connections.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let [client, server] = &mut connection.ends;
        match self.end {
            0 => look(server, client),
            _ => look(client, server),
        }
    }

    fn send(&self, segment: Segment) {
        let mut world = self.network.world();
        // Taken out for the time, as sending needs both.
        if let Some(mut connection) = world.connections.remove(&self.id) {
            world.send(&mut connection, self.end, segment);
            world.connections.insert(self.id, connection);
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|other, end| {
            if let Some(data) = end.incoming.front_mut() {
                let len = data.len().min(buffer.remaining());
                buffer.put_slice(&data[..len]);
                data.advance(len);
                if data.is_empty() {
                    end.incoming.pop_front();
                }
                other.unread -= len;
                if let Some(waker) = other.writer.take() {
                    waker.wake();
                }
                return Poll::Ready(Ok(()));
            }
            if end.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if end.ended {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let free = self.with(|_, end| {
            if end.reset || end.shut {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if end.has_room() {
                return Poll::Ready(Ok(()));
            }
            end.writer = Some(cx.waker().clone());
            Poll::Pending
        });
        free.map_ok(|()| {
            self.send(Segment::Data(Bytes::copy_from_slice(data)));
            data.len()
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = self.with(|_, end| Poll::Ready(Ok(std::mem::replace(&mut end.shut, true))));
        if let Poll::Ready(Ok(false)) = shut {
            self.send(Segment::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.world().close(self.id, self.end);
    }
}

impl World {
    /// Nobody holds this end any more.
    fn close(&mut self, id: u64, end: usize) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        // What nobody read makes it a reset, as in a kernel; so does giving up before it was there.
        let gone = &connection.ends[end];
        let clean = gone.established && gone.incoming.is_empty();
        if !clean {
            self.send(&mut connection, end, Segment::Reset);
        } else if !gone.shut {
            self.send(&mut connection, end, Segment::End);
        }
        connection.ends[end].held = false;
        if !connection.is_over() {
            self.connections.insert(id, connection);
        }
    }
}

struct SimUdp {
    network: Network,
    addr: SocketAddr,
    life: u64,
}

impl Datagrams for SimUdp {
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        self.network.world().send_datagram(self.addr, to, data);
        ready(Ok(data.len())).boxed()
    }

    fn recv_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        poll_fn(move |cx| {
            let mut world = self.network.world();
            let machine = world.hosts.entry(self.addr.ip()).or_default();
            let Some(mailbox) = machine.udp.get_mut(&self.addr.port()) else {
                return Poll::Pending;
            };
            let Some((data, from)) = mailbox.waiting.pop_front() else {
                mailbox.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let len = data.len().min(buffer.len());
            buffer[..len].copy_from_slice(&data[..len]);
            Poll::Ready(Ok((len, from)))
        })
        .boxed()
    }
}

impl Drop for SimUdp {
    fn drop(&mut self) {
        let mut world = self.network.world();
        let machine = world.hosts.entry(self.addr.ip()).or_default();
        if machine.life == self.life {
            machine.udp.remove(&self.addr.port());
        }
    }
}
