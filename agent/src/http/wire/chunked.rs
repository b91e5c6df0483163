//! `Transfer-Encoding: chunked`. Pure.

use std::io;

/// Longest line with a chunk's size, extensions included.
const SIZE_BYTES_MAX: usize = 4096;

/// Longest trailer. Nothing in it is used.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// How far a body has been decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks(State);

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a chunk's size.
    #[default]
    Size,
    /// Inside a chunk, with so many bytes to come.
    Data(u64),
    /// Before the line end behind a chunk.
    End,
    /// Behind the last chunk, after so many bytes of trailer.
    Trailer(usize),
    Over,
}

impl Chunks {
    pub(super) fn is_over(&self) -> bool {
        self.0 == State::Over
    }

    /// Takes what can be taken of `input`, adds the decoded bytes to `body`, and says how much was taken.
    ///
    /// # Errors
    /// It is no such body.
    pub(super) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let (taken, next) = match self.0 {
                State::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((taken, 0))) => (taken, State::Trailer(0)),
                    Ok(httparse::Status::Complete((taken, size))) => (taken, State::Data(size)),
                    Ok(httparse::Status::Partial) if rest.len() < SIZE_BYTES_MAX => {
                        return Ok(used);
                    }
                    _ => return Err(malformed("the size of a chunk")),
                },
                State::Data(left) => {
                    let taken =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    body.extend_from_slice(&rest[..taken]);
                    match left - taken as u64 {
                        0 => (taken, State::End),
                        left => {
                            self.0 = State::Data(left);
                            return Ok(used + taken);
                        }
                    }
                }
                State::End => match rest {
                    [b'\r', b'\n', ..] => (2, State::Size),
                    [] | [b'\r'] => return Ok(used),
                    _ => return Err(malformed("the end of a chunk")),
                },
                State::Trailer(before) => {
                    let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                        if before + rest.len() > TRAILER_BYTES_MAX {
                            return Err(malformed("the trailer"));
                        }
                        return Ok(used);
                    };
                    let taken = end + 1;
                    if before + taken > TRAILER_BYTES_MAX {
                        return Err(malformed("the trailer"));
                    }
                    if matches!(&rest[..end], b"" | b"\r") {
                        (taken, State::Over)
                    } else {
                        (taken, State::Trailer(before + taken))
                    }
                }
                State::Over => return Ok(used),
            };
            used += taken;
            self.0 = next;
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed chunked body: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIRE: &[u8] = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n";

    /// Decodes pieces; what is left over of all of them.
    fn decode(pieces: &[&[u8]]) -> io::Result<(Vec<u8>, bool, Vec<u8>)> {
        let (mut chunks, mut body, mut buffer) = (Chunks::default(), Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            let used = chunks.decode(&buffer, &mut body)?;
            buffer.drain(..used);
        }
        Ok((body, chunks.is_over(), buffer))
    }

    #[test]
    fn chunks_come_together_and_the_next_request_is_left() {
        let (body, over, rest) = decode(&[WIRE, b"GET"]).unwrap();
        assert_eq!((body.as_slice(), over), (b"abc0123456789".as_slice(), true));
        assert_eq!(rest, b"GET");
    }

    /// However a body is cut, what comes of it is the same.
    #[test]
    fn anything_is_decoded_or_refused_the_same_in_pieces() {
        crate::fuzz::run("http-chunked", &[WIRE.to_vec()], |bytes| {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            match (decode(&[bytes]), decode(&[first, second])) {
                (Ok(whole), pieces) => {
                    assert_eq!(whole, pieces.expect("the whole was taken"));
                    format!("over: {}", whole.1)
                }
                (Err(whole), pieces) => {
                    let pieces = pieces.expect_err("the whole was refused");
                    assert_eq!(whole.to_string(), pieces.to_string());
                    whole.to_string()
                }
            }
        });
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            b"x\r\n".as_slice(),
            b"3\r\nabcd\r\n",
            b"-1\r\n",
            b"fffffffffffffffff\r\n",
        ] {
            assert!(decode(&[bad]).is_err(), "{bad:?}");
        }
        let long = [b"1;".as_slice(), &[b'x'; SIZE_BYTES_MAX]].concat();
        assert!(decode(&[&long]).is_err());
        let long = [b"0\r\n".as_slice(), &b"X: y\r\n".repeat(3000)].concat();
        assert!(decode(&[&long]).is_err());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_body_is_cut(cuts in proptest::collection::vec(0..WIRE.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([WIRE.len()]) {
                pieces.push(&WIRE[from..cut]);
                from = cut;
            }
            let (body, over, rest) = decode(&pieces).unwrap();
            prop_assert_eq!((body.as_slice(), over, rest.len()), (b"abc0123456789".as_slice(), true, 0));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&[&bytes]);
        }
    }
}
