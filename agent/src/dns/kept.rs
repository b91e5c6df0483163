//! Answers that are ready for whoever asks the same next. Pure.
//!
//! A service's addresses are asked for far more often than they change, and each time they are wanted in another order.
//! Such records have the same length and name nothing but the question, so that they can be moved as blocks of bytes:
//! nothing has to be read, put together or encoded again. Whether an answer is still true, others must know.

use std::collections::HashMap;

use hickory_proto::rr::RecordType;

use super::answer::{Basis, Content, Group};
use super::size::{Head, Limits, encode_first};

/// Most bytes that the kept answers take, questions included. When there would be more, all are forgotten: those that are
/// asked for are soon there again.
const BYTES_MAX: usize = 1 << 20;

/// Beside its bytes, what an answer takes with its place in the table.
const BYTES_EACH: usize = 256;

/// Longest question whose answer is kept; with a name of full length and EDNS they have 286 bytes.
pub(super) const QUESTION_MAX: usize = 320;

/// An answer's bytes, but for their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shuffled {
    /// Up to the answers, with the id of whoever asked first.
    start: Vec<u8>,
    /// The records, of the same length all.
    blocks: Vec<u8>,
    block: usize,
    /// The order in which they were given last.
    order: Vec<u16>,
    /// How many of them an answer has.
    shown: usize,
    /// What comes behind the answers.
    end: Vec<u8>,
}

impl Shuffled {
    /// The same answer as [`super::size::encode`]'s, if it has addresses of one kind and nothing else.
    pub(super) fn of(head: &Head<'_>, content: &Content, limits: Limits) -> Option<Self> {
        let groups = &content.groups;
        if !are_addresses(groups) || !content.authorities.is_empty() {
            return None;
        }
        let encode = |head: &Head<'_>, count| encode_first(head, content, limits, count, true).ok();
        let start = encode(
            &Head {
                edns: false,
                ..*head
            },
            0,
        )?
        .len();
        let end = encode(head, 0)?.len() - start;
        let all = encode(head, groups.len())?;
        let blocks = &all[start..all.len() - end];
        let block = blocks.len() / groups.len();
        let fit = limits.bytes.checked_sub(start + end)? / block;
        let shown = groups.len().min(limits.answers).min(fit);
        let whole = encode(head, shown)?;
        let kept = Self {
            start: whole[..start].to_vec(),
            blocks: blocks.to_vec(),
            block,
            order: (0..u16::try_from(groups.len()).ok()?).collect(),
            shown,
            end: whole[whole.len() - end..].to_vec(),
        };
        (shown > 0 && kept.bytes() == whole).then_some(kept)
    }

    /// The answer with the records in the present order.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.start);
        for at in &self.order[..self.shown] {
            let from = usize::from(*at) * self.block;
            into.extend_from_slice(&self.blocks[from..from + self.block]);
        }
        into.extend_from_slice(&self.end);
    }

    /// Writes the answer to a question with this id, in a new order that `below(n)`, a number smaller than n, chooses.
    pub(super) fn next(
        &mut self,
        id: [u8; 2],
        mut below: impl FnMut(u64) -> u64,
        into: &mut Vec<u8>,
    ) {
        // Those that are not shown need no order among themselves.
        for at in 0..self.shown.min(self.order.len() - 1) {
            let other = at + below((self.order.len() - at) as u64) as usize;
            self.order.swap(at, other);
        }
        self.write(into);
        into[..2].copy_from_slice(&id);
    }

    fn size(&self) -> usize {
        self.start.len() + self.blocks.len() + 2 * self.order.len() + self.end.len()
    }
}

/// Whether there is something, and nothing but an address of the same kind in each.
fn are_addresses(groups: &[Group]) -> bool {
    let kind = |group: &Group| match (&*group.answers, &*group.extras) {
        ([record], []) => Some(record.record_type()),
        _ => None,
    };
    let first = groups.first().and_then(kind);
    matches!(first, Some(RecordType::A | RecordType::AAAA))
        && groups.iter().all(|group| kind(group) == first)
}

/// What was answered, and what that was true of.
pub(super) struct Known {
    pub(super) basis: Basis,
    pub(super) answer: Shuffled,
}

/// Answers by the bytes of their questions, without the id.
#[derive(Default)]
pub(super) struct Kept {
    known: HashMap<Box<[u8]>, Known>,
    bytes: usize,
}

impl Kept {
    /// What was kept for this question.
    pub(super) fn get(&mut self, question: &[u8]) -> Option<&mut Known> {
        self.known.get_mut(question)
    }

    /// Keeps an answer, in place of an older one.
    pub(super) fn put(&mut self, question: &[u8], known: Known) {
        let size = |known: &Known| BYTES_EACH + question.len() + known.answer.size();
        if let Some(old) = self.known.remove(question) {
            self.bytes -= size(&old);
        }
        let new = size(&known);
        if new > BYTES_MAX {
            return;
        }
        if self.bytes + new > BYTES_MAX {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += new;
        self.known.insert(question.into(), known);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hickory_proto::op::{Edns, Message, Query as Question, ResponseCode};
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};
    use hickory_proto::rr::{Name, RData, Record};

    use super::super::size::{encode, head};
    use super::*;
    use crate::state::Query;

    fn name() -> Name {
        Name::from_ascii("web.service.consul.").unwrap()
    }

    fn request(payload: Option<u16>) -> Message {
        let mut request = Message::query();
        request.add_query(Question::query(name(), RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            request.set_edns(edns);
        }
        request
    }

    fn content(data: impl IntoIterator<Item = RData>) -> Content {
        let group = |data| Group {
            answers: vec![Record::from_rdata(name(), 5, data)],
            extras: Vec::new(),
        };
        Content {
            groups: data.into_iter().map(group).collect(),
            ..Content::bare(ResponseCode::NoError)
        }
    }

    fn addresses(count: u8) -> Content {
        content((0..count).map(|n| RData::A(A::new(10, 0, 0, n))))
    }

    fn limits(bytes: usize, answers: usize, compress: bool) -> Limits {
        Limits {
            bytes,
            answers,
            mark: true,
            compress,
        }
    }

    #[test]
    fn it_answers_as_encode_does_in_every_size() {
        for (payload, compress) in [(None, true), (Some(1232), true), (None, false)] {
            let request = request(payload);
            let head = head(&request);
            for count in [1, 2, 9, 40] {
                for (bytes, answers) in [(512, 3), (512, 100), (200, 100), (4096, 100)] {
                    let limits = limits(bytes, answers, compress);
                    let content = addresses(count);
                    let kept = Shuffled::of(&head, &content, limits).expect("plain addresses");
                    assert_eq!(kept.bytes(), encode(&head, &content, limits).unwrap());
                }
            }
        }
    }

    #[test]
    fn every_instance_comes_first_once_in_a_while_and_none_twice_at_a_time() {
        let request = request(None);
        let mut kept = Shuffled::of(&head(&request), &addresses(6), limits(512, 3, true)).unwrap();
        let (mut random, mut bytes) = (7_u64, Vec::new());
        let mut first = BTreeSet::new();
        for id in 0..200_u16 {
            let below = |bound| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (random >> 33) % bound
            };
            kept.next(id.to_be_bytes(), below, &mut bytes);
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!(message.metadata.id, id);
            assert!(message.metadata.truncation, "three of six");
            let shown: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
            assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), 3);
            first.insert(shown[0].clone());
        }
        assert_eq!(first.len(), 6);
    }

    #[test]
    fn records_that_cannot_be_moved_are_not_kept() {
        let request = request(None);
        let of = |content: &Content| Shuffled::of(&head(&request), content, limits(512, 9, true));
        let alias = |text| RData::CNAME(CNAME(Name::from_ascii(text).unwrap()));
        // The second name is written as a reference into the first one, and either may be looked up elsewhere.
        assert_eq!(
            of(&content([alias("a.example."), alias("b.example.")])),
            None
        );
        assert_eq!(of(&content([alias("a.example.")])), None);
        let mixed = [
            RData::A(A::new(10, 0, 0, 1)),
            RData::AAAA(AAAA::new(1, 0, 0, 0, 0, 0, 0, 1)),
        ];
        assert_eq!(of(&content(mixed)), None);
        assert_eq!(of(&content([])), None);
        let mut with_extras = addresses(2);
        with_extras.groups[0].extras = with_extras.groups[1].answers.clone();
        assert_eq!(of(&with_extras), None);
        let mut with_authority = addresses(2);
        with_authority.authorities = with_authority.groups[0].answers.clone();
        assert_eq!(of(&with_authority), None);
    }

    #[test]
    fn what_is_kept_stays_below_its_limit() {
        let request = request(None);
        let mut kept = Kept::default();
        let known = |index| Known {
            basis: Basis {
                query: Query::Noop,
                index,
            },
            answer: Shuffled::of(&head(&request), &addresses(100), limits(4096, 100, true))
                .unwrap(),
        };
        let mut most = 0;
        for n in 0..2000_u64 {
            kept.put(&n.to_be_bytes(), known(n));
            kept.put(&n.to_be_bytes(), known(n + 1));
            let found = kept.get(&n.to_be_bytes()).expect("just put there");
            assert_eq!(found.basis.index, n + 1);
            most = most.max(kept.known.len());
            let size = 8 + BYTES_EACH + known(0).answer.size();
            assert_eq!(kept.bytes, kept.known.len() * size);
        }
        assert!(most > 100 && kept.bytes <= BYTES_MAX, "{most}");
    }
}
