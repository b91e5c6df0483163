//! Other DNS servers, asked for what is not ours.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, Query as Question, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::server::Transport;
use crate::config::Dns;
use crate::env::Env;

/// Questions that are with recursors at a time. Each holds a socket; more of them get SERVFAIL at once.
const IN_FLIGHT_MAX: usize = 1024;

/// Longest datagram that there is.
const DATAGRAM_LEN: usize = 65_535;

/// Length of a header.
const HEADER: usize = 12;

/// Asks other servers, one after the other.
pub(super) struct Recursors {
    env: Env,
    settings: Dns,
    places: Semaphore,
}

impl Recursors {
    pub(super) fn new(env: Env, settings: Dns) -> Self {
        Self {
            env,
            settings,
            places: Semaphore::new(IN_FLIGHT_MAX),
        }
    }

    pub(super) fn any(&self) -> bool {
        !self.settings.recursors.is_empty()
    }

    /// Passes a question on as it came; the first useful answer, under the question's id.
    pub(super) async fn forward(&self, packet: &[u8], over: Transport) -> Option<Vec<u8>> {
        let _place = self.places.try_acquire().ok()?;
        let mut servers = self.settings.recursors.clone();
        if self.settings.recursors_in_random_order {
            for at in (1..servers.len()).rev() {
                servers.swap(at, self.env.random.below(at as u64 + 1) as usize);
            }
        }
        let own = packet.get(..2)?;
        let mut question = packet.to_vec();
        for server in servers {
            // A new id each time: an answer that somebody makes up has to guess it, beside the port.
            let id = (self.env.random.next_u64() as u16).to_be_bytes();
            question[..2].copy_from_slice(&id);
            let asked = async {
                match over {
                    Transport::Udp => self.ask_udp(server, &question).await,
                    Transport::Tcp => self.ask_tcp(server, &question).await,
                }
            };
            match tokio::time::timeout(self.settings.recursor_timeout, asked).await {
                Ok(Ok(mut answer)) if is_useful(&answer) => {
                    answer[..2].copy_from_slice(own);
                    return Some(answer);
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(target: "dns", %server, %error, "recurse failed");
                }
                Err(_) => tracing::debug!(target: "dns", %server, "recurse timed out"),
            }
        }
        None
    }

    /// Records of a name that is not ours; none when nobody knows them.
    pub(super) async fn resolve(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Question::query(name.clone(), kind));
        let Ok(packet) = query.to_vec() else {
            return Vec::new();
        };
        let answer = self.forward(&packet, Transport::Udp).await;
        let message = answer.and_then(|answer| Message::from_vec(&answer).ok());
        message.map_or_else(Vec::new, |message| message.answers)
    }

    async fn ask_udp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = self.env.net.bind_udp(SocketAddr::new(any, 0)).await?;
        socket.send_to(question, server).await?;
        let mut buffer = vec![0; DATAGRAM_LEN];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await?;
            if from == server && answers(&buffer[..len], question) {
                buffer.truncate(len);
                return Ok(buffer);
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.env.net.connect(server).await?;
        let len = u16::try_from(question.len()).map_err(io::Error::other)?;
        stream
            .write_all(&[&len.to_be_bytes(), question].concat())
            .await?;
        let len = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(len)];
        stream.read_exact(&mut answer).await?;
        if answers(&answer, question) {
            return Ok(answer);
        }
        Err(io::Error::other("the answer is to another question"))
    }
}

/// Whether this is an answer to this question.
fn answers(answer: &[u8], question: &[u8]) -> bool {
    let (Some(end), Some(head)) = (question_end(question), answer.get(..HEADER)) else {
        return false;
    };
    let is_answer = head[2] & 0x80 != 0;
    // Servers that refuse may leave the question out.
    let same = answer
        .get(HEADER..end)
        .is_none_or(|part| part.eq_ignore_ascii_case(&question[HEADER..end]));
    is_answer && head[..2] == question[..2] && same
}

/// Where the first question ends. Its name stands there as it is: there is nothing before that it could refer to.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1 + len;
        match len {
            0 => break,
            1..64 => {}
            _ => return None,
        }
    }
    (at + 4 <= packet.len()).then_some(at + 4)
}

/// Whether the next server need not be asked.
fn is_useful(answer: &[u8]) -> bool {
    let code = answer.get(3).map_or(0, |byte| byte & 0x0f);
    [ResponseCode::NoError, ResponseCode::NXDomain]
        .iter()
        .any(|useful| useful.low() == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Vec<u8> {
        let mut query = Message::query();
        query.add_query(Question::query(
            Name::from_ascii(name).unwrap(),
            RecordType::A,
        ));
        query.to_vec().unwrap()
    }

    #[test]
    fn an_answer_repeats_id_and_question() {
        let question = question("example.com.");
        assert_eq!(question_end(&question), Some(question.len()));
        assert!(!answers(&question, &question), "is a question itself");
        let mut answer = question.clone();
        answer[2] |= 0x80;
        assert!(answers(&answer, &question));
        answer[13] = b'E';
        assert!(answers(&answer, &question));
        answer[14] = b'y';
        assert!(!answers(&answer, &question));
        let mut other = question.clone();
        other[2] |= 0x80;
        other[0] ^= 1;
        assert!(!answers(&other, &question));
        for len in 0..HEADER {
            assert!(!answers(&answer[..len], &question));
            assert!(question_end(&question[..len]).is_none());
        }
    }
}
