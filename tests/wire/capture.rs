//! Every TCP and UDP packet of a network, kept, and put together to what was said.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};

/// Room for packets that wait to be read: far more than agents say within the longest pause of the reader.
const WAITING_BYTES: usize = 128 << 20;

/// Longer than any packet of the loopback.
const PACKET_BYTES: usize = 256 << 10;

/// The loopback hands a packet over at once: with nobody left to speak, whoever has heard nothing for so long has it all.
const SILENCE: Duration = Duration::from_millis(200);

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Who talks to whom, by the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    Http,
    Rpc,
    GossipDatagrams,
    GossipStreams,
}

impl Channel {
    pub(crate) const ALL: [Self; 4] = [
        Self::Http,
        Self::Rpc,
        Self::GossipDatagrams,
        Self::GossipStreams,
    ];

    /// # Panics
    /// When it is none that agents have: what is said there would be searched for nothing in particular.
    fn of(protocol: u8, (from, to): Ends) -> Self {
        let ports = [from.port(), to.port()];
        let is = |of: [u16; 2]| ports.iter().any(|port| of.contains(port));
        match protocol {
            TCP if is([8500, 8501]) => Self::Http,
            TCP if is([8300, 8300]) => Self::Rpc,
            TCP if is([8301, 8302]) => Self::GossipStreams,
            UDP if is([8301, 8302]) => Self::GossipDatagrams,
            _ => panic!("somebody else talks on this network: {from} to {to}"),
        }
    }
}

type Ends = (SocketAddrV4, SocketAddrV4);

/// A reader of everything that goes over the network of this process.
pub(crate) struct Capture {
    done: Arc<AtomicBool>,
    reader: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// From now on.
    ///
    /// # Panics
    /// When that is not allowed here.
    pub(crate) fn start() -> Self {
        let socket = listen().unwrap_or_else(|error| {
            panic!(
                "no raw socket (AF_PACKET) in a network of its own: {error}. This test must run as root with \
                 CAP_NET_RAW, or where anybody may make user namespaces"
            )
        });
        let done = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let done = Arc::clone(&done);
            move || read(&socket, &done)
        });
        Self { done, reader }
    }

    /// Until now, when all who talked have ended.
    ///
    /// # Panics
    /// When something was lost.
    pub(crate) fn finish(self) -> Traffic {
        self.done.store(true, Ordering::Relaxed);
        let packets = self.reader.join().expect("the reader does not panic");
        let mut traffic = Traffic::default();
        for packet in &packets {
            traffic.add(packet);
        }
        let sent = datagrams_sent();
        assert_eq!(
            traffic.datagrams.len(),
            sent,
            "datagrams were sent that were not kept"
        );
        traffic
    }
}

/// A packet of IPv4 comes once here: those that leave are shown to listeners of every protocol only. The agents have no
/// address of IPv6.
fn listen() -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(eth::IP),
    )?;
    // In a user namespace it is as much as anybody may have: what does not fit is noticed in the end.
    set_socket_recv_buffer_size_force(&socket, WAITING_BYTES)
        .or_else(|_| set_socket_recv_buffer_size(&socket, WAITING_BYTES))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(SILENCE))?;
    Ok(socket)
}

fn read(socket: &OwnedFd, done: &AtomicBool) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut buffer = vec![0; PACKET_BYTES];
    loop {
        // Before the silence: what was said until then comes first.
        let last = done.load(Ordering::Relaxed);
        match recv(socket, buffer.as_mut_slice(), RecvFlags::TRUNC) {
            Ok((kept, len)) => {
                assert_eq!(kept, len, "a packet longer than there is room for");
                packets.push(buffer[..len].to_vec());
            }
            Err(Errno::AGAIN) if last => return packets,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("cannot read packets: {error}"),
        }
    }
}

/// How many the kernel has sent on this network.
fn datagrams_sent() -> usize {
    let table = fs::read_to_string("/proc/self/net/snmp").expect("Linux has it");
    let mut lines = table.lines().filter(|line| line.starts_with("Udp: "));
    let names = lines.next().expect("a line of names");
    let values = lines.next().expect("a line of numbers");
    let mut columns = names.split(' ').zip(values.split(' '));
    let (_, sent) = columns
        .find(|(name, _)| *name == "OutDatagrams")
        .expect("a column of it");
    sent.parse().expect("a number")
}

/// One direction of a connection.
struct Stream {
    ends: Ends,
    /// The sequence number of its first byte.
    first: u32,
    /// In the order in which they came, with how far from the first byte they begin.
    segments: Vec<(u32, Vec<u8>)>,
}

impl Stream {
    /// All bytes in their order.
    ///
    /// # Panics
    /// When some are missing.
    fn whole(&self) -> Vec<u8> {
        let mut segments: Vec<_> = self.segments.iter().collect();
        segments.sort_by_key(|(at, _)| *at);
        let mut whole = Vec::new();
        for (at, bytes) in segments {
            let at = *at as usize;
            assert!(
                at <= whole.len(),
                "bytes {} to {at} of {:?} were not kept",
                whole.len(),
                self.ends
            );
            // What was sent again.
            let known = (whole.len() - at).min(bytes.len());
            whole.extend_from_slice(&bytes[known..]);
        }
        whole
    }
}

/// What was said.
#[derive(Default)]
pub(crate) struct Traffic {
    datagrams: Vec<(Ends, Vec<u8>)>,
    streams: Vec<Stream>,
    /// The last stream of these ends: ports come again.
    current: HashMap<Ends, usize>,
}

impl Traffic {
    /// How much was said there.
    pub(crate) fn bytes(&self, channel: Channel) -> usize {
        let said = self.said().into_iter();
        let there = said.filter(|(of, _)| *of == channel);
        there.map(|(_, bytes)| bytes.len()).sum()
    }

    /// Where a text was said.
    pub(crate) fn places_of(&self, text: &[u8]) -> BTreeSet<Channel> {
        let said = self.said().into_iter();
        let with = said.filter(|(_, bytes)| bytes.windows(text.len()).any(|part| part == text));
        with.map(|(channel, _)| channel).collect()
    }

    fn said(&self) -> Vec<(Channel, Vec<u8>)> {
        let datagrams = self.datagrams.iter();
        let datagrams = datagrams.map(|(ends, bytes)| (Channel::of(UDP, *ends), bytes.clone()));
        let streams = self.streams.iter();
        let streams = streams.map(|stream| (Channel::of(TCP, stream.ends), stream.whole()));
        datagrams.chain(streams).collect()
    }

    /// A packet of IPv4 (RFC 791).
    fn add(&mut self, packet: &[u8]) {
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        let total_len = usize::from(number(packet, 2));
        let more_fragments_or_offset = number(packet, 6) & 0x3fff;
        assert_eq!(more_fragments_or_offset, 0, "the loopback cuts nothing up");
        let address = |at: usize| {
            let bytes: [u8; 4] = packet[at..at + 4].try_into().expect("four bytes");
            Ipv4Addr::from(bytes)
        };
        let (source, target) = (address(12), address(16));
        let payload = &packet[header_len..total_len];
        let ends = || {
            (
                SocketAddrV4::new(source, number(payload, 0)),
                SocketAddrV4::new(target, number(payload, 2)),
            )
        };
        match packet[9] {
            // RFC 768.
            UDP => self.datagrams.push((ends(), payload[8..].to_vec())),
            TCP => self.add_segment(ends(), payload),
            // That a port is closed says ICMP, with the beginning of what was sent there.
            _ => {}
        }
    }

    /// A segment of TCP (RFC 9293).
    fn add_segment(&mut self, ends: Ends, segment: &[u8]) {
        let sequence = segment[4..8].try_into().expect("four bytes");
        let sequence = u32::from_be_bytes(sequence);
        let data = &segment[usize::from(segment[12] >> 4) * 4..];
        let opens = segment[13] & 0x02 != 0;
        if opens {
            let first = sequence.wrapping_add(1);
            let again = self.current.get(&ends).map(|at| self.streams[*at].first);
            if again != Some(first) {
                self.current.insert(ends, self.streams.len());
                self.streams.push(Stream {
                    ends,
                    first,
                    segments: Vec::new(),
                });
            }
        }
        if data.is_empty() {
            return;
        }
        let at = self.current.get(&ends);
        let at = at.unwrap_or_else(|| panic!("the beginning of {ends:?} was not kept"));
        let stream = &mut self.streams[*at];
        let offset = sequence.wrapping_sub(stream.first);
        stream.segments.push((offset, data.to_vec()));
    }
}

/// Two bytes, the high one first.
fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
