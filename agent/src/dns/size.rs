//! A response's bytes, no more of them than may be sent. Pure.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, Query, ResponseCode};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder, NameEncoding};

use super::answer::Content;

/// Largest datagram that this server takes, as it tells others with EDNS.
pub(super) const DATAGRAM_MAX: u16 = 4096;

/// Largest datagram to somebody who says nothing about it.
const DATAGRAM_PLAIN: usize = 512;

/// What a response must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Most bytes.
    pub(super) bytes: usize,
    /// Most groups of answers.
    pub(super) answers: usize,
    /// Whether it says that something was left out.
    pub(super) mark: bool,
    /// Whether a name that occurred already is not written again.
    pub(super) compress: bool,
}

impl Limits {
    /// Those of a datagram to somebody whose EDNS says so.
    pub(super) fn datagram(edns: Option<&Edns>, answers: usize) -> Self {
        let (bytes, answers) = match edns {
            Some(edns) => (
                usize::from(edns.max_payload()).max(DATAGRAM_PLAIN),
                usize::MAX,
            ),
            None => (DATAGRAM_PLAIN, answers),
        };
        Self {
            bytes,
            answers,
            mark: false,
            compress: true,
        }
    }

    /// Those of a TCP connection.
    pub(super) fn stream() -> Self {
        Self {
            bytes: usize::from(u16::MAX),
            answers: usize::MAX,
            mark: false,
            compress: true,
        }
    }
}

/// The parts of a response beside its content.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    /// Id, flags.
    pub(super) metadata: Metadata,
    /// As it was asked.
    pub(super) question: Option<&'a Query>,
    /// Whether the asker understands EDNS.
    pub(super) edns: bool,
}

/// The head of an answer to this message.
pub(super) fn head(request: &Message) -> Head<'_> {
    let mut metadata = Metadata::new(
        request.metadata.id,
        MessageType::Response,
        request.metadata.op_code,
    );
    metadata.recursion_desired = request.metadata.recursion_desired;
    Head {
        metadata,
        question: request.queries.first(),
        edns: request.edns.is_some(),
    }
}

/// Encodes a response: as many groups of its content as fit.
///
/// # Errors
/// When not even the question fits.
pub(super) fn encode(
    head: &Head<'_>,
    content: &Content,
    limits: Limits,
) -> Result<Vec<u8>, ProtoError> {
    let most = content.groups.len().min(limits.answers);
    let bytes = encode_first(head, content, limits, most, true)?;
    if bytes.len() <= limits.bytes {
        return Ok(bytes);
    }
    // The most groups that fit: `fits` groups do, `too_many` do not.
    let (mut fits, mut too_many) = (0, most);
    let mut best = encode_first(head, content, limits, 0, true)?;
    while too_many - fits > 1 {
        let middle = fits.midpoint(too_many);
        let bytes = encode_first(head, content, limits, middle, true)?;
        if bytes.len() <= limits.bytes {
            (fits, best) = (middle, bytes);
        } else {
            too_many = middle;
        }
    }
    if fits == 0 {
        // Better the answer alone than nothing at all.
        let bytes = encode_first(head, content, limits, 1, false)?;
        if bytes.len() <= limits.bytes {
            return Ok(bytes);
        }
    }
    Ok(best)
}

/// Encodes a response with the first `count` groups of its content, of whatever length that is.
///
/// # Errors
/// When it is longer than any response may be.
pub(super) fn encode_first(
    head: &Head<'_>,
    content: &Content,
    limits: Limits,
    count: usize,
    extras: bool,
) -> Result<Vec<u8>, ProtoError> {
    let groups = &content.groups[..count.min(content.groups.len())];
    let mut message = Message::new(
        head.metadata.id,
        MessageType::Response,
        head.metadata.op_code,
    );
    message.metadata = head.metadata;
    message.metadata.response_code = content.code;
    message.metadata.truncation = limits.mark && count < content.groups.len();
    message.queries.extend(head.question.cloned());
    let answers = groups
        .iter()
        .flat_map(|group| group.answers.iter().cloned());
    message.answers.extend(answers);
    message.authorities.clone_from(&content.authorities);
    if extras {
        let extras = groups.iter().flat_map(|group| group.extras.iter().cloned());
        message.additionals.extend(extras);
    }
    if head.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_MAX).set_version(0);
        message.set_edns(edns);
    }
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    if !limits.compress {
        encoder.set_name_encoding(NameEncoding::Uncompressed);
    }
    message.emit(&mut encoder)?;
    Ok(bytes)
}

/// A response without records.
pub(super) fn refuse(head: &Head<'_>, code: ResponseCode) -> Result<Vec<u8>, ProtoError> {
    encode(head, &Content::bare(code), Limits::stream())
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::super::answer::Group;
    use super::*;

    fn request(payload: Option<u16>) -> Message {
        let mut request = Message::query();
        request.add_query(Query::query(
            Name::from_ascii("web.service.consul.").unwrap(),
            RecordType::A,
        ));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            request.set_edns(edns);
        }
        request
    }

    fn content(answers: u8) -> Content {
        let name = Name::from_ascii("web.service.consul.").unwrap();
        let record = |n| Record::from_rdata(name.clone(), 0, RData::A(A::new(10, 0, 0, n)));
        let group = |n| Group {
            answers: vec![record(n)],
            extras: vec![record(n)],
        };
        Content {
            groups: (0..answers).map(group).collect(),
            ..Content::bare(ResponseCode::NoError)
        }
    }

    fn decode(bytes: &[u8]) -> (usize, usize, bool) {
        let message = Message::from_vec(bytes).unwrap();
        let (answers, extras) = (message.answers.len(), message.additionals.len());
        (answers, extras, message.metadata.truncation)
    }

    #[test]
    fn what_is_too_long_loses_answers_with_what_belongs_to_them() {
        let request = request(None);
        let head = head(&request);
        let datagram = |bytes, answers| Limits {
            bytes,
            answers,
            mark: true,
            compress: true,
        };
        let encoded = encode(&head, &content(9), datagram(512, 3)).unwrap();
        assert_eq!(decode(&encoded), (3, 3, true));
        let whole = encode(&head, &content(9), datagram(512, 100)).unwrap();
        assert_eq!(decode(&whole), (9, 9, false));
        for bytes in 30..whole.len() {
            let encoded = encode(&head, &content(9), datagram(bytes, 100)).unwrap();
            let (answers, extras, marked) = decode(&encoded);
            assert!(encoded.len() <= bytes.max(37), "{bytes}");
            assert!(answers == extras || (answers, extras) == (1, 0), "{bytes}");
            assert!(marked || answers == 9, "{bytes}");
            // No more would fit: a group takes 32 bytes.
            assert!(answers == 0 || encoded.len() + 32 > bytes, "{bytes}");
        }
    }

    #[test]
    fn edns_says_how_much_and_gets_all_answers() {
        for (payload, wanted) in [(None, (512, 3)), (Some(100), (512, usize::MAX))] {
            let request = request(payload);
            let limits = Limits::datagram(request.edns.as_ref(), 3);
            assert_eq!((limits.bytes, limits.answers), wanted);
        }
        let request = request(Some(1232));
        let limits = Limits::datagram(request.edns.as_ref(), 3);
        assert_eq!(limits.bytes, 1232);
        let bytes = encode(&head(&request), &content(1), limits).unwrap();
        let edns = Message::from_vec(&bytes).unwrap().edns.unwrap();
        assert_eq!(edns.max_payload(), DATAGRAM_MAX);
    }

    #[test]
    fn names_are_written_out_on_demand() {
        let request = request(None);
        let long = |compress| {
            let limits = Limits {
                compress,
                ..Limits::stream()
            };
            encode(&head(&request), &content(3), limits).unwrap().len()
        };
        assert!(long(false) > long(true));
    }
}
